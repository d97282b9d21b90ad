"""Thirty iterations of each solver against what BVLC Caffe 1.0 did: every loss, and the last weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe

RECORDINGS = sorted((Path(__file__).parents[2] / "golden" / "solvers").glob("*.npz"))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_agrees_with_bvlc(path: Path, tmp_path: Path) -> None:
    recording = dict(np.load(path))
    (tmp_path / "net.prototxt").write_text(str(recording["net"]))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" {recording["solver"]} display: 0 snapshot_prefix: "{tmp_path}/s"'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    params = solver.net.params
    for key, values in recording.items():
        if key.startswith("w0:"):
            _, layer, i = key.split(":")
            params[layer][int(i)].data[...] = values
    losses = []
    for x, y in zip(recording["x"], recording["y"], strict=True):
        solver.net.blobs["x"].data[...] = x
        solver.net.blobs["label"].data[...] = y
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    got = {f"w1:{name}:{i}": b.data for name, blobs in params.items() for i, b in enumerate(blobs)}
    got["loss"] = np.array(losses)
    assert set(got) == {k for k in recording if k.startswith("w1:") or k == "loss"}
    for key, values in got.items():
        expected = recording[key]
        assert np.max(np.abs(values - expected)) <= 2e-3 * (np.max(np.abs(expected)) + 1e-6), key


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) >= 9
