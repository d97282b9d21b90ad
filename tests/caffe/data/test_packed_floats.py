"""Floats of a Datum in all forms that protobuf allows on the wire, against protobuf's own reading."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest

import caffe
from caffe.proto.caffe_pb2 import Datum
from caffe.proto.wire import take_floats

SHAPE = (3, 4, 5)
NET = """layer { name: "d" type: "Data" top: "d" top: "label"
  data_param { source: "floats" batch_size: 5 backend: LMDB } }"""


def packed(values: np.ndarray) -> bytes:
    content = values.astype("<f4").tobytes()
    return bytes([6 << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


def records() -> list[bytes]:
    """The same floats in one piece, one by one, in two pieces, mixed, and in one piece before the other fields."""
    values = np.random.default_rng(1).normal(0, 9, 60).astype(np.float32)
    rest = Datum(channels=3, height=4, width=5, label=7)
    head, single = rest.SerializeToString(), Datum(float_data=values[:30].tolist()).SerializeToString()
    rest.float_data.extend(values.tolist())
    return [
        head + packed(values),
        rest.SerializeToString(),
        head + packed(values[:30]) + packed(values[30:]),
        head + single + packed(values[30:]),
        packed(values) + head,
    ]


def test_every_form_gives_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with lmdb.open("floats", map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for number, record in enumerate(records()):
            transaction.put(b"%d" % number, record)
    (tmp_path / "net.prototxt").write_text(NET)
    blobs = caffe.Net("net.prototxt", caffe.TEST).forward()
    for record, row in zip(records(), blobs["d"], strict=True):
        expected = np.array(Datum.FromString(record).float_data, np.float32).reshape(SHAPE)
        assert np.array_equal(row, expected)
    assert blobs["label"].tolist() == [7] * 5


def test_one_piece_is_taken_out_and_all_else_left() -> None:
    taken = [take_floats(record, 6) for record in records()]
    assert [floats is not None for _, floats in taken] == [True, False, False, False, True]
    for record, (rest, floats) in zip(records(), taken, strict=True):
        datum = Datum.FromString(rest)
        assert len(datum.float_data) == (60 if floats is None else 0)
        assert (rest == record) == (floats is None)
        assert (datum.channels, datum.height, datum.width, datum.label) == (*SHAPE, 7)


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x32\x08abc", b"\x32\x03abc", b"\x08\x03"])
def test_what_is_broken_or_without_floats_is_left_to_protobuf(content: bytes) -> None:
    assert take_floats(content, 6) == (content, None)
