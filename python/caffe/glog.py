"""The one writer of log lines, in the form of Google's glog before 0.5, which Caffe's log tools read.

    Lmmdd hh:mm:ss.uuuuuu TID file:line] message

``L`` is I, W, E or F. The place (``solver.cpp:239``) is the one that BVLC Caffe prints for the same
line: log parsers look for it. Progress bars never come here.

glog's environment variables are obeyed, and its flags set them:

    GLOG_minloglevel      0 to 3: lines below that severity are dropped
    GLOG_log_dir          a folder; each severity goes to a file there too, with those above it
    GLOG_logtostderr      1: to standard error only, no files
    GLOG_alsologtostderr  0: with files, standard error gets only lines of GLOG_stderrthreshold and above
    GLOG_stderrthreshold  0 to 3, 2 (errors) by default
    GLOG_log_prefix       0: messages without the prefix
    GLOG_v                accepted; Caffe has no finer lines

As in Caffe's commands, everything goes to standard error; unlike there, files are written only where a
folder is named.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

SEVERITIES = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}

HEADER = """Log file created at: {time:%Y/%m/%d %H:%M:%S}
Running on machine: {host}
Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg
"""

_files: dict[tuple[str, str], TextIO] = {}
_lock = threading.RLock()


def to_stderr(text: str) -> None:
    """Write a finished line to standard error, if it can be: a run outlives its terminal, pipe or full disk."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


write_to_terminal: Callable[[str], None] = to_stderr
"""Writes a finished line to standard error; a live status line puts itself in between."""


TRUTH = {"true": 1, "t": 1, "yes": 1, "y": 1, "false": 0, "f": 0, "no": 0, "n": 0}


def _number(name: str, default: int) -> int:
    """Value of the environment's ``GLOG_name``; what is no number counts for nothing."""
    text = os.environ.get(f"GLOG_{name}", "").lower()
    try:
        return TRUTH[text] if text in TRUTH else int(text)
    except ValueError:
        return default


def _write(severity: str, place: str, message: str) -> None:
    level = "IWEF".index(severity)
    if level < min(_number("minloglevel", 0), 3):
        return
    now = datetime.now()
    prefix = f"{severity}{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d} {place}] "
    line = f"{prefix if _number('log_prefix', 1) else ''}{message}\n"
    folder = "" if _number("logtostderr", 0) else os.environ.get("GLOG_log_dir", "")
    if not folder or _number("alsologtostderr", 1) or level >= _number("stderrthreshold", 2):
        write_to_terminal(line)
    if folder:
        _write_to_files(folder, level, line, now)


def _write_to_files(folder: str, level: int, line: str, now: datetime) -> None:
    """Add the line to the files of its severity and those below; a folder that fails is given up."""
    with _lock:
        try:
            for letter in "IWEF"[: level + 1]:
                _file(folder, SEVERITIES[letter], now).write(line)
        except OSError as problem:
            del os.environ["GLOG_log_dir"]
            write_to_terminal(f"Could not write a log file in {folder}: {problem}; going on without\n")


def _file(folder: str, severity: str, now: datetime) -> TextIO:
    """Open the log file of a severity, once, under glog's name for it, with glog's link beside it."""
    if (folder, severity) not in _files:
        program, host = Path(sys.argv[0]).name or "caffe", socket.gethostname()
        name = f"{program}.{host}.{getpass.getuser()}.log.{severity}.{now:%Y%m%d-%H%M%S}.{os.getpid()}"
        file = (Path(folder) / name).open("w", buffering=1)
        file.write(HEADER.format(time=now, host=host))
        link = Path(folder) / f"{program}.{severity}"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        _files[folder, severity] = file
    return _files[folder, severity]


def init_log(level: int | None = None, stderr: bool | None = None) -> None:
    """Set what is logged from here on (pycaffe's `init_log`).

    Args:
        level: silence lines below it, 0 (INFO) to 3 (FATAL); as it is, unless given.
        stderr: whether all goes to standard error even where log files are written; as it is, unless given.
    """
    if level is not None:
        os.environ["GLOG_minloglevel"] = str(int(level))
    if stderr is not None:
        os.environ["GLOG_logtostderr"] = str(int(stderr))


def log(message: str) -> None:
    """Write a line of the caller's (pycaffe's `log`)."""
    info("_caffe.cpp:68", message)


def info(place: str, message: str) -> None:
    """Write an ``I`` line; ``place`` is Caffe's ``file.cpp:line``."""
    _write("I", place, message)


def warning(place: str, message: str) -> None:
    """Write a ``W`` line."""
    _write("W", place, message)


def error(place: str, message: str) -> None:
    """Write an ``E`` line."""
    _write("E", place, message)


def fatal(place: str, message: str) -> None:
    """Write an ``F`` line. It is for commands that are about to exit 1; nothing is aborted here."""
    _write("F", place, message)
