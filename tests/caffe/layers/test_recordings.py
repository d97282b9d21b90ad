"""Every layer against what BVLC Caffe 1.0 computed: outputs, gradients, and weights that forward changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe

RECORDINGS = sorted((Path(__file__).parents[2] / "golden" / "layers").glob("*.npz"))


def entries(recording: dict[str, np.ndarray], kind: str) -> list[tuple[list[str], np.ndarray]]:
    """What a recording holds of one kind: name parts after the kind, and the values."""
    return [(key.split(":")[1:], v) for key, v in recording.items() if key.startswith(f"{kind}:")]


def prepared(recording: dict[str, np.ndarray], folder: Path) -> caffe.Net:
    """The net with its inputs and weights."""
    prototxt = folder / "net.prototxt"
    prototxt.write_text(str(recording["prototxt"]))
    net = caffe.Net(str(prototxt), getattr(caffe, str(recording["phase"])))
    for (blob,), values in entries(recording, "in"):
        net.blobs[blob].data[...] = values
    for (layer, i), values in entries(recording, "w"):
        net.params[layer][int(i)].data[...] = values
    return net


def check(got: dict[str, np.ndarray], recording: dict[str, np.ndarray]) -> None:
    """Compare with the recording's tolerance."""
    tolerance = 100 * float(recording["tol"])
    for key, values in got.items():
        expected = recording[key]
        assert values.shape == expected.shape, key
        if expected.size:
            scale = np.abs(expected) + 0.01 + 0.01 * np.abs(expected).max()
            assert np.max(np.abs(values - expected) / scale) <= tolerance, key


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_agrees_with_bvlc(path: Path, tmp_path: Path) -> None:
    recording = dict(np.load(path))
    net = prepared(recording, tmp_path)
    net.forward()
    got = {f"out:{b}": net.blobs[b].data.copy() for (b,), _ in entries(recording, "out")}
    for (blob,), values in entries(recording, "dout"):
        net.blobs[blob].diff[...] = values
    if any(entries(recording, kind) for kind in ("dout", "din", "dw")):
        net.backward()
    got |= {f"din:{b}": net.blobs[b].diff for (b,), _ in entries(recording, "din")}
    got |= {f"dw:{n}:{i}": net.params[n][int(i)].diff for (n, i), _ in entries(recording, "dw")}
    got |= {f"after:{n}:{i}": net.params[n][int(i)].data for (n, i), _ in entries(recording, "after")}
    assert got or not net.outputs
    check(got, recording)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_agrees_with_bvlc_where_no_gradient_is_wanted(path: Path, tmp_path: Path) -> None:
    """Kernels and orders of memory are others then."""
    recording = dict(np.load(path))
    net = prepared(recording, tmp_path)
    net.records = False
    net.forward()
    check({f"out:{b}": net.blobs[b].data for (b,), _ in entries(recording, "out")}, recording)


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) >= 94
