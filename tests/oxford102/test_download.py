"""Files of a catalogue on their way to their places: mirrors, the cache, hashes, several at once."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import os
import signal
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trustme
from filelock import FileLock

from oxford102.cache import Need
from oxford102.catalog import Asset
from oxford102.download import Want, Ways, fetch_all, room_for, summary, take
from oxford102.errors import ToolError
from oxford102.transfer import Patience

if TYPE_CHECKING:
    from conftest import Server

BODY = np.random.default_rng(4).bytes(700_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(retries=2, backoff=0.01, longest=0.5)
IMPATIENT = replace(QUICK, rate=50_000, window=0.2)


def asset(*urls: str, name: str = "flowers.bin", body: bytes = BODY) -> Asset:
    return Asset(name, urls, len(body), hashlib.sha256(body).hexdigest())


def ways(**changes: object) -> Ways:
    return replace(Ways(patience=QUICK), **changes)


def fetch(row: Asset, target: Path, **changes: object) -> str:
    """Bring one file; returns its SHA-256 or raises why not."""
    outcome = fetch_all([want := Want(row, target)], ways(**changes))[want]
    if isinstance(outcome, ToolError):
        raise outcome
    return outcome


def error_of(row: Asset, target: Path, **changes: object) -> str:
    """Why a file does not come; nothing has its final name then, in its place or in the cache."""
    with pytest.raises(ToolError) as error:
        fetch(row, target, **changes)
    assert not target.exists()
    assert not (ways().cache / row.name).exists()
    return str(error.value)


def names(folder: Path) -> list[str]:
    """What is in a folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down.bin"


def test_a_good_file_arrives_whole(
    server: Server, target: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.file("/a", BODY)
    assert fetch(asset(url), target) == SHA256
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["down.bin"]
    assert names(cache) == ["flowers.bin"]
    out, err = capsys.readouterr()
    assert out == f"{target}: fetched from {url}\n"
    assert err == ""  # no progress bar off a terminal


def test_a_file_in_place_is_verified_and_nothing_is_asked(
    server: Server, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(asset(server.file("/a", BODY)), target) == SHA256
    assert server.asked == []
    assert capsys.readouterr().out == f"{target}: already there\n"


def test_a_wrong_file_in_place_is_told_and_kept(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(ToolError) as error:
        fetch(asset(server.file("/a", BODY)), target)
    assert str(error.value) == (
        f"{target} has 4 bytes, expected 700,000; put the right one in its place, or take this one with --unverified"
    )
    assert target.read_bytes() == b"mine"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"is not a file, expected flowers.bin; move it out of the way"):
        fetch(asset(), tmp_path)


# the places of a file


def test_the_next_place_is_asked_in_order(server: Server, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = server.put("/page", b"x" * len(BODY), Content_Type="text/html; charset=utf-8")
    good, spare = server.file("/good", BODY), server.file("/spare", BODY)
    fetch(asset(server.url + "/none", page, good, spare), target)
    assert target.read_bytes() == BODY
    assert server.asked == ["/none", "/page", "/good"]
    assert capsys.readouterr().err.splitlines() == [
        "flowers.bin: 127.0.0.1: 404 Not Found; asking 127.0.0.1 next",
        "flowers.bin: 127.0.0.1: it answers with an HTML page, not with the file; asking 127.0.0.1 next",
    ]


def test_a_mirror_is_asked_first(server: Server, target: Path) -> None:
    server.file("/mirror/flowers.bin", BODY)
    fetch(asset(server.file("/a", BODY)), target, mirror=server.url + "/mirror/")
    assert server.asked == ["/mirror/flowers.bin"]


def test_after_the_mirror_the_others_are_asked(server: Server, target: Path) -> None:
    fetch(asset(server.file("/a", BODY)), target, mirror=server.url + "/mirror")
    assert server.asked == ["/mirror/flowers.bin", "/a"]


def test_what_one_place_began_the_next_one_ends(server: Server, target: Path) -> None:
    cut = server.file("/cut", BODY, server.serve(BODY, 200_000), *[server.reply(b"", 404)] * 2)
    fetch(asset(cut, server.file("/good", BODY)), target)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=200000-", "bytes=200000-"]


def test_what_a_wrong_place_began_is_not_held_against_the_next(server: Server, target: Path) -> None:
    other = b"x" * len(BODY)
    cut = server.file("/cut", other, server.serve(other, 200_000), *[server.reply(b"", 404)] * 2)
    fetch(asset(cut, server.file("/good", BODY)), target)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=200000-", "bytes=200000-", None]


def test_when_all_fails_each_place_has_its_reason(server: Server, target: Path, cache: Path) -> None:
    other = b"x" * len(BODY)
    reasons = {
        server.url + "/none": "404 Not Found",
        server.put("/forbidden", b"", 403): "403 Forbidden",
        server.put("/down", b"", 500): "500 Internal Server Error",
        server.put("/page", b"x", Content_Type="text/html"): "it answers with an HTML page, not with the file",
        server.put("/lfs", b"version https://git-lfs".ljust(len(BODY))): "it answers with a page or a pointer",
        server.put("/short", BODY[:100]): "what it offers has 100 bytes, expected 700,000",
        server.put("/other", other): f"what it sent has sha256 {hashlib.sha256(other).hexdigest()}, expected {SHA256}",
        server.put("/cut", BODY[:-5], Content_Length=str(len(BODY))): "5 more expected",
        "nonsense://x/f": "No connection adapters were found",
    }
    first, *lines, last = error_of(asset(*reasons), target).splitlines()
    assert first == f"  flowers.bin (700,000 bytes, sha256 {SHA256})"
    for line, (url, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"    {url}: ")
        assert reason in line
    assert last == f"    its place: {target}"
    assert not target.exists()
    assert set(names(cache)) <= {"flowers.bin.part"}


def test_a_wrong_file_alone_is_one_line() -> None:
    assert summary([ToolError("a has 4 bytes")]) == "a has 4 bytes"
    assert summary([]) == ""


# one server, a fault each: the right file or one clear error


def cut_often(server: Server, body: bytes) -> str:
    cuts = np.random.default_rng(9).integers(2_000, 60_000, 10)
    return server.file("/f", body, *(server.serve(body, int(cut)) for cut in cuts))


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    for index in range(len(BODY)):
        request.wfile.write(BODY[index : index + 1])
        time.sleep(0.005)


MENDED = {
    "busy": lambda server: server.file("/f", BODY, server.reply(b"", 429, Retry_After="0")),
    "500 then fine": lambda server: server.file("/f", BODY, server.reply(b"", 500)),
    "cut ten times": lambda server: cut_often(server, BODY),
    "range ignored": lambda server: server.file("/f", BODY, server.serve(BODY, 300_000), server.reply(BODY)),
    "wrong range": lambda server: server.file(
        "/f", BODY, server.serve(BODY, 300_000), server.reply(BODY, 206, Content_Range="bytes 0-699999/700000")
    ),
    "gzip label": lambda server: server.put("/f", BODY, Content_Encoding="gzip"),
}
BROKEN = {
    "403": lambda server: server.put("/f", BODY, 403),
    "404": lambda server: server.put("/f", BODY, 404),
    "500": lambda server: server.put("/f", BODY, 500),
    "page": lambda server: server.put("/f", b"<html>gone".ljust(len(BODY))),
    "typed page": lambda server: server.put("/f", BODY, Content_Type="text/html"),
    "pointer": lambda server: server.put("/f", b"version https://git-lfs.github.com/spec/v1\nsize 700000"),
    "wrong bytes": lambda server: server.put("/f", bytes(len(BODY))),
    "too short": lambda server: server.put("/f", BODY[:-1]),
    "too long": lambda server: server.put("/f", BODY + b"x"),
    "drip": lambda server: server.file("/f", BODY, drip),
    "loop": lambda server: server.put("/f", b"", 301, Location="/f"),
    "packed": lambda server: server.put("/f", gzip.compress(BODY), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("fault", MENDED)
def test_a_fault_that_passes(server: Server, target: Path, fault: str) -> None:
    assert fetch(asset(MENDED[fault](server)), target) == SHA256
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_that_stays(server: Server, target: Path, fault: str) -> None:
    url, patience = BROKEN[fault](server), IMPATIENT if fault == "drip" else QUICK
    assert error_of(asset(url), target, patience=patience).splitlines()[1].startswith(f"    {url}: ")
    fetch(asset(server.file("/good", BODY)), target)  # what is left is no harm
    assert target.read_bytes() == BODY


# TLS


def secure(ca: trustme.CA, lives: int) -> ssl.SSLContext:
    """A server's side, whose certificate ends in so many days."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=lives)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", not_after=end).configure_cert(tls)
    return tls


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that is trusted."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return ca


@pytest.fixture
def tls_server(server: Server, authority: trustme.CA) -> Iterator[Server]:
    secured = type(server)(secure(authority, 30))
    yield secured
    secured.stop()


@pytest.fixture
def expired_server(server: Server, authority: trustme.CA) -> Iterator[Server]:
    secured = type(server)(secure(authority, -1))
    yield secured
    secured.stop()


def test_a_file_by_tls(tls_server: Server, target: Path) -> None:
    fetch(asset(cut_often(tls_server, BODY)), target)
    assert target.read_bytes() == BODY


def test_an_expired_certificate_is_not_trusted(expired_server: Server, target: Path) -> None:
    url = expired_server.file("/f", BODY)
    assert "certificate has expired" in error_of(asset(url), target)
    assert expired_server.asked == []


def test_an_unknown_authority_is_not_trusted(tls_server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "certificate verify failed" in error_of(asset(tls_server.file("/f", BODY)), target)
    assert tls_server.asked == []


# the cache


def test_a_second_checkout_asks_nobody(
    server: Server, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, other = asset(server.file("/a", BODY)), tmp_path / "other" / "f"
    fetch(row, target)
    capsys.readouterr()
    assert fetch(row, other) == SHA256
    assert len(server.asked) == 1
    assert other.read_bytes() == BODY
    assert capsys.readouterr().out == f"{other}: from {ways().cache}/flowers.bin\n"


def test_a_file_put_into_the_cache_by_hand_is_taken(target: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "flowers.bin").write_bytes(BODY)
    assert fetch(asset(), target, offline=True) == SHA256


def test_a_wrong_file_in_the_cache_is_told_and_replaced(
    server: Server, target: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir()
    (cache / "flowers.bin").write_bytes(b"spoiled")
    fetch(asset(server.file("/a", BODY)), target)
    assert target.read_bytes() == (cache / "flowers.bin").read_bytes() == BODY
    assert capsys.readouterr().err == f"warning: {cache}/flowers.bin has 7 bytes, expected 700,000; not used\n"


@pytest.mark.parametrize("kept", [1, 123_456, 699_999, 700_000])
def test_a_killed_download_goes_on(server: Server, target: Path, cache: Path, kept: int) -> None:
    cache.mkdir()
    (cache / "flowers.bin.part").write_bytes(BODY[:kept])
    fetch(asset(server.file("/a", BODY)), target)
    assert target.read_bytes() == BODY
    assert server.ranges == ([f"bytes={kept}-"] if kept < 700_000 else [])
    assert names(cache) == ["flowers.bin"]


@pytest.mark.parametrize("kept", [100_000, 700_000, 800_000])
def test_a_part_of_something_else_is_no_harm(server: Server, target: Path, cache: Path, kept: int) -> None:
    cache.mkdir()
    (cache / "flowers.bin.part").write_bytes(bytes(kept))
    fetch(asset(server.file("/a", BODY)), target)
    assert target.read_bytes() == BODY


def test_a_cache_that_cannot_be_made(server: Server, target: Path, cache: Path) -> None:
    cache.write_text("a file")
    assert str(cache) in error_of_outcome(asset(server.file("/a", BODY)), target)


def error_of_outcome(row: Asset, target: Path) -> str:
    outcome = fetch_all([want := Want(row, target)], ways())[want]
    assert isinstance(outcome, ToolError)
    return str(outcome)


# offline


def test_offline_asks_nobody(server: Server, target: Path) -> None:
    url = server.file("/a", BODY)
    assert error_of(asset(url), target, offline=True).splitlines() == [
        f"  flowers.bin (700,000 bytes, sha256 {SHA256})",
        f"    {url}: not asked, --offline",
        f"    its place: {target}",
    ]
    assert server.asked == []


def test_offline_keeps_what_is_there_of_a_download(server: Server, target: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "flowers.bin.part").write_bytes(BODY[:1000])
    error_of(asset(server.file("/a", BODY)), target, offline=True)
    assert (cache / "flowers.bin.part").read_bytes() == BODY[:1000]


# unverified


def test_unverified_takes_another_file_with_a_warning(
    server: Server, target: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = fetch(asset(server.put("/a", b"other")), target, unverified=True)
    assert digest == hashlib.sha256(b"other").hexdigest()
    assert target.read_bytes() == b"other"
    assert names(target.parent) == ["down.bin"]
    assert names(cache) == []
    warning = f"warning: {target} has 5 bytes, expected 700,000; taken unverified\n"
    assert capsys.readouterr().err == warning


def test_unverified_takes_no_page_and_no_cut_file(server: Server, target: Path) -> None:
    page = server.put("/page", b"gone", Content_Type="text/html")
    cut = server.put("/cut", BODY, Content_Length=str(len(BODY) + 1))
    reasons = error_of(asset(page, cut), target, unverified=True)
    assert "an HTML page" in reasons
    assert "1 more expected" in reasons


def test_unverified_never_goes_on_with_what_another_run_left(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("down.bin.part").write_bytes(bytes(1000))
    fetch(asset(server.file("/a", BODY)), target, unverified=True)
    assert target.read_bytes() == BODY
    assert server.ranges == [None]


def test_a_hash_that_differs_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flowers.bin"
    path.write_bytes(bytes(len(BODY)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ToolError, match=f"flowers.bin has sha256 {digest}, expected {SHA256}; put the right one"):
        take(asset(), path)
    assert take(asset(), path, unverified=True) == digest
    assert f"has sha256 {digest}, expected {SHA256}; taken unverified" in capsys.readouterr().err


def test_a_file_without_a_published_hash_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "drawn"
    path.write_bytes(BODY)
    assert take(Asset("drawn"), path) == SHA256
    assert capsys.readouterr().err == ""


# several at once


def test_files_come_side_by_side(server: Server, tmp_path: Path) -> None:
    meeting = threading.Barrier(4, timeout=20)  # passes only when four ask at the same time
    wants = []
    for number in range(4):
        body = bytes([number + 65]) * 5000

        def answer(request: BaseHTTPRequestHandler, body: bytes = body) -> None:
            meeting.wait()
            server.serve(body)(request)

        row = asset(server.file(f"/{number}", body, answer), name=f"{number}", body=body)
        wants.append(Want(row, tmp_path / "to" / row.name))
    outcomes = fetch_all(wants, ways())
    assert list(outcomes) == wants
    assert [want.target.read_bytes()[0] for want in wants] == [65, 66, 67, 68]


def test_one_that_fails_does_not_keep_the_others(server: Server, tmp_path: Path) -> None:
    good, bad = asset(server.file("/a", BODY)), asset(server.url + "/none", name="bad")
    wants = [Want(bad, tmp_path / "bad"), Want(good, tmp_path / "good"), Want(good, tmp_path / "good")]
    outcomes = fetch_all(wants, ways())
    assert outcomes[wants[1]] == SHA256
    message = summary(outcome for outcome in outcomes.values() if isinstance(outcome, ToolError))
    first, *_, last, proxy = message.splitlines()
    assert first == "1 file is missing:"
    assert last.startswith("Put each file at its place by hand and run the command again; --mirror URL")
    assert proxy == "Behind a proxy, set https_proxy and http_proxy."


SCRIPT = """
import sys
from pathlib import Path
from oxford102.catalog import Asset
from oxford102.download import Want, Ways, fetch_all
from oxford102.errors import exit_status
url, size, sha256, target = sys.argv[1:]
want = Want(Asset("flowers.bin", (url,), int(size), sha256), Path(target))
def work():
    outcome = fetch_all([want], Ways())[want]
    if not isinstance(outcome, str):
        raise outcome
sys.exit(exit_status("fetch", work))
"""


def process(url: str, target: Path) -> subprocess.Popen[str]:
    arguments = [url, str(len(BODY)), SHA256, str(target)]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.PIPE, text=True)


def half_then_hold(server: Server, reached: threading.Event, go: threading.Event) -> str:
    """A URL that sends half of the file, then waits for `go`."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        server.reply(BODY[: len(BODY) // 2], Content_Length=str(len(BODY)))(request)
        reached.set()
        go.wait(20)
        request.wfile.write(BODY[len(BODY) // 2 :])

    return server.file("/f", BODY, answer)


def until_part_holds(cache: Path, size: int) -> None:
    part = cache / "flowers.bin.part"
    while not (part.exists() and part.stat().st_size >= size):
        time.sleep(0.01)


def test_two_processes_fetch_once(server: Server, tmp_path: Path, cache: Path) -> None:
    reached, go = threading.Event(), threading.Event()
    url = half_then_hold(server, reached, go)
    with process(url, tmp_path / "one") as one:
        assert reached.wait(20)
        with process(url, tmp_path / "two") as two:
            assert two.stderr is not None
            assert two.stderr.readline() == "flowers.bin: another process is fetching it; waiting for that\n"
            go.set()
            assert (one.wait(), two.wait()) == (0, 0)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == BODY
    assert server.asked == ["/f"]
    assert names(cache) == ["flowers.bin"]


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_an_ended_process_leaves_a_part_to_go_on_with(
    server: Server, tmp_path: Path, cache: Path, ending: signal.Signals, status: int
) -> None:
    reached, go = threading.Event(), threading.Event()
    url = half_then_hold(server, reached, go)
    with process(url, tmp_path / "one") as one:
        until_part_holds(cache, len(BODY) // 2)
        one.send_signal(ending)
        _, message = one.communicate()
    go.set()
    assert one.returncode == status
    assert message == ("\nfetch: stopped; run it again to go on\n" if ending == signal.SIGINT else "")
    assert names(cache) == ["flowers.bin.part"]
    assert not (tmp_path / "one").exists()
    fetch(asset(url), tmp_path / "one")
    assert server.ranges == [None, f"bytes={len(BODY) // 2}-"]
    assert (tmp_path / "one").read_bytes() == BODY


def test_a_lock_of_a_dead_process_is_no_lock(server: Server, target: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / ".flowers.bin.lock").write_text("left over")
    fetch(asset(server.file("/a", BODY)), target)
    with FileLock(cache / ".flowers.bin.lock", timeout=0):
        assert target.exists()


# the disk


def test_a_disk_that_is_full_keeps_the_part(server: Server, target: Path, cache: Path) -> None:
    limit = 200_000
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));" + SCRIPT
    )
    arguments = [server.file("/f", BODY), str(len(BODY)), SHA256, str(target)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    part = cache / "flowers.bin.part"
    assert done.stderr == (
        f"fetch: error: {part}: File too large; mend that and run the command again, it goes on from there\n"
    )
    assert part.read_bytes() == BODY[:limit]
    fetch(asset(server.url + "/f"), target)
    assert server.ranges == [None, f"bytes={limit}-"]


def test_room_counts_what_is_still_to_come(tmp_path: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "part.part").write_bytes(BODY[:100_000])
    (cache / "stored").write_bytes(BODY)
    (tmp_path / "placed").write_bytes(BODY)
    wants = [Want(asset(name=name), tmp_path / name) for name in ("new", "part", "stored", "placed")]
    assert room_for(wants, ways()) == [Need("new", cache, 700_000), Need("part", cache, 600_000)]
    assert room_for(wants, ways(offline=True)) == []


# on a terminal


def test_one_line_of_progress_on_a_terminal(server: Server, target: Path) -> None:
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 25, 80, 0, 0))  # tqdm is silent where there is no room
    reached, go = threading.Event(), threading.Event()
    url = half_then_hold(server, reached, go)
    arguments = [url, str(len(BODY)), SHA256, str(target)]
    shown = b""
    with subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=theirs, stdout=subprocess.DEVNULL):
        os.close(theirs)
        with suppress(OSError):  # the end of a terminal
            while block := os.read(ours, 1000):
                shown += block
                if b"50%" in shown:
                    go.set()
    os.close(ours)
    assert b"fetching:  50%" in shown
    assert b"350k/700k" in shown
    assert b"\n" not in shown.strip(b"\r\n ")


def test_a_link_that_leads_nowhere_is_replaced(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.symlink_to(target.with_name("gone"))
    fetch(asset(server.file("/a", BODY)), target)
    assert target.read_bytes() == BODY
    assert not target.is_symlink()
