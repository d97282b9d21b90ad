"""Several processes that train one net: each on its own records, all with the mean of their gradients.

Caffe's semantics: every process takes the solver's batch, process 0 alone logs, tests and snapshots. The processes
find each other as torchrun's do, by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from caffe import parallel, rng
from caffe.errors import DeviceError, SolverError
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.solvers.solver import Action, Solver

BUCKET = 25 << 20
"""Bytes of gradients that are sent together, as in PyTorch's DistributedDataParallel."""

ACTIONS = (Action.NONE, Action.SNAPSHOT, Action.STOP)
"""The later ones prevail where processes ask for different ones."""


class Group:
    """This process and the others of the run; `open_group` makes it."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        # process 0 may test and snapshot as long as it likes; who dies is noticed by the broken connection
        forever = timedelta(days=7)
        try:
            dist.init_process_group(backend, timeout=forever)
            self._host = dist.new_group(backend="gloo", timeout=forever)
        except (RuntimeError, ValueError) as problem:
            raise DeviceError(
                f"The processes of this run do not find each other ({str(problem).splitlines()[0]}): WORLD_SIZE is "
                f"{os.environ['WORLD_SIZE']}; start them with -gpu or torchrun, or unset it to train with one"
            ) from problem
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
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
        """Share weights and history of process 0, from here on gradients and what signals ask for.

        Raises:
            SolverError: the processes stand at different iterations.
        """
        last, first = self._agree(solver.iter), -self._agree(-solver.iter)
        if first != last:
            if self.rank:
                raise SystemExit(1)  # process 0 says it
            raise SolverError(
                f"The processes of this run would go on from different iterations, {first} to {last}: every machine "
                "needs the snapshot's .caffemodel, .solverstate and .runstate under the same path; copy them, or share "
                "the folder"
            )
        self._learnable = solver.net.learnable
        self._filling: list[torch.Tensor] = []
        self._sent: list[tuple[list[torch.Tensor], torch.Tensor, dist.Work | None]] = []
        for tensor in [p.blob.data_tensor() for p in self._learnable] + solver.history:
            self._wait(dist.broadcast(tensor, 0, async_op=True))
        if self.rank:
            rng.set_random_seed(rng.next_seed() + self.rank)  # dropout of its own
            solver.snapshot = lambda: None  # type: ignore[method-assign]  # process 0 writes it
        self._of_layer: dict[int, list[int]] = {}
        for number, parameter in enumerate(self._learnable):
            self._of_layer.setdefault(parameter.layer, []).append(number)
        poll, solver.poll_testing = solver.poll, lambda: Action.NONE  # process 0 tests alone: nobody to agree with
        solver.poll = lambda: ACTIONS[self._agree(ACTIONS.index(poll()))]
        solver.gradients_ready = self._ready
        solver.add_callback(lambda: None, self._finish)

    def _agree(self, number: int) -> int:
        """The largest of all processes' numbers."""
        most = torch.tensor([number])
        self._wait(dist.all_reduce(most, dist.ReduceOp.MAX, self._host, async_op=True))
        return int(most)

    def _ready(self, layer: int) -> None:
        """Send the gradients of a layer, as soon as there are enough for a bucket."""
        for parameter in (self._learnable[number] for number in self._of_layer.get(layer, ())):
            if parameter.lr_mult or parameter.blob.has_diff:  # a frozen one's counts where gradients are clipped
                self._filling.append(parameter.blob.diff_tensor())
        if sum(diff.nbytes for diff in self._filling) >= BUCKET:
            self._send()

    def _send(self) -> None:
        flat = torch.cat([diff.flatten() for diff in self._filling])
        self._sent.append((self._filling, flat, dist.all_reduce(flat, async_op=True)))
        self._filling = []

    def _finish(self) -> None:
        """Put the mean gradients where this process's own were."""
        if self._filling:
            self._send()
        for diffs, flat, work in self._sent:
            self._wait(work)
            parts = flat.div_(self.size).split([diff.numel() for diff in diffs])
            for diff, part in zip(diffs, parts, strict=True):
                diff.copy_(part.view_as(diff))
        self._sent = []

    def leave(self) -> None:
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
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield None
        return
    group = Group(device)
    try:
        yield group
        group.leave()
    finally:
        parallel.set_solver_count(1)
        parallel.set_solver_rank(0)
        if dist.is_initialized():
            dist.destroy_process_group()
