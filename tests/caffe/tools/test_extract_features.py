"""extract_features: its records, its log, and nothing left behind by a run that fails."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

import caffe
from caffe import device
from caffe.proto.caffe_pb2 import DataParameter, Datum
from caffe.tools.extract_features import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recordings' net, weights and list, and pictures of the names in it."""
    for name in ("net.prototxt", "list.txt"):
        (tmp_path / name).write_text((golden / "logs" / name).read_text())
    net = (tmp_path / "net.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(net.replace('name: "fc"', 'name: "fc_new"'))  # as in the weights
    (tmp_path / "tiny.caffemodel").write_bytes((golden / "files" / "tiny_iter_10.caffemodel").read_bytes())
    rng = np.random.default_rng(0)
    for line in (tmp_path / "list.txt").read_text().splitlines():
        picture = tmp_path / line.split()[0]
        picture.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(picture), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    for name in ("minloglevel", "alsologtostderr", "logtostderr", "log_dir"):
        monkeypatch.setenv(f"GLOG_{name}", "")  # what the command sets is taken back too
        monkeypatch.delenv(f"GLOG_{name}")
    monkeypatch.setattr(device, "_gpu", device._gpu)
    return tmp_path


def records(path: str) -> list[tuple[bytes, Datum]]:
    with lmdb.open(path, readonly=True, lock=False) as environment, environment.begin() as transaction:
        return [(key, Datum.FromString(value)) for key, value in transaction.cursor()]


def unlogged(text: str) -> list[str]:
    """Lines of a log from their place on; what a message has on more lines is left out."""
    return re.findall(r"^[IWEF]\d{4} [\d:.]+ +\d+ (.*)$", text, re.MULTILINE)


def test_the_log_is_caffes(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny.caffemodel", "net.prototxt", "fc", "features", "1", "lmdb"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(line.startswith("E") for line in captured.err.splitlines())
    assert unlogged(captured.err) == unlogged((golden / "logs" / "extract_features.log").read_text())


def test_more_of_the_log_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_logtostderr", "1")
    assert main(["tiny.caffemodel", "net.prototxt", "fc", "features", "1", "lmdb"]) == 0
    lines = unlogged(capsys.readouterr().err)
    assert "extract_features.cpp:125] Opening dataset features" in lines
    assert any("Network initialization done." in line for line in lines)


def test_records_are_what_the_blobs_hold() -> None:
    """Three batches of five pictures, with the list begun anew."""
    words = ["tiny.caffemodel", "net.prototxt", "fc,pool1,label", "fc_db,pool_db,label_db", "3", "lmdb", "CPU"]
    assert main(words) == 0
    net = caffe.Net("net.prototxt", caffe.TEST, weights="tiny.caffemodel")
    net.records = False  # the kernels that run where no gradient is wanted, so that all is the same to the bit
    expected: dict[str, list[np.ndarray]] = {"fc": [], "pool1": [], "label": []}
    for _ in range(3):
        net.forward()
        for name, batches in expected.items():
            batches.append(net.blobs[name].data.copy())
    net.close()
    for name, path, shape in (
        ("fc", "fc_db", (3, 1, 1)),
        ("pool1", "pool_db", (8, 5, 5)),
        ("label", "label_db", (1, 1, 1)),
    ):
        found = records(path)
        assert [key for key, _ in found] == [b"%010d" % i for i in range(15)]
        assert {(d.channels, d.height, d.width) for _, d in found} == {shape}
        assert {tuple(field.name for field, _ in d.ListFields()) for _, d in found} == {
            ("channels", "height", "width", "float_data")
        }
        values = np.array([d.float_data for _, d in found], np.float32)
        assert np.array_equal(values, np.concatenate(expected[name]).reshape(15, -1))


def test_a_data_layer_reads_the_features(folder: Path) -> None:
    assert main(["tiny.caffemodel", "net.prototxt", "pool1", "features", "1", "lmdb"]) == 0
    (folder / "again.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "x" data_param { source: "features" batch_size: 5 backend: LMDB } }'
    )
    net, again = (
        caffe.Net("net.prototxt", caffe.TEST, weights="tiny.caffemodel"),
        caffe.Net("again.prototxt", caffe.TEST),
    )
    net.forward()
    again.forward()
    assert np.array_equal(net.blobs["pool1"].data, again.blobs["x"].data)
    net.close()
    again.close()


def test_every_thousand_records_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dummy.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 700 dim: 2 } '
        'data_filler { type: "gaussian" } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }'
    )
    caffe.Net("dummy.prototxt", caffe.TEST).save("dummy.caffemodel")
    capsys.readouterr()
    assert main(["dummy.caffemodel", "dummy.prototxt", "x", "features", "3", "lmdb"]) == 0
    lines = unlogged(capsys.readouterr().err)
    assert [line for line in lines if "query" in line] == [
        "extract_features.cpp:165] Extracted features of 1000 query images for feature blob x",
        "extract_features.cpp:165] Extracted features of 2000 query images for feature blob x",
        "extract_features.cpp:176] Extracted features of 2100 query images for feature blob x",
    ]
    values = np.array([datum.float_data for _, datum in records("features")])
    assert values.shape == (2100, 2)
    assert len(np.unique(values)) > 4000  # the batches differ


def test_leveldb() -> None:
    plyvel = pytest.importorskip("plyvel")
    assert main(["tiny.caffemodel", "net.prototxt", "fc", "ldb", "1", "leveldb"]) == 0
    assert main(["tiny.caffemodel", "net.prototxt", "fc", "mdb", "1", "lmdb"]) == 0
    database = plyvel.DB("ldb")
    found = list(database)
    database.close()
    assert [(key, Datum.FromString(value)) for key, value in found] == records("mdb")
    assert DataParameter.LEVELDB == 0


GOOD = ["tiny.caffemodel", "net.prototxt", "fc", "features", "1", "lmdb"]


@pytest.mark.parametrize(
    ("place", "word", "status", "text"),
    [
        (0, "absent", 1, "Could not open file absent"),
        (0, "net.prototxt", 1, "it is text; is it a prototxt?"),
        (1, "absent", 1, "Could not open file absent"),
        (1, ".", 1, "Could not open file ."),
        (1, "tiny.caffemodel", 1, "It is a binary file, not a prototxt"),
        (
            2,
            "fc8",
            1,
            "Unknown feature blob name fc8 in the network net.prototxt; it has data, label, conv1, pool1, fc",
        ),
        (2, "fc,pool1", 1, "(2 vs. 1) the number of blob names and dataset names must be equal"),
        (3, "a,b", 1, "(1 vs. 2) the number of blob names and dataset names must be equal"),
        (3, "list.txt", 1, "mkdir list.txt failed: File exists"),
        (3, "absent/features", 1, "there is no folder absent"),
        (3, "list.txt/features", 1, "there is no folder list.txt"),
        (4, "0", 2, "BATCHES must be a whole number above 0, it is '0'"),
        (4, "ten", 2, "BATCHES must be a whole number above 0, it is 'ten'"),
        (5, "sqlite", 2, "Unknown database backend sqlite; known are lmdb, leveldb"),
        (6, "cpu", 2, "expected CPU, GPU or GPU and its number after the backend, got cpu"),
        (6, "-gpu", 2, "unknown command line flag 'gpu'"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(
    folder: Path, place: int, word: str, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    assert main([*GOOD[:place], word, *GOOD[place + 1 :]]) == status
    assert text in capsys.readouterr().err.splitlines()[-1]
    assert sorted(folder.iterdir()) == before


def test_arguments_as_scripts_have_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GOOD, "CPU", "DEVICE_ID=0", "keys.txt"]) == 0
    assert "keys.txt: no effect" in capsys.readouterr().err


def test_a_number_of_arguments_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(GOOD[:5]) == 2
    assert "expected WEIGHTS NET BLOB[,BLOB...] DB[,DB...] BATCHES lmdb|leveldb" in capsys.readouterr().err


def test_two_blobs_need_two_databases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny.caffemodel", "net.prototxt", "fc,pool1", "same,same", "1", "lmdb"]) == 2
    assert "every blob needs a database of its own" in capsys.readouterr().err


def test_a_picture_missing_on_the_way_leaves_no_database(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "list.txt").open("a") as file:
        file.write("".join(f"images/absent{i}.png 0\n" for i in range(5)))
    before = sorted(folder.iterdir())
    assert main(["tiny.caffemodel", "net.prototxt", "fc,pool1", "a,b", "2", "lmdb"]) == 1
    assert "Could not load images/absent" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(folder.iterdir()) == before


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "extract_features caffenet_iter_10000.caffemodel train_val.prototxt fc7 features_fc7 10 lmdb" in (
        capsys.readouterr().out
    )
