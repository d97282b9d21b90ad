from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from oxford102.cache import Need, cache_folder, check_room, locked, place
from oxford102.errors import ToolError


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "weights"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def refuse(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("OXFORD102_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "oxford102"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/whole")
    assert cache_folder() == tmp_path / ".cache" / "oxford102"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/oxford102")
    monkeypatch.setenv("OXFORD102_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXFORD102_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("OXFORD102_CACHE", "")
    assert cache_folder() == Path("/xdg/oxford102")


def test_a_stored_file_is_linked(stored: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "Net" / "weights"
    for _ in range(2):  # the second time onto itself
        place(stored, target)
        assert target.samefile(stored)
        assert not target.is_symlink()
        assert [path.name for path in target.parent.iterdir()] == ["weights"]
    shutil.rmtree(stored.parent)
    assert target.read_bytes() == b"weights"


@pytest.mark.parametrize("dead_end", [False, True])
def test_what_was_there_is_replaced(stored: Path, tmp_path: Path, dead_end: bool) -> None:
    target = tmp_path / "weights"
    if dead_end:
        target.symlink_to(tmp_path / "gone")
    else:
        target.write_bytes(b"old")
    place(stored, target)
    assert target.read_bytes() == b"weights"


def test_another_filesystem_gets_a_symbolic_link(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.chdir(tmp_path)
    place(Path("cache/weights"), Path("weights"))
    assert Path("weights").is_symlink()
    assert Path("weights").readlink() == stored


def test_a_filesystem_without_links_gets_a_copy(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    place(stored, tmp_path / "weights")
    assert not (tmp_path / "weights").is_symlink()
    assert (tmp_path / "weights").read_bytes() == b"weights"


def test_a_copy_that_fails_leaves_nothing(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((os, "link"), (os, "symlink"), (shutil, "copyfile")):
        monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(OSError, match="cross-device"):
        place(stored, tmp_path / "to" / "weights")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        with locked(tmp_path / "deep" / "lock", lambda: (order.append("waits"), inside.set())[0]):
            order.append("second")

    with locked(tmp_path / "deep" / "lock", lambda: order.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        assert inside.wait(20)
        order.append("first")
    thread.join()
    assert order == ["waits", "first", "second"]


def test_enough_room_is_enough(tmp_path: Path) -> None:
    check_room([Need("a", tmp_path / "not" / "yet", 1), Need("b", tmp_path, 1)])
    check_room([])


def test_room_is_counted_for_all_of_a_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_room([Need("a", tmp_path, free // 2)])
    with pytest.raises(ToolError) as error:
        check_room(
            [Need("a.tgz", tmp_path / "one", free), Need("b", tmp_path / "two", 5 * 10**15), Need("c", tmp_path, 0)]
        )
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert " MB are free, " in str(error.value)
    assert "b 5,000,000,000 MB); make room, or choose other disks with --data and OXFORD102_CACHE" in str(error.value)
    assert "c 0" not in str(error.value)
