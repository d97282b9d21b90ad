"""The one writer of log lines, in the form of Google's glog before 0.5, which Caffe's log tools read.

    Lmmdd hh:mm:ss.uuuuuu TID file:line] message

``L`` is I, W, E or F. The place (``solver.cpp:239``) is the one that BVLC Caffe prints for the same
line: log parsers look for it. Progress bars never come here. ``GLOG_minloglevel`` (0 to 3) silences
lines below that severity, as with Caffe.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import datetime

SEVERITIES = "IWEF"


def _min_level() -> int:
    try:
        return int(os.environ.get("GLOG_minloglevel", "0"))
    except ValueError:
        return 0


def _write(severity: str, place: str, message: str) -> None:
    if SEVERITIES.index(severity) < min(_min_level(), 3):
        return
    now = datetime.now().strftime("%m%d %H:%M:%S.%f")
    line = f"{severity}{now} {threading.get_native_id():5d} {place}] {message}\n"
    sys.stderr.write(line)
    sys.stderr.flush()


def init_log(level: int = 0) -> None:
    """Silence lines below ``level``, 0 (INFO) to 3 (FATAL), from here on (pycaffe's `init_log`)."""
    os.environ["GLOG_minloglevel"] = str(int(level))


def log(message: str) -> None:
    """Write a line of the caller's (pycaffe's `log`)."""
    info("_caffe.cpp:64", message)


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
