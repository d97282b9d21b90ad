"""Sides of a comparison in processes of their own, that do a step when they are told to.

The side's process calls `serve`; the one that compares makes a `Worker` of the same script.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from caffe.threads import BRIEF

ENDED = "a side has ended before its time; what it says is above"


def serve(step: Callable[[], object], first: object = "ready", last: Callable[[], object] = str) -> None:
    """Say what there is to say first, do a step for each line of standard input, and at its end say the last."""
    print(first, flush=True)
    for _ in sys.stdin:
        step()
        print("done", flush=True)
    print(last())


class Worker:
    """A side, started with these arguments, and asked for some steps first: memory is fetched, kernels are chosen.

    Attributes:
        first: what it said first.
    """

    def __init__(self, *arguments: object, warm_up: int = 4) -> None:
        command = [sys.executable, sys.argv[0], *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=BRIEF | os.environ)
        self.first = self._read()
        for _ in range(warm_up):
            self.step()

    def _read(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return line.strip() if line else sys.exit(ENDED)

    def step(self) -> None:
        """Let it do one step and wait for its end."""
        assert self.process.stdin
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            sys.exit(ENDED)
        self._read()

    def end(self) -> str:
        """End it; what it says last."""
        assert self.process.stdin
        self.process.stdin.close()
        return self._read()
