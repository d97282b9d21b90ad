"""caffe time: Caffe's report to the character but for its numbers, and the table."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe import device
from caffe.tools.cost_table import WIDTH, figure, shapes, table
from caffe.tools.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recordings' net and list, and pictures of the names in it."""
    for name in ("net.prototxt", "list.txt"):
        (tmp_path / name).write_text((golden / "logs" / name).read_text())
    rng = np.random.default_rng(0)
    for line in (tmp_path / "list.txt").read_text().splitlines():
        picture = tmp_path / line.split()[0]
        picture.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(picture), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    monkeypatch.setattr(device, "_gpu", device._gpu)  # back to what it was, after the command has chosen
    return tmp_path


def report(log: str) -> list[str]:
    """The command's own lines, with # for each number."""
    lines = re.findall(r"^I.*? (caffe\.cpp:\d+\] .*)$", log, re.MULTILINE)
    return [re.sub(r"(?<=: )\d[\d.e-]*(?= ms\.|$)", "#", line) for line in lines]


def test_the_report_is_caffes(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "-model", "net.prototxt", "-iterations", "2"]) == 0
    log = capsys.readouterr().err
    assert report(log) == report((golden / "logs" / "time.log").read_text())
    assert len(report(log)) == 26
    assert re.search(r"Iteration: 2 forward-backward time: \d+ ms\.$", log, re.MULTILINE)


def test_the_parts_make_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "-model", "net.prototxt", "-iterations", "3"]) == 0
    log = capsys.readouterr().err
    for way in ("forward", "backward"):
        parts = [float(ms) for ms in re.findall(rf"\t{way}: ([\d.e-]+) ms", log)]
        whole = re.search(rf"Average {way.title()} pass: ([\d.e-]+) ms", log)
        assert len(parts) == 6
        assert whole
        assert 0 < sum(parts) <= float(whole[1]) * (1 + 1e-5)


def test_the_table_tells_shapes_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "-model", "net.prototxt", "-iterations", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "layer",
        "type",
        "output",
        "params",
        "FLOPs",
        "bytes",
        "fwd",
        "ms",
        "bwd",
        "ms",
        "%",
        "peak",
    ]
    rows = {line.split()[0]: re.split(r"\s{2,}", line) for line in lines}
    # 8 filters of 3 x 5 x 5 and a bias at 10 x 10 places of 5 pictures; 5 x 3 x 24 x 24 in, 5 x 8 x 10 x 10 out
    assert rows["conv1"][1:6] == ["Convolution", "5x8x10x10", "608", "600 k", "53 k"]
    assert rows["data"][1:5] == ["ImageData", "5x3x24x24, 5", "-", "-"]
    assert rows["data"][7] == "-"  # nothing goes back
    assert float(rows["conv1"][7]) > 0
    assert rows["total"][1] == "1,211"
    told = re.fullmatch(r"Peak: ([\d.]+) ([MGT])FLOP/s, measured with the float32 product of two .*\.", lines[-1])
    assert told
    peak = float(told[1]) * {"M": 1e6, "G": 1e9, "T": 1e12}[told[2]]
    ahead, share = float(rows["conv1"][6]) / 1000, float(rows["conv1"][8])
    assert share == pytest.approx(100 * 2 * 8 * 3 * 25 * 500 / ahead / peak, rel=0.01, abs=0.06)


def test_a_net_that_learns_nothing_has_no_way_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "deploy.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }'
        'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    )
    assert main(["time", "-model", "deploy.prototxt", "-phase", "TEST", "-iterations", "1"]) == 0
    rows = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert [rows[i][7] for i in (2, 3, 4)] == ["-"] * 3
    assert rows[6][0] == "total"
    assert rows[6][5] == "-"


def test_weights_are_loaded(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(golden / "files" / "tiny_iter_10.caffemodel")
    assert main(["time", "-model", "net.prototxt", "-iterations", "1", "-phase", "TEST", "-weights", weights]) == 0
    assert "net.cpp:746] Ignoring source layer data" not in capsys.readouterr().err
    assert main(["time", "-model", "net.prototxt", "-iterations", "1", "-weights", "absent"]) == 1


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 1, "Check failed: FLAGS_model.size() > 0 (0 vs. 0) Need a model definition to time."),
        (["-model", "absent.prototxt"], 1, "Could not open file absent.prototxt"),
        (["-model", "."], 1, "Could not open file ."),
        (["-model", "list.txt"], 1, "Failed to parse NetParameter file: list.txt"),
        (["-model", "images/img21.jpg"], 1, "It is a binary file, not a prototxt"),
        (["-model", "net.prototxt", "-phase", "train"], 1, 'phase must be "TRAIN" or "TEST"'),
        (["-model", "net.prototxt", "-iterations", "0"], 1, "-iterations 0: at least one iteration is needed"),
        (["-model", "net.prototxt", "-iterations", "many"], 2, "illegal value 'many' specified for int32 flag"),
        (["-model", "net.prototxt", "-iteration", "1"], 2, "did you mean -iterations?"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["time", *words]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err.splitlines()[-1]


def test_a_missing_picture_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "small.png").unlink()
    assert main(["time", "-model", "net.prototxt", "-iterations", "1"]) == 1
    assert "Could not load images/small.png" in capsys.readouterr().err.splitlines()[-1]


def test_help_tells_what_a_flop_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "--help"]) == 0
    out = capsys.readouterr().out
    assert "a multiplication with an addition is two" in out
    assert "caffe time -model train_val.prototxt -iterations 10" in out


def test_tables_are_aligned_and_fit_the_page() -> None:
    rows = [("a" * 30 + str(i) * 90, "7" * i, "x") for i in range(3)]
    lines = table(("name", "n", "kind"), [*rows, (), ("total", "9", "")], left=(0, 2)).splitlines()
    assert max(map(len, lines)) == WIDTH
    assert all("…" in line for line in lines if line.startswith("a"))
    ends = {line.rindex(figure) + 1 for line, figure in zip(lines[3:5] + lines[6:], "779", strict=True)}
    assert len(ends) == 1  # figures stand under each other
    narrow = table(("name", "n"), [("one", "1"), ("three", "100")], left=(0,))
    assert narrow == "name     n\n----------\none      1\nthree  100"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "-"), (7, "7"), (999, "999"), (1000, "1 k"), (61_500, "61.5 k"), (999_600, "1 M"), (72_440_681_600, "72.4 G")],
)
def test_figures_have_three_digits(value: int, text: str) -> None:
    assert figure(value) == text


def test_shapes_of_tops() -> None:
    assert shapes([(64, 3, 227, 227), (64,)]) == "64x3x227x227, 64"
    assert shapes([(10, 96)] * 3) == "3 x 10x96"
    assert shapes([()]) == "1"
    assert shapes([]) == "-"
