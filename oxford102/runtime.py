"""The pycaffe that is installed: loaded when it is needed, on the device that is asked for, and nets made with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from oxford102.errors import ToolError, told

NO_CAFFE = "Caffe's Python package does not load; run make setup, or set PYTHONPATH to it"


def load_caffe() -> Any:
    """The pycaffe that is installed, without the log of the nets that it builds."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    with told(NO_CAFFE, ImportError):
        import caffe  # here, so that asking for --help does not load the runtime
    return caffe


def use_device(gpu: int | None) -> None:
    """Make nets on the CPU from here on, or on the GPU of this number."""
    caffe = load_caffe()
    if gpu is None:
        return caffe.set_mode_cpu()
    caffe.set_device(gpu)
    caffe.set_mode_gpu()


def build_net(message: object) -> Any:
    """The caffe.Net of a NetParameter, or of its text, in the phase TEST."""
    caffe = load_caffe()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.prototxt")
        path.write_text(str(message), "utf-8")
        return caffe.Net(str(path), caffe.TEST)


def picture_net(kind: str, prototxt: Path, weights: Path, **preparation: Any) -> Any:
    """The net as a caffe.Classifier or caffe.Detector; raises ToolError where the files make none."""
    with told(f"{prototxt} with {weights}", Exception):  # pycaffe raises plain ones too
        try:
            return getattr(load_caffe(), kind)(str(prototxt), str(weights), **preparation)
        except IndexError as error:
            cure = "give the deploy prototxt, not the one of training"
            raise ToolError(f"{prototxt}: the net has no input; {cure}") from error


def check_weights(net: Any, prototxt: Path, weights: Path, layers: Iterable[str] | None = None) -> None:
    """Raise ToolError where one of the layers (all, unless told) got no weights: all of its numbers are 0."""
    for name in net.params if layers is None else net.params.keys() & set(layers):
        if not any(np.any(blob.data) for blob in net.params[name]):
            raise ToolError(
                f"{weights} has no weights for layer '{name}' of {prototxt}, or zeros alone; give the weights trained "
                "with it"
            )
