from __future__ import annotations

import json
from pathlib import Path

import pytest

from oxford102.errors import ToolError
from oxford102.progress import Progress


class Killed(BaseException):
    """What ends a run in the middle of a step."""


def kill() -> None:
    raise Killed


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / ".prepared.json"


def run(note: Path, made_from: str = "a", present: bool = True) -> bool:
    """Whether a fresh run does the step that makes `out`."""
    ran = []
    Progress(note).once(note.with_name("out"), made_from, present, lambda: ran.append(1))
    return bool(ran)


def test_a_finished_step_is_done_once(note: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(note, present=False)
    assert not run(note)
    assert capsys.readouterr().out == f"{note.with_name('out')}: already there\n"


def test_a_step_is_done_again_for_another_source_or_a_lost_output(note: Path) -> None:
    assert run(note)
    assert run(note, made_from="b")
    assert not run(note, made_from="b")
    assert run(note, made_from="b", present=False)


def test_a_killed_step_is_not_done(note: Path) -> None:
    assert run(note)
    with pytest.raises(Killed):
        Progress(note).once(note.with_name("out"), "b", True, kill)
    assert run(note)  # even from the source of the run that did finish


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_broken_note_means_nothing_is_done(note: Path, content: bytes) -> None:
    note.write_bytes(content)
    assert run(note)
    assert json.loads(note.read_text()) == {"out": "a"}


def test_a_folder_of_somebody_else_is_not_touched(note: Path) -> None:
    note.with_name("out").mkdir()
    with pytest.raises(ToolError, match="out is in the way, not made by this command; move it or choose another"):
        run(note)
    assert not note.exists()


def test_a_folder_of_an_unfinished_run_is_ours(note: Path) -> None:
    note.with_name("out").mkdir()
    with pytest.raises(Killed):
        Progress(note).once(note.with_name("other"), "a", False, kill)
    note.write_text('{"out": ""}')
    assert run(note)
