"""One process a GPU: starts them, hands signals to process 0, and ends them all when one ends before its time."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from caffe.errors import DeviceError

COMMAND = (sys.executable, "-c", "import sys; from caffe.tools.main import main; sys.exit(main())")
INTERRUPTED = 130
PR_SET_PDEATHSIG = 1  # prctl(2)
PATIENCE = 10.0
"""Seconds that processes have to end by themselves once one has failed, or a second signal asked them to."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``caffe`` with the arguments in ``count`` processes, as torchrun would; give process 0's exit status.

    Raises:
        DeviceError: a process was killed, and process 0 did not get to say so.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    processes: list[subprocess.Popen[bytes]] = []
    stops: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        if not processes:
            raise KeyboardInterrupt
        if number != signal.SIGHUP:
            stops.append(number)
        processes[0].send_signal(number)

    handlers = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for rank in map(str, range(count)):
            environment = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}
            # a session of their own: the terminal's Ctrl-C reaches them through process 0 alone
            command = [*COMMAND, *arguments]
            processes.append(
                subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_end_with_parent)
            )
        return _wait(processes, stops)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Let this process be told to stop, by SIGTERM, when the one that started it is no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(processes: Sequence[subprocess.Popen[bytes]], stops: Sequence[int]) -> int:
    end = float("inf")
    while not any(codes := [process.poll() for process in processes]) and codes[0] is None:
        if len(stops) > 1:  # asked twice: whoever hangs is not waited for
            end = min(end, time.monotonic() + PATIENCE)
        if time.monotonic() > end:
            return INTERRUPTED
        time.sleep(0.1)
    first = next((i for i, code in enumerate(codes) if code), 0)
    end = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        time.sleep(0.1)
    own, code = processes[0].poll(), codes[first] or 0
    if own is not None and own >= 0:
        return own or abs(code)
    if code > 0:
        return code  # it has said why
    raise DeviceError(
        f"Process {first} of {len(processes)} ended before its time ({signal.Signals(-code).name}): nothing is lost "
        "but the iterations since the newest snapshot; -resume goes on from there"
    )
