"""Which nets a solver file describes, and in which state; the oracle is BVLC's order of nets and of states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import caffe
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter, SolverParameter
from caffe.solvers import nets

REST = 'base_lr: 1 lr_policy: "fixed" test_interval: 1 snapshot_prefix: "run" '


def net(name: str, state: str = "") -> str:
    return f'name: "{name}" {state and f"state {{ {state} }}"} layer {{ name: "in" type: "Input" top: "x" }} '


def solver(text: str) -> SolverParameter:
    from google.protobuf import text_format

    return text_format.Parse(REST + text, SolverParameter())


def told(messages: list[NetParameter]) -> list[tuple[str, int, int, list[str]]]:
    return [(m.name, m.state.phase, m.state.level, list(m.state.stage)) for m in messages]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets ``a`` and ``b`` in files of their names, in the current folder; what is done with them is logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    for name in "ab":
        (tmp_path / name).write_text(net(name))


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ('net: "a"', "a", "solver.cpp:102] Creating training net from net file: a"),
        ('train_net: "b"', "b", "solver.cpp:92] Creating training net from train_net file: b"),
        (f"net_param {{ {net('c')} }}", "c", r"solver.cpp:\d+] Creating training net specified in net_param."),
        (f"train_net_param {{ {net('d')} }}", "d", r"solver.cpp:\d+] Creating training net specified in train_net_par"),
    ],
)
def test_the_train_net(files: None, given: str, name: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    param = solver(given)
    before = param.SerializeToString()
    assert told([nets.train_net(param)]) == [(name, TRAIN, 0, [])]
    assert param.SerializeToString() == before
    assert re.search(said, capfd.readouterr().err)


def test_test_nets_in_bvlcs_order(files: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Messages, then files, then as many of the net in training as there are test_iter left."""
    text = f"test_net: 'a' test_net: 'b' test_net_param {{ {net('c')} }} " + "test_iter: 1 " * 5
    for generic, name, said in (('net: "a"', "a", "net file: a"), (f"net_param {{ {net('d')} }}", "d", "net_param")):
        assert [m.name for m in nets.test_nets(solver(text + generic))] == ["c", "a", "b", name, name]
        assert re.findall(r"solver.cpp:190\] (.*)", capfd.readouterr().err) == [
            f"Creating test net (#{number}) specified by {what}"
            for number, what in enumerate(["test_net_param", "test_net file: a", "test_net file: b", said, said])
        ]
    few = solver("test_iter: 1 test_net: 'b' train_net: 'a'")
    assert [m.name for m in nets.test_nets(few)] == ["b"]
    assert list(nets.test_nets(solver('net: "a"'))) == []


def test_the_solvers_state_goes_over_the_nets_and_the_phase_under_it() -> None:
    own = net("n", 'phase: TEST level: 3 stage: "own"')
    train = solver(f'net_param {{ {own} }} train_state {{ level: 5 stage: "more" }}')
    assert told([nets.train_net(train)]) == [("n", TEST, 5, ["own", "more"])]
    assert told([nets.train_net(solver(f"net_param {{ {own} }}"))]) == [("n", TEST, 3, ["own"])]
    text = f"test_iter: 1 test_iter: 1 net_param {{ {net('n', 'level: 3')} }} "
    states = 'test_state { phase: TRAIN } test_state { level: 4 stage: "s" }'
    assert told(list(nets.test_nets(solver(text + states)))) == [("n", TRAIN, 3, []), ("n", TEST, 4, ["s"])]
    assert told(list(nets.test_nets(solver(text)))) == [("n", TEST, 3, [])] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net: 'a' test_iter: 1 test_state { } test_state { }", "given 2 times for 1 test nets"),
        ("train_net: 'a' test_iter: 1", "given 1 times for 0 test nets"),
        ("net: 'a' test_net: 'b'", "given 0 times for 1 test nets"),
        ("train_net: 'a' test_net: 'b' test_iter: 1 test_iter: 1", "given 2 times for 1 test nets"),
    ],
)
def test_counts_that_do_not_match(files: None, text: str, words: str) -> None:
    with pytest.raises(caffe.CaffeError, match=words):
        list(nets.test_nets(solver(text)))
