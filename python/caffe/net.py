"""The net, as pycaffe has it: made from a prototxt, run (see `caffe.passes`), loaded and saved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from caffe import batches, glog, weights
from caffe import device as devices
from caffe.blob import Blob, BlobVec
from caffe.errors import CaffeError, NetError
from caffe.graph.rules import filter_net
from caffe.graph.splits import insert_splits
from caffe.layers.memory import MemoryData
from caffe.layers.python import Python
from caffe.passes import Passes
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from caffe.proto.text import read_net, to_text
from caffe.wiring import wire


class Net(Passes):
    """A network, as pycaffe's Net.

    ``Net(file, phase, level=0, stages=None, weights=None)``, or the older ``Net(file, weights, phase)``.

    Attributes:
        blobs: name -> Blob, in the order they are made.
        params: layer name -> its parameter blobs, for layers that have some.
        layers, layer_dict: the layers in order and by name; a user's layer is the user's own object.
        inputs, outputs: blob names: tops of Input layers, and blobs that no layer reads.
        top_names, bottom_names: layer name -> blob names.
        blob_loss_weights: blob name -> weight in the loss.

    And those of `Passes`.
    """

    def __init__(
        self,
        network_file: str,
        phase: int | str,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        if isinstance(phase, (str, Path)):  # pycaffe before 1.0: (file, weights, phase)
            phase, weights, level = level, str(phase), 0
        if phase not in (TRAIN, TEST):
            raise NetError(f"{network_file}: phase must be caffe.TRAIN or caffe.TEST, it is {phase!r}")
        for path in (network_file, *([weights] if weights else [])):
            if not Path(path).exists() or Path(path).is_dir():
                raise CaffeError(f"Could not open file {path}; relative paths start at {Path.cwd()}")
        param = read_net(str(network_file))
        param.state.phase = phase  # type: ignore[assignment]
        param.state.level = level
        param.state.stage.extend(stages or [])
        self._build(param, devices.current())
        if weights:
            self.copy_from(weights)

    @classmethod
    def from_param(cls, param: NetParameter, device: torch.device | None = None) -> Net:
        """Make a net from a message whose ``state`` is set; ``param`` itself is left as it is."""
        net = cls.__new__(cls)
        copy = NetParameter()
        copy.CopyFrom(param)
        net._build(copy, device or devices.current())
        return net

    def _build(self, param: NetParameter, device: torch.device) -> None:
        self.param = filter_net(param)
        glog.info("net.cpp:53", f"Initializing net from parameters: \n{to_text(self.param).rstrip()}")
        self.param = insert_splits(self.param)
        self.name = self.param.name
        if device.type == "cpu":
            devices.set_large_blocks_apart()
        super().__init__(wire(self.param, device), device)
        self.debug_info = param.debug_info
        w = self._wiring
        self.layers = [layer.user if isinstance(layer, Python) else layer for layer in w.layers]
        self.layer_dict = OrderedDict(zip(w.names, self.layers, strict=True))
        self.blobs: OrderedDict[str, Blob] = OrderedDict(zip(w.blob_names, w.blobs, strict=True))
        self.params: OrderedDict[str, BlobVec] = OrderedDict(
            (name, layer.blobs) for name, layer in zip(w.names, w.layers, strict=True) if layer.blobs
        )
        self.blob_loss_weights = OrderedDict(zip(w.blob_names, w.loss_weights, strict=True))
        self.inputs = [w.blob_names[i] for i in w.inputs]
        self.outputs = [w.blob_names[i] for i in w.outputs]
        self.top_names = self._blob_names_by_layer(w.top_ids)
        self.bottom_names = self._blob_names_by_layer(w.bottom_ids)
        # pycaffe's names that scripts use in spite of their underscore
        self._blobs, self._blob_names, self._layer_names = w.blobs, w.blob_names, w.names
        self._blob_loss_weights, self._inputs, self._outputs = w.loss_weights, w.inputs, w.outputs

    def _blob_names_by_layer(self, ids: Sequence[Sequence[int]]) -> OrderedDict[str, list[str]]:
        w = self._wiring
        return OrderedDict((n, [w.blob_names[i] for i in row]) for n, row in zip(w.names, ids, strict=True))

    # pycaffe: forward and backward

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Run the layers from ``start`` to ``end`` (names, both included; all unless told).

        Args:
            blobs: names of blobs to return besides the outputs.
            inputs: blob name -> values, one for every input of the net.

        Returns:
            Name -> live array, of the net's outputs (or the end layer's tops) and ``blobs``.
        """
        first = self._number_of(start) if start is not None else 0
        last = self._number_of(end) if end is not None else len(self.layers) - 1
        wanted = list(self.top_names[end] if end is not None else self.outputs) + list(blobs or [])
        if inputs:
            self._feed(inputs)
        self._forward(first, last)
        return {name: self._blob(name).data for name in dict.fromkeys(wanted)}

    def _feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        if set(inputs) != set(self.inputs):
            raise CaffeError(
                f"Input blob arguments do not match net inputs. Given: {sorted(inputs)}, the net has {self.inputs}"
            )
        for name, values in inputs.items():
            if values.shape[0] != self.blobs[name].shape[0]:
                raise CaffeError(
                    f"Input is not batch sized: '{name}' has {values.shape[0]} items, the blob takes "
                    f"{self.blobs[name].shape[0]}; reshape the blob or feed as many"
                )
            self.blobs[name].data[...] = values

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **gradients: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Run the layers from ``start`` down to ``end`` backward (names, both included; all unless told).

        Args:
            diffs: names of blobs whose gradient to return besides the inputs'.
            gradients: blob name -> gradient, one for every output of the net, or for every top of the start layer.

        Returns:
            Name -> live array of gradients.
        """
        first = self._number_of(start) if start is not None else len(self.layers) - 1
        last = self._number_of(end) if end is not None else 0
        wanted = list(self.bottom_names[end] if end is not None else self.inputs) + list(diffs or [])
        if gradients:
            tops = self.top_names[start] if start is not None else self.outputs
            if set(gradients) not in (set(tops), set(self.outputs)):
                raise CaffeError(
                    f"Top diff arguments do not match net outputs. Given: {sorted(gradients)}, expected: {tops}"
                )
            for name, values in gradients.items():
                if self.blobs[name].shape and values.shape[0] != self.blobs[name].shape[0]:
                    raise CaffeError(f"Diff is not batch sized: '{name}' has {values.shape[0]} items")
                self.blobs[name].diff[...] = values
        self._backward(first, last)
        return {name: self._blob(name).diff for name in dict.fromkeys(wanted)}

    def _number_of(self, layer: str) -> int:
        if layer not in self.layer_dict:
            raise NetError(f"There is no layer '{layer}'; the layers are {', '.join(self.layer_dict)}")
        return self._wiring.names.index(layer)

    def _blob(self, name: str) -> Blob:
        if name not in self.blobs:
            raise NetError(f"There is no blob '{name}'; the blobs are {', '.join(self.blobs)}")
        return self.blobs[name]

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run any number of items through the net, a batch at a time; return copies of all outputs."""
        return batches.forward_all(self, blobs, inputs)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **both: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run items forward and their gradients backward, a batch at a time; return copies of both."""
        return batches.forward_backward_all(self, blobs, diffs, both)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Let the net's first layer, a MemoryData, read from arrays; see `MemoryData.reset` for their shapes."""
        first = self.wired[0]
        if not isinstance(first, MemoryData):
            raise NetError("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        first.reset(data, labels)

    # pycaffe: weights

    def copy_from(self, path: str) -> None:
        """Copy trained weights, matched by layer name, from a ``.caffemodel`` or an HDF5 file (told by content)."""
        weights.copy_from(self, str(path))

    def share_with(self, other: Net) -> None:
        """Use the weights of the other net's layers of the same names."""
        weights.share_with(self, other)

    def save(self, path: str) -> None:
        """Write a ``.caffemodel``."""
        weights.save(self, str(path))

    def save_hdf5(self, path: str, write_diff: bool = False) -> None:
        """Write a ``.caffemodel.h5``, with the gradients where asked for."""
        weights.save_hdf5(self, str(path), write_diff)

    def load_hdf5(self, path: str) -> None:
        """Copy trained weights from a ``.caffemodel.h5``, matched by layer name."""
        weights.load_hdf5(self, str(path))

    def close(self) -> None:
        """Let go of files and reading threads."""
        for layer in self.wired:
            layer.close()

    # pycaffe: calls that scripts use in spite of their underscore

    def _forward(self, start: int, end: int) -> float:
        return float(self.run_forward(start, end))

    def _backward(self, start: int, end: int) -> None:
        self.run_backward(start, end)

    def _batch(self, blobs: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        return batches.batches(self, blobs)

    _set_input_arrays = set_input_arrays

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._wiring.bottom_ids[layer]

    def _top_ids(self, layer: int) -> list[int]:
        return self._wiring.top_ids[layer]
