"""Several processes that train one net: each on its own records, all with the mean of their gradients.

Caffe's semantics: every process takes the solver's batch, process 0 alone logs, tests and snapshots. The processes
find each other as torchrun's do, by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist

from caffe import parallel, rng
from caffe.errors import DeviceError
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.solvers.solver import Action, Solver

BUCKET = 25 << 20
"""Bytes of gradients that are sent together, as in PyTorch's DistributedDataParallel."""

ACTIONS = (Action.NONE, Action.SNAPSHOT, Action.STOP)


@dataclass
class _Bucket:
    """Gradients on their way: those of some parameters, one after the other."""

    diffs: list[torch.Tensor] = field(default_factory=list)
    bytes: int = 0
    flat: torch.Tensor | None = None
    work: dist.Work | None = None


class Group:
    """This process and the others of the run; `open_group` makes it."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        # process 0 may test and snapshot as long as it likes; who dies is noticed by the broken connection
        dist.init_process_group(backend, timeout=timedelta(days=7))
        self.rank, self.size, self._device = dist.get_rank(), dist.get_world_size(), device
        self._host = dist.new_group(backend="gloo", timeout=timedelta(days=7))
        parallel.set_solver_rank(self.rank)
        parallel.set_solver_count(self.size)

    def prepare(self, param: SolverParameter) -> None:
        """Let all begin with the same random numbers, and process 0 alone test, log and snapshot."""
        if param.random_seed < 0:
            param.random_seed = self._agree(rng.next_seed() if self.rank == 0 else 0)
        if self.rank:
            for name in ("test_iter", "test_net", "test_net_param", "test_state", "test_interval", "display"):
                param.ClearField(name)
            param.snapshot = 0
            param.snapshot_after_train = False

    def join(self, solver: Solver) -> None:
        """Share weights and history of process 0, from here on gradients and what signals ask for."""
        self._solver, self._buckets = solver, _Bucket()
        self._full: list[_Bucket] = []
        tensors = [p.blob.data_tensor() for p in solver.net.learnable] + solver.history
        for tensor in tensors:
            self._wait(dist.broadcast(tensor, 0, async_op=True))
        if self.rank:
            rng.set_random_seed(rng.next_seed() + self.rank)  # dropout of its own
        names = [layer.name for layer in solver.net.layers]
        self._of_layer: dict[int, list[int]] = {}
        for number, parameter in enumerate(solver.net.learnable):
            if parameter.lr_mult:
                self._of_layer.setdefault(names.index(parameter.layer), []).append(number)
        poll, solver.poll_testing = solver.poll, lambda: Action.NONE
        solver.poll = lambda: ACTIONS[self._agree(ACTIONS.index(self._mine(poll())))]
        if self.rank:
            solver.snapshot = lambda: None  # type: ignore[method-assign]  # process 0 writes it
        solver.gradients_ready = self._ready
        solver.add_callback(lambda: None, self._finish)

    def _mine(self, action: Action) -> Action:
        return action if action in ACTIONS else Action.NONE

    def _agree(self, number: int) -> int:
        """The largest of all processes' numbers."""
        most = torch.tensor([number])
        self._wait(dist.all_reduce(most, dist.ReduceOp.MAX, self._host, async_op=True))
        return int(most)

    def _ready(self, layer: int) -> None:
        """Send the gradients of a layer, as soon as there are enough for a bucket."""
        for number in self._of_layer.get(layer, ()):
            diff = self._solver.net.learnable[number].blob.diff_tensor()
            self._buckets.diffs.append(diff)
            self._buckets.bytes += diff.nbytes
        if self._buckets.bytes >= BUCKET:
            self._send()

    def _send(self) -> None:
        bucket, self._buckets = self._buckets, _Bucket()
        bucket.flat = torch.cat([diff.flatten() for diff in bucket.diffs])
        bucket.work = dist.all_reduce(bucket.flat, async_op=True)
        self._full.append(bucket)

    def _finish(self) -> None:
        """Put the mean gradients where this process's own were."""
        if self._buckets.diffs:
            self._send()
        for bucket in self._full:
            assert bucket.flat is not None
            self._wait(bucket.work)
            parts = bucket.flat.div_(self.size).split([diff.numel() for diff in bucket.diffs])
            for diff, part in zip(bucket.diffs, parts, strict=True):
                diff.copy_(part.view_as(diff))
        self._full = []

    def part(self) -> None:
        """End together: who closed its connections first could break the others' last exchange."""
        with suppress(RuntimeError):
            dist.monitored_barrier(self._host)

    def _wait(self, work: dist.Work | None) -> None:
        try:
            if work:
                work.wait()
        except RuntimeError as problem:
            if self.rank:
                raise SystemExit(1) from problem  # process 0 says it
            raise DeviceError(
                "Another process of this run has ended before its time: what it said is above, if anything. "
                "Snapshots are whole; -resume goes on from the newest"
            ) from problem


@contextmanager
def open_group(device: torch.device) -> Iterator[Group | None]:
    """The group that the environment tells of, if it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    group = Group(device)
    try:
        yield group
        group.part()
    finally:
        parallel.set_solver_count(1)
        parallel.set_solver_rank(0)
        if dist.is_initialized():
            dist.destroy_process_group()
