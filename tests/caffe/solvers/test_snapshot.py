"""The files of snapshots: which there are, which are found again and which are removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.proto.binary import read_state
from caffe.proto.caffe_pb2 import NetParameter
from caffe.solvers import snapshot

NET = """
layer { name: "in" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 2 dim: 3 }
  shape { dim: 2 dim: 2 } data_filler { type: "constant" value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }
"""


def solver_of(folder: Path, settings: str = "", net: str = NET) -> caffe.SGDSolver:
    folder.mkdir(exist_ok=True)
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.5 snapshot_prefix: "{folder}/run" '
        f"{settings}"
    )
    return caffe.SGDSolver(str(folder / "solver.prototxt"))


@pytest.mark.parametrize("asked", [True, False])
def test_gradients_are_written_where_snapshot_diff_asks_for_them(asked: bool, tmp_path: Path) -> None:
    solver = solver_of(tmp_path, "snapshot_diff: true" if asked else "")
    solver.step(1)
    solver.snapshot()
    written = NetParameter.FromString((tmp_path / "run_iter_1.caffemodel").read_bytes()).layer[1]
    for stored, blob in zip(written.blobs, solver.net.params["fc"], strict=True):
        assert blob.diff.all()  # what was subtracted
        assert list(stored.diff) == (blob.diff.ravel().tolist() if asked else [])
        assert list(stored.data) == blob.data.ravel().tolist()


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ("", [3]),
        ("snapshot: 2", [2, 3]),
        ("snapshot: 3", [3]),
        ("snapshot: 2 snapshot_after_train: false", [2]),
        ("snapshot_after_train: false", []),
    ],
)
def test_when_a_run_makes_snapshots(settings: str, made: list[int], tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    solver_of(tmp_path, f"max_iter: 3 {settings}").solve()
    assert [i for i, _ in snapshot.states(f"{tmp_path}/run")] == made
    assert capfd.readouterr().err.count("Snapshotting solver state") == len(made)


@pytest.mark.parametrize(
    ("kind", "h5", "lines"),
    [
        ("BINARYPROTO", "", ("solver.cpp:464", "sgd_solver.cpp:284", "binary proto")),
        ("HDF5", ".h5", ("solver.cpp:474", "sgd_solver.cpp:296", "HDF5")),
    ],
)
def test_a_snapshot_is_told_in_bvlcs_words(
    kind: str, h5: str, lines: tuple[str, str, str], tmp_path: Path, capfd, monkeypatch
) -> None:
    solver = solver_of(tmp_path, f"snapshot_format: {kind}")
    monkeypatch.setenv("GLOG_minloglevel", "0")
    solver.snapshot()
    model, state, what = lines
    assert [line.split(None, 3)[3] for line in capfd.readouterr().err.splitlines()] == [
        f"{model}] Snapshotting to {what} file {tmp_path}/run_iter_0.caffemodel{h5}",
        f"{state}] Snapshotting solver state to {what} file {tmp_path}/run_iter_0.solverstate{h5}",
    ]


def test_namesakes_are_refused_where_files_go_by_names(tmp_path: Path) -> None:
    namesake = 'layer { name: "fc" type: "ReLU" bottom: "fc" top: "fc" }\n'
    net = NET.replace('layer { name: "loss"', namesake + 'layer { name: "loss"')
    solver_of(tmp_path, "max_iter: 1 snapshot: 1", net).solve()
    assert (tmp_path / "run_iter_1.solverstate").exists()
    with pytest.raises(caffe.CaffeError, match="2 layers are named 'fc'"):
        solver_of(tmp_path, "max_iter: 1 snapshot: 1 snapshot_format: HDF5", net)
    with pytest.raises(caffe.CaffeError, match="2 layers are named 'fc'"):
        solver_of(tmp_path, "max_iter: 1 snapshot_format: HDF5", net).solve()  # which would end with one


def test_states_are_those_of_the_prefix_in_their_order(tmp_path: Path) -> None:
    ours = ["r.n_iter_9.solverstate", "r.n_iter_10.solverstate.h5", "r.n_iter_200.solverstate"]
    others = ["r.n_iter_8.runstate", "r_n_iter_7.solverstate", "a r.n_iter_6.solverstate", "r.n_iter_5.solverstate.tmp"]
    for name in ours + others:
        (tmp_path / name).touch()
    assert snapshot.states(f"{tmp_path}/r.n") == list(zip((9, 10, 200), map(tmp_path.joinpath, ours), strict=True))


def test_pruning_leaves_the_newest(tmp_path: Path) -> None:
    def names(iteration: int, suffix: str = "") -> set[str]:
        return {f"run_iter_{iteration}.{kind}" for kind in ("caffemodel" + suffix, "solverstate" + suffix, "runstate")}

    for name in names(9) | names(10, ".h5") | names(11):
        (tmp_path / name).touch()
    snapshot.prune(f"{tmp_path}/run", 2)
    assert {path.name for path in tmp_path.iterdir()} == names(10, ".h5") | names(11)
    snapshot.prune(f"{tmp_path}/run", 1)
    assert {path.name for path in tmp_path.iterdir()} == names(11)


def test_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    solver = solver_of(tmp_path)
    assert snapshot.newest_whole(f"{tmp_path}/run") is None
    for _ in range(3):
        solver.step(1)
        solver.snapshot()
    assert snapshot.newest_whole(f"{tmp_path}/run") == f"{tmp_path}/run_iter_3.solverstate"
    (tmp_path / "run_iter_3.caffemodel").unlink()
    (tmp_path / "run_iter_2.solverstate").write_bytes(b"\x0a\xff")
    assert snapshot.newest_whole(f"{tmp_path}/run") == f"{tmp_path}/run_iter_1.solverstate"


def test_a_folder_that_has_moved_resumes_with_its_own_weights(tmp_path: Path) -> None:
    """But where the weights are still there that the state names, those are taken, as by BVLC."""
    solver = solver_of(tmp_path / "old")
    solver.step(1)
    solver.snapshot()
    (tmp_path / "old").rename(tmp_path / "new")
    state = tmp_path / "new/run_iter_1.solverstate"
    assert read_state(str(state))[1] == f"{tmp_path}/old/run_iter_1.caffemodel"
    again = solver_of(tmp_path / "new")
    again.restore(str(state))
    expected = solver.net.params["fc"][0].data
    assert expected.any()
    np.testing.assert_array_equal(again.net.params["fc"][0].data, expected)
    blank = solver_of(tmp_path / "old")
    blank.net.save(f"{tmp_path}/old/run_iter_1.caffemodel")
    again.restore(str(state))
    assert not again.net.params["fc"][0].data.any()


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone, here = ended.pid, os.getpid()
    left = [f".run_iter_7.caffemodel.{gone}.tmp", f".run_iter_7.solverstate.h5.{gone}.tmp"]
    stays = [
        f".run_iter_7.caffemodel.{here}.tmp",
        ".run_iter_7.caffemodel.1.tmp",
        f".runner_iter_7.caffemodel.{gone}.tmp",
        f".run_iter_x.caffemodel.{gone}.tmp",
        f"run_iter_7.caffemodel.{gone}.tmp",
    ]
    for name in left + stays:
        (tmp_path / name).touch()
    solver_of(tmp_path, "snapshot: 1")
    assert {path.name for path in tmp_path.iterdir()} - {"net.prototxt", "solver.prototxt"} == set(stays)
