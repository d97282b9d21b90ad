from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import caffe
from caffe.errors import DataError
from caffe.tools.flags import Command, Flag, HelpAsked, UsageError, help_text, parse, run

COMMAND = Command(
    name="tool",
    usage="[FLAGS] FILE",
    summary="Does something.",
    examples=("tool -gray a.txt",),
    flags=(
        Flag("solver", str, "", "The solver."),
        Flag("iterations", int, 50, "How many."),
        Flag("rate", float, 0.5, "How fast."),
        Flag("gray", bool, False, "Grey pictures."),
        Flag("shuffle", bool, True, "Mixed order."),
    ),
)


@pytest.mark.parametrize(
    "words",
    ["-solver s", "--solver s", "-solver=s", "--solver=s"],
)
def test_four_ways_to_give_a_value(words: str) -> None:
    options, rest = parse(COMMAND, words.split())
    assert options.solver == "s"
    assert rest == []


def test_defaults_and_types() -> None:
    options, _ = parse(COMMAND, [])
    assert vars(options) == {"solver": "", "iterations": 50, "rate": 0.5, "gray": False, "shuffle": True}
    options, _ = parse(COMMAND, ["-iterations", "-7", "--rate=1e-3", "-solver=a=b"])
    assert (options.iterations, options.rate, options.solver) == (-7, 0.001, "a=b")


@pytest.mark.parametrize(
    ("word", "gray"),
    [
        ("-gray", True),
        ("--gray", True),
        ("-nogray", False),
        ("--nogray", False),
        ("-gray=true", True),
        ("-gray=False", False),
        ("-gray=1", True),
        ("-gray=no", False),
    ],
)
def test_booleans(word: str, gray: bool) -> None:
    assert parse(COMMAND, ["-gray" if not gray else "-nogray", word, "file"])[0].gray is gray
    assert parse(COMMAND, [word, "file"])[1] == ["file"]


def test_arguments_are_mixed_with_flags_and_all_that_is_left_after_two_dashes() -> None:
    options, rest = parse(COMMAND, ["a", "-gray", "b", "-", "-iterations", "3", "--", "-solver", "c"])
    assert rest == ["a", "b", "-", "-solver", "c"]
    assert (options.gray, options.iterations, options.solver) == (True, 3, "")


def test_the_last_one_counts() -> None:
    assert parse(COMMAND, ["-solver", "a", "-solver", "b"])[0].solver == "b"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-solvr s", "unknown command line flag 'solvr' (did you mean -solver?)"),
        ("-xyz", "unknown command line flag 'xyz'"),
        ("-nosolver", "unknown command line flag 'nosolver'"),
        ("-nogray=true", "unknown command line flag 'nogray'"),
        ("-solver", "flag 'solver' is missing its argument; flag description: The solver."),
        ("-iterations many", "illegal value 'many' specified for int32 flag 'iterations'"),
        ("-gray=maybe", "illegal value 'maybe' specified for bool flag 'gray'"),
    ],
)
def test_mistakes_in_gflags_words(words: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        parse(COMMAND, words.split())
        return 0

    assert run(main) == 2
    assert capsys.readouterr().err.startswith(f"ERROR: {problem}")


@pytest.mark.parametrize("word", ["-h", "-help", "--help"])
def test_help_teaches(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        parse(COMMAND, ["-gray", word])
        return 1

    assert run(main) == 0
    text = capsys.readouterr().out
    assert text == help_text(COMMAND) + "\n"
    for part in ("Does something.", "tool [FLAGS] FILE", "-iterations (int32, default 50)", "tool -gray a.txt"):
        assert part in text
    with pytest.raises(HelpAsked):
        parse(COMMAND, [word])


def test_errors_become_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(problem: BaseException) -> int:
        def main() -> int:
            raise problem

        return run(main)

    monkeypatch.setenv("GLOG_minloglevel", "0")
    assert fail(DataError("no\nlist")) == 1
    line = capsys.readouterr().err
    assert line.startswith("F")
    assert line.count("\n") == 1
    assert "test_flags.py:" in line
    assert line.endswith("] no list\n")
    assert fail(FileNotFoundError(2, "No such file or directory", "x.txt")) == 1
    assert "] x.txt: No such file or directory; check the name" in capsys.readouterr().err
    assert fail(UsageError("two files")) == 2
    assert fail(KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run(lambda: 1 // 0)


def test_the_command_line_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tool", "-gray", "x"])
    options, rest = parse(COMMAND)
    assert options.gray
    assert rest == ["x"]


def test_flags_start_without_pytorch() -> None:
    program = "import sys, caffe.tools.flags; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_glogs_flags_set_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("minloglevel", "log_dir", "logtostderr"):
        monkeypatch.setenv(f"GLOG_{name}", "")
    options, rest = parse(COMMAND, ["-minloglevel=2", "--log_dir", "logs", "-nologtostderr", "-gray", "file"])
    assert rest == ["file"]
    assert vars(options).keys() == {flag.name for flag in COMMAND.flags}
    assert [os.environ.get(f"GLOG_{n}") for n in ("minloglevel", "log_dir", "logtostderr")] == ["2", "logs", "False"]


@pytest.mark.parametrize(
    "words",
    [
        ["minloglevel=1", "log_dir=x", "nologtostderr", "alsologtostderr", "stderrthreshold=1", "nolog_prefix"],
        ["v=3", "vmodule=a=1", "max_log_size=5", "logbufsecs=1", "colorlogtostderr"],
    ],
)
def test_all_flags_of_glog_are_taken(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    assert parse(COMMAND, [f"-{each}" for each in words] + ["file"])[1] == ["file"]
    given = {each.partition("=")[0].removeprefix("no"): each.partition("=")[2] for each in words}
    told = {f"GLOG_{name}": value or str(f"no{name}" not in words) for name, value in given.items()}
    assert os.environ == told


def test_a_file_of_flags(tmp_path: Path) -> None:
    path = tmp_path / "flags.txt"
    path.write_text("# settings\n-iterations=7\n\n--gray\n")
    options, rest = parse(COMMAND, ["-flagfile", str(path), "-rate=2", "x"])
    assert (options.iterations, options.gray, options.rate, rest) == (7, True, 2.0, ["x"])
    with pytest.raises(UsageError, match="cannot read -flagfile nowhere"):
        parse(COMMAND, ["-flagfile=nowhere"])


def test_the_version_is_caffes() -> None:
    with pytest.raises(HelpAsked, match=f"^tool version {caffe.__version__}$"):
        parse(COMMAND, ["--version"])


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tool -gr", "-gray"),
        ("tool --i", "--iterations"),
        ("tool s", "start stop"),
        ("tool stop -gray -sol", "-solver"),
        ("tool stop s", ""),
        ("tool start -mode f", "fast full"),
        ("tool start -solver f", ""),
        ("tool start -mode=x", ""),
        ("tool start -mode=fast f", ""),
        ("tool start mode f", ""),
    ],
)
def test_bash_gets_completions(
    line: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``complete -C`` asks: the line in the environment, an answer a line."""
    mode = Flag("mode", str, "", "How.", ("fast", "full"))
    command = replace(COMMAND, actions=("start", "stop"), flags=(*COMMAND.flags, mode))
    monkeypatch.setenv("COMP_LINE", line + "ignored")
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert run(lambda: len(parse(command, ["tool", "x", "y"]))) == 0
    assert capsys.readouterr().out.split() == offered.split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_removes_what_is_half_made(number: signal.Signals) -> None:
    removed = []

    def work() -> int:
        try:
            os.kill(os.getpid(), number)
            return signal.pause() or 0
        finally:
            removed.append("half made")

    with pytest.raises(SystemExit) as ended:
        run(work)
    assert ended.value.code == 128 + number
    assert removed
    assert signal.getsignal(number) is signal.SIG_DFL


def test_numbers_of_flags_and_files_within_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flags").write_text(f"-flagfile={tmp_path / 'flags'}\n-count=0x10\n")
    command = Command("tool", "", "", (), (Flag("count", int, 0, "How many."),))
    assert parse(command, ["-flagfile", str(tmp_path / "flags")])[0].count == 16
    assert run(lambda: parse(command, ["-count", "2147483648"]) and 0) == 2
    assert "illegal value '2147483648' specified for int32 flag 'count'" in capsys.readouterr().err
