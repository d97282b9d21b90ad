from __future__ import annotations

import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from caffe.proto import caffe_pb2
from oxford102.databases import find_tool, write_database
from oxford102.errors import ToolError


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """A list of three pictures of one colour each: 10, 20 and 30."""
    lines = []
    for label, value in enumerate((10, 20, 30)):
        path = tmp_path / f"image {label}.png"
        path.write_bytes(cv2.imencode(".png", np.full((5, 9, 3), value, np.uint8))[1].tobytes())
        lines.append(f"{path} {label}\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    return tmp_path / "train.txt"


def test_the_lists_pictures_in_its_order(
    tmp_path: Path, listing: Path, convert_imageset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "train_lmdb"
    write_database(listing, database)
    with lmdb.open(str(database), readonly=True, lock=False) as environment, environment.begin() as view:
        records = [(key.decode(), caffe_pb2.Datum.FromString(value)) for key, value in view.cursor()]
    paths = [line.rsplit(" ", 1)[0] for line in listing.read_text().splitlines()]
    assert [key for key, _ in records] == [f"{index:08d}_{path}" for index, path in enumerate(paths)]
    for label, (_, datum) in enumerate(records):
        assert (datum.label, datum.channels, datum.height, datum.width) == (label, 3, 256, 256)
        assert datum.data == bytes([10 + 10 * label]) * (3 * 256 * 256)
    assert capsys.readouterr().out == f"{database}: 3 pictures\n"
    assert not (tmp_path / "train_lmdb.part").exists()


def test_an_older_database_is_replaced_and_a_half_one_ignored(
    tmp_path: Path, listing: Path, convert_imageset: Path
) -> None:
    for name in ("train_lmdb", "train_lmdb.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text("old")
    write_database(listing, tmp_path / "train_lmdb")
    assert not (tmp_path / "train_lmdb" / "old").exists()
    assert (tmp_path / "train_lmdb" / "data.mdb").exists()
    assert not (tmp_path / "train_lmdb.part").exists()


def test_a_tool_that_fails_is_quoted(tmp_path: Path, listing: Path, convert_imageset: Path) -> None:
    convert_imageset.write_text("#!/bin/sh\necho first\necho the last words >&2\nexit 3\n")
    with pytest.raises(ToolError, match="train_lmdb: convert_imageset ended with status 3: the last words"):
        write_database(listing, tmp_path / "train_lmdb")
    assert not (tmp_path / "train_lmdb").exists()


def test_a_picture_left_out_is_told(tmp_path: Path, listing: Path, convert_imageset: Path) -> None:
    with listing.open("a") as file:
        file.write(f"{tmp_path}/none.png 3\n")
    with pytest.raises(ToolError, match="train_lmdb: convert_imageset wrote 3 of 4 pictures"):
        write_database(listing, tmp_path / "train_lmdb")
    assert not (tmp_path / "train_lmdb").exists()


def test_the_tool_beside_python_comes_first_then_path(convert_imageset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tool("convert_imageset") == str(convert_imageset)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", str(convert_imageset.parent))
    assert find_tool("convert_imageset") == str(convert_imageset)


def test_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match="the command no-such-tool is not found; run make setup, or put Caffe's build"):
        find_tool("no-such-tool")
