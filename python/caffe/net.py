"""The net: layers run one after the other, and back, with an autograd boundary at every blob.

Each layer's forward pass is a small autograd graph of its own between the detached values of its bottoms
and its tops. The walk backward asks each graph for the gradients of its bottoms and parameters. So every
blob has its values and its gradient, and any range of layers can be run, as pycaffe promises. Layers that work
in place on one blob share a graph (see `caffe.chains`) where nobody looks in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from caffe import batches, debug, glog, weights
from caffe import device as devices
from caffe.blob import Blob
from caffe.chains import ends_in_relu, find_chains, run_chain
from caffe.errors import CaffeError, NetError
from caffe.graph.rules import filter_net
from caffe.graph.splits import insert_splits
from caffe.layers.base import BlobLayer, Layer
from caffe.layers.memory import MemoryData
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from caffe.proto.text import read_net, to_text
from caffe.wiring import Wiring, wire

Callback = Callable[[int], None]
Edges = list["GradientEdge | None"]
Tape = tuple[list[torch.Tensor], Edges, torch.Tensor | None]
"""Leaves that a chain read, where its gradients enter, and the top of the ReLU at its end, if there is one."""


class Net:
    """A network, as pycaffe's Net.

    ``Net(file, phase, level=0, stages=None, weights=None)``, or the older ``Net(file, weights, phase)``.

    Attributes:
        blobs: name -> Blob, in the order they are made.
        params: layer name -> its parameter blobs, for layers that have some.
        layer_dict, layers: the layers by name and in order.
        inputs, outputs: blob names: tops of Input layers, and blobs that no layer reads.
        top_names, bottom_names: layer name -> blob names.
        blob_loss_weights: blob name -> weight in the loss.
        gradient_scale: what all gradients are multiplied by: 1, but in fp16. The solver divides by it.
        debug_info: whether the mean of every blob is logged.
        first_passes: passes after which, on a CPU, the process keeps the memory that it frees; None leaves that to
            another net.
        records: whether `forward` keeps what `backward` needs; nets that are only tested switch it off.
        gradients_ready: called with a layer's number as soon as the gradients of its parameters are there.
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
            if not Path(path).is_file():
                raise CaffeError(f"Could not open file {path}")
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
        self.device = device
        if device.type == "cpu":
            devices.set_large_blocks_apart()
        self._half = devices.half()
        self._passes = 0
        self.first_passes: int | None = 2
        self.records = True
        self.gradients_ready: Callback | None = None
        self.debug_info: bool = param.debug_info
        self._wiring: Wiring = wire(self.param, device)
        self._chains = find_chains(self._wiring)
        self._fused = False  # whether the last forward pass ran recorded chains as one
        self._tape: dict[int, Tape | None] = {}  # by a chain's last layer; None once it was used up
        self._shapes = [[self._wiring.blobs[b].shape for b in row] for row in self._wiring.bottom_ids]
        self._callbacks: dict[str, list[Callback]] = {
            f"{when}_{way}": [] for when in ("before", "after") for way in ("forward", "backward")
        }
        w = self._wiring
        self.layers = w.layers
        self.layer_dict: OrderedDict[str, Layer] = OrderedDict(zip(w.names, w.layers, strict=True))
        self.blobs: OrderedDict[str, Blob] = OrderedDict(zip(w.blob_names, w.blobs, strict=True))
        self.params: OrderedDict[str, list[Blob]] = OrderedDict(
            (name, layer.blobs) for name, layer in zip(w.names, w.layers, strict=True) if layer.blobs
        )
        self.blob_loss_weights = OrderedDict(zip(w.blob_names, w.loss_weights, strict=True))
        self.inputs = [w.blob_names[i] for i in w.inputs]
        self.outputs = [w.blob_names[i] for i in w.outputs]
        self.top_names = self._blob_names_by_layer(w.top_ids)
        self.bottom_names = self._blob_names_by_layer(w.bottom_ids)
        self.learnable, self.gradient_scale = w.learnable, w.gradient_scale
        # pycaffe's names that scripts use in spite of their underscore
        self._blobs, self._blob_names, self._layer_names = w.blobs, w.blob_names, w.names
        self._blob_loss_weights, self._inputs, self._outputs = w.loss_weights, w.inputs, w.outputs

    def _blob_names_by_layer(self, ids: Sequence[Sequence[int]]) -> OrderedDict[str, list[str]]:
        w = self._wiring
        return OrderedDict((n, [w.blob_names[i] for i in row]) for n, row in zip(w.names, ids, strict=True))

    # Running

    def run_forward(self, start: int = 0, end: int | None = None, fused: bool = False) -> torch.Tensor:
        """Run layers ``start`` to ``end`` (the last, unless told); return their part of the loss, a scalar.

        With ``fused`` the backward pass to come may begin and end only where no layer works in place.
        """
        if start == 0:
            self._count_pass()
            self._tape.clear()
            self._fused = fused
            if end is None:
                self._let_go(range(len(self.layers)))
        loss = torch.zeros((), device=self.device)
        for part in self._parts(start, len(self.layers) if end is None else end + 1):
            self._announce("before_forward", part.start)
            for term in self._run_ahead(part):
                loss = loss + term
            if self.debug_info:
                debug.forward(self._wiring, part.start)
            self._announce("after_forward", part.start)
        return loss

    def _count_pass(self) -> None:
        if self._passes == self.first_passes and self.device.type == "cpu":
            devices.keep_pages()
        self._passes += 1

    def _let_go(self, layers: range) -> None:
        """Free what layers computed and will compute anew, but for the net's outputs."""
        w = self._wiring
        for i in layers:
            if w.bottom_ids[i] and not isinstance(w.layers[i], BlobLayer):
                for top in w.top_ids[i]:
                    if top not in w.bottom_ids[i] and top not in w.outputs:
                        w.blobs[top].let_go_data()

    def _parts(self, start: int, stop: int) -> Iterator[range]:
        """Layers from ``start`` to before ``stop``: chains together, unless somebody looks or may look inside."""
        watched = self.debug_info or self.watched
        for chain in self._chains:
            part = range(max(start, chain.start), min(stop, chain.stop))
            if len(part) > 1 and (watched or (self._records(part) and not self._fused)):
                yield from (range(i, i + 1) for i in part)
            elif part:
                yield part

    def _records(self, part: range) -> bool:
        return self.records and any(self._wiring.needs_backward[i] for i in part)

    def _run_ahead(self, part: range) -> list[torch.Tensor]:
        """Set the tops of a chain; give their terms of the loss."""
        w = self._wiring
        for i in part:
            self._reshape_layer(i)
        outputs = self._compute(part)
        terms = []
        for top, values in zip(w.top_ids[part[-1]] if outputs else [], outputs, strict=True):
            w.blobs[top].set_data(values.detach())
            if w.loss_weights[top]:
                terms.append(w.loss_weights[top] * values.detach().sum())
        return terms

    def _compute(self, part: range) -> list[torch.Tensor]:
        """Give the tops of a chain, from what its bottoms hold; keep what its backward pass needs."""
        w, layers, first = self._wiring, self.layers[part.start : part.stop], part.start
        recording = self._records(part)
        for layer in layers:
            layer.leaves.clear()
        with torch.set_grad_enabled(recording):
            needs = zip(w.bottom_ids[first], w.bottom_needs[first], strict=True)
            inputs = [w.blobs[b].leaf(n and recording) for b, n in needs]
            relu = recording and ends_in_relu(layers)
            outputs = run_chain(layers[:-1] if relu else layers, inputs, self._half)
        if recording:
            # the edge, not the tensor: an in-place layer's input can be freed
            edges: Edges = [get_gradient_edge(o) if o.requires_grad else None for o in outputs]
            top = outputs[0].detach().relu_() if relu else None
            self._tape[part[-1]] = inputs, edges or [None] * len(w.top_ids[part[-1]]), top
        return outputs

    def _reshape_layer(self, i: int) -> None:
        """Give the tops of layer i their shapes if its bottoms have changed theirs."""
        w = self._wiring
        shapes = [w.blobs[b].shape for b in w.bottom_ids[i]]
        if self._shapes[i] == shapes:
            return
        self._shapes[i] = shapes
        tops = self.layers[i].reshape(shapes)
        for top, shape in zip(w.top_ids[i], tops, strict=True):
            w.blobs[top].reshape(*shape)
            w.weigh(top)

    def run_backward(
        self, start: int | None = None, end: int = 0, keep_diffs: bool = True, keep_data: bool = True
    ) -> None:
        """Run layers ``start`` (the last, unless told) down to ``end`` backward.

        Parameters' gradients are added to what is there. Without ``keep_diffs`` the gradients of blobs are
        let go as soon as they are used, without ``keep_data`` their values, but for the net's outputs.
        """
        parts = list(self._parts(end, len(self.layers) if start is None else start + 1))
        for part in reversed(parts):
            self._announce("before_backward", part.start)
            if self._wiring.needs_backward[part[-1]]:
                self._run_back(part, keep_diffs)
                if self.debug_info:
                    debug.backward(self._wiring, part.start)
            if not keep_data:
                self._let_go(part)
            if self.gradients_ready:
                for i in reversed(part):
                    self.gradients_ready(i)
            self._announce("after_backward", part.start)
        if self.debug_info and start is None and end == 0:
            debug.all_params(self._wiring)

    def _run_back(self, part: range, keep_diffs: bool) -> None:
        w, layers = self._wiring, self.layers[part.start : part.stop]
        for i, layer in zip(part, layers, strict=True):
            layer.check_flows(w.bottom_needs[i])
        if isinstance(layers[0], BlobLayer):
            layers[0].backward(w.bottom_needs[part.start])
            return
        inputs, edges, relu = self._taped(part)
        top_ids, bottom_ids = w.top_ids[part[-1]], w.bottom_ids[part.start]
        tops = [w.blobs[t] for t in top_ids]
        flows = [(e, t.diff_tensor()) for e, t in zip(edges, tops, strict=True) if e is not None and t.has_diff]
        sources = [(x, w.blobs[b].set_diff) for x, b in zip(inputs, bottom_ids, strict=True) if x.requires_grad]
        for layer in layers:
            sources += [(x, layer.blobs[k].add_diff) for k, x in layer.leaves.items() if x.requires_grad]
        if not keep_diffs:
            self._tape.update(dict.fromkeys(part))
            for t, blob in zip(top_ids, tops, strict=True):
                if not w.loss_weights[t]:
                    blob.clear_diff()
        if relu is not None:
            flows = [(edge, torch.ops.aten.threshold_backward(flow, relu, 0)) for edge, flow in flows]
        if not sources:
            return
        leaves = [x for x, _ in sources]
        gradients: Sequence[torch.Tensor | None] = [None] * len(leaves)
        if flows:
            gradients = torch.autograd.grad(
                [e for e, _ in flows],
                leaves,
                [g for _, g in flows],
                allow_unused=True,
                retain_graph=keep_diffs,
            )
        for (leaf, take), gradient in zip(sources, gradients, strict=True):
            take(torch.zeros_like(leaf) if gradient is None else gradient)

    def _taped(self, part: range) -> Tape:
        """What the forward pass kept for the backward pass of a chain."""
        name = self.layers[part[-1]].name
        if not self.records:
            raise NetError(f"Layer '{name}': backward needs a forward pass of a net whose records are on")
        if part[-1] not in self._tape:
            self._compute(part)  # as Caffe does, go by what the blobs hold
        tape = self._tape[part[-1]]
        if tape is None:
            raise NetError(f"Layer '{name}': backward has let go of what forward kept; run forward first")
        return tape

    def reshape(self) -> None:
        """Carry a changed input shape through all layers."""
        for i in range(len(self.layers)):
            self._reshape_layer(i)

    def clear_param_diffs(self) -> None:
        """Make the gradients of all parameters zero."""
        for parameter in self.learnable:
            parameter.blob.clear_diff()

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
            gradients: blob name -> gradient, one for every output of the net (or the start layer's tops).

        Returns:
            Name -> live array of gradients.
        """
        first = self._number_of(start) if start is not None else len(self.layers) - 1
        last = self._number_of(end) if end is not None else 0
        wanted = list(self.bottom_names[end] if end is not None else self.inputs) + list(diffs or [])
        if gradients:
            tops = self.top_names[start] if start is not None else self.outputs
            if set(gradients) != set(tops):
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
        first = self.layers[0]
        if not isinstance(first, MemoryData):
            raise NetError("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        first.reset(data, labels)

    # pycaffe: weights

    def copy_from(self, path: str) -> None:
        """Copy trained weights, matched by layer name, from a ``.caffemodel`` or an HDF5 file (told by content)."""
        weights.copy_from(self, str(path))

    def share_with(self, other: Net) -> None:
        """Use the parameter blobs of the other net's layers of the same names."""
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

    # pycaffe: callbacks

    @property
    def watched(self) -> bool:
        """Whether there are callbacks."""
        return any(self._callbacks.values())

    def before_forward(self, callback: Callback) -> None:
        """Call ``callback(layer number)`` before each layer runs forward."""
        self._callbacks["before_forward"].append(callback)

    def after_forward(self, callback: Callback) -> None:
        """Call ``callback(layer number)`` after each layer has run forward."""
        self._callbacks["after_forward"].append(callback)

    def before_backward(self, callback: Callback) -> None:
        """Call ``callback(layer number)`` before each layer runs backward."""
        self._callbacks["before_backward"].append(callback)

    def after_backward(self, callback: Callback) -> None:
        """Call ``callback(layer number)`` after each layer has run backward."""
        self._callbacks["after_backward"].append(callback)

    def _announce(self, moment: str, layer: int) -> None:
        for callback in self._callbacks[moment]:
            callback(layer)

    def close(self) -> None:
        """Let go of files and reading threads."""
        for layer in self.layers:
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
