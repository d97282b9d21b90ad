"""One file from one address that misbehaves: the file arrives whole, or one reason is told."""

from __future__ import annotations

import email.utils
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from oxford102 import transfer
from oxford102.transfer import Patience, RefusedError, Transfer

if TYPE_CHECKING:
    from conftest import Server

BODY = np.random.default_rng(3).bytes(900_000)  # several reads
SIZE = len(BODY)
QUICK = Patience(retries=3, backoff=0.01, longest=0.5)
IMPATIENT = Patience(read=0.3, rate=100_000, window=0.2)


class Run:
    """One transfer into a part file; what it said, and how far it was told to be."""

    def __init__(self, part: Path) -> None:
        self.part, self.stop = part, threading.Event()
        self.said: list[str] = []
        self.offsets: list[int] = []

    def get(self, url: str, size: int | None = SIZE, patience: Patience = QUICK) -> bytes:
        Transfer(url, self.part, size, patience, self.stop, self.offsets.append, self.said.append).run()
        return self.part.read_bytes()

    def reason(self, url: str, size: int | None = SIZE, patience: Patience = QUICK) -> str:
        """Why the file does not come."""
        with pytest.raises(RefusedError) as error:
            self.get(url, size, patience)
        return str(error.value)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "file.part")


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_good_server(server: Server, run: Run) -> None:
    assert run.get(server.file("/f", BODY)) == BODY
    assert server.ranges == [None]
    assert run.offsets[-1] == SIZE
    assert run.said == []


def test_it_goes_on_where_an_earlier_run_stopped(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY[:123_456])
    assert run.get(server.file("/f", BODY)) == BODY
    assert server.ranges == ["bytes=123456-"]


def test_ten_cuts_at_random_places_in_a_row(server: Server, run: Run) -> None:
    cuts = np.random.default_rng(7).integers(2_000, 90_000, 10)
    assert run.get(server.file("/f", BODY, *(server.serve(BODY, int(cut)) for cut in cuts))) == BODY
    ends = np.cumsum(cuts)
    assert server.ranges == [None, *(f"bytes={end}-" for end in ends)]
    assert len(run.said) == 10


def test_a_cut_shows_where_the_answer_told_no_length(server: Server, run: Run) -> None:
    def unsized(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(BODY[:300_000])

    assert run.get(server.file("/f", BODY, unsized)) == BODY
    assert server.ranges == [None, "bytes=300000-"]


def test_a_server_that_brings_next_to_nothing_is_left(server: Server, run: Run) -> None:
    url = server.file("/f", BODY, *(server.serve(BODY, 100) for _ in range(99)))
    assert "bytes" in run.reason(url)
    assert len(server.asked) == 1 + QUICK.retries
    assert run.part.read_bytes() == BODY[:400]


def test_a_connection_cut_before_the_answer_is_tried_again(server: Server, run: Run) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.connection.shutdown(socket.SHUT_RDWR)

    assert run.get(server.file("/f", BODY, hang_up, hang_up)) == BODY
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Server, run: Run, status: int) -> None:
    assert run.get(server.file("/f", BODY, server.reply(b"busy", status))) == BODY
    assert len(server.asked) == 2
    assert run.said[0].startswith(f"{server.url}/f: {status} ")


def test_a_server_that_stays_busy_is_left(server: Server, run: Run) -> None:
    assert run.reason(server.put("/f", b"", 503)) == "503 Service Unavailable"
    assert len(server.asked) == 1 + QUICK.retries


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(server: Server, run: Run, as_date: bool) -> None:
    after = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
    start = time.monotonic()
    patience = Patience(backoff=0, longest=9)
    assert run.get(server.file("/f", BODY, server.reply(b"", 429, Retry_After=after)), patience=patience) == BODY
    assert time.monotonic() - start >= 0.9


def test_a_server_that_asks_to_wait_for_long_is_left_at_once(server: Server, run: Run) -> None:
    assert run.reason(server.put("/f", b"", 429, Retry_After="3600")) == "429 Too Many Requests"
    assert len(server.asked) == 1


def test_a_header_that_is_no_time_is_ignored(server: Server, run: Run) -> None:
    assert run.get(server.file("/f", BODY, server.reply(b"", 429, Retry_After="soon"))) == BODY


@pytest.mark.parametrize(("status", "reason"), [(403, "403 Forbidden"), (404, "404 Not Found"), (410, "410 Gone")])
def test_a_refusal_is_final_and_keeps_what_is_here(server: Server, run: Run, status: int, reason: str) -> None:
    run.part.write_bytes(BODY[:1000])
    assert run.reason(server.put("/f", b"<html>", status)) == reason
    assert len(server.asked) == 1
    assert run.part.read_bytes() == BODY[:1000]


def test_nobody_there(run: Run) -> None:
    assert run.reason(f"http://127.0.0.1:{closed_port()}/f") == "Connection refused"
    assert run.said == []


def no_name(*args: object, **kwargs: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_no_such_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    assert run.reason("http://flowers.invalid/f") == "Name or service not known"
    assert run.said == []  # another try would be no better


def test_a_name_that_is_lost_under_way_is_looked_up_again(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, found = [], socket.getaddrinfo

    def now_and_then(*args: object, **kwargs: object) -> object:
        asked.append(args)
        return no_name() if len(asked) == 2 else found(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", now_and_then)
    assert run.get(server.file("/f", BODY, server.serve(BODY, 300_000))) == BODY
    assert len(asked) == 3
    assert any("Name or service not known" in line for line in run.said)


def test_a_host_that_never_answers(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in run.reason(f"http://127.0.0.1:{silent.getsockname()[1]}/f", patience=IMPATIENT)


@pytest.mark.parametrize("url", ["nonsense://x/f", "http://", "no url", "http://[/f", "http://a..b/f"])
def test_an_address_that_is_none(run: Run, url: str) -> None:
    assert run.reason(url)


def test_a_server_that_ignores_ranges(server: Server, run: Run) -> None:
    run.part.write_bytes(b"x" * 1000)
    assert run.get(server.put("/f", BODY)) == BODY
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize(
    "span", ["bytes 0-899999/900000", "bytes 1000-899999/900001", "bytes 1000-", "pages 1000-2/900000", ""]
)
def test_a_range_that_was_not_asked_for_starts_over(server: Server, run: Run, span: str) -> None:
    run.part.write_bytes(BODY[:1000])
    wrong = server.reply(BODY[1000:], 206, Content_Range=span)
    assert run.get(server.file("/f", BODY, wrong)) == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_a_range_that_nobody_asked_for_is_refused(server: Server, run: Run) -> None:
    url = server.put("/f", BODY, 206, Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}")
    assert run.reason(url) == "206 Partial Content, with a range that was not asked for"


def test_range_not_satisfiable_starts_over(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY[:1000])
    assert run.get(server.file("/f", BODY, server.reply(b"", 416))) == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_ranges_that_are_always_wrong_end(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY[:1000])
    assert run.reason(server.put("/f", b"", 416)) == "416 Requested Range Not Satisfiable, with a range that was " + (
        "not asked for"
    )
    assert run.part.read_bytes() == BODY[:1000]


def test_cuts_of_a_server_that_ignores_ranges_end(server: Server, run: Run) -> None:
    def half(request: BaseHTTPRequestHandler) -> None:
        server.reply(BODY[: SIZE // 2], Content_Length=str(SIZE))(request)

    assert "bytes" in run.reason(server.file("/f", BODY, *[half] * 99))
    assert len(server.asked) == 1 + QUICK.retries


def test_a_part_that_is_too_long_is_replaced(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY + b"x")
    assert run.get(server.file("/f", BODY)) == BODY


def test_a_page_with_200(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY[:1000])
    page = b"x" * SIZE
    url = server.put("/f", page, Content_Type="text/html; charset=utf-8")
    assert run.reason(url) == "it answers with an HTML page, not with the file"
    assert run.part.read_bytes() == BODY[:1000]


@pytest.mark.parametrize("head", [b"<html>", b"\xef\xbb\xbf<!doctype", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_page_or_a_pointer_that_calls_itself_a_file(server: Server, run: Run, head: bytes) -> None:
    run.part.write_bytes(b"")
    reason = "it answers with a page or a pointer, not with the file"
    assert run.reason(server.put("/f", head.ljust(SIZE))) == reason
    assert run.reason(server.put("/f", head), size=None) == reason
    assert run.part.read_bytes() == b""


def test_a_pointer_that_comes_in_crumbs(server: Server, run: Run) -> None:
    def crumbs(request: BaseHTTPRequestHandler) -> None:
        server.reply(b"", Content_Length="60")(request)
        for letter in b"version https://git-lfs.github.com/spec/v1\noid sha256:012345":
            request.wfile.write(bytes([letter]))
            time.sleep(0.001)

    assert "a pointer" in run.reason(server.file("/f", BODY, crumbs), size=None)


def test_an_offer_of_another_size_is_not_loaded(server: Server, run: Run) -> None:
    run.part.write_bytes(BODY[:1000])
    assert run.reason(server.put("/f", b"quota exceeded")) == "what it offers has 14 bytes, expected 900,000"
    assert run.part.read_bytes() == BODY[:1000]


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 100_000)


def test_a_body_without_an_end(server: Server, run: Run) -> None:
    assert run.reason(server.file("/f", BODY, endless)) == "it sends more than the 900,000 bytes expected"
    assert run.part.stat().st_size <= SIZE


def test_a_body_in_chunks(server: Server, run: Run) -> None:
    def chunks(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for start in range(0, SIZE, 70_000):
            block = BODY[start : start + 70_000]
            request.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        request.wfile.write(b"0\r\n\r\n")
        request.close_connection = True

    assert run.get(server.file("/f", BODY, chunks)) == BODY


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(SIZE))
    request.end_headers()
    for index in range(9_000):
        request.wfile.write(BODY[100 * index : 100 * (index + 1)])
        time.sleep(0.01)


def test_an_endless_drip_is_left_and_kept(server: Server, run: Run) -> None:
    assert run.reason(server.file("/f", BODY, drip), patience=IMPATIENT).startswith("too slow: ")
    assert len(server.asked) == 1
    kept = run.part.read_bytes()
    assert 0 < len(kept) < SIZE
    assert kept == BODY[: len(kept)]
    assert run.get(server.file("/good", BODY)) == BODY
    assert server.ranges == [None, f"bytes={len(kept)}-"]


def test_a_drip_is_less_than_a_rate_over_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: now))
    pace = transfer._Pace(Patience(rate=100, window=60))
    for now, arrived in ((59.0, 0), (60.0, 6000), (119.0, 0), (120.0, 6000)):  # noqa: B007
        pace.count(arrived)
    now = 200.0
    with pytest.raises(RefusedError, match="too slow: 7,999 bytes in 80 s"):
        pace.count(7999)


def test_a_head_that_drips_is_left(server: Server, run: Run) -> None:
    over = threading.Event()

    def crumbs(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not over.wait(0.05):
            request.wfile.write(b"x")

    try:
        patience = Patience(connect=0.2, read=0.3, window=0.2)
        assert run.reason(server.file("/f", BODY, crumbs), patience=patience).startswith("too slow: no whole head")
    finally:
        over.set()
    assert not run.part.exists()


def test_a_redirect_is_followed(server: Server, run: Run) -> None:
    url = server.put("/old", b"", 302, Location=server.file("/f", BODY))
    assert run.get(url) == BODY


def test_a_redirect_loop_ends(server: Server, run: Run) -> None:
    assert run.reason(server.put("/f", b"", 302, Location="/f")) == "Exceeded 30 redirects."


def test_a_gzip_label_on_the_file_as_it_is(server: Server, run: Run) -> None:
    assert run.get(server.put("/f", BODY, Content_Encoding="x-gzip")) == BODY


def test_a_body_packed_on_the_way_is_refused(server: Server, run: Run) -> None:
    body = b"flowers " * 1000
    packed = gzip.compress(body)
    reason = "what it offers has" if len(packed) != len(body) else ""
    assert run.reason(server.put("/f", packed, Content_Encoding="gzip"), len(body)).startswith(reason)

    def unsized(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        request.wfile.write(packed)

    why = "it sends the file packed (gzip), which was not asked for"
    assert run.reason(server.file("/g", body, unsized), len(body)) == why


def test_a_file_that_changes_under_way_starts_over(server: Server, run: Run) -> None:
    old = b"x" * SIZE
    first = server.reply(old[:300_000], ETag='"old"', Content_Length=str(SIZE))
    conditions = []

    def then(request: BaseHTTPRequestHandler) -> None:
        conditions.append(request.headers["If-Range"])
        server.reply(BODY, ETag='"new"')(request)

    assert run.get(server.file("/f", BODY, first, then)) == BODY
    assert conditions == ['"old"']


def test_stopping_ends_a_pause_and_leaves_the_part(server: Server, run: Run) -> None:
    patience = Patience(backoff=60)
    url = server.file("/f", BODY, server.serve(BODY, 5000), server.reply(b"", 503))
    threading.Timer(0.2, run.stop.set).start()
    with pytest.raises(RefusedError, match="stopped"):
        run.get(url, patience=patience)
    assert run.part.read_bytes() == BODY[:5000]


def test_pauses_grow_and_have_an_end() -> None:
    pauses = [Patience(backoff=1, longest=60).pause(failures) for failures in range(1, 12)]
    for index, pause in enumerate(pauses):
        assert min(60, 2**index) / 2 <= pause <= min(60, 2**index)


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, server.url)
    return server


def test_a_proxy_is_taken_from_the_environment(proxy: Server, run: Run) -> None:
    proxy.file("http://flowers.invalid/f", BODY)
    assert run.get("http://flowers.invalid/f") == BODY
    assert proxy.asked == ["http://flowers.invalid/f"]
