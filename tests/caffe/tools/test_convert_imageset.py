from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from caffe.proto.caffe_pb2 import Datum
from caffe.tools import convert_imageset
from caffe.tools.convert_imageset import main


def records(path: Path) -> dict[str, Datum]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return {key.decode(): Datum.FromString(value) for key, value in transaction.cursor()}


def unlogged(text: str) -> list[str]:
    """Lines of a log from their place on."""
    return [line.split(None, 3)[3] for line in text.splitlines()]


@pytest.fixture
def folder(make_pictures: Any, tmp_path: Path) -> tuple[str, str, list[np.ndarray]]:
    """Root folder, a list of relative paths in it, and the pictures."""
    _, pictures = make_pictures([(6, 8), (5, 9), (7, 7)])
    listing = tmp_path / "relative.txt"
    listing.write_text("".join(f"picture {i}.png {i * 5}\n" for i in range(3)))
    return f"{tmp_path}/", str(listing), pictures


def test_pixels_keys_and_labels(folder: tuple[str, str, list[np.ndarray]], tmp_path: Path) -> None:
    root, listing, pictures = folder
    assert main([root, listing, str(tmp_path / "db")]) == 0
    got = records(tmp_path / "db")
    assert list(got) == [f"{i:08d}_picture {i}.png" for i in range(3)]
    for i, datum in enumerate(got.values()):
        assert (datum.channels, datum.height, datum.width) == (3, *pictures[i].shape[:2])
        assert (datum.label, datum.encoded) == (i * 5, False)
        pixels = np.frombuffer(datum.data, np.uint8).reshape(3, *pictures[i].shape[:2])
        assert np.array_equal(pixels, pictures[i].transpose(2, 0, 1))


def test_resized_and_grey(folder: tuple[str, str, list[np.ndarray]], tmp_path: Path) -> None:
    root, listing, _ = folder
    flags = ["-gray", "-resize_height=4", "--resize_width", "5"]
    assert main([*flags, root, listing, str(tmp_path / "db")]) == 0
    for i, datum in enumerate(records(tmp_path / "db").values()):
        grey = cv2.imread(f"{root}picture {i}.png", cv2.IMREAD_GRAYSCALE)
        assert (datum.channels, datum.height, datum.width) == (1, 4, 5)
        assert datum.data == cv2.resize(grey, (5, 4)).tobytes()


def test_encoded_keeps_the_files_own_bytes_where_nothing_changes(
    folder: tuple[str, str, list[np.ndarray]], tmp_path: Path
) -> None:
    root, listing, _ = folder
    assert main(["-encoded", root, listing, str(tmp_path / "db")]) == 0
    for i, datum in enumerate(records(tmp_path / "db").values()):
        assert (datum.encoded, datum.label) == (True, i * 5)
        assert datum.data == Path(f"{root}picture {i}.png").read_bytes()


@pytest.mark.parametrize("flags", [["-encoded", "-encode_type", "jpg"], ["-encode_type=jpg"]])
def test_encoded_as_another_type(folder: tuple[str, str, list[np.ndarray]], tmp_path: Path, flags: list[str]) -> None:
    root, listing, pictures = folder
    assert main([*flags, root, listing, str(tmp_path / "db")]) == 0
    for picture, datum in zip(pictures, records(tmp_path / "db").values(), strict=True):
        assert datum.encoded
        assert datum.data == cv2.imencode(".jpg", picture)[1].tobytes()


def test_jpg_and_jpeg_are_one_type(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, listing, pictures = folder
    monkeypatch.setenv("GLOG_minloglevel", "0")
    content = cv2.imencode(".jpg", pictures[0], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    for name in ("a.jpg", "b.JPEG"):
        Path(root, name).write_bytes(content)
    Path(listing).write_text("a.jpg 0\nb.JPEG 1\n")
    for wanted in ("jpg", "JPEG"):
        assert main(["-encode_type", wanted, root, listing, str(tmp_path / wanted)]) == 0
        assert [datum.data for datum in records(tmp_path / wanted).values()] == [content] * 2
    log = unlogged(capsys.readouterr().err)
    assert log.count("convert_imageset.cpp:92] encode_type specified, assuming encoded=true.") == 2


def test_encoded_and_resized_or_grey_is_encoded_anew(folder: tuple[str, str, list[np.ndarray]], tmp_path: Path) -> None:
    root, listing, pictures = folder
    assert main(["-encoded", "-resize_height=4", "-resize_width=5", root, listing, str(tmp_path / "small")]) == 0
    assert main(["-encoded", "-gray", root, listing, str(tmp_path / "grey")]) == 0
    for picture, datum in zip(pictures, records(tmp_path / "small").values(), strict=True):
        stored = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, cv2.resize(picture, (5, 4)))
    for datum in records(tmp_path / "grey").values():
        assert cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 2


def test_the_log_is_caffes(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, listing, _ = folder
    Path(listing).write_text("picture 0.png 1\n" * 5)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    monkeypatch.chdir(tmp_path)
    assert main([root, listing, "db"]) == 0
    assert unlogged(capsys.readouterr().err) == unlogged((golden / "logs" / "convert_imageset.log").read_text())


def test_commits_and_counts_every_thousand(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, listing, _ = folder
    Path(listing).write_text("picture 0.png 1\n" * 4)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    monkeypatch.setattr(convert_imageset, "COMMIT_EVERY", 2)
    assert main([root, listing, str(tmp_path / "db")]) == 0
    assert [line for line in unlogged(capsys.readouterr().err) if "Processed" in line] == [
        "convert_imageset.cpp:147] Processed 2 files.",
        "convert_imageset.cpp:147] Processed 4 files.",
    ]
    assert len(records(tmp_path / "db")) == 4


def test_shuffle_keeps_pictures_with_their_labels(folder: tuple[str, str, list[np.ndarray]], tmp_path: Path) -> None:
    root, listing, pictures = folder
    many = [(i % 3, i) for i in range(60)]
    Path(listing).write_text("".join(f"picture {p}.png {label}\n" for p, label in many))
    assert main(["-shuffle", root, listing, str(tmp_path / "db")]) == 0
    got = list(records(tmp_path / "db").items())
    assert [key[:8] for key, _ in got] == [f"{i:08d}" for i in range(60)]
    assert sorted(datum.label for _, datum in got) == list(range(60))
    assert [datum.label for _, datum in got] != list(range(60))
    for key, datum in got:
        assert key[8:] == f"_picture {datum.label % 3}.png"
        assert datum.data == pictures[datum.label % 3].transpose(2, 0, 1).tobytes()


def test_a_picture_that_cannot_be_read_is_logged_and_left_out(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, listing, _ = folder
    Path(listing).write_text("none.jpg 0\npicture 0.png 1\n")
    monkeypatch.setenv("GLOG_minloglevel", "0")
    assert main([root, listing, str(tmp_path / "db")]) == 0
    log = capsys.readouterr().err
    assert f"io.cpp:80] Could not open or find file {root}none.jpg" in log
    assert "1 of 2 pictures were left out" in log
    assert list(records(tmp_path / "db")) == ["00000001_picture 0.png"]


@pytest.mark.parametrize(
    ("flags", "lines", "problem"),
    [
        (["-check_size"], "picture 0.png 1\npicture 1.png 1\n", "Incorrect data field size 135: picture 1.png"),
        ([], "none.jpg 0\n", "none of the 1 pictures of"),
        ([], "picture 0.png\n", "line 1: expected 'path label'"),
        (["-encode_type", "xyz"], "picture 0.png 1\n", "cannot compress a picture as 'xyz'"),
        ([], f"./{'/' * 600}picture 0.png 1\n", "cannot write the database"),
    ],
)
def test_no_database_is_left_after_an_error(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    lines: str,
    problem: str,
) -> None:
    root, listing, _ = folder
    Path(listing).write_text(lines)
    before = sorted(tmp_path.iterdir())
    assert main([*flags, root, listing, str(tmp_path / "db")]) == 1
    assert problem in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_arguments_and_labels_as_scripts_have_them(
    folder: tuple[str, str, list[np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """More arguments than three have no effect, as in Caffe; labels may be whole numbers in other guises."""
    root, listing, _ = folder
    monkeypatch.setenv("GLOG_minloglevel", "0")
    Path(listing).write_text("picture 0.png +3\npicture 1.png 4.0\n")
    assert main(["--resize-height=8", "--resize-width=9", root, listing, str(tmp_path / "db"), "1"]) == 0
    assert [datum.label for datum in records(tmp_path / "db").values()] == [3, 4]
    assert "1: no effect, as in Caffe; [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME" in capsys.readouterr().err
    Path(listing).write_text("picture 0.png 3000000000\n")
    assert main([root, listing, str(tmp_path / "other")]) == 1
    assert "line 1: label 3000000000 does not fit into 32 bits" in capsys.readouterr().err


def test_an_existing_database_is_left_alone(
    folder: tuple[str, str, list[np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, listing, _ = folder
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "precious").touch()
    assert main([root, listing, str(tmp_path / "db")]) == 1
    error = capsys.readouterr().err
    assert "Check failed: mkdir(source.c_str(), 0744) == 0 (-1 vs. 0) mkdir " in error
    assert "File exists; give another name" in error
    assert "rm -r" not in error
    assert [p.name for p in (tmp_path / "db").iterdir()] == ["precious"]
    (tmp_path / "db" / "data.mdb").touch()
    assert main([root, listing, str(tmp_path / "db")]) == 1
    assert f"File exists; remove the database there (rm -r {tmp_path}/db) or give another" in capsys.readouterr().err
    assert main([root, listing, str(tmp_path / "no" / "db")]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a", "b"], "expected [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME, got 'a' 'b'"),
        (["-backend", "rocksdb", "a", "b", "c"], "Unknown database backend rocksdb; known are lmdb, leveldb"),
        (["-resize_width", "5", "a", "b", "c"], "belong together"),
        (["-resise_width", "5", "a", "b", "c"], "unknown command line flag 'resise_width'"),
    ],
)
def test_usage(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err
