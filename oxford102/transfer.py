"""One file from one address: asked for, gone on with, checked as it arrives.

RefusedError    this address will not give the file: the next one may
BrokenError     the transfer ended early, or the server is busy: asking again may go on
"""

from __future__ import annotations

import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ProtocolError
from urllib3.util import Retry

BLOCK = 1 << 18  # bytes: the most that is read at once
HEAD = 64  # bytes: enough to tell a page or a stand-in from a file
NOT_THE_FILE = (b"<", b"\xef\xbb\xbf<", b"version https://git-lfs")
BUSY = (408, 425, 429)  # and all of 5xx: come again


@dataclass(frozen=True)
class Patience:
    """How long to wait for a network, in seconds.

    `connect` for a connection and `read` between two pieces of an answer; `retries` tries that bring next to
    nothing, with pauses of `backoff`, doubled each time, up to `longest`, halved at random so that not all come
    again at once; fewer than `rate` bytes a second over a `window` are as good as none.
    """

    connect: float = 10
    read: float = 30
    retries: int = 5
    backoff: float = 1
    longest: float = 60
    rate: float = 1024
    window: float = 60

    def pause(self, failures: int) -> float:
        """Before the next try, after so many failed ones."""
        return float(min(self.longest, self.backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1))


class RefusedError(Exception):
    """The address has no such file, or cannot be reached; the message says why."""


class BrokenError(Exception):
    """The transfer ended early; `wait` is the pause in seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Transfer:
    """Brings the file at `url` into `part`, going on where `part` ends.

    `size` is the file's number of bytes, None where any will do. `arrived` is told how much of the file is here,
    `say` a line for the user; `stop` ends the transfer.
    """

    def __init__(
        self,
        url: str,
        part: Path,
        size: int | None,
        patience: Patience,
        stop: threading.Event,
        arrived: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.url, self.part, self.size, self.patience = url, part, size, patience
        self.stop, self.arrived, self.say = stop, arrived, say
        self.answered = False  # whether anybody was ever there
        self.ranges = True  # whether going on is worth asking for
        self.version: str | None = None  # of the file, as the server names it

    def run(self) -> None:
        """Return when `part` is whole; raises RefusedError, and OSError where the disk does not take it."""
        failures, best = 0, self._here()
        while True:
            try:
                return self._attempt()
            except BrokenError as error:
                if self._here() >= best + max(1, (self.size or 0) // 1000):
                    failures, best = 0, self._here()
                failures += 1
                pause = self.patience.pause(failures) if error.wait is None else error.wait
                if failures > self.patience.retries or pause > self.patience.longest:
                    raise RefusedError(str(error)) from error
                self.say(f"{self.url}: {error}; again in {pause:.0f} s")
                self.stop.wait(pause)

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise RefusedError("stopped")

    def _here(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        self._go_on()
        offset = self._here() if self.ranges else 0
        if self.size is not None and offset > self.size:
            offset = 0
        with self._ask(offset) as answer:
            offset, total = self._check(answer, offset)
            self.version = answer.headers.get("ETag")
            self._receive(answer, offset, total)

    def _ask(self, offset: int) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self.version and not self.version.startswith("W/"):
                headers["If-Range"] = self.version
        answer = self._answer(headers)
        if isinstance(answer, requests.RequestException | HTTPError):
            if self.answered or isinstance(answer.args[0] if answer.args else None, ProtocolError):
                raise BrokenError(reason(answer)) from answer
            raise RefusedError(reason(answer)) from answer
        if isinstance(answer, Exception):
            raise answer
        self.answered = True
        return answer

    def _answer(self, headers: dict[str, str]) -> requests.Response | Exception:
        """The answer's head, or why there is none; asked for by a thread, for a head may drip without an end."""
        box: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()
        late = threading.Event()
        timeout = (self.patience.connect, self.patience.read)

        def ask() -> None:
            try:
                answer = requests.get(self.url, stream=True, timeout=timeout, headers=headers)
                box.put(answer)
                if late.is_set():
                    answer.close()
            except Exception as error:  # handed to the thread that waits
                box.put(error)

        threading.Thread(target=ask, daemon=True).start()
        limit = sum(timeout) + self.patience.window
        try:
            return box.get(timeout=limit)
        except queue.Empty:
            late.set()
            raise RefusedError(f"too slow: no whole head of an answer in {limit:.0f} s") from None

    def _check(self, answer: requests.Response, offset: int) -> tuple[int, int | None]:
        """Where in the file the body begins, and the whole file's size if the answer tells it."""
        code, headers = answer.status_code, answer.headers
        if code in BUSY or code >= 500:
            raise BrokenError(f"{code} {answer.reason}", _retry_after(headers.get("Retry-After")))
        if code not in (200, 206, 416):
            raise RefusedError(f"{code} {answer.reason}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise RefusedError("it answers with an HTML page, not with the file")
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if code != 200:
            span = re.fullmatch(rf"bytes {offset}-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            total = int(span[1]) if span and span[1] != "*" else self.size
            if code == 416 or not offset or not span or self.size not in (None, total):
                self._start_over(offset, f"{code} {answer.reason}, with a range that was not asked for")
        else:
            offset = 0
        if self.size is not None and total not in (None, self.size):
            raise RefusedError(f"what it offers has {total:,} bytes, expected {self.size:,}")
        # A server that calls a .tgz "gzip" sends the file; one that packs it on the way sends another size.
        if headers.get("Content-Encoding", "identity") != "identity" and total != self.size:
            raise RefusedError(f"it sends the file packed ({headers['Content-Encoding']}), which was not asked for")
        return offset, total

    def _start_over(self, offset: int, why: str) -> None:
        """Ask for all of the file; what is here stays until all of it is offered."""
        if not offset:
            raise RefusedError(why)
        self.ranges = False
        raise BrokenError(why, wait=0)

    def _receive(self, answer: requests.Response, offset: int, total: int | None) -> None:
        pace = _Pace(self.patience)
        head = b""
        while len(head) < HEAD and (block := self._read(answer, pace)):
            head += block
        if offset == 0 and head.startswith(NOT_THE_FILE):
            raise RefusedError("it answers with a page or a pointer, not with the file")
        with self.part.open("ab" if offset else "wb") as file:
            block = head
            while block:
                offset += len(block)
                if self.size is not None and offset > self.size:
                    raise RefusedError(f"it sends more than the {self.size:,} bytes expected")
                file.write(block)
                self.arrived(offset)
                block = self._read(answer, pace)
            file.flush()
            os.fsync(file.fileno())
        end = total if self.size is None else self.size
        if end is not None and offset < end:
            raise BrokenError(f"the connection ended after {offset:,} of {end:,} bytes")

    def _read(self, answer: requests.Response, pace: _Pace) -> bytes:
        """The next piece as it was sent, as soon as there is any; b"" at the end."""
        self._go_on()
        try:
            block = answer.raw.read1(BLOCK, decode_content=False) or b""
        except (HTTPError, OSError) as error:
            raise BrokenError(reason(error)) from error
        pace.count(len(block))
        return block


class _Pace:
    """Watches that a transfer does not drip."""

    def __init__(self, patience: Patience) -> None:
        self.patience, self.since, self.bytes = patience, time.monotonic(), 0

    def count(self, size: int) -> None:
        self.bytes += size
        seconds = time.monotonic() - self.since
        if seconds < self.patience.window:
            return
        if self.bytes < self.patience.rate * seconds:
            raise RefusedError(f"too slow: {self.bytes:,} bytes in {seconds:.0f} s")
        self.since, self.bytes = time.monotonic(), 0


def _retry_after(value: str | None) -> float | None:
    """Seconds from a header that has seconds or a date."""
    try:
        return float(Retry().parse_retry_after(value)) if value else None
    except InvalidHeader:
        return None


def reason(error: BaseException) -> str:
    """The first cause of an error in one line: requests wraps "connection refused" four times."""
    while error.__context__ is not None:
        error = error.__context__
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(words.split()) or type(error).__name__
