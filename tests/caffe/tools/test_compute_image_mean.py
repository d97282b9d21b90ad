from __future__ import annotations

import re
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from caffe.proto.caffe_pb2 import BlobProto, Datum
from caffe.tools import compute_image_mean
from caffe.tools.compute_image_mean import main

PICTURES = np.random.default_rng(5).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def write(path: Path, datums: list[Datum]) -> str:
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for i, datum in enumerate(datums):
            transaction.put(f"{i:08d}".encode(), datum.SerializeToString())
    return str(path)


def raw(picture: np.ndarray) -> Datum:
    height, width, channels = picture.shape
    return Datum(channels=channels, height=height, width=width, data=picture.transpose(2, 0, 1).tobytes())


def read(path: str) -> np.ndarray:
    blob = BlobProto.FromString(Path(path).read_bytes())
    return np.array(blob.data, np.float32).reshape(blob.num, blob.channels, blob.height, blob.width)


def unlogged(text: str) -> list[str]:
    """Lines of a log from their place on."""
    return [line.split(None, 3)[3] for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["raw", "encoded", "float"])
def test_the_mean_is_summed_and_divided_in_float32(tmp_path: Path, kind: str) -> None:
    values = PICTURES.transpose(0, 3, 1, 2).astype(np.float32)
    if kind == "float":
        values = values / np.float32(7)
        datums = [Datum(channels=3, height=6, width=7, float_data=value.ravel()) for value in values]
    elif kind == "encoded":
        datums = [Datum(encoded=True, data=cv2.imencode(".png", picture)[1].tobytes()) for picture in PICTURES]
    else:
        datums = [raw(picture) for picture in PICTURES]
    total = np.zeros_like(values[0])
    for value in values:
        total = total + value
    output = str(tmp_path / "mean.binaryproto")
    assert main([write(tmp_path / "db", datums), output]) == 0
    assert np.array_equal(read(output)[0], total / np.float32(5))


def test_the_log_is_caffes(
    tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the means themselves, which are of other pictures."""
    monkeypatch.setenv("GLOG_minloglevel", "0")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "db", [raw(picture) for picture in PICTURES])
    assert main(["db", "mean.binaryproto"]) == 0
    got = unlogged(capsys.readouterr().err)
    recorded = unlogged((golden / "logs" / "compute_image_mean.log").read_text())
    number = re.compile(r"\d+\.\d+$")
    assert [number.sub("", line) for line in got] == [number.sub("", line) for line in recorded]
    means = [float(line.split()[-1]) for line in got[-3:]]
    assert np.allclose(means, PICTURES.mean((0, 1, 2)), rtol=1e-5)


def test_without_an_output_only_the_log_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    datums = [Datum(encoded=True, data=cv2.imencode(".png", picture)[1].tobytes()) for picture in PICTURES]
    database = write(tmp_path / "db", datums)
    monkeypatch.setattr(compute_image_mean, "LOG_EVERY", 5)
    assert main([database]) == 0
    log = unlogged(capsys.readouterr().err)
    assert not any("Write to" in line for line in log)
    assert "compute_image_mean.cpp:57] Decoding Datum" in log
    assert [line for line in log if "Processed" in line] == ["compute_image_mean.cpp:95] Processed 5 files."]
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


def test_channels_are_summed_in_float32_one_pixel_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enough bright pixels that the rounding of the running sum is seen in the six digits of the log."""
    monkeypatch.setenv("GLOG_minloglevel", "0")
    picture = np.random.default_rng(6).integers(200, 256, (1000, 1000, 1), dtype=np.uint8)
    running = np.float32(0)
    for value in picture.ravel().astype(np.float32):
        running += value
    expected = f"{running / np.float32(picture.size):g}"
    assert expected != f"{picture.mean():g}"
    assert main([write(tmp_path / "db", [raw(picture)])]) == 0
    assert unlogged(capsys.readouterr().err)[-1] == f"compute_image_mean.cpp:119] mean_value channel [0]: {expected}"


def test_pictures_of_different_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = write(tmp_path / "db", [raw(PICTURES[0]), raw(PICTURES[1][:5])])
    assert main([database, str(tmp_path / "mean")]) == 1
    expected = "Check failed: size_in_datum == data_size (105 vs. 126) Incorrect data field size 105: "
    assert f"{expected}{database}, record 00000001" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_usage_and_missing_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "expected [FLAGS] INPUT_DB [OUTPUT_FILE], got no arguments" in capsys.readouterr().err
    assert main(["-backend=rocksdb", "db"]) == 2
    assert "Unknown database backend rocksdb; known are lmdb, leveldb" in capsys.readouterr().err
    assert main([str(tmp_path / "db")]) == 1
    assert "Check failed: mdb_status == 0 (2 vs. 0) No such file or directory" in capsys.readouterr().err
