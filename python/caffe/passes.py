"""Passes over a net: layers run one after the other, and back, with an autograd boundary at every blob.

Each layer's forward pass is a small autograd graph of its own between the detached values of its bottoms
and its tops. The walk backward asks each graph for the gradients of its bottoms and parameters. So every
blob has its values and its gradient, and any range of layers can be run, as pycaffe promises. Layers that work
in place on one blob share a graph (see `caffe.chains`) where nobody looks in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from caffe import debug, rng
from caffe import device as devices
from caffe.chains import Inner, ends_in_relu, find_chains, run_chain
from caffe.errors import CaffeError, NetError, failed
from caffe.layers.base import BlobLayer
from caffe.layers.normalization import BatchNorm
from caffe.layers.python import Python
from caffe.wiring import Wiring

Callback = Callable[[int], None]


@dataclass
class Tape:
    """What the forward pass of a chain leaves for the backward pass.

    Attributes:
        inputs: the leaves that it read.
        edges: where the gradient of each top enters.
        relu: the top of the ReLU at its end, if there is one. It goes backward outside of autograd, which would hold on
            to what flows in until all of the chain is done.
        inner: where the gradient comes by that the blob on which it works in place is left with.
        weights: the parameters' leaves, with their versions of then.
    """

    inputs: list[torch.Tensor]
    edges: list[GradientEdge | None]
    relu: torch.Tensor | None
    inner: Inner | None
    weights: list[tuple[torch.Tensor, int]]

    @property
    def stale(self) -> bool:
        """Whether a parameter was updated or loaded since."""
        return any(leaf._version != version for leaf, version in self.weights)


class Passes:
    """Layers and blobs that run forward and backward, whole or in part; `Net` is one.

    Attributes:
        device: where all is.
        wired: the layers in order, as the net runs them.
        learnable: parameters that a solver updates.
        debug_info: whether the mean of every blob is logged.
        records: whether `run_forward` keeps what `run_backward` needs; nets that are only tested switch it off.
        first_passes: passes after which, on a CPU, the process keeps the memory that it frees; None leaves that to
            another net.
        gradient_scale: what all gradients are multiplied by: 1, but in fp16. The solver divides by it.
        gradients_ready: called with a layer's number as soon as the gradients of its parameters are there.
    """

    def __init__(self, wiring: Wiring, device: torch.device) -> None:
        self.device = device
        self.wired = wiring.layers
        self.learnable, self.gradient_scale = wiring.learnable, wiring.gradient_scale
        self.debug_info = False
        self.records = True
        self.first_passes: int | None = 2
        self.gradients_ready: Callback | None = None
        self._wiring = wiring
        self._half = devices.half()
        self._passes = 0
        self._chains = find_chains(wiring)
        self._sharing = [i for i, layer in enumerate(self.wired) if layer.type in ("Split", "Flatten", "Reshape")]
        self._fused = False  # whether the last forward pass ran recorded chains as one
        self._tape: dict[range, Tape] = {}  # by a chain's layers, until it is used up
        self._values_went = False  # the last backward pass has let go of the blobs' values
        self._shapes = [[wiring.blobs[b].shape for b in row] for row in wiring.bottom_ids]
        self._callbacks: dict[str, list[Callback]] = {
            f"{when}_{way}": [] for when in ("before", "after") for way in ("forward", "backward")
        }

    def run_forward(self, start: int = 0, end: int | None = None, fused: bool = False) -> torch.Tensor:
        """Run layers ``start`` to ``end`` (the last, unless told); return their part of the loss, a scalar.

        With ``fused`` the backward pass to come may begin and end only where no layer works in place.
        """
        if start == 0:
            self._count_pass()
            self._tape.clear()
            self._fused, self._values_went = fused, False
            if end is None:
                self._let_go(range(len(self.wired)))
        self._carry_on(start)
        loss = torch.zeros((), device=self.device)
        for part in self._parts(start, len(self.wired) if end is None else end + 1):
            self._announce("before_forward", part.start)
            for term in self._naming(self._run_ahead, part):
                loss = loss + term
            if self.debug_info:
                debug.forward(self._wiring, part.start)
            self._announce("after_forward", part.start)
        return loss

    def _naming(self, run: Callable[..., Any], part: range, *rest: bool) -> Any:
        """Run a chain; what comes up in a layer names it, but in a user's own."""
        try:
            return run(part, *rest)
        except CaffeError:
            raise
        except Exception as problem:
            if isinstance(self.wired[part.start], Python):
                raise
            raise failed(self.wired[part.start].name, problem) from problem

    def _carry_on(self, start: int) -> None:
        """Give tops before ``start`` the values of bottoms that changed since, where they share memory in Caffe."""
        w = self._wiring
        for i in takewhile(lambda i: i < start, self._sharing):
            bottom = w.blobs[w.bottom_ids[i][0]]
            if any(bottom.newer_than(w.blobs[top]) for top in w.top_ids[i]):
                self._run_ahead(range(i, i + 1))

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
            if not isinstance(self.wired[i], BlobLayer):  # which does that itself
                self._reshape_layer(i)
        tops = w.top_ids[part[-1]]
        before = [w.blobs[top].shape for top in tops]
        outputs = self._compute(part, self._records(part))
        terms = []
        for top, shape, values in zip(tops, before, outputs, strict=False):  # a layer may leave its tops alone
            w.blobs[top].set_data(values.detach())
            if w.loss_weights[top]:
                if w.blobs[top].shape != shape:
                    w.weigh(top)
                terms.append(w.loss_weights[top] * values.detach().sum())
        return terms

    def _compute(self, part: range, recording: bool) -> list[torch.Tensor]:
        """Give the tops of a chain, from what its bottoms hold; if ``recording``, keep what its backward pass needs."""
        w, layers, first = self._wiring, self.wired[part.start : part.stop], part.start
        tops = w.top_ids[part[-1]]
        for layer in layers:
            layer.leaves.clear()
        with torch.set_grad_enabled(recording):
            needs = zip(w.bottom_ids[first], w.bottom_needs[first], strict=True)
            inputs = [w.blobs[b].leaf(n and recording, recording and b in tops) for b, n in needs]
            relu = recording and ends_in_relu(layers)
            outputs, inner = run_chain(layers[:-1] if relu else layers, inputs, self._half)
        if recording:
            # the edge, not the tensor: an in-place layer's input can be freed
            edges = [get_gradient_edge(o) if o.requires_grad else None for o in outputs] or [None] * len(tops)
            top = outputs[0].detach().relu_() if relu else None
            weights = [(leaf, leaf._version) for layer in layers for leaf in layer.leaves.values()]
            self._tape[part] = Tape(inputs, edges, top, inner if len(layers) > 1 else None, weights)
        return outputs

    def _reshape_layer(self, i: int) -> None:
        """Give the tops of layer i their shapes if its bottoms have changed theirs; a user's layer may like others."""
        w = self._wiring
        shapes = [w.blobs[b].shape for b in w.bottom_ids[i]]
        if self._shapes[i] == shapes and not isinstance(self.wired[i], Python):
            return
        self._shapes[i] = shapes
        tops = self.wired[i].reshape(shapes)
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
        self._values_went |= not keep_data
        parts = list(self._parts(end, len(self.wired) if start is None else start + 1))
        for part in reversed(parts):
            self._announce("before_backward", part.start)
            if self._wiring.needs_backward[part[-1]]:
                self._naming(self._run_back, part, keep_diffs)
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
        w, layers = self._wiring, self.wired[part.start : part.stop]
        for i, layer in zip(part, layers, strict=True):
            layer.check_flows(w.bottom_needs[i])
        if isinstance(layers[0], BlobLayer):
            layers[0].backward(w.bottom_needs[part.start])
            return
        tape, used_up = self._taped(part), self._fused or not keep_diffs
        top_ids, bottom_ids = w.top_ids[part[-1]], w.bottom_ids[part.start]
        tops = [w.blobs[t] for t in top_ids]
        flows = [(e, t.diff_tensor()) for e, t in zip(tape.edges, tops, strict=True) if e is not None and t.has_diff]
        sources = [(x, w.blobs[b].set_diff) for x, b in zip(tape.inputs, bottom_ids, strict=True) if x.requires_grad]
        for layer in layers:
            sources += [(x, layer.blobs[k].add_diff) for k, x in layer.leaves.items() if x.requires_grad]
        if used_up:
            del self._tape[part]
        if not keep_diffs:
            for t, blob in zip(top_ids, tops, strict=True):
                if not w.loss_weights[t]:
                    blob.let_go_diff()
        if tape.relu is not None:
            flows = [(edge, torch.ops.aten.threshold_backward(flow, tape.relu, 0)) for edge, flow in flows]
        if not sources:
            return
        inner = tape.inner if keep_diffs and top_ids != bottom_ids else None
        gradients = _gradients(flows, [x for x, _ in sources] + ([inner.edge] if inner else []), not used_up)
        given = [flow for _, flow in flows]
        if inner and gradients[-1] is not None:
            given.append(inner.gradient(gradients[-1]))
            tops[0].set_diff(given[-1])
        for (leaf, take), gradient in zip(sources, gradients, strict=False):
            if gradient is None:
                gradient = torch.zeros_like(leaf)
            elif keep_diffs and any(gradient is other for other in given):
                gradient = gradient.clone()  # of a sum, say: whoever writes to one diff must not write to another
            given.append(gradient)
            take(gradient)

    def _taped(self, part: range) -> Tape:
        """What the forward pass kept for the backward pass of a chain, or would have kept."""
        if part not in self._tape or self._tape[part].stale:
            if self._values_went:
                name = self.wired[part[-1]].name
                raise NetError(f"Layer '{name}': backward has let go of what forward kept; run forward first")
            self._compute_again(part)
        return self._tape[part]

    def _compute_again(self, part: range) -> None:
        """Make anew what the forward pass would have kept, from what the blobs hold, as Caffe's backward goes by them.

        What a pass changes for the next one stays as it is.
        """
        layers = [self.wired[i] for i in part]
        carried = [values for layer in layers for values in layer.memory]
        carried += [blob.data_tensor() for layer in layers if isinstance(layer, BatchNorm) for blob in layer.blobs]
        before, chance = [values.clone() for values in carried], rng.state()
        self._compute(part, recording=True)
        rng.restore(chance)
        for values, old in zip(carried, before, strict=True):
            values.copy_(old)

    def reshape(self) -> None:
        """Carry a changed input shape through all layers."""
        for i in range(len(self.wired)):
            self._reshape_layer(i)

    def clear_param_diffs(self) -> None:
        """Make the gradients of all parameters zero."""
        for parameter in self.learnable:
            parameter.blob.clear_diff()

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


def _gradients(
    flows: Sequence[tuple[GradientEdge, torch.Tensor]], wanted: list[Any], again: bool
) -> Sequence[torch.Tensor | None]:
    """Of leaves or edges, from what flows in at edges; they can be asked for ``again``."""
    if not flows:
        return [None] * len(wanted)
    edges, values = zip(*flows, strict=True)
    return torch.autograd.grad(edges, wanted, values, allow_unused=True, retain_graph=again)
