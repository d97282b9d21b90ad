"""The command; its charts are compared in tests/oxford102/test_plots.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

if TYPE_CHECKING:
    from conftest import Run


def test_several_logs_in_one_picture(golden: Path, tmp_path: Path, run: Run) -> None:
    logs = [golden / "logs" / name for name in ("train.log", "finetune.log")]
    done = run("plot_training_log.py", "6", "loss.png", *logs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loss.png\n", "")
    assert cv2.imread(str(tmp_path / "loss.png")).shape == (750, 1200, 3)


def test_labels_come_from_the_files_and_their_folders_where_names_are_the_same(
    golden: Path, tmp_path: Path, run: Run
) -> None:
    text = (golden / "logs/train.log").read_text()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.log").write_text(text)
    assert run("plot_training_log.py", "0", "one.svg", "a/train.log").returncode == 0
    assert "<!-- train: best 80.00 % at 20 -->" in (tmp_path / "one.svg").read_text()
    assert run("plot_training_log.py", "0", "two.svg", "a/train.log", "b/train.log").returncode == 0
    assert "<!-- b/train.log: best 80.00 % at 20 -->" in (tmp_path / "two.svg").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["0", "a.gif", "train.log"], "a.gif: cannot draw '.gif' files; let the name end with .png, .svg, .pdf"),
        (["0", "a.png", "absent.log"], "absent.log: No such file or directory"),
        (["0", "a.png", "empty.log"], "empty.log: no training in it; looked for Caffe's lines"),
        (["0", "absent/a.png", "train.log"], "absent/a.png: there is no folder absent; make it first"),
        (["0", "a.png", "train.log", "train.log"], "the same log is given twice; give each once"),
    ],
)
def test_mistakes_are_told_in_one_line(golden: Path, tmp_path: Path, run: Run, args: list[str], message: str) -> None:
    (tmp_path / "train.log").write_text((golden / "logs/train.log").read_text())
    (tmp_path / "empty.log").touch()
    done = run("plot_training_log.py", *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"plot_training_log.py: error: {message}")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.log", "train.log"]


@pytest.mark.parametrize("args", [["0", "a.png"], ["8", "a.png", "train.log"], ["-1", "a.png", "train.log"]])
def test_usage(run: Run, args: list[str]) -> None:
    assert run("plot_training_log.py", *args).returncode == 2


def test_help_names_the_charts(run: Run) -> None:
    text = run("plot_training_log.py", "--help").stdout
    assert "  0: Test accuracy against iteration\n" in text
    assert "  7: Train loss against seconds\n" in text
    assert "python scripts/plot_training_log.py 0 accuracy.png training.log" in text
