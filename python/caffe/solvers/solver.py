"""The training loop: test, forward, backward, update, log, snapshot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, ClassVar

import torch

from caffe import glog, rng, weights
from caffe.blob import Blob
from caffe.errors import SolverError, WriteError
from caffe.net import Net
from caffe.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe.proto.text import read_solver, to_text
from caffe.solvers import lr_policy, nets, runstate, snapshot
from caffe.solvers.extension import Extension, Outputs
from caffe.solvers.registry import solver_class


class Action(Enum):
    """What a signal asks a running solver to do."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"


class Solver:
    """A solver, as pycaffe's: ``caffe.SGDSolver("solver.prototxt")``.

    Attributes:
        net: the net in training.
        test_nets: nets that share its weights.
        iter: iterations done.
        resumed: iteration and current_step of the solverstate that the run goes on from.
        param: the SolverParameter.
        history: what the update rule remembers, an array (or more) a parameter.
        poll: asked after each iteration what to do; `Action.NONE` by default.
        poll_testing: the same before each test batch; what `poll` says, by default.
        gradients_ready: `Net.gradients_ready` of the last of an iteration's backward passes.
        extensions: what watches the run.
        iteration: does forward, backward and update and gives the loss, in the place of `compute_gradients` and
            `apply_update`.
        before_test: the run state from before the test that is under way, if one is: a run that stops or is saved in it
            does it anew when it goes on.
        keeps_blobs: whether the train net's blobs hold their values and gradients after an iteration. It saves memory
            to let go of the gradients and, on a CPU, of the values too, unless the loss is no number.
    """

    type: ClassVar[str] = ""

    def __init__(self, solver_file: str | SolverParameter) -> None:
        param = read_solver(str(solver_file)) if not isinstance(solver_file, SolverParameter) else solver_file
        self.param = param
        self.iter, self.resumed = 0, lr_policy.START
        self.poll: Callable[[], Action] = lambda: Action.NONE
        self.poll_testing: Callable[[], Action] = lambda: self.poll()
        self.gradients_ready: Callable[[int], None] | None = None
        self.history: list[torch.Tensor] = []
        self.extensions: list[Extension] = []
        self.keeps_blobs = True
        self.before_test: dict[str, Any] | None = None
        self.iteration: Callable[[], torch.Tensor] | None = None
        self._callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._clock, self._displayed = time.monotonic(), 0  # when and where the last display was
        self._stopped = False
        self._unsaved = False  # the last snapshot in the course of the run failed
        glog.info("solver.cpp:45", f"Initializing solver from parameters: \n{to_text(param).rstrip()}")
        if param.average_loss < 1:
            raise SolverError(f"average_loss should be non-negative and at least 1, it is {param.average_loss}")
        if param.iter_size < 1:
            raise SolverError(f"iter_size is a number of batches and at least 1, it is {param.iter_size}")
        lr_policy.check(param)
        if param.snapshot:
            snapshot.check_prefix(param)
        if param.random_seed >= 0:
            rng.set_random_seed(param.random_seed)
        self.net = Net.from_param(nets.train_net(param))
        if param.snapshot:
            snapshot.check_names(param, self.net)
        self._load(self.net)
        self.test_nets = [self._test_net(message) for message in nets.test_nets(param)]
        self._losses: deque[torch.Tensor] = deque(maxlen=param.average_loss)
        self._pre_solve()
        glog.info("solver.cpp:57", "Solver scaffolding done.")

    def _pre_solve(self) -> None:
        """Make what the update rule remembers."""
        raise NotImplementedError(f"{type(self).__name__} must make its history")

    def apply_update(self) -> None:
        """Update the net's parameters from their gradients; that is one iteration."""
        raise NotImplementedError(f"{type(self).__name__} must have an update rule")

    def log_update(self) -> None:
        """Log the rate where the iteration is one to display, and where it is one of several that drop."""
        if self.param.lr_policy == "multistep":
            before, now = (lr_policy.current_step(self.param, self.iter - n, self.resumed) for n in (1, 0))
            if now > before:
                glog.info("sgd_solver.cpp:50", f"MultiStep Status: Iteration {self.iter}, step = {now}")
        if self.param.display and self.iter % self.param.display == 0:
            glog.info("sgd_solver.cpp:112", f"Iteration {self.iter}, lr = {self.lr:g}")

    # Making the nets

    def _load(self, net: Net) -> None:
        """Weights that the solver file names, each a path or a comma list."""
        for entry in self.param.weights:
            for path in entry.split(","):
                glog.info("solver.cpp:72", f"Finetuning from {path.strip()}")
                net.copy_from(path.strip())

    def _test_net(self, message: NetParameter) -> Net:
        net = Net.from_param(message)
        net.records, net.first_passes = False, None  # the first passes are the train net's
        net.debug_info = self.param.debug_info
        self._load(net)
        weights.share_with(net, self.net, log=False)  # as Caffe does, and says, with every test: it saves memory
        return net

    # Running

    @property
    def lr(self) -> float:
        """Learning rate of the iteration to come, before each parameter's lr_mult."""
        return lr_policy.rate(self.param, self.iter, self.resumed)

    def solve(self, resume_file: str | None = None) -> None:
        """Train until max_iter, from ``resume_file`` (a solverstate) where one is given."""
        glog.info("solver.cpp:289", f"Solving {self.net.name}")
        glog.info("solver.cpp:290", f"Learning Rate Policy: {self.param.lr_policy}")
        self._stopped = False
        p = self.param
        if resume_file:
            glog.info("solver.cpp:296", f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        if p.snapshot_after_train:
            snapshot.check_prefix(p)
            snapshot.check_names(p, self.net)
        for extension in self.extensions:
            extension.started(self)
        self.step(p.max_iter - self.iter)
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot or self._unsaved):
            self.snapshot()
        if self._stopped:
            glog.info("solver.cpp:311", "Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            self._losses.append(self.net.run_forward())
            glog.info("solver.cpp:327", f"Iteration {self.iter}, loss = {self._smoothed_loss():g}")
        if p.test_interval and self.iter % p.test_interval == 0:
            self._test_all()
        glog.info("solver.cpp:332", "Optimization Done.")

    def step(self, iterations: int) -> None:
        """Run that many iterations."""
        p = self.param
        self._losses.clear()
        self.before_test = None
        self._clock = time.monotonic()
        for _ in range(iterations):
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                self._test_all()
                if self._stopped:
                    return
            for on_start, _ in self._callbacks:
                on_start()
            self.net.debug_info = p.debug_info and bool(p.display) and self.iter % p.display == 0
            self._losses.append(self.iteration() if self.iteration else self.compute_gradients())
            if p.display and self.iter % p.display == 0:
                self._log_iteration()
            for extension in self.extensions:
                extension.computed(self, self._losses[-1])
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            if self.iteration:
                self.log_update()
                self.iter += 1
            else:
                self.apply_update()
            for extension in self.extensions:
                extension.updated(self)
            action = self.poll()
            if (p.snapshot and self.iter % p.snapshot == 0) or action is Action.SNAPSHOT:
                self._try_to_snapshot()
            if action is Action.STOP:
                self._stopped = True
                return

    def compute_gradients(self) -> torch.Tensor:
        """Gradients of iter_size batches, added up; return their mean loss."""
        self.net.clear_param_diffs()
        loss = torch.zeros((), device=self.net.device)
        for left in reversed(range(self.param.iter_size)):
            self.net.gradients_ready = None if left else self.gradients_ready
            part = self.net.run_forward(fused=True)
            frees = not self.keeps_blobs and part.device.type == "cpu" and bool(part.isfinite())
            self.net.run_backward(keep_diffs=self.keeps_blobs, keep_data=not frees)
            loss += part
        return loss / self.param.iter_size

    def _smoothed_loss(self) -> float:
        return float(torch.stack(list(self._losses)).mean())

    def _log_iteration(self) -> None:
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        rate = (self.iter - self._displayed) / seconds if seconds else 0.0
        self._displayed = self.iter
        loss = self._smoothed_loss()
        glog.info(
            "solver.cpp:239",
            f"Iteration {self.iter} ({rate:g} iter/s, {seconds:g}s/{self.param.display} iters), loss = {loss:g}",
        )
        outputs = self._outputs(self.net, [blob.data_tensor() for blob in self._output_blobs(self.net)])
        self._log_outputs("Train", "solver.cpp:258", self.net, outputs)
        for extension in self.extensions:
            extension.displayed(self, loss, outputs)

    @staticmethod
    def _output_blobs(net: Net) -> list[Blob]:
        return [net.blobs[name] for name in net.outputs]

    @staticmethod
    def _outputs(net: Net, values: Iterable[torch.Tensor]) -> Outputs:
        return {name: row.flatten().tolist() for name, row in zip(net.outputs, values, strict=True)}

    @staticmethod
    def _log_outputs(kind: str, place: str, net: Net, outputs: Outputs) -> None:
        """One line a number: ``Train net output #i: name = x (* w = y loss)``."""
        numbers = ((name, value) for name, row in outputs.items() for value in row)
        for number, (name, value) in enumerate(numbers):
            weight = net.blob_loss_weights[name]
            part = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            glog.info(place, f"    {kind} net output #{number}: {name} = {value:g}{part}")

    def _test_all(self) -> None:
        self.before_test = runstate.take(self)
        for number in range(len(self.test_nets)):
            if not self._stopped:
                self._test(number)
        if not self._stopped:
            self.before_test = None

    def _test(self, number: int) -> None:
        glog.info("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{number})")
        net = self.test_nets[number]
        net.share_with(self.net)
        sums: list[torch.Tensor] = []
        loss = torch.zeros((), device=net.device)
        batches = max(0, self.param.test_iter[number])
        if not batches:
            return
        for _ in range(batches):
            action = self.poll_testing()
            if action is Action.SNAPSHOT:
                self._try_to_snapshot()
            elif action is Action.STOP:
                self._stopped = True
                glog.info("solver.cpp:396", "Test interrupted.")
                return
            loss += net.run_forward()
            values = [blob.data_tensor().flatten().double() for blob in self._output_blobs(net)]
            sums = [a + b for a, b in zip(sums, values, strict=True)] if sums else values
        if self.param.test_compute_loss:
            glog.info("solver.cpp:401", f"Test loss: {float(loss) / batches:g}")
        outputs = self._outputs(net, [s / batches for s in sums])
        self._log_outputs("Test", "solver.cpp:414", net, outputs)
        for extension in self.extensions:
            extension.tested(self, number, outputs)

    # pycaffe

    @property
    def watched(self) -> bool:
        """Whether there are callbacks."""
        return bool(self._callbacks)

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Call the first before each iteration's forward pass, the second before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def snapshot(self) -> None:
        """Write the weights, the solver's state and the run's under snapshot_prefix."""
        for extension in self.extensions:
            extension.saving(self)
        snapshot.write(self)  # type: ignore[arg-type]
        for extension in self.extensions:
            extension.saved(self)

    def _try_to_snapshot(self) -> None:
        """Snapshot in the course of a run, which goes on where the disk is full: the next one may succeed."""
        try:
            self._unsaved = True
            self.snapshot()
            self._unsaved = False
        except WriteError as problem:
            glog.error("solver.cpp:464", f"No snapshot of iteration {self.iter}, training goes on: {problem}")

    def restore(self, state_file: str) -> None:
        """Go on from a ``.solverstate``, exactly where the run's state lies beside it."""
        snapshot.restore(self, str(state_file))  # type: ignore[arg-type]
        runstate.restore(self, str(state_file))
        self._displayed = self.iter

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use the weights of the net in training."""
        net.share_with(self.net)

    def close(self) -> None:
        """Let go of the nets' files and reading threads."""
        for extension in self.extensions:
            extension.finished(self)
        for net in (self.net, *self.test_nets):
            net.close()


def make_solver(param: SolverParameter) -> Solver:
    """The solver of ``param.type``, made from the message."""
    return solver_class(param.type)(param)


def get_solver(solver_file: str) -> Solver:
    """The solver that the file describes, whatever its type (pycaffe's `get_solver`)."""
    return make_solver(read_solver(str(solver_file)))
