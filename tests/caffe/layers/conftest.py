"""One layer on its own: a net of inputs and that layer, run once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import caffe

MakeLayer = Callable[..., caffe.Net]


@pytest.fixture
def make_layer(tmp_path: Path) -> MakeLayer:
    """Give ``make(type, inputs, text="", tops=1, phase=caffe.TEST)``: a net with tops y0, y1 ... and layer L.

    The bottoms x0, x1 ... hold ``inputs``. The net is not run yet.
    """

    def make(
        type_: str, inputs: Sequence[np.ndarray], text: str = "", tops: int = 1, phase: int = caffe.TEST
    ) -> caffe.Net:
        lines = ["force_backward: true"]
        for i, values in enumerate(inputs):
            dims = " ".join(f"dim: {d}" for d in np.shape(values))
            lines.append(f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}')
        joined = [f'bottom: "x{i}"' for i in range(len(inputs))] + [f'top: "y{i}"' for i in range(tops)]
        lines.append(f'layer {{ name: "L" type: "{type_}" {" ".join(joined)} {text} }}')
        path = tmp_path / "layer.prototxt"
        path.write_text("\n".join(lines))
        net = caffe.Net(str(path), phase)
        for i, values in enumerate(inputs):
            net.blobs[f"x{i}"].data[...] = values
        return net

    return make
