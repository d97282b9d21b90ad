"""Command lines as gflags reads them: ``-x v``, ``--x v``, ``-x=v``, ``--x=v``; booleans ``-x`` and ``-nox``.

Flags and other arguments may be mixed; after ``--`` everything is an argument. A command describes itself
as a `Command`, and runs as ``run(lambda: work(*parse(COMMAND, argv)))``, which turns errors into one line
and an exit status.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace

from caffe import glog
from caffe.errors import CaffeError

Value = bool | int | float | str

GFLAGS_NAME = {bool: "bool", int: "int32", float: "double", str: "string"}
TRUE = ("1", "t", "true", "y", "yes")
TRUTH = dict.fromkeys(TRUE, True) | dict.fromkeys(("0", "f", "false", "n", "no"), False)


@dataclass(frozen=True)
class Flag:
    """One flag; ``type`` is bool, int, float or str."""

    name: str
    type: type[Value]
    default: Value
    help: str


@dataclass(frozen=True)
class Command:
    """What a command says of itself: ``usage`` is what follows its name, ``examples`` whole command lines."""

    name: str
    usage: str
    summary: str
    examples: tuple[str, ...]
    flags: tuple[Flag, ...]


class UsageError(Exception):
    """The command line cannot be understood."""


class HelpAsked(Exception):  # noqa: N818  (no error: it carries the help text to `run`)
    """The command line asks for help."""


def parse(command: Command, argv: Sequence[str] | None = None) -> tuple[SimpleNamespace, list[str]]:
    """Read a command line (the process's own, unless given) into the flags' values and the other arguments.

    Raises:
        UsageError: a flag is unknown, lacks its value or has one of another type.
        HelpAsked: ``-h``, ``-help`` or ``--help`` is there.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    flags = {flag.name: flag for flag in command.flags}
    values = {flag.name: flag.default for flag in command.flags}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            rest += words
            break
        if len(word) < 2 or word[0] != "-":
            rest.append(word)
            continue
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        if name in ("h", "help"):
            raise HelpAsked(help_text(command))
        if name not in flags and _is_negated(name, flags) and not equals:
            values[name[2:]] = False
            continue
        flag = _find(name, flags)
        if not equals and flag.type is bool:
            text = "true"
        elif not equals and not words:
            raise UsageError(f"flag '{name}' is missing its argument; flag description: {flag.help}")
        elif not equals:
            text = words.pop(0)
        values[name] = _convert(flag, text)
    return SimpleNamespace(**values), rest


def _is_negated(name: str, flags: dict[str, Flag]) -> bool:
    return name.startswith("no") and name[2:] in flags and flags[name[2:]].type is bool


def _find(name: str, flags: dict[str, Flag]) -> Flag:
    if name in flags:
        return flags[name]
    near = get_close_matches(name, flags)
    hint = f" (did you mean -{near[0]}?)" if near else ""
    raise UsageError(f"unknown command line flag '{name}'{hint}")


def _convert(flag: Flag, text: str) -> Value:
    try:
        return TRUTH[text.lower()] if flag.type is bool else flag.type(text)
    except (KeyError, ValueError):
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
    lines += ["", "Examples:", *(f"    {example}" for example in command.examples)]
    return "\n".join(lines)


def run(main: Callable[[], int]) -> int:
    """Run a command; give its exit status: 1 for an error, 2 for one of usage, 130 for an interrupt."""
    try:
        return main()
    except HelpAsked as text:
        print(text)
        return 0
    except UsageError as problem:
        print(f"ERROR: {problem}. --help tells more.", file=sys.stderr)
        return 2
    except (CaffeError, OSError) as problem:
        glog.fatal(_place(problem), " ".join(str(problem).split()))
        return 1
    except KeyboardInterrupt:
        return 130


def _place(problem: Exception) -> str:
    """``file:line`` where the error was raised, as glog gives for a failed check."""
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
