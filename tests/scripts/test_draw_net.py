"""The command; its graphs are compared in tests/caffe/test_draw.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run

pytest.importorskip("pydot")

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 24 dim: 20 } } }
layer { name: "label" type: "Input" top: "label" include { phase: TRAIN } input_param { shape { dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture(autouse=True)
def net(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)


def boxes(path: Path) -> dict[str, str]:
    """Names and labels of the layers in a .dot file that runs from top to bottom."""
    text = path.read_text()
    assert "rankdir=TB;" in text
    return dict(re.findall(r'^"(\S+)" \[label="([^"]*)", shape=record', text, re.MULTILINE))


def test_a_graph_of_all_layers_or_of_a_phase(tmp_path: Path, run: Run) -> None:
    done = run("draw_net.py", "net.prototxt", "net.dot", "--rankdir", "TB")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Drawing net to net.dot\n", "")
    layers = ["data_Input", "fc_InnerProduct", "prob_Softmax"]
    assert list(boxes(tmp_path / "net.dot")) == ["data_Input", "label_Input", *layers[1:]]
    done = run("draw_net.py", "net.prototxt", "net.dot", "--rankdir", "TB", "--phase", "TEST", "--display_lrm")
    assert (done.returncode, done.stderr) == (0, "")
    found = boxes(tmp_path / "net.dot")
    assert list(found) == layers
    assert found["fc_InnerProduct"] == "fc (InnerProduct) lr_mult: 1"


def test_without_graphviz_a_picture_is_a_clear_error(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "absent"))
    done = run("draw_net.py", "net.prototxt", "net.png")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "draw_net.py: error: Drawing a net needs Graphviz's dot command, which is not on PATH"
    )
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.prototxt", "a.dot"], "File not found: absent.prototxt"),
        (["net.prototxt", "a"], "a: the name must end in the picture's format, .png for instance"),
        (["net.prototxt", "absent/a.dot"], "Cannot write absent/a.dot"),
        (["wrong.prototxt", "a.dot"], "Failed to parse NetParameter file: wrong.prototxt"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, run: Run, args: list[str], message: str) -> None:
    (tmp_path / "wrong.prototxt").write_text("base_lr: 0.1\n")
    done = run("draw_net.py", *args)
    assert done.returncode == 1
    assert done.stderr.startswith("draw_net.py: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "wrong.prototxt"]


def test_usage_and_help(run: Run) -> None:
    assert run("draw_net.py", "net.prototxt", "a.dot", "--phase", "both").returncode == 2
    assert "python scripts/draw_net.py models/CaffeNet/deploy.prototxt" in run("draw_net.py", "--help").stdout
