"""Weights and solver states as HDF5: files that BVLC Caffe wrote, and the layout of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe
from caffe.errors import FormatError, SolverError, WeightsError

NET = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 24 dim: 24 } } }
layer { name: "label" type: "Input" top: "y" input_param { shape { dim: 2 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }
"""
SHARED = """
input: "x" input_shape { dim: 2 dim: 3 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param { name: "own" }
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
"""


def make(tmp_path: Path, text: str = NET) -> caffe.Net:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


def solver_of(tmp_path: Path, more: str = "") -> caffe.SGDSolver:
    (tmp_path / "net.prototxt").write_text(NET)
    path = tmp_path / "solver.prototxt"
    path.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 4 momentum: 0.9 '
        f'snapshot_format: HDF5 snapshot_prefix: "{tmp_path}/s" {more}'
    )
    solver = caffe.SGDSolver(str(path))
    solver.net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 24, 24))
    solver.net.blobs["y"].data[...] = [0, 2]
    return solver


def test_names_with_slashes(tmp_path: Path) -> None:
    """A group within a group, as HDF5 reads them; a layer may be named below another."""
    text = SHARED.replace('"a"', '"fire/a"').replace('"b"', '"fire/a/b"')
    one, two = make(tmp_path, text), make(tmp_path, text)
    assert (one.params["fire/a"][0].data != two.params["fire/a"][0].data).any()
    one.save_hdf5(str(tmp_path / "w.h5"))
    two.copy_from(str(tmp_path / "w.h5"))
    for name, blobs in one.params.items():
        for mine, theirs in zip(blobs, two.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)


def contents(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    found: dict[str, tuple[tuple[int, ...], str]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found[name] = (item.shape, item.dtype.kind) if isinstance(item, h5py.Dataset) else ((), "group")

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("method", ["copy_from", "load_hdf5"])
def test_weights_of_bvlc(method: str, golden: Path, tmp_path: Path) -> None:
    net = make(tmp_path)
    file = golden / "files" / "tinyh5_iter_10.caffemodel.h5"
    getattr(net, method)(str(file))
    with h5py.File(file) as expected:
        for layer in ("conv1", "fc"):
            for i in range(2):
                assert np.array_equal(net.params[layer][i].data, expected[f"data/{layer}/{i}"][()])


def test_hdf5_is_told_by_content(golden: Path, tmp_path: Path) -> None:
    net, other = make(tmp_path), make(tmp_path)
    source = golden / "files" / "tinyh5_iter_10.caffemodel.h5"
    copy = tmp_path / "weights.caffemodel"
    copy.write_bytes(source.read_bytes())
    net.copy_from(str(copy))
    other.load_hdf5(str(source))
    assert np.array_equal(net.params["fc"][0].data, other.params["fc"][0].data)


def test_layout_of_weights_is_bvlcs(golden: Path, tmp_path: Path) -> None:
    theirs = contents(golden / "files" / "tinyh5_iter_10.caffemodel.h5")
    net = make(tmp_path)
    net.save_hdf5(str(tmp_path / "w.h5"))
    assert contents(tmp_path / "w.h5") == theirs | {"data/label": ((), "group")}
    net.save_hdf5(str(tmp_path / "d.h5"), write_diff=True)
    both = contents(tmp_path / "d.h5")
    assert both["diff/conv1/0"] == ((8, 3, 5, 5), "f")
    assert len(both) == 2 * len(contents(tmp_path / "w.h5"))


def test_shared_parameters(tmp_path: Path) -> None:
    net = make(tmp_path, SHARED)
    net.params["a"][0].diff[...] = 5
    path = tmp_path / "w.h5"
    net.save_hdf5(str(path), write_diff=True)
    with h5py.File(path) as file:
        assert list(file["data/a"]) == ["0", "1"]
        assert list(file["data/b"]) == ["1"]
        assert np.all(file["diff/b/0"][()] == 5)
    other = make(tmp_path, SHARED)
    other.load_hdf5(str(path))
    assert np.array_equal(other.params["b"][0].data, net.params["a"][0].data)
    alone = make(tmp_path, SHARED.replace('param { name: "w" }', "param { }"))
    with pytest.raises(WeightsError, match="Incompatible number of blobs for layer b: the file has 1, the net 2"):
        alone.load_hdf5(str(path))


def test_weights_that_do_not_fit(golden: Path, tmp_path: Path) -> None:
    file = str(golden / "files" / "tinyh5_iter_10.caffemodel.h5")
    with pytest.raises(
        WeightsError, match=r"Cannot copy param 0 weights from layer 'fc'; shape mismatch.  Source param"
    ):
        make(tmp_path, NET.replace("num_output: 3", "num_output: 4")).copy_from(file)
    with pytest.raises(WeightsError, match="Incompatible number of blobs for layer fc: the file has 2, the net 1"):
        make(tmp_path, NET.replace("num_output: 3", "num_output: 3 bias_term: false")).copy_from(file)
    with pytest.raises(FormatError, match="Couldn't open .*none.h5: No such file or directory; relative paths"):
        make(tmp_path).load_hdf5(str(tmp_path / "none.h5"))
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(FormatError, match="Couldn't open .*text.h5: .*is it cut"):
        make(tmp_path).load_hdf5(str(tmp_path / "text.h5"))
    with pytest.raises(FormatError, match="Error reading data from .*solverstate.h5: .*no such group"):
        make(tmp_path).load_hdf5(file.replace("caffemodel", "solverstate"))


def test_layout_of_snapshots_is_bvlcs(golden: Path, tmp_path: Path) -> None:
    solver = solver_of(tmp_path)
    solver.step(10)
    solver.snapshot()
    ours, theirs = tmp_path / "s_iter_10.solverstate.h5", golden / "files" / "tinyh5_iter_10.solverstate.h5"
    assert contents(ours) == contents(theirs)
    with h5py.File(ours) as file:
        assert file["iter"][0] == 10
        assert file["current_step"][0] == 2
        assert file["iter"].dtype == np.int32
        assert file["learned_net"].asstr()[()] == f"{tmp_path}/s_iter_10.caffemodel.h5"
        assert np.array_equal(file["history/2"][()], solver.history[2].cpu().numpy())
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]


def test_snapshots_with_gradients(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, "snapshot_diff: true")
    solver.step(1)
    solver.snapshot()
    with h5py.File(tmp_path / "s_iter_1.caffemodel.h5") as file:
        assert np.array_equal(file["diff/fc/0"][()], solver.net.params["fc"][0].diff)
        assert np.any(file["diff/fc/0"][()])


def test_restoring_what_bvlc_wrote(golden: Path, tmp_path: Path) -> None:
    solver = solver_of(tmp_path)
    path = golden / "files" / "tinyh5_iter_10.solverstate.h5"
    solver.restore(str(path))
    assert solver.iter == 10
    with h5py.File(path) as state, h5py.File(golden / "files" / "tinyh5_iter_10.caffemodel.h5") as weights:
        for i in range(4):
            assert np.array_equal(solver.history[i].cpu().numpy(), state[f"history/{i}"][()])
        assert np.array_equal(solver.net.params["conv1"][0].data, weights["data/conv1/0"][()])


def test_a_resumed_run_is_the_run(tmp_path: Path) -> None:
    solver = solver_of(tmp_path)
    solver.step(3)
    solver.snapshot()
    solver.step(3)
    again = solver_of(tmp_path)
    again.restore(str(tmp_path / "s_iter_3.solverstate.h5"))
    again.step(3)
    assert again.iter == 6
    for name, blobs in solver.net.params.items():
        for mine, theirs in zip(blobs, again.net.params[name], strict=True):
            assert np.array_equal(mine.data, theirs.data)


def test_states_that_do_not_fit(golden: Path, tmp_path: Path) -> None:
    solver = solver_of(tmp_path)
    weights = golden / "files" / "tinyh5_iter_10.caffemodel.h5"
    with pytest.raises(FormatError, match="it holds no iteration"):
        solver.restore(str(weights))
    state = tmp_path / "short.solverstate.h5"
    with h5py.File(state, "w") as file:
        file["iter"], file["current_step"] = np.array([3], np.int32), np.array([0], np.int32)
        file.create_group("history")["0"] = np.zeros(2)
    with pytest.raises(SolverError, match=r"\(1 vs. 4\) Incorrect length of history blobs"):
        solver.restore(str(state))


def test_a_full_disk_costs_a_snapshot_not_the_run(
    tmp_path: Path, files_end_at: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    solver = solver_of(tmp_path, "snapshot: 1 snapshot_after_train: false")
    solver.step(1)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    files_end_at(4096)
    solver.step(1)
    assert solver.iter == 2
    assert "No snapshot of iteration 2, training goes on: Cannot write" in capfd.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_damage_is_told_wherever_it_is(tmp_path: Path) -> None:
    """Bytes are made others all over a state and its weights: what is read is a number, or a clear error is raised."""
    solver = solver_of(tmp_path)
    solver.step(1)
    solver.snapshot()
    rng, told = np.random.default_rng(0), 0
    for name in ("s_iter_1.solverstate.h5", "s_iter_1.caffemodel.h5"):
        path = tmp_path / name
        whole = path.read_bytes()
        for _ in range(100):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[rng.integers(min(len(whole), 6000), size=8)] = rng.integers(256, size=8)
            path.write_bytes(damaged.tobytes())
            try:
                solver.restore(str(tmp_path / "s_iter_1.solverstate.h5"))
            except caffe.CaffeError:
                told += 1
        path.write_bytes(whole)
    assert told > 20


def test_the_weights_name_ends_as_in_bvlc_s_files(golden: Path, tmp_path: Path) -> None:
    """BVLC reads as many bytes as the file says, and takes them for a string that ends."""
    solver = solver_of(tmp_path)
    solver.snapshot()
    for path in (tmp_path / "s_iter_0.solverstate.h5", golden / "files" / "tinyh5_iter_10.solverstate.h5"):
        with h5py.File(path) as file:
            kind = file["learned_net"].id.get_type()
            assert kind.get_strpad() == h5py.h5t.STR_NULLTERM
            assert kind.get_size() == len(file["learned_net"][()]) + 1
