"""Where a net can be cut into a part that is computed once and a part that learns; the prototxts of both.

A layer that works in place gives its blob a new state under the old name. The graph below knows states, so that a
cut at a blob comes after its in-place ReLU and before its in-place Dropout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError

RANDOM = ("Dropout", "DummyData")
"""Types of layers that draw numbers while training."""
SOURCES = ("Data", "ImageData")
"""Types of layers that read pictures."""


@dataclass(frozen=True)
class Cut:
    """A blob that separates a net: `below` are the names of the layers that make it of the pictures, in order."""

    blob: str
    below: tuple[str, ...]

    @property
    def last(self) -> str:
        """The layer that gives the blob the state at which the net is cut."""
        return self.below[-1]


def in_phase(layer: Any, phase: int, path: Path) -> bool:
    """Whether a layer is in the net of a phase; raises ToolError where that hangs on more than the phase."""
    rules = layer.include or layer.exclude
    for rule in rules:
        if {field.name for field, _ in rule.ListFields()} - {"phase"}:
            raise ToolError(f"{path}: '{layer.name}' hangs on levels or stages; keep only its include {{ phase: … }}")
    hit = any(not rule.HasField("phase") or rule.phase == phase for rule in rules)
    return not rules or hit == bool(layer.include)


def input_net(net: Any, pictures: Sequence[int], labels: Sequence[int], phase: int, path: Path) -> Any:
    """The net of a phase with an Input in place of its data layer, and all weights 0 until they are loaded.

    Args:
        net: the NetParameter of the file `path`.
        pictures: shape of the data layer's first top, [n, c, h, w].
        labels: shape of its second, [n].
        phase: caffe.TRAIN or caffe.TEST.
        path: for errors.
    """
    new = caffe_pb2.NetParameter(name=net.name)
    for layer in net.layer:
        if not in_phase(layer, phase, path):
            continue
        copy: Any = new.layer.add()
        if layer.type not in SOURCES:
            copy.CopyFrom(layer)
            copy.ClearField("include")
            copy.ClearField("exclude")
            _without_fillers(copy)
            continue
        copy.name, copy.type = layer.name, "Input"
        copy.top[:] = layer.top
        for shape in (pictures, labels)[: len(layer.top)]:
            copy.input_param.shape.add().dim[:] = shape
    return new


def _without_fillers(layer: Any) -> None:
    for _, value in layer.ListFields():
        for name in ("weight_filler", "bias_filler"):
            if name in getattr(getattr(value, "DESCRIPTOR", None), "fields_by_name", {}):
                value.ClearField(name)


def find_cut(net: Any, path: Path, counts: Mapping[str, int], upto: str | None) -> Cut:
    """The place to cut at: the state of the blob `upto`, else the last before anything learns or is random.

    Args:
        net: the NetParameter of the file `path`.
        path: for errors.
        counts: layer name -> number of its blobs of weights; layers without may be missing.
        upto: a blob's name.

    Raises:
        ToolError: there is no such blob, it does not separate, or something below it learns; tells what is possible.
    """
    graph = _Graph(net, path)
    changing = {layer.name: why for layer in graph.layers if (why := _changes(layer, counts))}
    cuts = [(state, cut) for state in graph.made if (cut := graph.cut(state)) is not None]
    frozen = [cut for _, cut in cuts if not changing.keys() & set(cut.below)]
    sure = [cut for cut in frozen if not any(graph.types[name] in RANDOM for name in cut.below)]
    possible = list(dict.fromkeys(cut.blob for cut in sure))
    told = (
        f"possible are {', '.join(possible)}" if possible else "nothing before its first learning layer can be cut off"
    )
    if upto is None:
        if not sure:
            raise ToolError(f"{path}: {told}; cache a model whose first layers have lr_mult: 0, as CaffeNet-frozen")
        return sure[-1]
    if upto not in {name for layer in graph.layers for name in layer.top}:
        raise ToolError(f"{path} has no blob '{upto}'; {told}")
    of_name = [cut for _, cut in cuts if cut.blob == upto]
    if not of_name:
        raise ToolError(f"{path}: '{upto}' does not separate the layers below it from the rest; {told}")
    for chosen in (sure, frozen):
        if matching := [cut for cut in chosen if cut.blob == upto]:
            return matching[-1]
    name = next(name for name in of_name[0].below if name in changing)
    raise ToolError(
        f"{path}: '{name}' {changing[name]}: cutting at '{upto}' would freeze it; "
        f"give another --upto ({told}), or cache the frozen model"
    )


def _changes(layer: Any, counts: Mapping[str, int]) -> str:
    """What changes in a layer while training, in words; empty where nothing does."""
    if layer.type == "BatchNorm" and not layer.batch_norm_param.use_global_stats:
        return "takes its statistics from the batch unless use_global_stats is true"
    rates = [param.lr_mult for param in layer.param][: counts.get(layer.name, 0)]
    rates += [1.0] * (counts.get(layer.name, 0) - len(rates))  # as Caffe takes what is not said
    return next((f"learns with lr_mult {rate:g}" for rate in rates if rate), "")


class _Graph:
    """The layers of training and the states of blobs: (name, how often it was made)."""

    def __init__(self, net: Any, path: Path) -> None:
        self.layers = [layer for layer in net.layer if in_phase(layer, caffe_pb2.TRAIN, path)]
        tested = {layer.name for layer in net.layer if in_phase(layer, caffe_pb2.TEST, path)}
        self.types = {layer.name: layer.type for layer in self.layers}
        self.reads: dict[str, list[tuple[str, int]]] = {}
        self.maker: dict[tuple[str, int], str] = {}
        newest: dict[str, int] = {}
        self.made: list[tuple[str, int]] = []
        self._only_trained = self.types.keys() - tested
        for layer in self.layers:
            if missing := [name for name in layer.bottom if name not in newest]:
                raise ToolError(f"{path}: no layer before '{layer.name}' gives its bottom '{missing[0]}'")
            self.reads[layer.name] = [(name, newest.get(name, 0)) for name in layer.bottom]
            for number, name in enumerate(layer.top):
                newest[name] = newest.get(name, 0) + 1
                self.maker[name, newest[name]] = layer.name
                if layer.bottom:
                    self.made.append((name, newest[name]))
                elif layer.type in SOURCES and number == 0:
                    self._pictures = (name, newest[name])

    def cut(self, state: tuple[str, int]) -> Cut | None:
        """The cut at a state; None where it does not separate the pictures, or nothing is left above."""
        below, left, leaves = set(), [state], set()
        while left:
            name = self.maker[left.pop()]
            if name in below:
                continue
            below.add(name)
            for read in self.reads[name]:
                if self.reads[self.maker[read]]:
                    left.append(read)
                else:
                    leaves.add(read)
        above = [name for name in self.types if name not in below and self.reads[name]]
        crossing = {read for name in above for read in self.reads[name] if self.maker[read] in below}
        seen = {read for name in above for read in self.reads[name]}
        if leaves != {self._pictures} or crossing != {state} or self._pictures in seen or below & self._only_trained:
            return None
        return Cut(state[0], tuple(name for name in self.types if name in below))


def small_net(net: Any, cut: Cut, sources: Iterable[Any]) -> Any:
    """The net that learns: data layers that give the blob of the cut, and the layers above it."""
    new = caffe_pb2.NetParameter(name=f"{net.name}_cached")
    for layer in sources:
        new.layer.add().CopyFrom(layer)
    for layer in net.layer:
        if layer.type not in SOURCES and layer.name not in cut.below:
            new.layer.add().CopyFrom(layer)
    return new
