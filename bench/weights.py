"""How long VGG-16's weights take to load and save, and how much memory, beside plain reading and copying.

    python bench/weights.py

Writes a file of VGG-16's shapes with random values, in the V1 form of the published one (553 MB), to a temporary
folder. Peer: the file read with numpy and copied once (for saving: the bytes written and synced). Each is run in
turn, several times, in a process that keeps the memory it frees, as a net on a CPU lets it after its first passes;
printed are the ratios of the medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "2")

from timing import alternate, or_help, peak

import caffe
from caffe import layers as L
from caffe.device import keep_pages
from caffe.proto import caffe_pb2
from caffe.proto.wire import Array, put_blobs

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def deploy() -> caffe_pb2.NetParameter:
    """VGG-16, one picture."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 224, 224]})
    top = n.data
    for block, (width, depth) in enumerate(BLOCKS, 1):
        for i in range(1, depth + 1):
            top = n[f"conv{block}_{i}"] = L.Convolution(top, num_output=width, kernel_size=3, pad=1)
            n[f"relu{block}_{i}"] = L.ReLU(top, in_place=True)
        top = n[f"pool{block}"] = L.Pooling(top, kernel_size=2, stride=2)
    for name, outputs in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        top = n[name] = L.InnerProduct(top, num_output=outputs)
    return n.to_proto()


def write_v1(net: caffe.Net, path: Path) -> None:
    """Write the net's shapes with random values in layers of the V1 form."""
    rng = np.random.default_rng(0)
    kinds = {"Convolution": "CONVOLUTION", "InnerProduct": "INNER_PRODUCT"}
    skeleton, arrays = caffe_pb2.NetParameter(), list[Array]()
    for name, blobs in net.params.items():
        layer = skeleton.layers.add(name=name, type=kinds[net.layer_dict[name].type])
        for blob in blobs:
            layer.blobs.add(num=len(arrays))
            values = rng.standard_normal(blob.count, dtype=np.float32) * np.float32(0.01)
            arrays.append(((1,) * (4 - len(blob.shape)) + blob.shape, values, None))
    with path.open("wb") as file:
        file.writelines(put_blobs(skeleton.SerializeToString(), "NetParameter", arrays))


def read_and_copy(path: Path) -> np.ndarray:
    """The least that loading can mean."""
    return np.fromfile(path, np.uint8).copy()


def write_and_sync(data: np.ndarray, path: Path) -> None:
    """The least that saving can mean."""
    with path.open("wb") as file:
        file.write(data.data)
        os.fsync(file.fileno())


def memory_of_loading(deploy: str, file: str) -> float:
    """Memory that a new net with these weights adds to this process, in bytes."""
    before = peak()
    caffe.Net(deploy, caffe.TEST, weights=file)
    return peak() - before


def main() -> int:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prototxt, file = folder / "deploy.prototxt", folder / "vgg16.caffemodel"
        prototxt.write_text(str(deploy()))
        net = caffe.Net(str(prototxt), caffe.TEST)
        keep_pages()
        write_v1(net, file)
        size = file.stat().st_size
        # in a process of its own, whose peak begins where loading begins
        child = subprocess.run(
            [sys.executable, __file__, str(prototxt), str(file)], check=True, stdout=subprocess.PIPE, text=True
        )
        memory = float(child.stdout) / size
        load = alternate(lambda: net.copy_from(str(file)), lambda: read_and_copy(file))
        raw = read_and_copy(file)
        save = alternate(lambda: net.save(str(folder / "ours")), lambda: write_and_sync(raw, folder / "peer"))
    print(f"weights of {size / 1e6:.0f} MB, V1 form")
    print(f"  a new net with them: {memory:.2f} times the file's size in memory")
    print(f"  loading: {load:.2f} times reading and copying the file")
    print(f"  saving: {save:.2f} times writing and syncing the bytes")
    return 0


if __name__ == "__main__":
    or_help(__doc__)
    if len(sys.argv) == 3:
        print(memory_of_loading(*sys.argv[1:]))
    else:
        sys.exit(main())
