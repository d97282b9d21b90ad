from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from caffe.data.databases import new_database, open_database
from caffe.data.sources import Database
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import BlobProto, DataParameter, Datum
from caffe.tools import compute_image_mean, convert_imageset

plyvel = pytest.importorskip("plyvel")

LEVELDB = DataParameter.LEVELDB
RECORDS = [(f"{i:08d}_p{i}".encode(), np.random.default_rng(i).bytes(5000)) for i in range(100)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def unlogged(text: str) -> list[str]:
    return [line.split(None, 3)[3] for line in text.splitlines()]


def write(path: Path, records: list[tuple[bytes, bytes]], **options: int) -> str:
    with plyvel.DB(str(path), create_if_missing=True, **options) as db:
        for key, value in reversed(records):
            db.put(key, value)
    return str(path)


def read(path: str | Path) -> list[tuple[bytes, bytes]]:
    with plyvel.DB(str(path)) as db:
        return list(db)


@pytest.fixture
def database(tmp_path: Path) -> str:
    datums = [Datum(channels=1, height=2, width=2, data=bytes([i] * 4), label=i - 1) for i in range(3)]
    return write(tmp_path / "db", [(f"{i:08d}".encode(), d.SerializeToString()) for i, d in enumerate(datums)])


def test_a_leveldb_is_read_in_the_order_of_its_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "db", RECORDS, write_buffer_size=1 << 16)  # several files, several levels
    records = open_database(path, LEVELDB)
    assert len(records) == 100
    assert list(records.read()) == RECORDS
    assert list(records.read(98)) == RECORDS[98:]
    records.close()
    assert read(path) == RECORDS


def test_data_wraps_around_with_caffes_log(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    source = Database(database, DataParameter().backend)  # LEVELDB is what no backend means
    records = [source.load(source.take(rng())) for _ in range(5)]
    assert [r.key for r in records[:3]] == ["00000000", "00000001", "00000002"]
    assert [r.label for r in records] == [-1, 0, 1, -1, 0]
    assert [int(r.pixels[0, 1, 1]) for r in records] == [0, 1, 2, 0, 1]
    source.close()
    assert unlogged(capsys.readouterr().err) == [
        f"db_leveldb.cpp:18] Opened leveldb {database}",
        "data_layer.cpp:73] Restarting data prefetching from start.",
    ]


@pytest.mark.parametrize("taken", [0, 2, 3, 4])
def test_a_leveldb_goes_on_from_a_saved_state(database: str, taken: int) -> None:
    source = Database(database, LEVELDB)
    for _ in range(taken):
        source.take(rng())
    state = json.loads(json.dumps(source.state()))
    source.close()
    again = Database(database, LEVELDB)
    again.restore(state)
    assert [again.take(rng())[0] for _ in range(4)] == [f"{(taken + i) % 3:08d}".encode() for i in range(4)]
    with pytest.raises(DataError, match="the saved position belongs to 9 records, but there are 3"):
        again.restore({"position": 0, "count": 9})
    again.close()


def test_a_missing_leveldb_has_caffes_words_and_is_not_made(tmp_path: Path) -> None:
    expected = r"Check failed: status.ok\(\) Failed to open leveldb .*nothing: .* make it with convert_imageset"
    with pytest.raises(DataError, match=expected):
        open_database(str(tmp_path / "nothing"), LEVELDB)
    assert list(tmp_path.iterdir()) == []


def test_the_other_kind_of_database_is_recognised(tmp_path: Path, database: str) -> None:
    lmdb.open(str(tmp_path / "lmdb")).close()
    with pytest.raises(DataError, match="it is of the other kind: write backend: LMDB"):
        open_database(str(tmp_path / "lmdb"), LEVELDB)
    with pytest.raises(DataError, match="it is of the other kind: write backend: LEVELDB"):
        open_database(database, DataParameter.LMDB)


def test_broken_empty_and_locked_leveldbs_are_named(tmp_path: Path, database: str) -> None:
    with pytest.raises(DataError, match="empty: the database has no records"):
        open_database(write(tmp_path / "empty", []), LEVELDB)
    source = Database(database, LEVELDB)
    with pytest.raises(DataError, match=r"Failed to open leveldb .*db: IO error: lock .*opened once at a time"):
        open_database(database, LEVELDB)
    source.close()
    (Path(database) / "CURRENT").write_bytes(b"garbage")
    with pytest.raises(DataError, match="Failed to open leveldb .*db: "):
        open_database(database, LEVELDB)


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "db", RECORDS, write_buffer_size=1 << 16)
    with plyvel.DB(path) as db:
        db.compact_range()
    for table in Path(path).glob("*.ldb"):
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 0xFF
        table.write_bytes(content)
    with pytest.raises(DataError, match="db: the LevelDB cannot be read: .*Corruption"):
        list(open_database(path, LEVELDB).read())


def test_without_plyvel(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(DataError, match="pip install plyvel-ci"):
        open_database(database, LEVELDB)
    with (
        pytest.raises(DataError, match="pip install plyvel-ci"),
        new_database(str(tmp_path / "new"), LEVELDB),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


def test_a_leveldb_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "db"

    def interrupted() -> None:
        with new_database(str(path), LEVELDB) as batch:
            batch.put(*RECORDS[0])
            batch.commit()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with new_database(str(path), LEVELDB) as batch:
        for i, (key, value) in enumerate(RECORDS):
            batch.put(key, value)
            if i % 30 == 0:
                batch.commit()
        assert not path.exists()
    assert read(path) == RECORDS
    with pytest.raises(DataError, match="File exists"), new_database(str(path), LEVELDB):
        pass
    assert read(path) == RECORDS


def test_the_commands_write_and_read_a_leveldb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    (tmp_path / "list").write_text("0.png 7\n1.png -1\n2.png 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    assert convert_imageset.main(["-backend", "leveldb", "./", "list", "db"]) == 0
    assert "db_leveldb.cpp:18] Opened leveldb db" in unlogged(capsys.readouterr().err)
    keys, values = zip(*read("db"), strict=True)
    assert keys == (b"00000000_0.png", b"00000001_1.png", b"00000002_2.png")
    datums = [Datum.FromString(value) for value in values]
    assert [d.label for d in datums] == [7, -1, 0]
    assert [d.data for d in datums] == [p.transpose(2, 0, 1).tobytes() for p in pictures]
    assert compute_image_mean.main(["-backend=leveldb", "db", "mean.binaryproto"]) == 0
    mean = np.array(BlobProto.FromString(Path("mean.binaryproto").read_bytes()).data).reshape(3, 4, 5)
    assert np.allclose(mean, pictures.mean(0).transpose(2, 0, 1), rtol=1e-6)
    shutil.rmtree("db")
    assert compute_image_mean.main(["-backend=leveldb", "db"]) == 1
    assert "Failed to open leveldb db: it is no LevelDB" in capsys.readouterr().err
