"""pycaffe's ``caffe.draw``: a net as a picture, by Graphviz. Needs the ``pydot`` package and Graphviz's ``dot``."""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe.errors import CaffeError
from caffe.graph.rules import filter_net
from caffe.proto.binary import whole_file
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, PoolingParameter

if TYPE_CHECKING:
    from pydot import Dot

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}


def _pydot() -> Any:
    try:
        import pydot
    except ImportError as problem:
        raise CaffeError(
            "Drawing a net needs the pydot package and Graphviz: pip install pydot, and install Graphviz (its dot "
            "command) with the system's package manager"
        ) from problem
    return pydot


def get_pooling_types_dict() -> dict[int, str]:
    """Number of a pooling method -> its name, ``{0: "MAX", ...}``."""
    return {number: name for name, number in PoolingParameter.PoolMethod.items()}


def choose_color_by_layertype(layertype: str) -> str:
    """Fill colour of a layer's box, as ``#RRGGBB``."""
    return COLORS.get(layertype, "#6495ED")


def get_edge_label(layer: LayerParameter) -> str:
    """What is written on the arrow into a layer: how many outputs it has, or its batch size."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


def get_layer_lr_mult(layer: LayerParameter) -> str:
    """Rates of a layer that learns, ``lr_mult: 1, 2`` (1 where none is given); empty for one that does not."""
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        return ""
    return "lr_mult: " + (", ".join(f"{param.lr_mult:g}" for param in layer.param) or "1")


def _window(param: Any, gap: str) -> str:
    """Kernel, stride and padding: each by its one number, its list, or its two sides."""
    parts = []
    for what, field, default in (("kernel size", "kernel_size", ""), ("stride", "stride", "1"), ("pad", "pad", "0")):
        sides = [f"{field.removesuffix('_size')}_{side}" for side in "hw"]
        value = getattr(param, field)
        values = list(value) if isinstance(value, MutableSequence) else [value] * param.HasField(field)
        shown = [getattr(param, side) for side in sides if param.HasField(side)] or values
        parts.append(f"{what}: {'x'.join(map(str, shown)) or default}")
    return gap.join(parts)


def get_layer_label(layer: LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Text of a layer's box: name, type, window and, with ``display_lrm``, rates.

    It is parted by new lines where the net is drawn sideways (``rankdir`` LR or RL), else by blanks.
    """
    gap = " " if rankdir in ("TB", "BT") else "\\n"
    kind = layer.type
    rows = [layer.name, f"({kind})"]
    if kind == "Pooling":
        rows[1] = f"({get_pooling_types_dict()[layer.pooling_param.pool]} {kind})"
    if kind in ("Convolution", "Deconvolution", "Pooling"):
        param: Any = layer.pooling_param if kind == "Pooling" else layer.convolution_param
        rows.append(_window(param, gap))
    rates = get_layer_lr_mult(layer) if display_lrm else ""
    return f'"{gap.join([*rows, *([rates] if rates else [])])}"'


def get_pydot_graph(
    caffe_net: NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Dot:
    """Make the graph of a net: boxes of layers, octagons of blobs.

    Args:
        caffe_net: the net, in today's format.
        rankdir: ``LR``, ``RL``, ``TB`` or ``BT``: where the graph runs to.
        label_edges: write `get_edge_label` on the arrows into layers.
        phase: draw only the layers of this phase; all of them unless given.
        display_lrm: show the rates.

    Raises:
        CaffeError: pydot is not installed.
    """
    pydot = _pydot()
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    for layer in _of_phase(caffe_net, phase).layer:
        box = f'"{layer.name}_{layer.type}"'
        in_place = list(layer.top) == list(layer.bottom) and len(layer.top) == 1
        style = dict(NEURON_LAYER_STYLE) if in_place else dict(LAYER_STYLE_DEFAULT)
        if not in_place:
            style["fillcolor"] = choose_color_by_layertype(layer.type)
        graph.add_node(pydot.Node(box, label=get_layer_label(layer, rankdir, display_lrm), **style))
        for blob in dict.fromkeys((*layer.bottom, *layer.top)):
            if not graph.get_node(f'"{blob}_blob"'):
                graph.add_node(pydot.Node(f'"{blob}_blob"', label=f'"{blob}"', **BLOB_STYLE))
        label = get_edge_label(layer) if label_edges else '""'
        for blob in layer.bottom:
            graph.add_edge(pydot.Edge(f'"{blob}_blob"', box, label='""'))
        for blob in layer.top:
            graph.add_edge(pydot.Edge(box, f'"{blob}_blob"', label=label))
    return graph


def _of_phase(net: NetParameter, phase: int | None) -> NetParameter:
    if phase is None:
        return net
    copy = NetParameter()
    copy.CopyFrom(net)
    copy.state.phase = phase  # type: ignore[assignment]
    return filter_net(copy)


def draw_net(
    caffe_net: NetParameter, rankdir: str, ext: str = "png", phase: int | None = None, display_lrm: bool = False
) -> bytes:
    """Draw a net; give the picture's bytes in the format ``ext`` (png, pdf, svg, raw).

    Raises:
        CaffeError: pydot or Graphviz is not installed.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    try:
        picture: bytes = graph.create(format=ext)  # type: ignore[assignment]
    except FileNotFoundError as problem:
        raise CaffeError(
            "Drawing a net needs Graphviz's dot command, which is not on PATH: install Graphviz with the system's "
            "package manager, or draw to a .dot or .raw file and render it elsewhere"
        ) from problem
    return picture


def draw_net_to_file(
    caffe_net: NetParameter, filename: str, rankdir: str = "LR", phase: int | None = None, display_lrm: bool = False
) -> None:
    """Draw a net to a file whose suffix names the format; ``.raw`` and ``.dot`` are text and need no Graphviz.

    Raises:
        CaffeError: pydot or Graphviz is not installed, or the file cannot be written.
    """
    ext = Path(filename).suffix.removeprefix(".")
    if not ext:
        raise CaffeError(f"{filename}: the name must end in the picture's format, .png for instance")
    if ext in ("raw", "dot"):
        graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
        content = graph.to_string().encode()
    else:
        content = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with whole_file(filename) as file:
        file.write(content)
