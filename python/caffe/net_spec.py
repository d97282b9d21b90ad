"""pycaffe's ``caffe.net_spec``: nets written in Python instead of prototxt.

    from caffe import layers as L, params as P
    n = caffe.NetSpec()
    n.data, n.label = L.ImageData(source="train.txt", batch_size=32, ntop=2)
    n.conv = L.Convolution(n.data, kernel_size=3, num_output=8, weight_filler=dict(type="xavier"))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(n.relu, pool=P.Pooling.MAX, kernel_size=2)
    n.loss = L.SoftmaxWithLoss(n.pool, n.label)
    print(n.to_proto())

A call makes a `Function` (a layer to be) and gives its tops. Keywords are fields of the type's own parameter
message (``convolution_param``) where it has such a field, else of the layer; those ending in ``param`` are
always the layer's. A dict is a message, a list is a repeated field.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from typing import Any

from google.protobuf.message import Message

from caffe.proto import caffe_pb2
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter


def param_name_dict() -> dict[str, str]:
    """Layer type -> its parameter field without ``_param``: ``{"InnerProduct": "inner_product", ...}``."""
    return {
        field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
        for field in LayerParameter.DESCRIPTOR.fields
        if field.message_type is not None and field.name.endswith("_param")
    }


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set the field ``name`` of a message: a dict fills a message, a list (or one value) a repeated field.

    Raises:
        AttributeError: the message has no such field.
        TypeError: the value does not fit the field.
    """
    field = getattr(proto, name)
    if isinstance(field, MutableSequence):
        for item in val if isinstance(val, Sequence) and not isinstance(val, str | bytes) else [val]:
            if isinstance(item, Mapping):
                _fill(field.add(), item)  # type: ignore[attr-defined]
            else:
                field.append(item)
    elif isinstance(val, Mapping):
        _fill(field, val)
    else:
        setattr(proto, name, val)


def _fill(message: Message, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(message, name, value)


class Top:
    """One output of a layer to be: top number ``n`` of ``fn``."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> NetParameter:
        """All layers that this top needs, as a net."""
        return to_proto(self)


class Function:
    """A layer to be: its type, the tops it reads and its parameters.

    Args:
        type_name: layer type, ``Convolution``.
        inputs: the `Top`s it reads.
        params: parameters, and ``ntop`` (number of tops, 1) and ``in_place`` (the tops are the bottoms).
    """

    def __init__(self, type_name: str, inputs: Sequence[Top], params: Mapping[str, Any]) -> None:
        for index, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(top)})")
        self.type_name = type_name
        self.inputs = tuple(inputs)
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_message(self, name: str, bottoms: Sequence[str], tops: Sequence[str]) -> LayerParameter:
        """Make the layer's message."""
        layer = LayerParameter(name=name, type=self.type_name, bottom=bottoms, top=tops)
        own = _param_names.get(self.type_name)
        known = getattr(layer, f"{own}_param").DESCRIPTOR.fields_by_name if own else ()
        for key, value in self.params.items():
            target = getattr(layer, f"{own}_param") if key in known and not key.endswith("param") else layer
            if key not in target.DESCRIPTOR.fields_by_name:
                raise AttributeError(
                    f"layer type {self.type_name} has no parameter '{key}'; its own are {', '.join(known) or 'none'}"
                )
            assign_proto(target, key, value)
        return layer


class _Writer:
    """Walks from tops to what they need, and writes each layer once, after those that it reads."""

    def __init__(self, names: Mapping[Top | Function, str]) -> None:
        self.names = dict(names)
        self.layers: dict[Function, LayerParameter] = {}
        self._used: Counter[str] = Counter()

    def _number(self, type_name: str) -> str:
        self._used[type_name] += 1
        return f"{type_name}{self._used[type_name]}"

    def _top_name(self, top: Top) -> str:
        if top not in self.names:
            self.names[top] = self._number(top.fn.type_name)
        return self.names[top]

    def _layer_name(self, fn: Function) -> str:
        if fn not in self.names:
            self.names[fn] = self._top_name(fn.tops[0]) if fn.tops else self._number(fn.type_name)
        return self.names[fn]

    def write(self, fn: Function) -> None:
        """Write the layer, and before it those that it reads (a deep net is deeper than Python's stack)."""
        waiting = [fn]
        while waiting:
            fn = waiting[-1]
            missing = [top.fn for top in fn.inputs if top.fn not in self.layers]
            if fn not in self.layers and not missing:
                bottoms = [self.layers[top.fn].top[top.n] for top in fn.inputs]
                tops = bottoms if fn.in_place else [self._top_name(top) for top in fn.tops]
                self.layers[fn] = fn.to_message(self._layer_name(fn), bottoms, tops)
            if missing:
                waiting.extend(reversed(missing))
            else:
                waiting.pop()


def _net_of(tops: Iterable[Top | Function], names: Mapping[Top | Function, str]) -> NetParameter:
    writer = _Writer(names)
    for top in tops:
        writer.write(top.fn if isinstance(top, Top) else top)
    return NetParameter(layer=writer.layers.values())


def to_proto(*tops: Top | Function) -> NetParameter:
    """Make a net of all layers that the tops need; layers and blobs are named by type and number."""
    return _net_of(tops, {})


class NetSpec:
    """Tops by name, in the order in which they are set: ``n.conv = ...`` or ``n["conv"] = ...``.

    A layer takes the name of its top; what is not set by name is named by type and number. ``n.tops`` is the
    dictionary itself.
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name not in self.tops:
            raise AttributeError(f"the net has no top '{name}'; it has {', '.join(self.tops) or 'none'}")
        return self.tops[name]

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    def __setitem__(self, key: str, value: Top | Function) -> None:
        self.tops[key] = value

    def __getitem__(self, item: str) -> Any:
        return self.tops[item]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def to_proto(self) -> NetParameter:
        """Make the net of all tops."""
        return _net_of(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """``layers.Convolution(...)``: makes a `Function`; gives its top, its tuple of tops, or itself without any."""

    def __getattr__(self, name: str) -> Callable[..., Top | Function | tuple[Top, ...]]:
        def layer_fn(*inputs: Top, **parameters: Any) -> Top | Function | tuple[Top, ...]:
            fn = Function(name, inputs, parameters)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer_fn


class Parameters:
    """``params.Pooling.MAX``: the constants of a type's parameter message."""

    def __getattr__(self, name: str) -> Any:
        return getattr(caffe_pb2, f"{name}Parameter")


_param_names = param_name_dict()
layers = Layers()
params = Parameters()
