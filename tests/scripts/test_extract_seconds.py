"""The command; its numbers are compared in tests/oxford102/test_log_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Run


def test_a_column_of_seconds(golden: Path, tmp_path: Path, run: Run) -> None:
    done = run("extract_seconds.py", golden / "logs/train.log", "seconds.txt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (tmp_path / "seconds.txt").read_text().splitlines()
    # 17:37:21.840278 "Solving", .840307 first iteration, :22.196049 the last
    assert (len(lines), lines[0], lines[-1]) == (12, "0.000029", "0.355771")


def test_mistakes_are_told_in_one_line(golden: Path, tmp_path: Path, run: Run) -> None:
    for log, message in (
        (golden / "logs/errors.txt", "Start time not found"),
        ("absent.log", "No such file or directory"),
    ):
        done = run("extract_seconds.py", log, "out")
        assert done.returncode == 1
        assert done.stderr.startswith(f"extract_seconds.py: error: {log}: {message}")
        assert done.stderr.count("\n") == 1
    done = run("extract_seconds.py", golden / "logs/train.log", "absent/out")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr == "extract_seconds.py: error: absent/out: there is no folder absent; make it first\n"


def test_usage_and_help(run: Run) -> None:
    assert run("extract_seconds.py", "a.log").returncode == 2
    assert "python scripts/extract_seconds.py training.log seconds.txt" in run("extract_seconds.py", "--help").stdout
