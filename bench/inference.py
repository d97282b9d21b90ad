"""A forward pass of the deploys beside OpenCV 4's Caffe importer: time, and whether both say the same.

    python bench/inference.py [MODEL ...]

Each runs in a process of its own, with all cores and the same random weights and pictures, and they take turns;
printed is the ratio of the medians.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import cv2
import numpy as np
from nets import MODELS
from timing import medians, or_help
from worker import Worker, serve

import caffe

NETS = ("CaffeNet", "VGG16", "ResNet50", "SqueezeNet")
BATCHES = (1, 16)


def forward(side: str, prototxt: str, weights: str) -> Callable[[], np.ndarray]:
    """What a side does in its turn."""
    if side == "ours":
        net = caffe.Net(prototxt, caffe.TEST, weights=weights)
        pictures = net.blobs["data"].data
        pictures[...] = random_pictures(pictures.shape)
        return lambda: net.forward()[net.outputs[0]]
    peer = cv2.dnn.readNetFromCaffe(prototxt, weights)
    shape = [int(n) for n in re.findall(r"dim:\s*(\d+)", Path(prototxt).read_text())[:4]]
    peer.setInput(random_pictures(shape))
    return lambda: peer.forward()


def random_pictures(shape: tuple[int, ...] | list[int]) -> np.ndarray:
    """Pixels about their mean."""
    return np.random.default_rng(0).integers(-120, 120, shape).astype(np.float32)


def work(side: str, prototxt: str, weights: str) -> None:
    """Run whenever asked; keep the answer in a file beside the weights."""
    run = forward(side, prototxt, weights)
    np.save(f"{weights}.{side}.npy", run())
    serve(run)


def compare(model: str, batch: int, folder: Path) -> float:
    """Ratio of the medians."""
    prototxt, weights = folder / f"{model}-{batch}.prototxt", folder / f"{model}.caffemodel"
    text = (MODELS / model / "deploy.prototxt").read_text()
    prototxt.write_text(re.sub(r"dim:\s*\d+", f"dim: {batch}", text, count=1))
    if not weights.exists():
        net = caffe.Net(str(prototxt), caffe.TEST)
        rng = np.random.default_rng(1)
        for name, blobs in net.params.items():
            for blob in blobs:
                fan_in = max(1, blob.count // blob.shape[0])
                blob.data[...] = rng.standard_normal(blob.shape) * (2 / fan_in) ** 0.5 if len(blob.shape) > 1 else 0
            if net.layer_dict[name].type in ("BatchNorm", "Scale"):
                for blob in blobs[1:] if net.layer_dict[name].type == "BatchNorm" else blobs[:1]:
                    blob.data[...] = 1
        net.save(str(weights))
    sides = [Worker(side, prototxt, weights) for side in ("ours", "opencv")]
    ours, theirs = medians([side.step for side in sides], 9)
    for side in sides:
        side.end()
    answers = [np.load(f"{weights}.{side}.npy") for side in ("ours", "opencv")]
    np.testing.assert_allclose(answers[0].ravel(), answers[1].ravel(), rtol=1e-3, atol=1e-5)
    return ours / theirs


def main(models: list[str]) -> None:
    """Print the ratios."""
    print("a forward pass of the deploy beside OpenCV's dnn")
    with tempfile.TemporaryDirectory() as folder:
        for model in models or NETS:
            ratios = ", ".join(f"{compare(model, n, Path(folder)):.2f} of its time at batch {n}" for n in BATCHES)
            print(f"  {model}: {ratios}", flush=True)


if __name__ == "__main__":
    or_help(__doc__)
    if sys.argv[1:2] and sys.argv[1] in ("ours", "opencv"):
        work(*sys.argv[1:])
    else:
        main(sys.argv[1:])
