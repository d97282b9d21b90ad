"""Caffe's tables of a log, against the log's lines read by regular expressions written here."""

from __future__ import annotations

import csv
import io
import math
import re
from datetime import datetime
from pathlib import Path

import pytest

from oxford102.errors import ToolError
from oxford102.log_tables import csv_text, read_seconds, read_tables, write_seconds, write_tables

OUTPUT = r"^.(\d{4} [\d:.]+) .*\] +%s net output #\d+: (\S+) = (\S+)"


def line(time: str, message: str) -> str:
    return f"I{time} 7 solver.cpp:1] {message}\n"


def stamp(text: str) -> datetime:
    return datetime.strptime(f"2001{text}", "%Y%m%d %H:%M:%S.%f")


def expected(text: str, phase: str, iterations: list[int], rates: list[float]) -> str:
    """The table of a log whose iterations and rates were read by eye, its values by a regular expression."""
    begin = re.search(r"^.(\d{4} [\d:.]+) .*\] Solving", text, re.MULTILINE)
    assert begin
    found = re.findall(OUTPUT % phase, text, re.MULTILINE)
    names = list(dict.fromkeys(name for _, name, _ in found))
    rows = [",".join(("NumIters", "Seconds", "LearningRate", *names))]
    for i, (iteration, rate) in enumerate(zip(iterations, rates, strict=True)):
        group = found[i * len(names) : (i + 1) * len(names)]
        seconds = (stamp(group[0][0]) - stamp(begin[1])).total_seconds()
        rows.append(",".join(str(float(value)) for value in (iteration, seconds, rate, *(v for *_, v in group))))
    return "".join(row + "\r\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "phase", "iterations", "rates"),
    [
        # Caffe's parse_log tells the rate printed before the row, in the first row the second's
        ("train.log", "Train", [0, 5, 10, 15], [0.001, 0.001, 0.001, 0.0001]),
        ("train.log", "Test", [0, 10, 20], [0.001, 0.001, 0.0001]),
        ("resume.log", "Train", [10, 15], [0.0001, 0.0001]),
        ("resume.log", "Test", [10, 20], [0.0001, 0.0001]),
        ("finetune.log", "Train", [0, 5, 10, 15], [0.001, 0.001, 0.001, 0.0001]),
        ("finetune.log", "Test", [0, 10, 20], [0.001, 0.001, 0.0001]),
    ],
)
def test_recorded_logs(
    golden: Path, tmp_path: Path, name: str, phase: str, iterations: list[int], rates: list[float]
) -> None:
    log = golden / "logs" / name
    written = dict(write_tables(log, tmp_path))
    path = tmp_path / f"{name}.{phase.lower()}"
    assert written[path]
    assert path.read_bytes().decode() == expected(log.read_text(), phase, iterations, rates)


def test_runs_in_one_log_follow_each_other(golden: Path) -> None:
    first, second = ((golden / "logs" / name).read_text() for name in ("train.log", "resume.log"))
    _, test = read_tables(first + second)
    assert [row["NumIters"] for row in test.rows] == [0, 10, 20, 10, 20]
    # 17:37:21.840278 "Solving" of the first run, :22.417910 first test output of the second
    assert test.rows[3]["Seconds"] == pytest.approx(0.577632)


def test_values_that_are_not_finite_survive() -> None:
    text = line("0101 00:00:00.000000", "Solving x")
    for i, value in enumerate(("nan", "-nan", "inf", "-inf", "1e+30")):
        text += line("0101 00:00:01.000000", f"Iteration {i}, loss = {value}")
        text += line("0101 00:00:01.000000", f"    Train net output #0: loss = {value} (* 1 = {value} loss)")
    rows = list(csv.DictReader(io.StringIO(csv_text(read_tables(text)[0]))))
    assert [row["loss"] for row in rows] == ["nan", "nan", "inf", "-inf", "1e+30"]
    assert [row["NumIters"] for row in rows] == ["0.0", "1.0", "2.0", "3.0", "4.0"]
    assert all(math.isnan(float(row["LearningRate"])) for row in rows)


def outputs(second: int, iteration: int, *told: str) -> str:
    time = f"0101 00:00:{second:02d}.000000"
    head = line(time, f"Iteration {iteration}, Testing net (#0)")
    return head + "".join(line(time, f"    Test net output #{i}: {text}") for i, text in enumerate(told))


def test_an_output_of_several_values_has_a_column_for_each() -> None:
    _, test = read_tables(outputs(0, 0, "a = 1", "c = 2", "c = 3") + outputs(1, 10, "a = 4", "c = 5", "c = 6"))
    leading = ["NumIters", "Seconds", "LearningRate"]
    assert test.names == [*leading, "a", "c", "c[1]"]
    assert [[row[name] for name in test.names[3:]] for row in test.rows] == [[1, 2, 3], [4, 5, 6]]


def test_two_test_nets_of_the_same_outputs_have_a_row_each_of_others_share_one() -> None:
    _, same = read_tables(outputs(0, 0, "a = 1", "b = 2") + outputs(0, 0, "a = 3", "b = 4"))
    assert [(row["a"], row["b"]) for row in same.rows] == [(1, 2), (3, 4)]
    _, other = read_tables(outputs(0, 0, "a = 1") + outputs(0, 0, "b = 2"))
    assert [(row["a"], row["b"]) for row in other.rows] == [(1, 2)]


def test_a_last_row_that_was_cut_short_is_left_out() -> None:
    _, test = read_tables(outputs(0, 0, "a = 1", "b = 2") + outputs(1, 10, "a = 3"))
    assert [row["NumIters"] for row in test.rows] == [0]


def test_a_row_that_a_crash_cut_short_has_an_empty_cell() -> None:
    _, test = read_tables(outputs(0, 0, "a = 1", "b = 2") + outputs(1, 10, "a = 3") + outputs(2, 10, "a = 4", "b = 5"))
    assert csv_text(test, ";").splitlines()[2:] == ["10.0;1.0;nan;3.0;", "10.0;2.0;nan;4.0;5.0"]


def test_seconds_of_a_recorded_log(golden: Path, tmp_path: Path) -> None:
    log = golden / "logs" / "train.log"
    write_seconds(log, tmp_path / "seconds")
    times = re.findall(r"^.(\d{4} [\d:.]+) .*\] (Solving|Iteration)", log.read_text(), re.MULTILINE)
    assert times[0][1] == "Solving"
    begin = stamp(times[0][0])
    told = [f"{(stamp(time) - begin).total_seconds():f}" for time, word in times if word == "Iteration"]
    assert (tmp_path / "seconds").read_text().split("\n") == [*told, ""]
    assert len(told) == 12


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("0917 23:59:58.000000", "0918 00:00:01.500000", 3.5),
        ("1231 23:59:59.000000", "0101 00:00:01.000000", 2),
        ("20231231 23:59:59.000000", "20240101 00:00:00.000000", 1),
        ("20240228 00:00:00.000000", "20240301 00:00:00.000000", 2 * 86400),
    ],
)
def test_seconds_pass_midnight_and_new_year(start: str, end: str, seconds: float) -> None:
    assert read_seconds(line(start, "Solving x") + line(end, "Iteration 5, lr = 0.1")) == [seconds]


def test_a_table_without_lines_is_not_written(golden: Path, tmp_path: Path) -> None:
    log = tmp_path / "old.log"
    log.write_text(line("0101 00:00:00.000000", "Solving x") + outputs(1, 0, "accuracy = 0.5"))
    assert write_tables(log, tmp_path) == [(tmp_path / "old.log.train", False), (tmp_path / "old.log.test", True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.log", "old.log.test"]


@pytest.mark.parametrize("text", ["", "hello\n", line("0101 00:00:00.000000", "Solving x")])
def test_no_training_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(text)
    with pytest.raises(ToolError, match=r"a\.log: no training in it; looked for Caffe's lines"):
        write_tables(log, tmp_path)
    with pytest.raises(ToolError, match=r"a\.log: Start time not found"):
        write_seconds(log, tmp_path / "seconds")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
