"""pycaffe's ``forward_all`` and ``forward_backward_all``: any number of items, a batch of the net's at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe.errors import CaffeError

if TYPE_CHECKING:
    from caffe.net import Net

Arrays = dict[str, np.ndarray]


def forward_all(net: Net, blobs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """See `caffe.Net.forward_all`."""
    parts = [_copies(net.forward(blobs, None, None, **batch)) for batch in batches(net, inputs)]
    return _join(parts, inputs)


def forward_backward_all(
    net: Net, blobs: Sequence[str] | None, diffs: Sequence[str] | None, both: Mapping[str, np.ndarray]
) -> tuple[Arrays, Arrays]:
    """See `caffe.Net.forward_backward_all`."""
    ahead, back = [], []
    for batch in batches(net, both):
        inputs = {name: values for name, values in batch.items() if name in net.inputs}
        gradients = {name: values for name, values in batch.items() if name not in net.inputs}
        ahead.append(_copies(net.forward(blobs, None, None, **inputs)))
        back.append(_copies(net.backward(diffs, None, None, **gradients)))
    return _join(ahead, both), _join(back, both)


def _copies(arrays: Arrays) -> Arrays:
    return {name: values.copy() for name, values in arrays.items()}


def _join(parts: Sequence[Arrays], given: Mapping[str, np.ndarray]) -> Arrays:
    """Put the batches together, without what the last was filled up with."""
    count = len(next(iter(given.values())))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in (parts[0] if parts else ())}


def batches(net: Net, inputs: Mapping[str, np.ndarray]) -> list[Arrays]:
    """Cut the inputs into batches of the net's size, its first blob's; the last is filled up with zeros."""
    size = next(iter(net.blobs.values())).shape[0]
    lengths = {len(v) for v in inputs.values()}
    if len(lengths) != 1:
        raise CaffeError(f"inputs have different numbers of items: {sorted(lengths)}")
    total = lengths.pop()
    cut = []
    for at in range(0, total, size):
        short = at + size - total
        cut.append(
            {
                k: np.concatenate([v[at : at + size], np.zeros((max(0, short), *v.shape[1:]), v.dtype)])
                for k, v in inputs.items()
            }
        )
    return cut
