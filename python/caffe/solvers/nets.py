"""The nets that a solver file describes: one to train, and any number to test."""

from __future__ import annotations

from collections.abc import Iterator

from caffe import glog
from caffe.errors import SolverError
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, SolverParameter
from caffe.proto.text import read_net
from caffe.proto.upgrade import upgrade_net

Source = tuple[str, str | NetParameter]
"""What the solver file calls a net, and its path or the net itself."""


def train_net(param: SolverParameter) -> NetParameter:
    """Give the net in training, its state set; it is the caller's own copy.

    Raises:
        SolverError: none is given, or more than one.
        FormatError: its file is missing or no prototxt.
    """
    given = [n for n in ("train_net", "net", "train_net_param", "net_param") if param.HasField(n)]
    if len(given) != 1:
        check = "num_train_nets >= 1 (0 vs. 1) SolverParameter must specify a train net using one of"
        if given:
            check = f"num_train_nets <= 1 ({len(given)} vs. 1) SolverParameter must not contain more than one of"
        raise SolverError(f"Check failed: {check} these fields: net, net_param, train_net, train_net_param")
    name = given[0]
    value = getattr(param, name)
    if name.endswith("param"):
        place = "solver.cpp:88" if name == "train_net_param" else "solver.cpp:97"
        glog.info(place, f"Creating training net specified in {name}.")
    else:
        # BVLC's two wordings
        what, place = ("train_net file", "solver.cpp:92") if name == "train_net" else ("net file", "solver.cpp:102")
        glog.info(place, f"Creating training net from {what}: {value}")
    return _with_state(value, TRAIN, param.train_state)


def test_nets(param: SolverParameter) -> Iterator[NetParameter]:
    """Give the nets for testing one by one, their states set; they are the caller's own copies.

    Raises:
        SolverError: test_iter, test_state or test_interval do not match the nets.
        FormatError: a net's file is missing or no prototxt.
    """
    sources = _test_sources(param)
    if param.test_state and len(param.test_state) != len(sources):
        raise SolverError(
            "test_state must be unspecified or specified once per test net: it is given "
            f"{len(param.test_state)} times for {len(sources)} test nets"
        )
    if sources and param.test_interval <= 0:
        raise SolverError(
            f"Check failed: param_.test_interval() > 0 ({param.test_interval} vs. 0): there are test nets, so "
            "say with test_interval how often to test"
        )
    for number, (what, source) in enumerate(sources):
        shown = f"{what}: {source}" if isinstance(source, str) else what
        glog.info("solver.cpp:190", f"Creating test net (#{number}) specified by {shown}")
        yield _with_state(source, TEST, param.test_state[number] if param.test_state else NetState())


def _test_sources(param: SolverParameter) -> list[Source]:
    own: list[Source] = [
        *(("test_net_param", message) for message in param.test_net_param),
        *(("test_net file", path) for path in param.test_net),
    ]
    generic: Source | None = None
    if param.HasField("net_param"):
        generic = "net_param", param.net_param
    elif param.HasField("net"):
        generic = "net file", param.net
    rest = len(param.test_iter) - len(own)
    if rest < 0 or (rest and generic is None):
        raise SolverError(
            f"Check failed: test_iter must be specified for each test network: it is given "
            f"{len(param.test_iter)} times for {len(own)} test nets (test_net and test_net_param)"
        )
    return own + [generic] * rest if generic else own


def _with_state(source: str | NetParameter, phase: int, asked: NetState) -> NetParameter:
    """The net's own state, under it the phase, over it what the solver asks for.

    A net of an old format inside the solver file is upgraded too; BVLC would find no layers in it.
    """
    message = read_net(source) if isinstance(source, str) else upgrade_net(source, "the solver file's net")
    state = NetState(phase=phase)  # type: ignore[arg-type]
    state.MergeFrom(message.state)
    state.MergeFrom(asked)
    message.state.CopyFrom(state)
    return message
