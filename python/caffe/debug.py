"""What ``debug_info: true`` logs: the mean absolute value of every blob, layer by layer, as BVLC Caffe does.

The net calls these after each layer, so the first nan in the log names its layer. All of them wait for the
device. (BVLC Caffe 1.0 has lines for the update too, but never prints them.)
"""

from __future__ import annotations

import torch

from caffe import glog
from caffe.wiring import Wiring


def _mean(values: torch.Tensor) -> float:
    return float(values.abs().sum()) / values.numel() if values.numel() else float("nan")


def forward(w: Wiring, i: int) -> None:
    """Log the tops and parameters of layer i."""
    start = f"    [Forward] Layer {w.names[i]}, "
    for top in w.top_ids[i]:
        value = _mean(w.blobs[top].data_tensor())
        glog.info("net.cpp:593", f"{start}top blob {w.blob_names[top]} data: {value:g}")
    for k, blob in enumerate(w.layers[i].blobs):
        glog.info("net.cpp:605", f"{start}param blob {_display_name(w, i, k)} data: {_mean(blob.data_tensor()):g}")


def backward(w: Wiring, i: int) -> None:
    """Log the gradients of the bottoms and parameters of layer i that have one."""
    start = f"    [Backward] Layer {w.names[i]}, "
    for bottom, need in zip(w.bottom_ids[i], w.bottom_needs[i], strict=True):
        if need:
            value = _mean(w.blobs[bottom].diff_tensor())
            glog.info("net.cpp:621", f"{start}bottom blob {w.blob_names[bottom]} diff: {value:g}")
    layer = w.layers[i]
    for k, (blob, wanted) in enumerate(zip(layer.blobs, layer.wanted, strict=True)):
        if wanted:
            glog.info("net.cpp:632", f"{start}param blob {k} diff: {_mean(blob.diff_tensor()):g}")


def all_params(w: Wiring) -> None:
    """Log the norms of all parameters, values and gradients, after a whole backward pass."""
    data, diff = (
        _norms([p.blob.data_tensor() for p in w.learnable]),
        _norms([p.blob.diff_tensor() for p in w.learnable]),
    )
    glog.error(
        "net.cpp:721",
        f"    [Backward] All net params (data, diff): L1 norm = ({data[0]:g}, {diff[0]:g}); "
        f"L2 norm = ({data[1]:g}, {diff[1]:g})",
    )


def _norms(tensors: list[torch.Tensor]) -> tuple[float, float]:
    flat = torch.cat([t.flatten() for t in tensors]) if tensors else torch.zeros(1)
    return float(flat.abs().sum()), float(flat.norm())


def _display_name(w: Wiring, i: int, k: int) -> str:
    """What Caffe calls parameter k of layer i in its log: its shared name, or its number."""
    specs = w.layers[i].param.param
    return specs[k].name if k < len(specs) and specs[k].name else str(k)
