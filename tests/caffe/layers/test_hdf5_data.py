"""HDF5Data and HDF5Output: against files that the test writes and reads with h5py."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe
from caffe import parallel
from caffe.errors import DataError, LayerError, WriteError

MakeNet = Callable[..., caffe.Net]


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Three files of 5, 3 and 4 rows, and a list of them; row i of all has the label i."""
    rng = np.random.default_rng(0)
    parts, first = [], 0
    for number, n in enumerate((5, 3, 4)):
        data, label = rng.normal(size=(n, 2, 3)).astype(np.float32), np.arange(first, first + n)
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["data"], file["label"] = data.astype(np.float64 if number else np.float32), label
        parts.append((data, label))
        first += n
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.h5\n" for i in range(3)))
    return parts


@pytest.fixture
def net_of(tmp_path: Path) -> MakeNet:
    def make(
        param: str = "batch_size: 4", tops: str = "data label", more: str = "", source: str = "list.txt"
    ) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        names = " ".join(f'top: "{top}"' for top in tops.split())
        path.write_text(
            f'layer {{ name: "h" type: "HDF5Data" {names} {more} hdf5_data_param {{ source: "{tmp_path / source}" '
            f"{param} }} }}"
        )
        caffe.set_random_seed(3)
        return caffe.Net(str(path), caffe.TRAIN)

    return make


def labels_of(net: caffe.Net, batches: int) -> list[list[int]]:
    return [net.forward()["label"].astype(int).tolist() for _ in range(batches)]


def test_batches_go_across_files_and_round(files: list, net_of: MakeNet) -> None:
    net = net_of("batch_size: 7")
    assert [b.shape for b in net.blobs.values()] == [(7, 2, 3), (7,)]
    rows = np.concatenate([data for data, _ in files])
    for start in (0, 7, 2, 9):
        out = net.forward()
        wanted = np.arange(start, start + 7) % 12
        assert out["label"].tolist() == wanted.tolist()
        assert np.array_equal(out["data"], rows[wanted])


def test_a_batch_larger_than_all(files: list, net_of: MakeNet) -> None:
    assert net_of("batch_size: 26", "label").forward()["label"].tolist() == [i % 12 for i in range(26)]


def test_batches_are_made_ahead_by_a_thread(files: list, net_of: MakeNet, tmp_path: Path) -> None:
    net = net_of("batch_size: 4", more="data_param { prefetch: 3 }")
    assert labels_of(net, 1) == [[0, 1, 2, 3]]
    readers = [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert len(readers) == 1
    while net.layers[0]._prefetcher._worker._made.qsize() < 3:  # the other batches of the list
        readers[0].join(0.01)
    for i in range(3):
        (tmp_path / f"{i}.h5").unlink()
    assert labels_of(net, 3) == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]
    with pytest.raises(DataError, match=r"Failed opening HDF5 file: .*\d\.h5"):
        labels_of(net, 3)
    net.close()
    assert not readers[0].is_alive()


def test_one_file_and_one_top(files: list, net_of: MakeNet, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(f"{tmp_path}/1.h5")
    net = net_of("batch_size: 2", "label", source="one.txt")
    assert labels_of(net, 4) == [[5, 6], [7, 5], [6, 7], [5, 6]]


def test_shuffled_files_and_rows(files: list, net_of: MakeNet) -> None:
    net = net_of("batch_size: 4 shuffle: true")
    epochs = [list(chain.from_iterable(labels_of(net, 3))) for _ in range(6)]
    owner = [0] * 5 + [1] * 3 + [2] * 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
        runs = [
            a for a, b in zip([owner[i] for i in epoch], [None, *(owner[i] for i in epoch)], strict=False) if a != b
        ]
        assert sorted(runs) == [0, 1, 2]  # a file at a time
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert len({owner[epoch[0]] for epoch in epochs}) > 1


@pytest.mark.parametrize("done", [0, 1, 5, 8])
def test_reading_goes_on_from_a_position(files: list, net_of: MakeNet, done: int) -> None:
    net = net_of("batch_size: 5 shuffle: true")
    labels_of(net, done)
    state = net.layers[0].state()
    rest = [(labels_of(net, 1), net.layers[0].state()) for _ in range(6)]
    other = net_of("batch_size: 5 shuffle: true")
    labels_of(other, 3)
    other.layers[0].restore(state)
    assert other.layers[0].state() == state
    assert [(labels_of(other, 1), other.layers[0].state()) for _ in range(6)] == rest


def test_mistakes_in_the_prototxt(files: list, net_of: MakeNet, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for arguments, words in (
        ({"more": "transform_param { scale: 2 }"}, "HDF5Data does not transform data"),
        ({"param": ""}, "batch_size must be set"),
        ({"source": "none.txt"}, "Failed to open source file: .*none.txt"),
        ({"source": "empty.txt"}, "Must have at least 1 HDF5 filename listed in .*empty.txt"),
    ):
        with pytest.raises(LayerError, match=words):
            net_of(**arguments)


def test_processes_share_the_rows(files: list, net_of: MakeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = net_of("batch_size: 6 shuffle: true")
    monkeypatch.setattr(parallel, "_count", 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "_rank", rank)
        parts.append(net_of("batch_size: 2 shuffle: true"))
    for rows in labels_of(joined, 5):
        got = [net.forward()["label"].astype(int).tolist() for net in parts]
        assert got == [rows[rank::3] for rank in range(3)]
    for net in (joined, *parts):
        net.close()


def test_mistakes_in_the_files(files: list, net_of: MakeNet, tmp_path: Path) -> None:
    ones = np.ones((2, 2, 3))
    contents: dict[str, dict[str, object]] = {
        "a.h5": {"data": ones},
        "b.h5": {"data": ones, "label": [1]},
        "c.h5": {"data": ones, "label": "two"},
        "d.h5": {"data": ones, "label": 2},
        "e.h5": {"data": np.ones((2, 9)), "label": [1, 2]},
    }
    for name, datasets in contents.items():
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in datasets.items():
                file[key] = value
    for name, words in (
        ("a.h5", "a.h5: Failed to find HDF5 dataset label; .* like the datasets: data"),
        ("b.h5", r"same number of rows, at least one; data, label have \[2, 1\]"),
        ("c.h5", "label: Unsupported datatype class"),
        ("d.h5", "label: Input must have at least 1 axis"),
        ("e.h5", "rows of different shapes"),
        ("none.h5", "Failed opening HDF5 file: .*none.h5"),
    ):
        (tmp_path / "bad.txt").write_text(f"{tmp_path}/0.h5 {tmp_path / name}")
        with pytest.raises(DataError, match=words):
            net_of("batch_size: 7", source="bad.txt").forward()


OUTPUT = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ dim: {labels} }} }} }}
layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param {{ file_name: "{name}" }} }}
"""


def writer(tmp_path: Path, labels: int = 2, name: str = "out.h5") -> caffe.Net:
    path = tmp_path / "net.prototxt"
    path.write_text(OUTPUT.format(labels=labels, name=tmp_path / name if name else ""))
    return caffe.Net(str(path), caffe.TEST)


def test_what_is_written(tmp_path: Path) -> None:
    net = writer(tmp_path)
    rng = np.random.default_rng(1)
    given = []
    for n in (2, 2, 3):
        data, label = rng.random((n, 3), np.float32), rng.random(n, np.float32)
        net.blobs["x"].reshape(n, 3)
        net.blobs["y"].reshape(n)
        net.forward(x=data, y=label)
        given.append((data, label))
        assert not (tmp_path / "out.h5").exists()
    net.close()
    net.close()
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["data", "label"]
        assert np.array_equal(file["data"][()], np.concatenate([d for d, _ in given]).reshape(7, 3, 1, 1))
        assert np.array_equal(file["label"][()], np.concatenate([v for _, v in given]).reshape(7, 1, 1, 1))
    with pytest.raises(LayerError, match="is closed already"):
        net.forward()


def test_a_net_that_nobody_closes(tmp_path: Path) -> None:
    net = writer(tmp_path)
    net.forward()
    del net
    gc.collect()
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["data"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.prototxt", "out.h5"]


def test_a_link_to_write_through_and_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to("target.h5")
    for name, written in (("link.h5", "target.h5"), (os.devnull, "target.h5")):
        with closing(writer(tmp_path, name=name)) as net:
            net.forward()
        with h5py.File(tmp_path / written) as file:
            assert len(file["data"]) == 2
    assert (tmp_path / "link.h5").is_symlink()
    assert Path(os.devnull).is_char_device()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, files_end_at: Callable[[int], None]) -> None:
    with closing(writer(tmp_path)) as net:
        net.forward()
    net = writer(tmp_path)
    files_end_at(4096)
    for _ in range(300):
        net.forward()
    with pytest.raises(WriteError, match="out.h5"):
        net.close()
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["data"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.prototxt", "out.h5"]


def test_mistakes_of_output(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="data blob and label blob must have the same batch size"):
        writer(tmp_path, labels=3)
    with pytest.raises(LayerError, match="Failed to open HDF5 file"):
        writer(tmp_path, name="nowhere/out.h5")
    with pytest.raises(LayerError, match="file_name must be given"):
        writer(tmp_path, name="")
    net = writer(tmp_path, name="changing.h5")
    net.forward()
    net.blobs["x"].reshape(2, 4)
    with pytest.raises(LayerError, match=r"rows of data had the shape \(3, 1, 1\), now they have \(4, 1, 1\)"):
        net.forward()
