"""Prototxt in and out, against what BVLC Caffe 1.0 printed and what its C++ parser says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffe.errors import FormatError
from caffe.graph.rules import filter_net
from caffe.proto.caffe_pb2 import TEST, TRAIN, BlobProto, NetParameter, SolverParameter
from caffe.proto.text import parse, read_net, read_solver, to_text

LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:")


def blocks(log: Path, title: str) -> list[str]:
    """The messages that Caffe printed after lines that end with `title`."""
    found: list[list[str]] = []
    inside = False
    for line in log.read_text().splitlines():
        if LOG_LINE.match(line):
            inside = line.rstrip().endswith(title)
            if inside:
                found.append([])
        elif inside:
            found[-1].append(line)
    return ["".join(f"{line}\n" for line in block if line) for block in found]


@pytest.mark.parametrize("log", ["train.log", "finetune.log"])
def test_prints_what_caffe_printed(golden: Path, log: str) -> None:
    nets = blocks(golden / "logs" / log, "Initializing net from parameters:")
    solvers = blocks(golden / "logs" / log, "Initializing solver from parameters:")
    assert (len(nets), len(solvers)) == (2, 1)
    for block in nets:
        assert to_text(parse(block, NetParameter(), log)) == block
    for block in solvers:
        assert to_text(parse(block, SolverParameter(), log)) == block


def test_files_become_what_caffe_printed(golden: Path) -> None:
    log = golden / "logs" / "train.log"
    solver = read_solver(str(golden / "logs" / "solver.prototxt"))
    solver.train_state.level = 0
    solver.train_state.stage.append("")
    assert [to_text(solver)] == blocks(log, "Initializing solver from parameters:")
    printed = blocks(log, "Initializing net from parameters:")
    for phase, block in zip((TRAIN, TEST), printed, strict=True):
        net = read_net(str(golden / "logs" / "net.prototxt"))
        net.state.phase = phase
        if phase == TRAIN:
            net.state.level = 0
            net.state.stage.append("")
        assert to_text(filter_net(net)) == block


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (1e-8, "1e-08"),
        (1e10, "1e+10"),
        (104, "104"),
        (-0.0, "-0"),
        (100000, "100000"),
        (1000000, "1e+06"),
        (16777216, "16777216"),
        (16777.2109375, "16777.2109"),
        (1 / 3, "0.333333343"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
    ],
)
def test_floats_as_cpp_prints_them(value: float, text: str) -> None:
    assert to_text(BlobProto(data=[value])) == f"data: {text}\n"


def test_printed_floats_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    floats = rng.integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    floats = floats[np.isfinite(floats)]
    doubles = rng.standard_normal(500) * 10.0 ** rng.integers(-200, 200, 500)
    blob = BlobProto(data=floats, double_data=doubles)
    back = parse(to_text(blob), BlobProto(), "numbers")
    np.testing.assert_array_equal(np.array(back.data, np.float32), floats)
    np.testing.assert_array_equal(np.array(back.double_data), doubles)


def test_strings_are_escaped_as_in_cpp() -> None:
    text = to_text(NetParameter(name="é\n\r\t\"'\\\x01\x7f"))
    assert text == 'name: "\\303\\251\\n\\r\\t\\"\\\'\\\\\\001\\177"\n'
    assert parse(text, NetParameter(), "escapes").name == "é\n\r\t\"'\\\x01\x7f"


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("layer: { name: 'x' }", 'layer { name: "x" }'),
        ("layer < name: 'x' >", 'layer { name: "x" }'),
        ('layer { name: "x", type: "y"; top: "t"; }', 'layer { name: "x" type: "y" top: "t" }'),
        ('name: "a" \'b\'\n  "c"', 'name: "abc"'),
        ('layer { top: ["a", "b"] }', 'layer { top: "a" top: "b" }'),
        ('layer [ { name: "a" }, { name: "b" } ]', 'layer { name: "a" } layer { name: "b" }'),
        ("layer { loss_weight: 1.5f loss_weight: .5 loss_weight: 1. }", "layer { loss_weight: [1.5, 0.5, 1] }"),
        ("layer { loss_weight: INF loss_weight: -inf }", "layer { loss_weight: inf loss_weight: -infinity }"),
        ("input_dim: 0x10 input_dim: 010 input_dim: -1", "input_dim: 16 input_dim: 8 input_dim: -1"),
        ("force_backward: t debug_info: 1", "force_backward: true debug_info: True"),
        ("force_backward: f debug_info: 0", "force_backward: false debug_info: False"),
        ("state { phase: 1 }", "state { phase: TEST }"),
        ("# a comment: { \nname: 'a#b' # another\r\n", 'name: "a#b"'),
        (r'name: "\x41\102\n"', 'name: "AB\\n"'),
        ("", "# nothing"),
    ],
)
def test_syntax_of_the_day(text: str, same_as: str) -> None:
    assert parse(text, NetParameter(), "a") == parse(same_as, NetParameter(), "b")


NET_ERRORS = [
    # the place is where C++ stands when it complains: often the token after the one at fault
    ('layer { name: "a" type: }', "1:25: Expected string, got: }."),
    (
        'layer {\n\tname: "a" relu_parm { } }',
        '2:29: Message type "caffe.LayerParameter" has no field named "relu_parm". Did you mean "relu_param"? '
        "This is layer 'a'.",
    ),
    ("layer { relu_parm { } }", 'Did you mean "relu_param"?'),
    (
        'layer { name: "a" } layer { name: "roi" type: "ROIPooling" roi_pooling_param { } bottom: "x" } layer { }',
        "take it out, or write a layer that needs it as a Python layer. This is layer 'roi' (ROIPooling).",
    ),
    (
        'layer < name: "one" > layer < name: "two" relu_parm < > >',
        "Did you mean \"relu_param\"? This is layer 'two'. Failed to parse",
    ),
    ('nme: "n" layer { name: "a" }', 'Did you mean "name"? Failed to parse'),
    ('layer { name: "a" } state { levl: 1 }', 'Did you mean "level"? Failed to parse'),
    ("layer { permute_param { } }", "It is of another Caffe than BVLC's: take it out, or write a layer"),
    ("layers { type: RELU relu6_param { } }", "It is of another Caffe than BVLC's: take it out, or write a layer"),
    ("layers { type: RELU relu6_param { } }", "as a Python layer. This is layer (RELU)."),
    ("layer { inner_prodct_param { } }", 'Did you mean "inner_product_param"?'),
    ("layer { nme: 1 }", 'Did you mean "name"?'),
    ("state { levl: 1 }", '"caffe.NetState" has no field named "levl". Did you mean "level"?'),
    ("state { xyzzy: 1 }", "Known: level, phase, stage."),
    ('name "a"', '1:6: Expected ":", found ""a"".'),
    ("layer 3", '1:7: Expected "{", found "3".'),
    ('layer { name: "x"\n', "2:1: Expected identifier, got: "),
    ("name: abc", "1:7: Expected string, got: abc."),
    ("}", "1:1: Expected identifier, got: }."),
    (
        "state { phase: TRAINING }",
        '1:25: Unknown enumeration value of "TRAINING" for field "phase". Did you mean "TRAIN"?',
    ),
    ("state { phase: 7 }", '1:18: Unknown enumeration value of "7" for field "phase".'),
    ('state { phase: "TEST" }', '1:16: Expected integer or identifier, got: "TEST".'),
    ("input_dim: 1.5", "1:12: Expected integer, got: 1.5."),
    ("input_dim: 99999999999", "1:12: Integer out of range (99999999999)."),
    ("layer { loss_weight: [ 1, x ] }", "1:27: Expected double, got: x."),
    ("force_backward: maybe", '1:22: Invalid value for boolean field "force_backward". Value: "maybe".'),
    ("force_backward: 2", "1:17: Integer out of range (2)."),
    ('name: "a', "String literals cannot cross line boundaries"),
    (r'name: "C:\data"', r"1:11: Invalid escape sequence in string literal"),
    ('name: "a" name: "b" "c"', '1:15: Non-repeated field "name" is specified multiple times.'),
    ("state { } state: { }", '1:16: Non-repeated field "state" is specified multiple times.'),
    ("state { } state { }", '1:17: Non-repeated field "state" is specified multiple times.'),
    ("layer { clip_param { min: 1 } }", "Message missing required fields: layer[0].clip_param.max"),
]


@pytest.mark.parametrize(("text", "message"), NET_ERRORS)
def test_errors_in_caffes_words(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text, NetParameter(), "some/net.prototxt")
    said = str(caught.value)
    assert said.startswith("Error parsing text-format caffe.NetParameter: ")
    assert said.endswith("Failed to parse NetParameter file: some/net.prototxt")
    assert message in said
    assert "\n" not in said


def test_recorded_errors(golden: Path) -> None:
    """The two errors of which the text that caused them is known."""
    recorded = (golden / "logs" / "errors.txt").read_text()
    text = 'net: "net.prototxt" net: "net.prototxt"'
    with pytest.raises(FormatError) as caught:
        parse(text, SolverParameter(), "two-nets.solver")
    for part in str(caught.value).split(" Failed to parse "):
        assert part in recorded
    assert "Expected string, got: }" in recorded
    assert 'Message type "caffe.LayerParameter" has no field named "relu_parm".' in recorded


@pytest.mark.parametrize("read", [read_net, read_solver])
def test_missing_file(tmp_path: Path, read: object) -> None:
    path = str(tmp_path / "nope.prototxt")
    with pytest.raises(FormatError, match=re.escape(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path}")):
        read(path)
    with pytest.raises(FormatError, match=r"File not found.*directory"):
        read(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes('name: "café" # naïve\r\nlayer { name: "a" }\r\n'.encode(encoding))
    net = read_net(str(path))
    assert (net.name, net.layer[0].name) == ("café", "a")
