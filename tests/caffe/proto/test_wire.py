"""Blobs out of and into the wire format, against protobuf itself."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe.proto.caffe_pb2 import BlobProto, NetParameter, SolverState, V1LayerParameter
from caffe.proto.wire import put_blobs, read_blob, take_blobs

SHAPE = BlobProto(shape={"dim": [2, 3]}).SerializeToString()
NUMBERS = [0.0, -1.5, 1e-30, 3.25, float("inf"), 7.0]


def one_by_one(number: int, values: list[float], form: str = "f") -> bytes:
    wire = 5 if form == "f" else 1
    return b"".join(bytes([number << 3 | wire]) + struct.pack(f"<{form}", value) for value in values)


def packed(number: int, values: list[float], form: str = "f") -> bytes:
    body = struct.pack(f"<{len(values)}{form}", *values)
    return bytes([number << 3 | 2, len(body)]) + body


FORMS = {
    "packed": packed(5, NUMBERS) + SHAPE,
    "shape first": SHAPE + packed(5, NUMBERS),
    "two packs": packed(5, NUMBERS[:2]) + SHAPE + packed(5, NUMBERS[2:]),
    "one by one": one_by_one(5, NUMBERS) + SHAPE,
    "runs": one_by_one(5, NUMBERS[:4]) + SHAPE + packed(5, NUMBERS[4:5]) + one_by_one(5, NUMBERS[5:]),
    "data and diff in turns": b"".join(one_by_one(5, [v]) + one_by_one(6, [-v]) for v in NUMBERS) + SHAPE,
    "diff": packed(5, NUMBERS) + packed(6, NUMBERS[::-1]) + SHAPE,
    "legacy shape": BlobProto(num=1, channels=1, height=2, width=3).SerializeToString() + packed(5, NUMBERS),
    "unknown fields": packed(5, NUMBERS) + SHAPE + b"\xf8\x01\x05\xf2\x01\x02hi\xf5\x01abcd\xf1\x01abcdefgh",
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_as_protobuf_does(form: str) -> None:
    raw = FORMS[form]
    expected = BlobProto.FromString(raw)
    blob = read_blob(b"??" + raw + b"??", 2, 2 + len(raw))
    legacy = (expected.num, expected.channels, expected.height, expected.width)
    assert blob.shape == (legacy if expected.HasField("num") else tuple(expected.shape.dim))
    np.testing.assert_array_equal(blob.data.ravel(), np.array(expected.data, np.float32))
    assert blob.data.shape == blob.shape
    if expected.diff:
        np.testing.assert_array_equal(blob.diff.ravel(), np.array(expected.diff, np.float32))
    else:
        assert blob.diff is None


@pytest.mark.parametrize("write", [packed, one_by_one])
def test_double_precision(write: object) -> None:
    raw = SHAPE + write(8, NUMBERS, "d") + write(9, NUMBERS[::-1], "d")
    blob = read_blob(raw, 0, len(raw))
    assert blob.data.dtype == blob.diff.dtype == np.float32
    np.testing.assert_array_equal(blob.data.ravel(), np.array(BlobProto.FromString(raw).double_data, np.float32))
    np.testing.assert_array_equal(blob.diff.ravel(), blob.data.ravel()[::-1])


def test_a_pack_is_not_copied() -> None:
    raw = FORMS["packed"]
    data = read_blob(raw, 0, len(raw)).data
    assert np.shares_memory(data, np.frombuffer(raw, np.uint8))


def test_scalar_and_empty_blobs() -> None:
    scalar = BlobProto(data=[3]).SerializeToString()
    assert read_blob(scalar, 0, len(scalar)).data == np.float32(3)
    empty = BlobProto(shape={"dim": [0, 3]}).SerializeToString()
    assert read_blob(empty, 0, len(empty)).data.shape == (0, 3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (packed(5, NUMBERS[:5]) + SHAPE, r"count_ == proto.data_size\(\) \(6 vs. 5\)"),
        (packed(5, NUMBERS) + packed(6, [1.0]) + SHAPE, r"count_ == proto.diff_size\(\) \(6 vs. 1\)"),
        (b"\x2a\x05abcde", "within a number"),
        (b"\x2a\x18abcd", "should end at byte"),
        (b"\x28\x05", "is not a float32"),
        (b"\x2f", "no field"),
        (b"\xff" * 12, "does not end"),
    ],
)
def test_damage(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_blob(raw, 0, len(raw))


def blob_of(values: np.ndarray, diff: np.ndarray | None) -> BlobProto:
    out = BlobProto(data=values.ravel().tolist())
    if values.ndim:
        out.shape.dim.extend(values.shape)
    if diff is not None:
        out.diff.extend(diff.ravel().tolist())
    return out


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@given(st.lists(st.tuples(shapes, st.booleans()), max_size=6), st.integers(0, 2**31))
def test_state_out_and_in_is_protobufs_bytes(blobs: list[tuple[tuple[int, ...], bool]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = []
    for shape, with_diff in blobs:
        data = rng.standard_normal(shape, np.float32)
        diff = rng.standard_normal(shape, np.float32) if with_diff and data.size else None
        arrays.append((np.shape(data), np.asarray(data), diff if diff is None else np.asarray(diff)))
    state = SolverState(iter=300, learned_net="x.caffemodel", current_step=2)
    state.history.extend(blob_of(data, diff) for _, data, diff in arrays)
    raw = state.SerializeToString()
    places = SolverState(iter=300, learned_net="x.caffemodel", current_step=2)
    places.history.extend(BlobProto(num=i) for i in range(len(arrays)))
    assert b"".join(put_blobs(places.SerializeToString(), "SolverState", arrays)) == raw

    taken: list = []
    skeleton = take_blobs(raw, 0, len(raw), "SolverState", taken)
    assert SolverState.FromString(skeleton) == places
    for blob, (shape, data, diff) in zip(taken, arrays, strict=True):
        assert blob.shape == shape
        np.testing.assert_array_equal(blob.data, data)
        assert (blob.diff is None) == (diff is None)
        if diff is not None:
            np.testing.assert_array_equal(blob.diff, diff)


def test_blobs_of_all_formats_are_found() -> None:
    def blob(value: float) -> BlobProto:
        return BlobProto(data=[value], shape={"dim": [1]})

    net = NetParameter(name="n")
    net.layer.add(name="new", blobs=[blob(1), blob(2)], type="ReLU")
    net.layers.add(name="v1", blobs=[blob(3)], type=V1LayerParameter.RELU)
    net.layers.add(layer={"name": "v0", "type": "relu", "blobs": [blob(4)]}, top=["t"])
    raw = net.SerializeToString()
    taken: list = []
    skeleton = NetParameter.FromString(take_blobs(raw, 0, len(raw), "NetParameter", taken))
    values = {i: blob.data.item() for i, blob in enumerate(taken)}
    assert [values[place.num] for place in skeleton.layer[0].blobs] == [1, 2]
    assert [values[place.num] for place in skeleton.layers[0].blobs] == [3]
    assert [values[place.num] for place in skeleton.layers[1].layer.blobs] == [4]
    for layer in (*skeleton.layer, *skeleton.layers, skeleton.layers[1].layer):
        layer.ClearField("blobs")
    for layer in (*net.layer, *net.layers, net.layers[1].layer):
        layer.ClearField("blobs")
    assert skeleton == net
