"""The command; its tables are compared in tests/oxford102/test_log_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run


def test_two_tables_are_named_after_the_log(golden: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "tables").mkdir()
    done = run("parse_log.py", golden / "logs/train.log", "tables", "--verbose", "--delimiter", ";")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Wrote tables/train.log.train\nWrote tables/train.log.test\n"
    train, test = ((tmp_path / "tables" / f"train.log.{what}").read_bytes() for what in ("train", "test"))
    # 17:37:21.840278 "Solving", .860347 the first training output, .859383 the first of testing
    assert train.startswith(b"NumIters;Seconds;LearningRate;loss\r\n0.0;0.020069;0.001;1.1288\r\n5.0;0.081427;0.001;")
    assert test.startswith(b"NumIters;Seconds;LearningRate;accuracy;loss\r\n0.0;0.019105;0.001;0.4;1.1888\r\n10.0;")


def test_a_table_without_lines_is_told(tmp_path: Path, run: Run) -> None:
    stamp = "I0917 22:16:45.000000 67440 solver.cpp:222] "
    lines = ("Solving flowers", "Iteration 0, Testing net (#0)", "    Test net output #0: accuracy = 0.5")
    (tmp_path / "a.log").write_text("".join(f"{stamp}{line}\n" for line in lines))
    done = run("parse_log.py", "a.log", ".")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Not writing a.log.train; no lines to write\n"
    assert (tmp_path / "a.log.test").read_bytes() == b"NumIters,Seconds,LearningRate,accuracy\r\n0.0,0.0,nan,0.5\r\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.log", "."], "absent.log: No such file or directory"),
        (["empty.log", "."], "empty.log: no training in it; looked for Caffe's lines"),
        (["empty.log", "absent"], "absent: no such folder; make it first, the tables go there"),
        ([".", "."], ".: Is a directory"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, run: Run, args: list[str], message: str) -> None:
    (tmp_path / "empty.log").touch()
    done = run("parse_log.py", *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"parse_log.py: error: {message}")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty.log"]


def test_a_folder_in_the_way_leaves_nothing_half_written(golden: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "train.log.train").mkdir()
    done = run("parse_log.py", golden / "logs/train.log", ".")
    assert done.returncode == 1
    assert done.stderr.endswith("Is a directory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["train.log.train"]


def test_usage_and_help(run: Run) -> None:
    assert run("parse_log.py", "a.log").returncode == 2
    assert run("parse_log.py", "a.log", ".", "--delimiter", "ab").returncode == 2
    assert "python scripts/parse_log.py training.log ." in run("parse_log.py", "--help").stdout
