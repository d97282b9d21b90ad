from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oxford102.catalog import Asset
from oxford102.download import fetch, take
from oxford102.errors import ToolError

if TYPE_CHECKING:
    from conftest import Server

BODY = bytes(range(256)) * 9000  # more than two blocks
SHA256 = hashlib.sha256(BODY).hexdigest()


def asset(*urls: str) -> Asset:
    return Asset("flowers.bin", urls, len(BODY), SHA256)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down.bin"


def test_a_good_file_arrives_whole(server: Server, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.put("/a", BODY)
    assert fetch(asset(url), target) == SHA256
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["down.bin"]
    out, err = capsys.readouterr()
    assert out == f"{target}: fetched from {url}\n"
    assert err == ""  # no progress bar off a terminal


def test_a_file_in_place_is_verified_and_nothing_is_asked(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(asset(server.put("/a", BODY)), target) == SHA256
    assert server.asked == []


def test_a_wrong_file_in_place_is_told_and_kept(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(ToolError) as error:
        fetch(asset(server.put("/a", BODY)), target)
    assert str(error.value) == (
        f"{target} has 4 bytes, expected 2,304,000; put the right one in its place, or take this one with --unverified"
    )
    assert target.read_bytes() == b"mine"


def test_an_old_part_is_no_file(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("down.bin.part").write_bytes(BODY + b"left over")
    fetch(asset(server.put("/a", BODY)), target)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["down.bin"]


def test_the_next_place_is_asked_in_order(server: Server, target: Path) -> None:
    broken = server.put("/broken", b"down", status=503)
    page = server.put("/page", b"x" * len(BODY), Content_Type="text/html; charset=utf-8")
    good, spare = server.put("/good", BODY), server.put("/spare", BODY)
    fetch(asset(server.url + "/none", broken, page, good, spare), target)
    assert target.read_bytes() == BODY
    assert server.asked == ["/none", "/broken", "/page", "/good"]


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_when_all_fails_each_place_has_its_reason(server: Server, target: Path) -> None:
    other = bytes(reversed(BODY))
    reasons = {
        server.url + "/none": "404 Not Found",
        server.put("/page", b"x", Content_Type="text/html"): "it answers with an HTML page, not with the file",
        server.put("/hidden", b" <html>"[1:]): "it answers with a page or a pointer, not with the file",
        server.put("/lfs", b"version https://git-lfs.github.com/spec/v1\n"): "it answers with a page or a pointer",
        server.put("/short", BODY[:100]): "what it sent has 100 bytes, expected 2,304,000",
        server.put("/other", other): f"what it sent has sha256 {hashlib.sha256(other).hexdigest()}, expected {SHA256}",
        server.put("/cut", BODY, Content_Length=str(len(BODY) + 5)): "5 more expected",
        f"http://127.0.0.1:{closed_port()}/f": "Connection refused",
        "nonsense://x/f": "No connection adapters were found",
    }
    with pytest.raises(ToolError) as error:
        fetch(asset(*reasons), target)
    first, *lines, last = str(error.value).splitlines()
    assert first == "flowers.bin could not be fetched:"
    for line, (url, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"  {url}: ")
        assert reason in line
    assert last == (
        f"Put flowers.bin (2,304,000 bytes, sha256 {SHA256}) at {target} by hand and run the command again."
    )
    assert list(target.parent.iterdir()) == []


def test_a_file_that_holds_an_angle_bracket_later_is_a_file(server: Server, target: Path) -> None:
    body = b"x" * (1 << 20) + b"<html>"
    row = Asset("f", (server.put("/a", body),), len(body), hashlib.sha256(body).hexdigest())
    fetch(row, target)
    assert target.read_bytes() == body


def test_unverified_takes_another_file_with_a_warning(
    server: Server, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = fetch(asset(server.put("/a", b"other")), target, unverified=True)
    assert digest == hashlib.sha256(b"other").hexdigest()
    assert target.read_bytes() == b"other"
    warning = f"warning: {target} has 5 bytes, expected 2,304,000; taken unverified\n"
    assert capsys.readouterr().err == warning


def test_unverified_takes_no_page_and_no_cut_file(server: Server, target: Path) -> None:
    page = server.put("/page", b"gone", Content_Type="text/html")
    cut = server.put("/cut", BODY, Content_Length=str(len(BODY) + 1))
    with pytest.raises(ToolError, match="an HTML page"):
        fetch(asset(page, cut), target, unverified=True)
    assert not target.exists()


def test_a_hash_that_differs_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flowers.bin"
    path.write_bytes(b"x" + BODY[1:])
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


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"is not a file, expected flowers.bin; move it out of the way"):
        fetch(asset(), tmp_path)
