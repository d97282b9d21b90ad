from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from caffe.data.databases import new_database, open_database
from caffe.data.sources import Database, ImageList, read_list
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import DataParameter, Datum, ImageDataParameter


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def messages(text: str) -> list[str]:
    return [line.partition("] ")[2] for line in text.splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")


# Lists


def test_the_label_follows_the_last_space(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"\xef\xbb\xbfa b/c d.jpg 3\r\n\nx.png 12\ncaf\xe9.jpg 0\nunknown.jpg -1")
    assert read_list(str(path)) == [("a b/c d.jpg", 3), ("x.png", 12), ("caf\udce9.jpg", 0), ("unknown.jpg", -1)]


@pytest.mark.parametrize(
    "line", ["a.jpg", "7", "a.jpg x", "a.jpg -", "a.jpg --1", "a.jpg 1.5", "a.jpg \u0663", "a.jpg 3 ", "a.jpg\t3"]
)
def test_a_line_without_a_label_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list"
    path.write_text(f"good.jpg 1\n{line}\n")
    with pytest.raises(DataError, match=f"{path}, line 2: expected 'path label'"):
        read_list(str(path))


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_an_empty_list_has_caffes_words(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "list"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"Check failed: !lines_.empty\(\) File is empty") as error:
        read_list(str(path))
    assert str(path) in str(error.value)


def test_a_list_is_read_in_order_and_wraps(make_pictures: Any) -> None:
    path, pictures = make_pictures([(4, 5)] * 3)
    source = ImageList(ImageDataParameter(source=str(path)), rng())
    records = [source.load(source.take(rng())) for _ in range(5)]
    assert [r.label for r in records] == [0, 1, 2, 0, 1]
    for i, record in enumerate(records):
        assert np.array_equal(record.pixels, pictures[i % 3].transpose(2, 0, 1))


def test_a_shuffled_list_gives_each_picture_once_an_epoch(make_pictures: Any) -> None:
    path, _ = make_pictures([(2, 2)] * 20)
    generator = rng()
    source = ImageList(ImageDataParameter(source=str(path), shuffle=True), generator)
    epochs = [[source.take(generator) for _ in range(20)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != list(range(20))


def test_peek_is_the_next_entry(make_pictures: Any) -> None:
    path, _ = make_pictures([(2, 2)] * 7)
    generator = rng()
    source = ImageList(ImageDataParameter(source=str(path), shuffle=True), generator)
    for _ in range(15):
        assert source.peek() == source.take(generator)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_list_goes_on_from_a_saved_state(make_pictures: Any, shuffle: bool) -> None:
    path, _ = make_pictures([(2, 2)] * 9)
    param = ImageDataParameter(source=str(path), shuffle=shuffle)
    generator = rng(1)
    source = ImageList(param, generator)
    for _ in range(13):
        source.take(generator)
    state = json.loads(json.dumps([source.state(), generator.bit_generator.state]))
    expected = [source.take(generator) for _ in range(30)]
    other = rng(2)
    again = ImageList(param, other)
    again.restore(state[0])
    other.bit_generator.state = state[1]
    assert [again.take(other) for _ in range(30)] == expected


def test_a_state_of_another_list_is_refused(make_pictures: Any) -> None:
    path, _ = make_pictures([(2, 2)] * 3)
    source = ImageList(ImageDataParameter(source=str(path)), rng())
    with pytest.raises(DataError, match="the saved position belongs to 4 records, but there are 3"):
        source.restore({**source.state(), "count": 4})


def test_root_folder_colour_and_size(make_pictures: Any, tmp_path: Path) -> None:
    make_pictures([(8, 6)])
    listing = tmp_path / "relative.txt"
    listing.write_text("picture 0.png 4\n")
    param = ImageDataParameter(
        source=str(listing), root_folder=f"{tmp_path}/", is_color=False, new_height=3, new_width=5
    )
    record = (source := ImageList(param, rng())).load(source.peek())
    expected = cv2.resize(cv2.imread(str(tmp_path / "picture 0.png"), cv2.IMREAD_GRAYSCALE), (5, 3))
    assert (record.key, record.label) == ("picture 0.png", 4)
    assert np.array_equal(record.pixels[0], expected)


def test_only_one_of_height_and_width_is_refused(make_pictures: Any) -> None:
    path, _ = make_pictures([(2, 2)])
    with pytest.raises(DataError, match="new_height and new_width to be set at the same time: they are 5 and 0"):
        ImageList(ImageDataParameter(source=str(path), new_height=5), rng())


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    listing = tmp_path / "list"
    listing.write_text("images/none.jpg 0\n")
    source = ImageList(ImageDataParameter(source=str(listing)), rng())
    with pytest.raises(DataError, match=r"Check failed: cv_img.data Could not load images/none.jpg"):
        source.load(source.peek())


def test_rand_skip(make_pictures: Any, log: None, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = make_pictures([(2, 2)] * 4)
    starts = {ImageList(ImageDataParameter(source=str(path), rand_skip=4), rng(i)).peek() for i in range(40)}
    assert starts == {0, 1, 2, 3}
    assert {m for m in messages(capsys.readouterr().err) if "Skipping" in m} == {
        f"Skipping first {i} data points." for i in range(4)
    }
    seed = next(i for i in range(40) if rng(i).integers(9) == 4)
    with pytest.raises(DataError, match=r"\(4 vs. 4\) Not enough points to skip"):
        ImageList(ImageDataParameter(source=str(path), rand_skip=9), rng(seed))


def test_list_log_lines(make_pictures: Any, log: None, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = make_pictures([(2, 2)] * 5)
    ImageList(ImageDataParameter(source=str(path), shuffle=True), rng())
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(None, 3)[3] for line in lines] == [
        f"image_data_layer.cpp:38] Opening file {path}",
        "image_data_layer.cpp:53] Shuffling data",
        "image_data_layer.cpp:63] A total of 5 images.",
    ]


def test_a_picture_is_decoded_once(make_pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pictures = make_pictures([(4, 4)])
    kept = ImageList(ImageDataParameter(source=str(path)), rng())
    monkeypatch.setenv("CAFFE_CACHE_MB", "0")
    not_kept = ImageList(ImageDataParameter(source=str(path)), rng())
    for source in (kept, not_kept):
        source.load(0)
    (tmp_path / "picture 0.png").unlink()
    assert np.array_equal(kept.load(0).pixels, pictures[0].transpose(2, 0, 1))
    with pytest.raises(DataError):
        not_kept.load(0)
    kept.close()
    with pytest.raises(DataError):
        kept.load(0)


# Databases


def write_database(path: Path, datums: list[Datum]) -> str:
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for i, datum in enumerate(datums):
            transaction.put(f"{i:08d}_p{i}".encode(), datum.SerializeToString())
    return str(path)


@pytest.fixture
def database(tmp_path: Path) -> str:
    raw = [Datum(channels=1, height=2, width=2, data=bytes([i] * 4), label=i * 10) for i in range(3)]
    return write_database(tmp_path / "db", raw)


def test_a_database_is_read_in_order_and_wraps(database: str, log: None, capsys: pytest.CaptureFixture[str]) -> None:
    source = Database(database)
    assert source.load(source.peek()).key == "00000000_p0"
    records = [source.load(source.take(rng())) for _ in range(7)]
    assert [r.label for r in records] == [0, 10, 20, 0, 10, 20, 0]
    assert [int(r.pixels[0, 1, 1]) for r in records] == [0, 1, 2, 0, 1, 2, 0]
    assert [line.split(None, 3)[3] for line in capsys.readouterr().err.splitlines()] == [
        f"db_lmdb.cpp:35] Opened lmdb {database}",
        "data_layer.cpp:73] Restarting data prefetching from start.",
        "data_layer.cpp:73] Restarting data prefetching from start.",
    ]
    source.close()


@pytest.mark.parametrize("taken", [0, 2, 3, 4])
def test_a_database_goes_on_from_a_saved_state(database: str, taken: int) -> None:
    source = Database(database)
    for _ in range(taken):
        source.take(rng())
    state = json.loads(json.dumps(source.state()))
    again = Database(database)  # the same database twice in a process: a net for training, one for testing
    again.restore(state)
    assert [source.take(rng())[0] for _ in range(5)] == [again.take(rng())[0] for _ in range(5)]
    with pytest.raises(DataError, match="the saved position belongs to 9 records, but there are 3"):
        again.restore({"position": 0, "count": 9})


def test_encoded_records_are_decoded_once_and_as_forced(tmp_path: Path) -> None:
    picture = rng().integers(0, 256, (4, 5, 3), dtype=np.uint8)
    datum = Datum(encoded=True, data=cv2.imencode(".png", picture)[1].tobytes(), label=7)
    path = write_database(tmp_path / "db", [datum])
    source = Database(path)
    first, second = source.load(source.take(rng())), source.load(source.take(rng()))
    assert first.label == second.label == 7
    assert np.array_equal(first.pixels, picture.transpose(2, 0, 1))
    assert second.pixels is first.pixels
    grey = Database(path, force_gray=True)
    assert grey.load(grey.peek()).pixels.shape == (1, 4, 5)


def test_a_missing_database_has_caffes_words(tmp_path: Path) -> None:
    expected = r"Check failed: mdb_status == 0 \(2 vs. 0\) No such file or directory: .*nothing"
    with pytest.raises(DataError, match=expected):
        Database(str(tmp_path / "nothing"))


def test_broken_databases_are_named(tmp_path: Path, database: str) -> None:
    with pytest.raises(DataError, match="empty: the database has no records"):
        Database(write_database(tmp_path / "empty", []))
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"x" * 10000)
    with pytest.raises(DataError, match="garbage cannot be opened"):
        Database(str(tmp_path / "garbage"))
    with lmdb.open(database) as env, env.begin(write=True) as transaction:
        transaction.put(b"00000000_p0", b"\xff\xff\xff")
    source = Database(database)
    with pytest.raises(DataError, match="db, record 00000000_p0: the record is no Datum"):
        source.load(source.peek())


GROW = """
import sys, lmdb
with lmdb.open(sys.argv[1], map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
    for i in range(int(sys.argv[2])):
        transaction.put(b"%d" % i, bytes(50_000))
"""


def test_an_lmdb_that_grows_while_it_is_read_must_be_let_go_first(tmp_path: Path) -> None:
    path = str(tmp_path / "db")

    def grow(count: int) -> None:
        subprocess.run([sys.executable, "-c", GROW, path, str(count)], check=True)

    grow(2)
    first, second = (open_database(path, DataParameter.LMDB) for _ in range(2))
    first.close()
    grow(300)
    assert len(list(second.read())) == 2, "what was there when it was opened"
    with pytest.raises(DataError, match=r"MDB_MAP_RESIZED.*db cannot be opened; where .* already, close that first"):
        open_database(path, DataParameter.LMDB)
    second.close()
    assert len(open_database(path, DataParameter.LMDB)) == 300


def test_an_lmdb_that_was_cut_short_is_told_before_it_ends_the_process(database: str, log: None, capsys: Any) -> None:
    open_database(database, DataParameter.LMDB).close()
    assert "Bus error" not in capsys.readouterr().err
    file = Path(database, "data.mdb")
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.truncate(size // 2)
    open_database(database, DataParameter.LMDB).close()
    told = f"{file} has {size // 2} bytes, {size} were expected: where it was cut short, reading it ends the process"
    assert told in capsys.readouterr().err


def test_an_lmdb_takes_the_addresses_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ulimit -v; where even the least are too many, that is said."""
    really, sizes, most = lmdb.open, [], 1 << 30

    def limited(folder: str, map_size: int = 0, **options: bool) -> lmdb.Environment:
        if options.get("readonly"):
            return really(folder, **options)
        sizes.append(map_size)
        if map_size > most:
            raise lmdb.MemoryError("no addresses")
        return really(folder, map_size=map_size, **options)

    monkeypatch.setattr(lmdb, "open", limited)
    with new_database(str(tmp_path / "db"), DataParameter.LMDB) as batch:
        batch.put(b"key", b"value")
    assert sizes == [1 << bits for bits in range(40, 29, -1)]
    assert list(open_database(str(tmp_path / "db"), DataParameter.LMDB).read()) == [(b"key", b"value")]
    most = 0
    with (
        pytest.raises(DataError, match="cannot write the database .*/other: no addresses"),
        new_database(str(tmp_path / "other"), DataParameter.LMDB),
    ):
        pass
    assert sizes[-1] == 1 << 28
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
