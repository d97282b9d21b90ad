"""caffe test -model test.prototxt -weights model.caffemodel -iterations 143."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from caffe import glog
from caffe.errors import NetError
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST
from caffe.tools.device_flag import choose


def work(options: SimpleNamespace) -> int:
    """Score a net: every output of every batch, then the means."""
    if not options.model:
        raise NetError("Check failed: FLAGS_model.size() > 0 (0 vs. 0) Need a model definition to score.")
    if not options.weights:
        raise NetError("Check failed: FLAGS_weights.size() > 0 (0 vs. 0) Need model weights to score.")
    if options.iterations < 1:
        raise NetError(f"-iterations {options.iterations}: at least one batch is needed")
    choose(options.gpu, options.precision, 275, 267)
    net = Net(options.model, TEST, options.level, options.stage.split(","), options.weights)
    net.records = False
    try:
        _score(net, options.iterations)
    finally:
        net.close()
    return 0


def _score(net: Net, iterations: int) -> None:
    glog.info("caffe.cpp:281", f"Running for {iterations} iterations.")
    sums = {name: torch.zeros(net.blobs[name].count, dtype=torch.float64) for name in net.outputs}
    loss = 0.0
    for batch in range(iterations):
        loss += float(net.run_forward())
        for name, total in sums.items():
            values = net.blobs[name].data_tensor().flatten().double().cpu()
            total += values
            for value in values.tolist():
                glog.info("caffe.cpp:304", f"Batch {batch}, {name} = {value:g}")
    glog.info("caffe.cpp:309", f"Loss: {loss / iterations:g}")
    for name, total in sums.items():
        weight = net.blob_loss_weights[name]
        for mean in (total / iterations).tolist():
            part = f" (* {weight:g} = {weight * mean:g} loss)" if weight else ""
            glog.info("caffe.cpp:321", f"{name} = {mean:g}{part}")
