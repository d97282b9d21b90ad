"""Layers kept and dropped by their rules, with Caffe's log lines."""

from __future__ import annotations

import pytest

from caffe.errors import NetError
from caffe.graph.rules import filter_net
from caffe.proto.caffe_pb2 import NetParameter
from caffe.proto.text import parse, to_text

TRAIN, TEST = "phase: TRAIN", "phase: TEST"

CASES = [
    # state, rules, kept, lines
    (TRAIN, "", True, []),
    (TRAIN, "include { phase: TRAIN }", True, []),
    (TRAIN, "include { phase: TEST }", False, ["net.cpp:296] The NetState phase (0) differed from the phase (1)"]),
    (TEST, "exclude { phase: TRAIN }", True, ["net.cpp:296] The NetState phase (1) differed from the phase (0)"]),
    (TEST, "exclude { phase: TEST }", False, []),
    ("", "include { phase: TEST }", True, []),
    ("level: 2", "include { min_level: 3 }", False, ["net.cpp:306] The NetState level (2) is above the min_level (3)"]),
    ("level: 2", "include { min_level: 2 max_level: 2 }", True, []),
    ("level: 2", "include { max_level: 1 }", False, ["net.cpp:316] The NetState level (2) is above the max_level (1)"]),
    ('stage: "a"', 'include { stage: "a" stage: "b" }', False, ["net.cpp:332] The NetState did not contain stage 'b'"]),
    ('stage: "a" stage: "b"', 'include { stage: "b" stage: "a" }', True, []),
    ('stage: "a"', 'include { not_stage: "a" }', False, ["net.cpp:347] The NetState contained a not_stage 'a'"]),
    ('stage: "a"', 'include { not_stage: "b" }', True, []),
    (
        'phase: TRAIN stage: "b"',
        'include { phase: TEST } include { stage: "b" }',
        True,
        ["net.cpp:296] The NetState phase (0) differed from the phase (1)"],
    ),
    (
        "phase: TRAIN",
        'exclude { phase: TEST } exclude { phase: TRAIN not_stage: "x" }',
        False,
        ["net.cpp:296] The NetState phase (0) differed from the phase (1)"],
    ),
]


@pytest.mark.parametrize(("state", "rules", "kept", "lines"), CASES)
def test_rules(
    state: str,
    rules: str,
    kept: bool,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    net = parse(f'state {{ {state} }} layer {{ name: "x" {rules} }} layer {{ name: "y" }}', NetParameter(), "net")
    before = to_text(net)
    filtered = filter_net(net)
    assert [layer.name for layer in filtered.layer] == ["x", "y"][not kept :]
    if kept:
        assert filtered == net
    assert to_text(net) == before
    logged = [line.split(None, 3)[3].strip() for line in capfd.readouterr().err.splitlines()]
    assert [line[line.index("net.cpp") :] for line in logged] == [
        f"{line} specified by a rule in layer x" for line in lines
    ]


def test_both_kinds_of_rules() -> None:
    net = parse('layer { name: "x" include { min_level: 1 } }', NetParameter(), "net")
    net.layer[0].exclude.add(max_level=3)
    with pytest.raises(NetError, match=r"Layer 'x': Specify either include rules or exclude rules; not both\."):
        filter_net(net)
