"""The training loop: test, forward, backward, update, log, snapshot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import ClassVar

import torch

from caffe import glog, rng
from caffe.errors import SolverError
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, SolverParameter
from caffe.proto.text import read_net, read_solver, to_text
from caffe.solvers import lr_policy, runstate, snapshot
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
        param: the SolverParameter.
        history: what the update rule remembers, an array (or more) a parameter.
        poll: asked after each iteration and before each test batch what to do; `Action.NONE` by default.
    """

    type: ClassVar[str] = ""

    def __init__(self, solver_file: str | SolverParameter) -> None:
        param = read_solver(str(solver_file)) if not isinstance(solver_file, SolverParameter) else solver_file
        self.param = param
        self.iter = 0
        self.poll: Callable[[], Action] = lambda: Action.NONE
        self.history: list[torch.Tensor] = []
        self._callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._stopped = False
        glog.info("solver.cpp:45", f"Initializing solver from parameters: \n{to_text(param).rstrip()}")
        if param.average_loss < 1:
            raise SolverError(f"average_loss should be non-negative and at least 1, it is {param.average_loss}")
        lr_policy.check(param)
        snapshot.check_prefix(param)
        if param.random_seed >= 0:
            rng.set_random_seed(param.random_seed)
        self.net = self._train_net()
        self._load(self.net)
        self.test_nets = self._make_test_nets()
        self._losses: deque[torch.Tensor] = deque(maxlen=param.average_loss)
        self._pre_solve()
        glog.info("solver.cpp:57", "Solver scaffolding done.")

    def _pre_solve(self) -> None:
        """Make what the update rule remembers."""
        raise NotImplementedError(f"{type(self).__name__} must make its history")

    def apply_update(self) -> None:
        """Update the net's parameters from their gradients."""
        raise NotImplementedError(f"{type(self).__name__} must have an update rule")

    # Making the nets

    def _train_net(self) -> Net:
        p = self.param
        given = [n for n in ("train_net", "net", "train_net_param", "net_param") if p.HasField(n)]
        if len(given) != 1:
            check = "num_train_nets >= 1 (0 vs. 1) SolverParameter must specify a train net using one of"
            if given:
                check = f"num_train_nets <= 1 ({len(given)} vs. 1) SolverParameter must not contain more than one of"
            raise SolverError(f"Check failed: {check} these fields: net, net_param, train_net, train_net_param")
        name = given[0]
        value = getattr(p, name)
        if name.endswith("param"):
            glog.info("solver.cpp:92", f"Creating training net specified in {name}.")
            message = NetParameter()
            message.CopyFrom(value)
        else:
            # BVLC's two wordings
            what = "train_net file" if name == "train_net" else "net file"
            place = "solver.cpp:86" if name == "train_net" else "solver.cpp:102"
            glog.info(place, f"Creating training net from {what}: {value}")
            message = read_net(value)
        return Net.from_param(self._with_state(message, TRAIN, p.train_state))

    @staticmethod
    def _with_state(message: NetParameter, phase: int, asked: NetState) -> NetParameter:
        """The net's own state, under it the phase, over it what the solver asks for."""
        state = NetState(phase=phase)  # type: ignore[arg-type]
        state.MergeFrom(message.state)
        state.MergeFrom(asked)
        message.state.CopyFrom(state)
        return message

    def _load(self, net: Net) -> None:
        """Weights that the solver file names, each a path or a comma list."""
        for entry in self.param.weights:
            for path in entry.split(","):
                glog.info("solver.cpp:72", f"Finetuning from {path.strip()}")
                net.copy_from(path.strip())

    def _make_test_nets(self) -> list[Net]:
        p = self.param
        sources: list[tuple[str, str | NetParameter]] = [
            *(("test_net_param", m) for m in p.test_net_param),
            *(("test_net file", path) for path in p.test_net),
        ]
        if len(sources) > len(p.test_iter) or (len(p.test_iter) > len(sources) and not self._generic()):
            raise SolverError(
                f"Check failed: test_iter must be specified for each test network: it is given "
                f"{len(p.test_iter)} times for {len(sources)} test nets (test_net and test_net_param)"
            )
        rest = len(p.test_iter) - len(sources)
        sources += [self._generic()] * rest  # type: ignore[list-item]
        if p.test_state and len(p.test_state) != len(sources):
            raise SolverError(
                "test_state must be unspecified or specified once per test net: it is given "
                f"{len(p.test_state)} times for {len(sources)} test nets"
            )
        if sources and p.test_interval <= 0:
            raise SolverError(
                f"Check failed: param_.test_interval() > 0 ({p.test_interval} vs. 0): there are test nets, so "
                "say with test_interval how often to test"
            )
        return [self._make_test_net(number, *source) for number, source in enumerate(sources)]

    def _generic(self) -> tuple[str, str | NetParameter] | None:
        """The net for testing where the solver file names none of its own for that."""
        p = self.param
        if p.HasField("net_param"):
            return "net_param", p.net_param
        return ("net file", p.net) if p.HasField("net") else None

    def _make_test_net(self, number: int, what: str, source: str | NetParameter) -> Net:
        shown = f"{what}: {source}" if isinstance(source, str) else what
        glog.info("solver.cpp:190", f"Creating test net (#{number}) specified by {shown}")
        message = NetParameter()
        message.CopyFrom(read_net(source) if isinstance(source, str) else source)
        states = self.param.test_state
        asked = states[number] if states else NetState()
        net = Net.from_param(self._with_state(message, TEST, asked))
        net.records = False
        net.debug_info = self.param.debug_info
        self._load(net)
        net.share_with(self.net)
        return net

    # Running

    @property
    def lr(self) -> float:
        """Learning rate of the iteration to come, before each parameter's lr_mult."""
        return lr_policy.rate(self.param, self.iter)

    def solve(self, resume_file: str | None = None) -> None:
        """Train until max_iter, from ``resume_file`` (a solverstate) where one is given."""
        glog.info("solver.cpp:289", f"Solving {self.net.name}")
        glog.info("solver.cpp:290", f"Learning Rate Policy: {self.param.lr_policy}")
        self._stopped = False
        if resume_file:
            self.restore(resume_file)
        self.step(self.param.max_iter - self.iter)
        p = self.param
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        if self._stopped:
            glog.info("solver.cpp:318", "Optimization stopped early.")
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
        self._clock = (time.monotonic(), self.iter)
        for _ in range(iterations):
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                self._test_all()
                if self._stopped:
                    return
            for on_start, _ in self._callbacks:
                on_start()
            self.net.debug_info = p.debug_info and bool(p.display) and self.iter % p.display == 0
            self._losses.append(self._gradients())
            if p.display and self.iter % p.display == 0:
                self._log_iteration()
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            self.iter += 1
            action = self.poll()
            if (p.snapshot and self.iter % p.snapshot == 0) or action is Action.SNAPSHOT:
                self.snapshot()
            if action is Action.STOP:
                self._stopped = True
                return

    def _gradients(self) -> torch.Tensor:
        """Gradients of iter_size batches, added up; return their mean loss."""
        self.net.clear_param_diffs()
        loss = torch.zeros((), device=self.net.device)
        for _ in range(self.param.iter_size):
            loss += self.net.run_forward()
            self.net.run_backward(keep_diffs=False)
        return loss / self.param.iter_size

    def _smoothed_loss(self) -> float:
        return float(torch.stack(list(self._losses)).mean())

    def _log_iteration(self) -> None:
        then, since = self._clock
        now = time.monotonic()
        self._clock = (now, self.iter)
        seconds = now - then
        rate = (self.iter - since) / seconds if seconds else 0.0
        glog.info(
            "solver.cpp:239",
            f"Iteration {self.iter} ({rate:g} iter/s, {seconds:g}s/{self.param.display} iters), "
            f"loss = {self._smoothed_loss():g}",
        )
        values = self._outputs(self.net)
        self._log_outputs("Train", "solver.cpp:258", self.net, [v.flatten() for v in values])

    @staticmethod
    def _outputs(net: Net) -> list[torch.Tensor]:
        return [net.blobs[name].data_tensor() for name in net.outputs]

    @staticmethod
    def _log_outputs(kind: str, place: str, net: Net, values: Iterable[torch.Tensor]) -> None:
        """One line a number: ``Train net output #i: name = x (* w = y loss)``."""
        number = 0
        for name, row in zip(net.outputs, values, strict=True):
            weight = net.blob_loss_weights[name]
            for value in row.tolist():
                part = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
                glog.info(place, f"    {kind} net output #{number}: {name} = {value:g}{part}")
                number += 1

    def _test_all(self) -> None:
        for number in range(len(self.test_nets)):
            if not self._stopped:
                self._test(number)

    def _test(self, number: int) -> None:
        glog.info("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{number})")
        net = self.test_nets[number]
        sums: list[torch.Tensor] = []
        loss = torch.zeros((), device=net.device)
        batches = self.param.test_iter[number]
        for _ in range(batches):
            action = self.poll()
            if action is Action.SNAPSHOT:
                self.snapshot()
            elif action is Action.STOP:
                self._stopped = True
                glog.info("solver.cpp:369", "Test interrupted.")
                return
            loss += net.run_forward()
            values = [v.flatten().double() for v in self._outputs(net)]
            sums = [a + b for a, b in zip(sums, values, strict=True)] if sums else values
        if self.param.test_compute_loss:
            glog.info("solver.cpp:398", f"Test loss: {float(loss) / batches:g}")
        self._log_outputs("Test", "solver.cpp:414", net, [s / batches for s in sums])

    # pycaffe

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Call the first before each iteration's forward pass, the second before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def snapshot(self) -> None:
        """Write the weights, the solver's state and the run's under snapshot_prefix."""
        runstate.write(self, snapshot.write(self))  # type: ignore[arg-type]

    def restore(self, state_file: str) -> None:
        """Go on from a ``.solverstate``, exactly where the run's state lies beside it."""
        snapshot.restore(self, str(state_file))  # type: ignore[arg-type]
        runstate.restore(self, str(state_file))

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use the weights of the net in training."""
        net.share_with(self.net)

    def close(self) -> None:
        """Let go of the nets' files and reading threads."""
        for net in (self.net, *self.test_nets):
            net.close()


def make_solver(param: SolverParameter) -> Solver:
    """The solver of ``param.type``, made from the message."""
    return solver_class(param.type)(param)


def get_solver(solver_file: str) -> Solver:
    """The solver that the file describes, whatever its type (pycaffe's `get_solver`)."""
    return make_solver(read_solver(str(solver_file)))
