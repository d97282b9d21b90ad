"""Command lines as gflags reads them: ``-x v``, ``--x v``, ``-x=v``, ``--x=v``; booleans ``-x`` and ``-nox``.

Flags and other arguments may be mixed; after ``--`` everything is an argument. A command describes itself
as a `Command`, and runs as ``run(lambda: work(*parse(COMMAND, argv)))``, which turns errors into one line
and an exit status. Every command has glog's flags and gflags' own besides, and completes its command line
when bash asks for that (`complete -C`).
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from pathlib import Path
from types import FrameType, SimpleNamespace

from caffe import glog
from caffe.errors import CaffeError, short_of_memory

Value = bool | int | float | str

GFLAGS_NAME = {bool: "bool", int: "int32", float: "double", str: "string"}
VERSION = "1.0.0"
"""Caffe's, as in `caffe.__version__`."""

TRUE = ("1", "t", "true", "y", "yes")
TRUTH = dict.fromkeys(TRUE, True) | dict.fromkeys(("0", "f", "false", "n", "no"), False)


@dataclass(frozen=True)
class Flag:
    """One flag; ``type`` is bool, int, float or str; ``choices`` are the values that completion offers."""

    name: str
    type: type[Value]
    default: Value
    help: str
    choices: tuple[str, ...] = ()


GLOG_FLAGS = (
    Flag("minloglevel", int, 0, "Drop log lines below this severity: 0 to 3 for INFO, WARNING, ERROR, FATAL."),
    Flag("log_dir", str, "", "Write log files, one a severity, into this folder too."),
    Flag("logtostderr", bool, False, "Log to standard error only, not to files."),
    Flag("alsologtostderr", bool, True, "Log to standard error besides files."),
    Flag("stderrthreshold", int, 2, "Severity that reaches standard error with -noalsologtostderr."),
    Flag("log_prefix", bool, True, "Begin each log line with severity, time, thread and place."),
    Flag("v", int, 0, "Accepted for its name's sake: Caffe has no finer lines."),
    *(Flag(name, str, "", "Accepted for its name's sake.") for name in ("vmodule", "max_log_size", "logbufsecs")),
    Flag("colorlogtostderr", bool, False, "Accepted for its name's sake."),
)
"""glog's flags; each sets the environment variable that `caffe.glog` reads, ``GLOG_`` and its name."""

GFLAGS = (
    Flag("flagfile", str, "", "A file with more flags, one a line."),
    Flag("version", bool, False, "Show the version."),
    Flag("helpshort", bool, False, "Show this help."),
    Flag("helpfull", bool, False, "Show this help."),
)
"""Flags of the flag library itself."""


@dataclass(frozen=True)
class Command:
    """What a command says of itself.

    Attributes:
        usage: what follows its name.
        examples: whole command lines.
        actions: words of which one must be among the arguments.
        also: more flags that it takes, untold.
        takes: least and most number of other arguments.
    """

    name: str
    usage: str
    summary: str
    examples: tuple[str, ...]
    flags: tuple[Flag, ...]
    actions: tuple[str, ...] = ()
    also: tuple[Flag, ...] = ()
    takes: tuple[int, float] = (0, inf)


class UsageError(Exception):
    """The command line cannot be understood."""


class HelpAsked(Exception):  # noqa: N818  (no error: it carries what is to be printed to `run`)
    """The command line asks for help."""


def parse(command: Command, argv: Sequence[str] | None = None) -> tuple[SimpleNamespace, list[str]]:
    """Read a command line (the process's own, unless given) into the flags' values and the other arguments.

    Raises:
        UsageError: a flag is unknown, lacks its value or has one of another type, or arguments are missing or too many.
        HelpAsked: ``-h``, ``-help`` or ``--help`` is there, or bash asks for completions.
    """
    asked = asked_to_complete()
    if asked:
        raise HelpAsked("\n".join(completions(command, *asked)))
    values, rest = _read(command, list(sys.argv[1:] if argv is None else argv))
    if not command.takes[0] <= len(rest) <= command.takes[1]:
        raise UsageError(f"expected {command.usage}, got {' '.join(map(repr, rest)) or 'no arguments'}")
    for flag in GLOG_FLAGS:
        if flag.name in values:
            os.environ[f"GLOG_{flag.name}"] = str(values[flag.name])
    own = (*command.also, *command.flags)
    return SimpleNamespace(**{flag.name: values.get(flag.name, flag.default) for flag in own}), rest


def _read(command: Command, words: list[str]) -> tuple[dict[str, Value], list[str]]:
    """The values of the flags that are given, and the other arguments."""
    flags = {flag.name: flag for flag in (*command.flags, *command.also, *GLOG_FLAGS, *GFLAGS)}
    values: dict[str, Value] = {}
    rest: list[str] = []
    files: set[str] = set()
    while words:
        word = words.pop(0)
        if word == "--":
            rest += words
            break
        if len(word) < 2 or word[0] != "-":
            rest.append(word)
            continue
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        if name in ("h", "help", "helpshort", "helpfull"):
            raise HelpAsked(help_text(command))
        if name == "version":
            raise HelpAsked(f"{command.name.split()[0]} version {VERSION}")
        if name not in flags and _is_negated(name, flags) and not equals:
            values[name[2:]] = False
            continue
        flag = _find(name, flags)
        if not equals and flag.type is bool:
            text = "true"
        elif not equals and not words:
            raise UsageError(f"flag '{name}' is missing its argument; flag description: {flag.help.rstrip('.')}")
        elif not equals:
            text = words.pop(0)
        if name == "flagfile":
            words[:0] = [] if text in files else _lines_of(text)
            files.add(text)
            continue
        values[name] = _convert(flag, text)
    return values, rest


def _lines_of(path: str) -> list[str]:
    """Flags of a flag file: one a line; blank lines and comments do not count."""
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"cannot read -flagfile {path}: {problem}") from None
    return [line for line in lines if line.startswith("-")]


def _is_negated(name: str, flags: dict[str, Flag]) -> bool:
    return name.startswith("no") and name[2:] in flags and flags[name[2:]].type is bool


def _find(name: str, flags: dict[str, Flag]) -> Flag:
    if name.replace("-", "_") in flags:
        return flags[name.replace("-", "_")]
    near = get_close_matches(name, flags)
    hint = f" (did you mean -{near[0]}?)" if near else ""
    raise UsageError(f"unknown command line flag '{name}'{hint}")


def _convert(flag: Flag, text: str) -> Value:
    try:
        if flag.type is int:
            number = int(text, 16 if text.lower().startswith("0x") else 10)
            struct.pack("i", number)  # does it fit?
            return number
        return TRUTH[text.lower()] if flag.type is bool else flag.type(text)
    except (KeyError, ValueError, struct.error):
        kind = GFLAGS_NAME[flag.type]
        raise UsageError(f"illegal value '{text}' specified for {kind} flag '{flag.name}'") from None


def help_text(command: Command) -> str:
    """Everything ``--help`` prints."""
    lines = [command.summary, "", "Usage:", f"    {command.name} {command.usage}"]
    if command.flags:
        lines += ["", "Flags (-x v, --x v, -x=v or --x=v; booleans also -x and -nox):"]
    for flag in command.flags:
        default = str(flag.default).lower() if flag.type is bool else repr(flag.default)
        default = default.replace("'", '"')
        lines.append(f"    -{flag.name} ({GFLAGS_NAME[flag.type]}, default {default})")
        lines.append(f"        {flag.help}")
    lines += [
        "",
        f"Flags of every command: {' '.join(f'-{flag.name}' for flag in (*GLOG_FLAGS, *GFLAGS))}.",
        "glog's environment variables (GLOG_minloglevel, GLOG_log_dir, ...) mean the same as its flags.",
    ]
    lines += ["", "Examples:", *(f"    {example}" for example in command.examples)]
    return "\n".join(lines)


def completions(command: Command, words: Sequence[str], current: str) -> list[str]:
    """What ``current``, the word after ``words``, may become; none where it is a file name."""
    flags = (*command.flags, *GLOG_FLAGS, *GFLAGS)
    last = words[-1].lstrip("-") if words and words[-1].startswith("-") and "=" not in words[-1] else ""
    asking = next((flag for flag in flags if flag.name == last and flag.type is not bool), None)
    if asking:
        return [choice for choice in asking.choices if choice.startswith(current)]
    if not current.startswith("-"):
        return [] if set(words) & set(command.actions) else [a for a in command.actions if a.startswith(current)]
    dashes = current[: len(current) - len(current.lstrip("-"))]
    return [name for flag in flags if (name := dashes + flag.name).startswith(current)]


def asked_to_complete() -> tuple[list[str], str] | None:
    """The words before the cursor and the word at it, where bash's ``complete -C`` runs the command."""
    line, point = os.environ.get("COMP_LINE"), os.environ.get("COMP_POINT", "")
    if line is None:
        return None
    before = line[: int(point)] if point.isdigit() else line
    *words, current = before.split(" ")
    return [word for word in words[1:] if word], current


def run(main: Callable[[], int]) -> int:
    """Run a command; give its exit status: 1 for an error, 2 for one of usage, 130 for an interrupt."""
    # one that is closed
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115, PTH123
    try:
        with _ended_by_signals():
            return _run(main)
    finally:
        _settle()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let what is half made be removed where the process is told to end."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    own = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == own:
            sys.exit(128 + number)
        signal.signal(number, signal.SIG_DFL)  # a process that a Python layer has forked: nothing here is its own
        os.kill(os.getpid(), number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _settle() -> None:
    """Leave nothing to write at the interpreter's end to where it cannot be written: it would change the status."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _run(main: Callable[[], int]) -> int:
    try:
        return _or_help(main)
    except UsageError as problem:
        print(f"ERROR: {problem}. --help tells more.", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has read enough
        return 1
    except (CaffeError, OSError) as problem:
        glog.fatal(_place(problem), _words(problem))
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as problem:
        if not short_of_memory(problem):
            raise
        glog.fatal(_place(problem), short_of_memory(problem))
        return 1


def _or_help(main: Callable[[], int]) -> int:
    try:
        return main()
    except HelpAsked as text:
        if str(text):
            print(text, flush=True)
        return 0


CURES = {
    errno.EACCES: "ask its owner for the right to it, or name another place",
    errno.ENOENT: "check the name; relative paths start at the working directory",
    errno.ENOSPC: "make room, or name another place",
    errno.EROFS: "name a place that can be written to",
}


def _words(problem: Exception) -> str:
    """The error in one line; one of the system's with its file first and what to do about it."""
    if isinstance(problem, OSError) and problem.filename:
        cure = CURES.get(problem.errno or 0)
        return f"{problem.filename}: {problem.strerror}" + (f"; {cure}" if cure else "")
    return " ".join(str(problem).split())


def _place(problem: Exception) -> str:
    """``file:line`` where the error was raised, as glog gives for a failed check."""
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
