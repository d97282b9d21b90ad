"""The command as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(cwd: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "plot_curves.py"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_draws_several_logs_and_tells_the_file(golden: Path, tmp_path: Path) -> None:
    logs = [golden / "logs" / name for name in ("train.log", "finetune.log")]
    done = run(tmp_path, *logs, "-o", "both.png", "--labels", "from scratch", "fine-tuned")
    assert (done.returncode, done.stdout, done.stderr) == (0, "both.png\n", "")
    assert cv2.imread(str(tmp_path / "both.png")).shape == (720, 1800, 3)


def test_labels_come_from_the_files(golden: Path, tmp_path: Path) -> None:
    run(tmp_path, golden / "logs" / "train.log", "-o", "one.svg")
    svg = (tmp_path / "one.svg").read_text()  # texts are drawn as shapes, with the text as a comment
    assert "<!-- train: best 80.00 % at 20 -->" in svg


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["errors.txt"], "errors.txt: no training in it; looked for Caffe's lines"),
        (["absent.log"], "absent.log: No such file or directory"),
        (["train.log", "--labels", "a", "b"], "2 labels for 1 logs; give one label a log after --labels"),
        (["train.log", "train.log"], "the labels train, train are not all different; give others with --labels"),
        (["train.log", "--output-name", "top1"], "no test output 'top1' in the logs; they have accuracy, loss"),
        (
            ["train.log", "-o", "curves.xyz"],
            "curves.xyz: cannot draw '.xyz' files; let the name end with .png, .svg, .pdf",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(golden: Path, args: list[str], message: str) -> None:
    done = run(golden / "logs", *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"plot_curves.py: error: {message}")
    assert done.stderr.count("\n") == 1


def test_no_log_is_a_wrong_command_line(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 2


def test_help_has_examples(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "python scripts/plot_curves.py train.log -o curves.png" in done.stdout
