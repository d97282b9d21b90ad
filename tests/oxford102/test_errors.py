"""What becomes of other exceptions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from oxford102.errors import ToolError, exit_status, told
from oxford102.files import write_whole


def test_errors_of_the_kinds_asked_for_are_told_in_one_line() -> None:
    with pytest.raises(ToolError, match="^a.prototxt: no such layer$"), told("a.prototxt", ValueError):
        raise ValueError("no such\n  layer")
    with pytest.raises(KeyError), told("a.prototxt", ValueError, RuntimeError):
        raise KeyError("a bug")


@pytest.mark.parametrize("error", [ToolError("b.jpg is no picture"), FileNotFoundError(2, "No such file", "b.jpg")])
def test_what_names_its_file_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as seen, told("a.prototxt", Exception):
        raise error
    assert seen.value is error


def test_a_full_disk_has_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert exit_status("tool.py", work) == 1
    assert capsys.readouterr().err == "tool.py: error: No space left on device; make room, or name another place\n"


def test_memory_that_ends_is_told_other_errors_are_bugs(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("tool.py", lambda: np.empty(10**14) and None) == 1
    said = capsys.readouterr().err
    assert said.startswith("tool.py: error: not enough memory: Unable to allocate")
    assert said.endswith("take smaller pictures, or fewer at a time\n")
    with pytest.raises(ZeroDivisionError):
        exit_status("tool.py", lambda: 1 / 0 and None)


def test_whoever_reads_may_have_read_enough(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = os.dup(1)
    os.dup2(writing, 1)
    try:
        assert exit_status("tool.py", lambda: os.write(1, b"a line") and None) == 1
        os.write(1, b"another")  # goes nowhere
    finally:
        os.dup2(ended, 1)
        for number in (ended, writing):
            os.close(number)
    assert capfd.readouterr().err == ""


def test_links_are_written_through_and_devices_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", b"content")
    assert (tmp_path / "target").read_bytes() == b"content"
    assert (tmp_path / "link").is_symlink()
    write_whole(Path(os.devnull), b"content")
    assert Path(os.devnull).is_char_device()
