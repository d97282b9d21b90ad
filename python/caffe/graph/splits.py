"""Split layers: a blob that several layers read is copied, so that their gradients can be added up.

A blob is known by where it was made last: (layer, top). In-place layers make a new version of a blob under
the old name, and each version is split on its own. A loss weight on a top counts as a reader, because the
loss, too, sends a gradient.
"""

from __future__ import annotations

import difflib
from collections import Counter

from caffe.errors import NetError
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter

Source = tuple[int, int]
"""A version of a blob: the index of the layer that makes it, and of the top."""


def insert_splits(param: NetParameter) -> NetParameter:
    """Return the net with a Split layer after each top that is read more than once.

    Names are Caffe's: blob, layer, top index, ``split``. NetError if a layer reads a blob that no layer
    before it makes.
    """
    sources = _sources(param)
    weights = _loss_weights(param)
    readers = Counter(sources.values())
    readers.update(source for source, weight in weights.items() if weight)
    used: Counter[Source] = Counter()
    split = NetParameter()
    split.CopyFrom(param)
    del split.layer[:]
    for i, original in enumerate(param.layer):
        layer = split.layer.add()
        layer.CopyFrom(original)
        for j, blob in enumerate(original.bottom):
            source = sources[i, j]
            if readers[source] > 1:
                layer.bottom[j] = f"{_split_name(param, source, blob)}_{used[source]}"
                used[source] += 1
        for j in range(len(original.top)):
            if readers[i, j] > 1:
                weight = weights.get((i, j), 0.0)
                split.layer.append(_split_layer(param, (i, j), readers[i, j], weight))
                if weight:
                    # As in Caffe, this forgets the weights of the layer's other tops too.
                    layer.ClearField("loss_weight")
                    used[i, j] += 1
    return split


def _sources(param: NetParameter) -> dict[tuple[int, int], Source]:
    """Return where each bottom (layer, index) was made."""
    latest: dict[str, Source] = {}
    sources: dict[tuple[int, int], Source] = {}
    for i, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in latest:
                raise NetError(
                    f"Unknown bottom blob '{blob}' (layer '{layer.name}', bottom index {j})" + _near(blob, latest)
                )
            sources[i, j] = latest[blob]
        latest.update({blob: (i, j) for j, blob in enumerate(layer.top)})
    return sources


def _near(blob: str, known: dict[str, Source]) -> str:
    """Return the cure: known blobs that are named alike, or all."""
    if not known:
        return "; no layer before it makes any blob in this phase"
    near = difflib.get_close_matches(blob, known) or list(known)
    return f"; a layer above must have it as top in this phase. Blobs there: {', '.join(near)}"


def _loss_weights(param: NetParameter) -> dict[Source, float]:
    return {
        (i, j): weight
        for i, layer in enumerate(param.layer)
        for j, (_, weight) in enumerate(zip(layer.top, layer.loss_weight, strict=False))
    }


def _split_name(param: NetParameter, source: Source, blob: str) -> str:
    layer, top = source
    return f"{blob}_{param.layer[layer].name}_{top}_split"


def _split_layer(param: NetParameter, source: Source, count: int, loss_weight: float) -> LayerParameter:
    """Return the Split layer of a blob; a loss weight moves to its first top."""
    blob = param.layer[source[0]].top[source[1]]
    name = _split_name(param, source, blob)
    tops = [f"{name}_{k}" for k in range(count)]
    weights = [loss_weight] + [0.0] * (count - 1) if loss_weight else []
    return LayerParameter(name=name, type="Split", bottom=[blob], top=tops, loss_weight=weights)
