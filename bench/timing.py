"""Times side by side: runs that take turns, and the ratio of their medians; the memory of a process."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[[], object]


def or_help(text: str | None) -> None:
    """End with the ``text``, a script's own, where its command line asks for help."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((text or "").strip())
        raise SystemExit(0)


def medians(runs: Sequence[Run], repeats: int = 5) -> list[float]:
    """Median seconds of each run, all run in turn ``repeats`` times, so that a busy hour strikes all alike."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for times, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def alternate(ours: Run, peer: Run, repeats: int = 5) -> float:
    """Ratio of the medians of both, run in turn."""
    first, second = medians((ours, peer), repeats)
    return first / second


def peak() -> float:
    """Most memory that this process ever had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
