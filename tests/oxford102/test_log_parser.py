"""Recorded logs of BVLC Caffe, read row by row; the expected numbers were read from the files by eye."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from caffe import glog
from oxford102.errors import ToolError
from oxford102.log_parser import Log, parse_log, read_log

OLD = """\
libdc1394 error: Failed to initialize libdc1394
I0917 22:16:39.876261 67440 caffe.cpp:121] Starting Optimization
I0917 22:16:45.000000 67440 solver.cpp:222] Solving Flowers net
I0917 22:16:45.500000 67440 solver.cpp:266] Iteration 0, Testing net (#0)
I0917 22:17:11.600000 67440 solver.cpp:315]     Test net output #0: accuracy = 0.0135484
I0917 22:17:12.000000 67440 solver.cpp:189] Iteration 0, loss = 5.32372
I0917 22:17:12.100000 67440 solver.cpp:464] Iteration 0, lr = 0.001
I0917 22:17:32.000000 67440 solver.cpp:189] Iteration 50, loss = 7.81105e-06
I0917 22:17:32.100000 67440 solver.cpp:464] Iteration 50, lr = 1e-05
"""


def line(time: str, message: str) -> str:
    return f"I{time} 7 solver.cpp:1] {message}\n"


def losses(log: Log) -> list[tuple[int, float]]:
    return [(row.iteration, row.loss) for row in log.train]


def test_a_recorded_training(golden: Path) -> None:
    log = read_log(golden / "logs" / "train.log")
    assert log.model == "tiny"
    assert losses(log) == [(0, 1.1288), (5, 1.79199), (10, 5.71961), (15, 15.7761), (20, 7.94252)]
    assert [row.rate for row in log.train[:4]] == [0.001, 0.001, 0.0001, 0.0001]
    assert math.isnan(log.train[4].rate)  # the line after the last iteration tells none
    assert log.train[1].outputs == {"loss": 1.79199}
    assert [(row.net, row.iteration, row.outputs) for row in log.test] == [
        (0, 0, {"accuracy": 0.4, "loss": 1.1888}),
        (0, 10, {"accuracy": 0.4, "loss": 9.17819}),
        (0, 20, {"accuracy": 0.8, "loss": 3.93598}),
    ]
    # 17:37:21.840278 "Solving", .840307 first test, .921639 iteration 5, :22.195941 iteration 20
    assert log.test[0].seconds == pytest.approx(0.000029)
    assert log.train[1].seconds == pytest.approx(0.081361)
    assert log.train[4].seconds == pytest.approx(0.355663)


def test_a_net_without_a_name() -> None:
    log = parse_log(OLD.replace("Solving Flowers net", "Solving "))
    assert log.model == ""
    assert [row.seconds for row in log.train] == [27, 47]


def test_a_rate_with_a_speed_before_it() -> None:
    log = parse_log(OLD.replace("0, lr", "0 (36.2/s), lr"))
    assert [row.rate for row in log.train] == [0.001, 1e-05]


def test_the_form_of_2015() -> None:
    log = parse_log(OLD)
    assert log.model == "Flowers net"
    assert losses(log) == [(0, 5.32372), (50, 7.81105e-06)]
    assert [row.rate for row in log.train] == [0.001, 1e-05]
    assert [row.seconds for row in log.train] == [27, 47]
    assert [(row.iteration, row.seconds, row.outputs) for row in log.tests()] == [(0, 0.5, {"accuracy": 0.0135484})]


def test_the_rate_may_come_first() -> None:
    text = line("0101 00:00:00.000000", "Iteration 40, lr = 0.01") + line(
        "0101 00:00:01.000000", "Iteration 40, loss = 2"
    )
    assert [(row.iteration, row.rate, row.loss) for row in parse_log(text).train] == [(40, 0.01, 2)]


def test_resumed_run_continues_rows_and_clock(golden: Path) -> None:
    first, second = ((golden / "logs" / name).read_text() for name in ("train.log", "resume.log"))
    log = parse_log(first + second)
    assert losses(log) == [(0, 1.1288), (5, 1.79199), (10, 7.61083), (15, 11.4121), (20, 5.95994)]
    assert [row.outputs["loss"] for row in log.tests()] == [1.1888, 9.17819, 6.08636]
    # The first run told its last row (the test of iteration 20) after 0.355771 s; then iteration 15 of the
    # second came 0.076025 s after its own "Solving".
    assert log.train[3].seconds == pytest.approx(0.355771 + 0.076025)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nan", math.nan),
        ("-nan", math.nan),
        ("-nan(ind)", math.nan),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("1e+30", 1e30),
    ],
)
def test_values_that_are_not_plain(text: str, value: float) -> None:
    log = parse_log(
        line("0101 00:00:00.000000", f"Iteration 100 (2.5 iter/s, 40s/100 iters), loss = {text}")
        + line("0101 00:00:00.000001", f"    Train net output #0: loss = {text} (* 1 = {text} loss)")
    )
    assert log.train[0].loss == pytest.approx(value, nan_ok=True)
    assert log.train[0].outputs["loss"] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        (("0917 23:59:58.000000", "0918 00:00:01.500000"), 3.5),
        (("1231 23:59:59.000000", "0101 00:00:01.000000"), 2),
        (("0228 23:00:00.000000", "0301 01:00:00.000000"), 2 * 3600),
        (("1230 00:00:00.000000", "0102 00:00:00.000000", "0228 00:00:00.000000", "0301 00:00:00.000000"), 61 * 86400),
        (("0228 00:00:00.000000", "0229 00:00:00.000000", "0301 00:00:00.000000"), 2 * 86400),
        (("1231 00:00:00.000000", "0229 00:00:00.000000"), 60 * 86400),
        (("20240228 00:00:00.000000", "20240301 00:00:00.000000"), 2 * 86400),
        (("20231231 23:59:59.000000", "20240101 00:00:00.000000"), 1),
    ],
)
def test_clock_passes_midnight_and_new_year(stamps: tuple[str, ...], seconds: float) -> None:
    text = line(stamps[0], "Solving x") + "".join(line(t, f"Iteration {i}, loss = 1") for i, t in enumerate(stamps[1:]))
    assert parse_log(text).train[-1].seconds == seconds


def test_a_last_line_without_end_is_left_out() -> None:
    cut = OLD + "I0917 22:17:52.000000 67440 solver.cpp:189] Iteration 100, loss = 0.0"
    assert losses(parse_log(cut)) == losses(parse_log(OLD))


def test_a_number_cut_by_another_line_is_left_out() -> None:
    cut = OLD + "I0917 22:17:52.000000 67440 solver.cpp:189] Iteration 100, loss = 1e-\n"
    glued = (
        OLD
        + "I0917 22:17:52.000000 67440 solver.cpp:189] Iteration 100, lo"
        + line("0917 22:18:00.000000", "Iteration 150, lr = 1")
    )
    assert losses(parse_log(cut)) == losses(parse_log(glued)) == losses(parse_log(OLD))


def test_rows_of_a_test_that_was_cut_short_are_left_out() -> None:
    assert len(parse_log(OLD + line("0917 22:18:00.000000", "Iteration 100, Testing net (#0)")).test) == 1


def test_other_text_in_between() -> None:
    noise = "\x1b[0m\n\nTest net output\nIteration é\nI9999 77:99:99.000000 1 x.cpp:1] no time\n"
    lines = OLD.splitlines(keepends=True)
    assert parse_log(noise + noise.join(lines) + noise) == parse_log(OLD)


def test_a_program_may_have_written_before_the_stamp() -> None:
    assert losses(parse_log("loading... I0917 22:17:32.000000 67440 solver.cpp:189] Iteration 50, loss = 3\n")) == [
        (50, 3)
    ]


def test_several_test_nets_and_outputs_of_several_values() -> None:
    text = (
        line("0101 00:00:00.000000", "Iteration 10, Testing net (#0)")
        + line("0101 00:00:00.000000", "    Test net output #0: accuracy = 0.5")
        + line("0101 00:00:00.000000", "    Test net output #1: class = 0.1")
        + line("0101 00:00:00.000000", "    Test net output #2: class = 0.2")
        + line("0101 00:00:00.000000", "    Test net output #3: class = 0.3")
        + line("0101 00:00:00.000000", "Iteration 10, Testing net (#1)")
        + line("0101 00:00:00.000000", "    Test net output #0: accuracy = 0.75")
    )
    log = parse_log(text)
    assert log.tests(0)[0].outputs == {"accuracy": 0.5, "class": 0.1, "class[1]": 0.2, "class[2]": 0.3}
    assert log.tests(1)[0].outputs == {"accuracy": 0.75}
    assert log.tests(2) == ()


def test_lines_without_stamps_have_no_time() -> None:
    (row,) = parse_log("Iteration 20, loss = 0.5\n").train
    assert row.loss == 0.5
    assert math.isnan(row.seconds)


def test_text_that_starts_in_the_middle_of_a_run() -> None:
    log = parse_log("".join(OLD.splitlines(keepends=True)[4:]))  # of a test whose beginning is gone
    assert log.test == ()
    assert log.model == ""
    assert [row.seconds for row in log.train] == [0, 20]


def test_no_training_is_an_error_that_names_the_file(golden: Path) -> None:
    path = golden / "logs" / "errors.txt"
    with pytest.raises(ToolError) as error:
        read_log(path)
    assert str(error.value).startswith(f"{path}: no training in it; looked for Caffe's lines 'Iteration N, loss = x'")


def test_reads_what_the_runtime_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    written = io.StringIO()
    with redirect_stderr(written):
        glog.info("solver.cpp:289", "Solving flowers")
        glog.info("solver.cpp:239", "Iteration 20 (4.2 iter/s, 4.8s/20 iters), loss = 0.25")
        glog.info("solver.cpp:258", "    Train net output #0: loss = 0.25 (* 1 = 0.25 loss)")
        glog.info("sgd_solver.cpp:112", "Iteration 20, lr = 0.0001")
    log = parse_log(written.getvalue())
    assert log.model == "flowers"
    assert [(row.iteration, row.loss, row.rate, row.outputs) for row in log.train] == [
        (20, 0.25, 0.0001, {"loss": 0.25})
    ]
    assert 0 <= log.train[0].seconds < 60
