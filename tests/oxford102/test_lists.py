"""Lists and names, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxford102.errors import ToolError
from oxford102.lists import Entry, list_text, read_list, read_names, write_list


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entries = [Entry(Path("/a/my rose 3.jpg"), 0), Entry(Path("/b/Tülpe.png"), 16)]
    write_list(tmp_path / "l.txt", entries)
    assert (tmp_path / "l.txt").read_text("utf-8") == "/a/my rose 3.jpg 0\n/b/Tülpe.png 16\n"
    assert read_list(tmp_path / "l.txt") == entries


def test_list_lines() -> None:
    entries = [Entry(Path("/data/my jpg/image_00003.jpg"), 12), Entry(Path("b.jpg"), 0)]
    assert list_text(entries) == "/data/my jpg/image_00003.jpg 12\nb.jpg 0\n"


def test_names_of_windows(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa b.jpg 1\r\n\r\nc.jpg 0\r\n")
    assert read_list(tmp_path / "l.txt") == [Entry(Path("a b.jpg"), 1), Entry(Path("c.jpg"), 0)]
    (tmp_path / "n.txt").write_bytes(b"\xef\xbb\xbfrose\r\n\r\n sweet pea \r\n")
    assert read_names(tmp_path / "n.txt") == ["rose", "sweet pea"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("a.jpg 0\nb.jpg\n", "line 2: expected 'path label' with a number above -1, got 'b.jpg'"),
        ("a.jpg -1\n", "line 1: expected"),
        ("a.jpg 1.5\n", "line 1: expected"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(ToolError, match=message):
        read_list(tmp_path / "l.txt")


def test_files_that_are_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"l\.txt: no such list"):
        read_list(tmp_path / "l.txt")
    with pytest.raises(ToolError, match=r"n\.txt: no such file"):
        read_names(tmp_path / "n.txt")
    (tmp_path / "n.txt").write_text("\n")
    with pytest.raises(ToolError, match=r"n\.txt is empty"):
        read_names(tmp_path / "n.txt")
