"""From a NetParameter to layers joined by blobs: everything about a net that does not run.

The order of the steps, and so of the log lines, is BVLC Caffe's: a log of ours reads like one of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import prod

import torch

from caffe import device as devices
from caffe import glog
from caffe.blob import Blob
from caffe.errors import CaffeError, NetError, failed
from caffe.layers import registry
from caffe.layers.base import BlobLayer, Layer, describe
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, ParamSpec


@dataclass(frozen=True)
class Learnable:
    """A parameter blob that the solver updates: blob ``index`` of layer number ``layer``, with its own rates."""

    blob: Blob
    layer: int
    index: int
    lr_mult: float
    decay_mult: float


@dataclass
class Wiring:
    """Layers and blobs by number, and who needs a gradient."""

    layers: list[Layer] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    bottom_ids: list[list[int]] = field(default_factory=list)
    top_ids: list[list[int]] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    blob_names: list[str] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    learnable: list[Learnable] = field(default_factory=list)
    needs_backward: list[bool] = field(default_factory=list)
    bottom_needs: list[list[bool]] = field(default_factory=list)
    gradient_scale: float = field(default_factory=devices.gradient_scale)

    def weigh(self, top: int) -> None:
        """Give a blob that counts in the loss its weight as gradient."""
        blob, weight = self.blobs[top], self.loss_weights[top]
        if weight:
            blob.set_diff(torch.full(blob.shape, weight * self.gradient_scale, device=blob.device))


def wire(param: NetParameter, device: torch.device) -> Wiring:
    """Make and join the layers of ``param``, which is filtered, split and has its phase set.

    Raises:
        NetError: the layers do not fit together.
        LayerError: a layer does not fit its parameters or bottoms.
    """
    builder = _Builder(param, device)
    for layer in param.layer:
        builder.add(layer)
    return builder.finish()


class _Builder:
    def __init__(self, param: NetParameter, device: torch.device) -> None:
        self.param = param
        self.device = device
        self.wiring = Wiring()
        self.id_of: dict[str, int] = {}
        self.unread: set[str] = set()
        self.blob_needs: list[bool] = []
        self.owners: dict[str, int] = {}  # shared name -> place of its parameter in learnable
        self.memory = 0

    def add(self, param: LayerParameter) -> None:
        """Make one layer, join it and set it up."""
        w = self.wiring
        if not param.HasField("phase"):
            param.phase = self.param.state.phase
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise NetError(
                f"Layer '{param.name}': propagate_down param must be specified either 0 or bottom_size times: "
                f"it is given {len(param.propagate_down)} times for {len(param.bottom)} bottoms"
            )
        glog.info("layer_factory.hpp:77", f"Creating layer {param.name}")
        layer = registry.create(param, self.device)
        glog.info("net.cpp:86", f"Creating Layer {param.name}")
        bottoms = [self._bottom(param, i) for i in range(len(param.bottom))]
        tops = [self._top(param, name, bottoms) for name in param.top]
        if layer.is_loss and not tops:
            tops.append(self._new_blob(param.name, "(automatic)"))  # it has no name: no output, nobody's bottom
        _check_counts(layer)
        w.layers.append(layer)
        w.names.append(param.name)
        w.bottom_ids.append(bottoms)
        w.top_ids.append(tops)
        self._set_up(layer, bottoms, tops)
        self._needs(layer, bottoms, tops)

    def _bottom(self, param: LayerParameter, i: int) -> int:
        name = param.bottom[i]
        if name not in self.unread:
            near = get_close_matches(name, self.id_of)
            hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
            raise NetError(f"Unknown bottom blob '{name}' (layer '{param.name}', bottom index {i}){hint}")
        glog.info("net.cpp:408", f"{param.name} <- {name}")
        self.unread.discard(name)
        return self.id_of[name]

    def _top(self, param: LayerParameter, name: str, bottoms: Sequence[int]) -> int:
        place = list(param.top).index(name)
        if place < len(param.bottom) and param.bottom[place] == name:
            glog.info("net.cpp:369", f"{param.name} -> {name} (in-place)")
            self.unread.add(name)
            return self.id_of[name]
        if name in self.id_of:
            raise NetError(
                f"Top blob '{name}' produced by multiple sources. Layer '{param.name}' is the second: "
                "give its top another name, or the same bottom to work in place"
            )
        number = self._new_blob(param.name, name)
        self.id_of[name] = number
        self.unread.add(name)
        if param.type == "Input":
            self.wiring.inputs.append(number)
        return number

    def _new_blob(self, layer: str, name: str) -> int:
        w = self.wiring
        glog.info("net.cpp:382", f"{layer} -> {name}")
        number = len(w.blobs)
        w.blobs.append(Blob((), self.device))
        w.blob_names.append(name)
        w.loss_weights.append(0.0)
        self.blob_needs.append(False)
        return number

    def _set_up(self, layer: Layer, bottoms: Sequence[int], tops: Sequence[int]) -> None:
        w = self.wiring
        shapes = [w.blobs[b].shape for b in bottoms]
        if isinstance(layer, BlobLayer):
            layer.bottom, layer.top = [w.blobs[b] for b in bottoms], [w.blobs[t] for t in tops]
        try:
            layer.setup(shapes)
            top_shapes = layer.reshape(shapes)
        except CaffeError:
            raise
        except Exception as problem:
            if layer.type == "Python":  # a user's own
                raise
            raise failed(layer.name, problem) from problem
        for top, shape in zip(tops, top_shapes, strict=True):
            if top in bottoms and shape != w.blobs[top].shape and not isinstance(layer, BlobLayer):
                raise NetError(
                    f"Layer '{layer.name}' ({layer.type}) cannot work in place: its top '{w.blob_names[top]}' has the "
                    f"shape {describe(shape)}, its bottom {describe(w.blobs[top].shape)}; give its top another name"
                )
            w.blobs[top].reshape(*shape)
        self._weigh(layer, tops)
        glog.info("net.cpp:124", f"Setting up {layer.name}")
        for top in tops:
            blob = w.blobs[top]
            glog.info("net.cpp:131", f"Top shape: {describe(blob.shape)}")
            if w.loss_weights[top]:
                glog.info("net.cpp:134", f"    with loss weight {w.loss_weights[top]:g}")
            self.memory += 4 * prod(blob.shape)
        glog.info("net.cpp:139", f"Memory required for data: {self.memory}")

    def _weigh(self, layer: Layer, tops: Sequence[int]) -> None:
        """Note each top's loss weight; a loss starts the backward pass with it as its gradient."""
        weights = list(layer.param.loss_weight)
        if weights and len(weights) != len(tops):
            raise NetError(
                f"Layer '{layer.name}': loss_weight must be unspecified or specified once per top blob: it is "
                f"given {len(weights)} times for {len(tops)} tops"
            )
        if not weights and layer.is_loss:
            weights = [1.0] + [0.0] * (len(tops) - 1)
            layer.param.loss_weight.extend(weights)  # a file of the net says so, as BVLC's does
        for top, weight in zip(tops, weights, strict=False):
            self.wiring.loss_weights[top] = weight
            self.wiring.weigh(top)

    def _needs(self, layer: Layer, bottoms: Sequence[int], tops: Sequence[int]) -> None:
        """Find where gradients must flow, and enter the layer's parameters."""
        asked = list(layer.param.propagate_down)
        bottom_needs = [asked[i] if asked else self.blob_needs[b] for i, b in enumerate(bottoms)]
        if len(layer.param.param) > len(layer.blobs):
            raise NetError(
                f"Too many params specified for layer {layer.name}: {len(layer.param.param)} are given, it has "
                f"{len(layer.blobs)}"
            )
        given = list(layer.param.param)
        specs = given + [ParamSpec()] * (len(layer.blobs) - len(given))
        layer.wanted = [spec.lr_mult != 0 for spec in specs]
        for i, spec in enumerate(specs):
            self._enter(layer, i, spec)
        need = any(self.blob_needs[b] for b in bottoms) or any(layer.wanted)  # whatever propagate_down says
        self.wiring.bottom_needs.append(bottom_needs)
        self.wiring.needs_backward.append(need)
        for top in tops:
            self.blob_needs[top] = need

    def _enter(self, layer: Layer, i: int, spec: ParamSpec) -> None:
        """Make blob i of the layer learnable, or share an earlier one of the same param name."""
        w = self.wiring
        if spec.name not in self.owners:
            if spec.name:
                self.owners[spec.name] = len(w.learnable)
            w.learnable.append(Learnable(layer.blobs[i], len(w.layers) - 1, i, spec.lr_mult, spec.decay_mult))
            return
        place = self.owners[spec.name]
        owner, blob, mine = w.names[w.learnable[place].layer], w.learnable[place].blob, layer.blobs[i].shape
        glog.info("net.cpp:467", f"Sharing parameters '{spec.name}' owned by layer '{owner}', param index {i}")
        permissive = spec.share_mode == ParamSpec.PERMISSIVE
        if prod(mine) != blob.count if permissive else mine != blob.shape:
            what = "count" if permissive else "shape"
            raise NetError(
                f"Check failed: this_blob->{what}() == owner_blob->{what}() Cannot share param '{spec.name}' owned by "
                f"layer '{owner}' with layer '{layer.name}'; {what} mismatch.  Owner layer param "
                f"shape is {describe(blob.shape)}; sharing layer expects shape {describe(mine)}"
            )
        layer.blobs[i] = blob if mine == blob.shape else blob.seen_as(mine)
        self._agree(spec, place)

    def _agree(self, spec: ParamSpec, place: int) -> None:
        """A sharing layer may set rates that its owner left open, and must not contradict them."""
        first = self.wiring.learnable[place]
        theirs = self.wiring.layers[first.layer].param.param[first.index]
        for name in ("lr_mult", "decay_mult"):
            if not spec.HasField(name):
                continue
            if theirs.HasField(name) and getattr(theirs, name) != getattr(spec, name):
                raise NetError(
                    f"Shared param '{spec.name}' has mismatched {name}: {getattr(theirs, name):g} in layer "
                    f"'{self.wiring.names[first.layer]}', {getattr(spec, name):g} later"
                )
            setattr(theirs, name, getattr(spec, name))
        self.wiring.learnable[place] = replace(first, lr_mult=theirs.lr_mult, decay_mult=theirs.decay_mult)

    def finish(self) -> Wiring:
        """Drop gradients that no loss needs, name inputs and outputs."""
        w = self.wiring
        _prune(w)
        if self.param.force_backward:
            for i, layer in enumerate(w.layers):
                w.needs_backward[i] = True
                w.bottom_needs[i] = [n or layer.flows_to(k) for k, n in enumerate(w.bottom_needs[i])]
                layer.wanted = [True] * len(layer.blobs)
        for name in sorted(self.unread):
            glog.info("net.cpp:244", f"This network produces output {name}")
            w.outputs.append(self.id_of[name])
        glog.info("net.cpp:257", "Network initialization done.")
        return w


def _check_counts(layer: Layer) -> None:
    """As many bottoms and tops as the type takes, in BVLC's words."""
    p = layer.param
    top_range = (0, layer.tops[1]) if layer.is_loss else layer.tops
    for what, verb, put, given, (least, most) in (
        ("bottom", "takes", "input", len(p.bottom), layer.bottoms),
        ("top", "produces", "output", len(p.top), top_range),
    ):
        if least == most and given != least:
            check, bound = "ExactNum{}Blobs() == ", f"{least}"
        elif given < least:
            check, bound = "Min{}Blobs() <= ", f"at least {least}"
        elif most is not None and given > most:
            check, bound = "Max{}Blobs() >= ", f"at most {most}"
        else:
            continue
        raise NetError(
            f"Check failed: {check.format(what.title())}{what}.size() ({bound.split()[-1]} vs. {given}) "
            f"{p.type} Layer {verb} {bound} {what} blob(s) as {put}. Layer '{p.name}' is given {given}"
        )


def _prune(w: Wiring) -> None:
    """Walk back from the losses: a layer that leads to none, or to nobody who wants it, has no backward."""
    under_loss: set[int] = set()
    skip: set[int] = set()
    for i in reversed(range(len(w.layers))):
        tops = w.top_ids[i]
        contributes = any(w.loss_weights[t] or t in under_loss for t in tops)
        if not contributes or all(t in skip for t in tops):
            w.needs_backward[i] = False
            w.bottom_needs[i] = [False] * len(w.bottom_ids[i])
        does = "needs" if w.needs_backward[i] else "does not need"
        glog.info(
            "net.cpp:200" if w.needs_backward[i] else "net.cpp:202",
            f"{w.names[i]} {does} backward computation.",
        )
        for bottom, need in zip(w.bottom_ids[i], w.bottom_needs[i], strict=True):
            if contributes:
                under_loss.add(bottom)
            if not need:
                skip.add(bottom)
