"""An iteration as one CUDA graph: what the host says once, the device repeats.

The graph holds all of forward, backward and update. Before each repetition the next batch and the rates are copied
to where it reads them. Blobs, parameters and history stay where they were when it was captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

import torch

from caffe import glog, rng
from caffe.capture import capturing
from caffe.layers.base import ReadingLayer
from caffe.net import Net

if TYPE_CHECKING:
    from caffe.solvers.sgd import SGDSolver

WARM_UP = 3
"""Iterations that run as usual before one is captured: libraries choose their kernels in them."""


class Graph(Protocol):
    """What captures and repeats."""

    def scope(self) -> AbstractContextManager[None]:
        """Where all happens that the graph takes part in."""

    def capture(self) -> AbstractContextManager[None]:
        """Note what is called within, in the place of what was noted before; it is not done yet."""

    def replay(self) -> None:
        """Do what was noted."""


class CudaGraph:
    """A graph on a stream of its own, in step with the stream that is current outside."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Work on the graph's stream, after what the current one has to do and before what it will."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Note it; the thread that reads may go on calling the device."""
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(rng.generator(self._device))
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            yield

    def replay(self) -> None:
        """Do it on the current stream."""
        self._graph.replay()


class CapturedIteration:
    """Does a solver's iterations: the first few as usual, then, where nothing stands against it, by a graph."""

    def __init__(self, solver: SGDSolver, graph: Graph) -> None:
        self._solver = solver
        self._graph = graph
        self._warm = 0
        self._known: list[int] | None = None  # the places that the graph reads, once there is one
        self._failed = False
        self._readers = [layer for layer in solver.net.wired if isinstance(layer, ReadingLayer)]
        device = solver.net.device
        self._rates = torch.empty(len(solver.rates()), device=device)
        self._spoilt = torch.zeros((), device=device)  # NaN from the first loss on that was no number

    def run(self) -> torch.Tensor:
        """Do forward, backward and update; give the loss.

        A loss is NaN as well where one before it was no number.
        """
        with self._graph.scope():
            if self._warm < WARM_UP or self._failed or obstacle(self._solver):
                self._warm += 1
                return self._as_usual()
            batches = [layer.stage() for _ in range(self._solver.param.iter_size) for layer in self._readers]
            if self._places() != self._known and not self._capture(batches):
                return self._as_usual()
            if not self._take(batches):
                self._stage(batches)  # of another shape
                return self._as_usual()
            rates = torch.tensor(list(self._solver.rates().values()))
            if rates.numel() and self._rates.is_cuda:
                rates = rates.pin_memory()
            self._rates.copy_(rates, non_blocking=True)
            self._graph.replay()
            for blob, values in self._blobs:
                blob.set_data(values)
            self._solver.norm = self._norm
            return self._loss.clone()

    def _as_usual(self) -> torch.Tensor:
        loss = self._solver.compute_gradients()
        self._solver.clip_gradients()
        self._solver.update(self._solver.rates())
        return loss

    def _stage(self, batches: Sequence[Sequence[torch.Tensor]]) -> None:
        """Give batches to the layers that they came from."""
        for i, batch in enumerate(batches):
            self._readers[i % len(self._readers)].staged.append(batch)

    def _take(self, batches: Sequence[Sequence[torch.Tensor]]) -> bool:
        """Copy batches to where the graph reads them, if they have the shapes that it knows."""
        pairs = [pair for both in zip(self._batches, batches, strict=True) for pair in zip(*both, strict=True)]
        if any(here.shape != new.shape or here.dtype != new.dtype for here, new in pairs):
            return False
        for here, new in pairs:
            if here.data_ptr() != new.data_ptr():
                here.copy_(new)
        return True

    def _places(self) -> list[int]:
        """Memory that the graph reads and that others could put elsewhere; what the host wrote to it is uploaded."""
        net = self._solver.net
        kept = [blob for blobs in net.params.values() for blob in blobs] + [net.blobs[name] for name in net.inputs]
        tensors = [blob.data_tensor() for blob in kept] + self._solver.history
        tensors += [carried for layer in net.wired for carried in layer.memory]
        return [tensor.data_ptr() for tensor in tensors] + [id(rng.generator(net.device))]

    def _capture(self, batches: list[tuple[torch.Tensor, ...]]) -> bool:
        """Capture an iteration with these batches, whose memory is where the graph reads from then on."""
        solver = self._solver
        self._known, places = None, self._places()
        self._batches = batches
        self._stage(batches)
        rates = dict(zip(solver.rates(), self._rates.unbind(), strict=True))
        try:
            with self._graph.capture(), capturing() as mistakes:
                loss = solver.compute_gradients()
                for wrong in mistakes:
                    loss = loss.masked_fill(wrong.any(), float("nan"))
                self._loss = loss + self._spoilt.add_(loss * 0)
                solver.clip_gradients()
                solver.update(rates)
        except RuntimeError as problem:
            glog.warning("solver.cpp:215", f"No CUDA graph of an iteration, training goes on without: {problem}")
            self._failed = True
            for layer in self._readers:
                layer.staged.clear()
            self._stage(batches)
            return False
        self._norm = solver.norm
        self._blobs = [(blob, blob.data_tensor()) for blob in solver.net.blobs.values()]
        self._known = places
        return True


def capture_iterations(solver: SGDSolver) -> None:
    """Let a solver whose net is on a GPU do its iterations by a graph; log why, where it cannot."""
    if problem := obstacle(solver):
        glog.info("solver.cpp:215", f"No CUDA graph of an iteration: {problem}.")
        return
    torch.backends.cudnn.benchmark = True  # shapes stay
    solver.iteration = CapturedIteration(solver, CudaGraph(solver.net.device)).run


def obstacle(solver: SGDSolver) -> str:
    """Why this solver's iterations cannot be captured; empty where they can."""
    net: Net = solver.net
    waiting = [layer for layer in net.wired if layer.waits]
    if waiting:
        return f"layer '{waiting[0].name}' ({waiting[0].type}) goes through the host"
    if solver.param.debug_info:
        return "debug_info looks at every blob"
    if net.watched or solver.watched:
        return "callbacks are called from within"
    return ""
