"""Pictures from JPEGs at full size: the first epoch beside OpenCV's own, and how long training waits for data later.

    python bench/data.py [FOLDER]

FOLDER holds JPEGs; without it, 300 of 667 x 500 pixels are drawn. The first epoch is that of an ImageData layer alone
(256 x 256 pixels, crop, mirror, mean picture), one batch after the other. Its peers run on as many threads: a loop that
decodes and resizes with OpenCV and keeps the pictures, and one that also cuts, mirrors and subtracts the mean into
batches with numpy. Each runs in a process of its own and they take turns; printed are the ratios of the medians.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from nets import listed, photographs, solver
from timing import medians, or_help
from worker import Worker, serve

import caffe
from caffe.data.cache import CACHE_MB, Cache
from caffe.io import blobproto_to_array
from caffe.proto.caffe_pb2 import BlobProto

SIDES = ("ours", "decoding", "batches")
SIZE, CROP, BATCH = 256, 227, 50
TRAINED = ("SqueezeNet", 32, 96)  # net, pictures a batch, pictures
LAYER = """layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  transform_param {{ mirror: true crop_size: {crop} mean_file: "{mean}" }}
  image_data_param {{ source: "{source}" batch_size: {batch} shuffle: true new_height: {size} new_width: {size} }} }}"""


def ours(source: Path) -> None:
    """One epoch of the layer, from a new net on."""
    file = source.with_suffix(".prototxt")
    mean = source.with_name("mean.binaryproto")
    file.write_text(LAYER.format(crop=CROP, mean=mean, source=source, batch=BATCH, size=SIZE))
    net = caffe.Net(str(file), caffe.TRAIN)
    for _ in range(len(source.read_text().splitlines()) // BATCH):
        net.run_forward()
    net.close()


def decode(path: str) -> np.ndarray:
    """What OpenCV alone does for a picture."""
    return cv2.resize(np.asarray(cv2.imread(path)), (SIZE, SIZE))


def batches(pool: ThreadPoolExecutor, paths: list[str], mean: np.ndarray) -> None:
    """What a loader written by hand does for an epoch; mean [256, 256, 3]."""
    rng = np.random.default_rng(0)
    kept: list[np.ndarray] = []
    for at in range(0, len(paths), BATCH):
        rows = [(path, *rng.integers(SIZE - CROP + 1, size=2), rng.integers(2)) for path in paths[at : at + BATCH]]
        batch = np.empty((len(rows), CROP, CROP, 3), np.float32)

        def put(i: int, rows: list = rows, batch: np.ndarray = batch) -> np.ndarray:
            path, top, left, mirrored = rows[i]
            picture = decode(path)
            here = slice(top, top + CROP), slice(left, left + CROP)
            values = picture[here] - mean[here]
            batch[i] = values[:, ::-1] if mirrored else values
            return picture

        kept += pool.map(put, range(len(rows)))


def step_of(side: str, source: Path) -> Callable[[], object]:
    """What a side does in its turn."""
    if side == "ours":
        return lambda: ours(source)
    cv2.setNumThreads(0)  # a picture a thread
    paths = [line.rpartition(" ")[0] for line in source.read_text().splitlines()]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    if side == "decoding":
        return lambda: list(pool.map(decode, paths))
    mean = BlobProto.FromString(source.with_name("mean.binaryproto").read_bytes())
    values = np.ascontiguousarray(blobproto_to_array(mean)[0].transpose(1, 2, 0), np.float32)
    return lambda: batches(pool, paths, values)


def training(source: Path) -> str:
    """Tell what share of an iteration's time its data layer takes, and what is kept, once all pictures are decoded."""
    model, batch, pictures = TRAINED
    made = solver(model, batch, source.parent, source)
    moments: list[float] = []
    made.net.before_forward(lambda layer: moments.append(time.perf_counter()) if layer == 0 else None)
    made.net.after_forward(lambda layer: moments.append(time.perf_counter()) if layer == 0 else None)
    made.step(pictures // batch + 4)  # batches of the first epoch are made ahead
    moments.clear()
    start = time.perf_counter()
    made.step(10)
    share = sum(after - before for before, after in zip(moments[::2], moments[1::2], strict=True))
    share /= time.perf_counter() - start
    budget = os.environ.get("CAFFE_CACHE_MB", CACHE_MB)
    kept = f"{pictures} pictures of {SIZE} x {SIZE} are kept, {Cache.used() / 2**20:.0f} of {budget} MB"
    return f"{model}, {batch} pictures a batch, waits {share:.2%} of its time for data; {kept}"


def main(given: str | None) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sorted(Path(given).resolve().rglob("*.jpg")) if given else photographs(folder, 300)
        paths = paths[: len(paths) // BATCH * BATCH]
        source = listed(paths, folder)
        sides = [Worker(side, source, warm_up=1) for side in SIDES]
        layer, decoding, loader = medians([side.step for side in sides])
        for side in sides:
            side.end()
        print(f"the first epoch of {len(paths)} pictures, crop, mirror and mean included")
        print(f"  {decoding / layer:.2f} of the rate at which OpenCV decodes and resizes on as many threads")
        print(f"  {loader / layer:.2f} of the rate of a loop that makes the same batches by hand")
        print("later epochs")
        print(f"  {Worker('training', listed(paths[: TRAINED[2]], folder)).end()}")


if __name__ == "__main__":
    or_help(__doc__)
    if sys.argv[1:2] == ["training"]:
        serve(str, last=lambda: training(Path(sys.argv[2])))
    elif sys.argv[1:2] and sys.argv[1] in SIDES:
        serve(step_of(sys.argv[1], Path(sys.argv[2])))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
