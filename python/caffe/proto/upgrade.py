"""Files of older Caffes, brought up to date as they are read: one pair needs_x / upgrade_x a format change.

    V0      `layers { layer { type: "conv" } bottom: … }`, with padding as layers of its own
    data    `data_param { scale mean_file crop_size mirror }` instead of `transform_param`
    V1      `layers { type: CONVOLUTION blobs_lr weight_decay }`
    input   `input: "data" input_dim: 1 …` or `input_shape { … }` instead of an Input layer
    BatchNorm   three `param`s, with any rates; its statistics are not to be learned
    solver  `solver_type: ADAM` (an enum) instead of `type: "Adam"`

Each logs the lines that Caffe logs. An upgrade changes the message it is given and says whether all of it
could be kept; `upgrade_net`, `try_upgrade_net` and `upgrade_solver` work on a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from caffe import glog
from caffe.errors import FormatError
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V1LayerParameter
from caffe.proto.upgrade_v0 import needs_v0, put, upgrade_v0

V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
"""V1 types whose current name is not simply in camel case, as CONTRASTIVE_LOSS is ContrastiveLoss."""

V1_PARAM_SPECS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1 field, repeated a parameter blob each -> field of ParamSpec."""

DATA_PARAMS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")
SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
"""Solver types in the order of the old enum."""


def upgrade_net(param: NetParameter, source: str) -> NetParameter:
    """Return `param` in the current format; `source` is its file, for the log.

    FormatError if it has both `layer` and `layers`, or something that no Caffe knew.
    """
    return try_upgrade_net(param, source)[0]


def try_upgrade_net(param: NetParameter, source: str) -> tuple[NetParameter, bool]:
    """Return what `upgrade_net` does, and whether all of ``param`` could be kept; FormatError as there."""
    if param.layer and param.layers:
        raise FormatError(
            f"{source}: Refusing to upgrade inconsistent NetParameter input; the definition includes both 'layer' "
            "and 'layers' fields. Write all layers as `layer` or all as `layers`"
        )
    upgraded = NetParameter()
    upgraded.CopyFrom(param)
    complete = True
    for change in CHANGES:
        if change.needs(upgraded):
            try:
                complete &= _apply(change, upgraded, source)
            except ValueError as error:
                raise FormatError(f"{source}: {error}") from None
    return upgraded, complete


def needs_upgrade(net: NetParameter) -> bool:
    """Say whether anything in the net is of an old format."""
    return any(change.needs(net) for change in CHANGES)


def upgrade_solver(param: SolverParameter, source: str) -> SolverParameter:
    """Return `param` with `type` for `solver_type`, and a `snapshot_prefix` made from its file if need be.

    FormatError if it has both `type` and `solver_type`.
    """
    upgraded = SolverParameter()
    upgraded.CopyFrom(param)
    if needs_solver_type(upgraded):
        upgrade_solver_type(upgraded, source)
    upgrade_snapshot_prefix(upgraded, source)
    return upgraded


def needs_data(net: NetParameter) -> bool:
    """Say whether a data layer has transformations among its own parameters."""
    return any(_old_transforms(layer) for layer in net.layers)


def upgrade_data(net: NetParameter) -> bool:
    """Move the transformations of data layers to `transform_param`."""
    for layer in net.layers:
        param = DATA_PARAMS.get(V1LayerParameter.LayerType.Name(layer.type))
        if param is None:
            continue
        layer.transform_param.SetInParent()
        for name in _old_transforms(layer):
            setattr(layer.transform_param, name, getattr(getattr(layer, param), name))
            getattr(layer, param).ClearField(name)
    return True


def _old_transforms(layer: V1LayerParameter) -> list[str]:
    param = DATA_PARAMS.get(V1LayerParameter.LayerType.Name(layer.type))
    return [name for name in TRANSFORMS if param and getattr(layer, param).HasField(name)]


def needs_v1(net: NetParameter) -> bool:
    """Say whether any layer is of the second format."""
    return len(net.layers) > 0


def upgrade_v1(net: NetParameter) -> bool:
    """Turn `layers` into `layer`."""
    for old in net.layers:
        _upgrade_v1_layer(old, net.layer.add())
    net.ClearField("layers")
    return True


def _upgrade_v1_layer(old: V1LayerParameter, new: LayerParameter) -> None:
    for field, value in old.ListFields():
        if field.name == "type":
            name = V1LayerParameter.LayerType.Name(value)
            new.type = V1_TYPES.get(name, name.title().replace("_", ""))
        elif field.name in V1_PARAM_SPECS:
            for index, item in enumerate(value):
                while len(new.param) <= index:
                    new.param.add()
                setattr(new.param[index], V1_PARAM_SPECS[field.name], item)
        else:
            put(new, field.name, value)


def needs_input(net: NetParameter) -> bool:
    """Say whether the net's inputs are fields of the net."""
    return len(net.input) > 0


def upgrade_input(net: NetParameter) -> bool:
    """Turn `input` with its shapes into a first layer of type Input; either without the other is dropped."""
    names, shapes, dims = list(net.input), list(net.input_shape), list(net.input_dim)
    if shapes or dims:
        given = len(shapes) if shapes else len(dims) / 4
        if given < len(names):
            raise ValueError(
                "Incorrect input blob dimension specifications: "
                f"{len(names)} input, {len(shapes)} input_shape, {len(dims)} input_dim; "
                "each input needs one input_shape or four input_dim"
            )
        layer = LayerParameter(name="input", type="Input", top=names)
        for index in range(len(names)):
            shape = layer.input_param.shape.add()
            shape.dim.extend(shapes[index].dim if shapes else dims[4 * index : 4 * index + 4])
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
    return True


def needs_batch_norm(net: NetParameter) -> bool:
    """Say whether a BatchNorm layer has a `param` for each of its three statistics."""
    return any(layer.type == "BatchNorm" and len(layer.param) == 3 for layer in net.layer)


def upgrade_batch_norm(net: NetParameter) -> bool:
    """Set the rates of BatchNorm's statistics to zero: they are computed, not learned."""
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    return True


def needs_solver_type(solver: SolverParameter) -> bool:
    """Say whether the solver's type is given as an enum."""
    return solver.HasField("solver_type")


def upgrade_solver_type(solver: SolverParameter, source: str) -> None:
    """Turn `solver_type` into `type`; FormatError if the solver has both."""
    what = "deprecated 'solver_type' field (enum)"
    glog.info("upgrade_proto.cpp:1084", f"Attempting to upgrade input file specified using {what}': {source}")
    if solver.HasField("type"):
        raise FormatError(
            f"{source}: Failed to upgrade solver: old solver_type field (enum) and new type field (string) "
            "cannot be both specified in solver proto text; keep `type`"
        )
    solver.type = SOLVER_TYPES[solver.solver_type]
    solver.ClearField("solver_type")
    done = f"Successfully upgraded file specified using {what} to 'type' field (string)."
    glog.info("upgrade_proto.cpp:1091", done)
    note = "Note that future Caffe releases will only support 'type' field (string) for a solver's type."
    glog.warning("upgrade_proto.cpp:1093", note)


def upgrade_snapshot_prefix(solver: SolverParameter, source: str) -> None:
    """Name the snapshots after the solver's file where the prefix is missing or a directory."""
    file = PurePath(source)
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = source.removesuffix(file.suffix)
        what = f"snapshot_prefix was not specified and is set to {solver.snapshot_prefix}"
        glog.info("upgrade_proto.cpp:1108", what)
    elif Path(solver.snapshot_prefix).is_dir() or solver.snapshot_prefix.endswith("/"):  # one that is not made yet
        solver.snapshot_prefix = f"{solver.snapshot_prefix.rstrip('/')}/{file.stem}"
        what = f"snapshot_prefix was a directory and is replaced to {solver.snapshot_prefix}"
        glog.info("upgrade_proto.cpp:1113", what)


@dataclass(frozen=True)
class Change:
    """A format change of nets: how to see it, how to mend it, and Caffe's log lines with their places."""

    needs: Callable[[NetParameter], bool]
    upgrade: Callable[[NetParameter], bool]
    attempt: tuple[int, str]
    success: tuple[int, str]
    note: tuple[int, str] | None = None
    problem: tuple[int, str] | None = None


CHANGES = (
    Change(
        needs_v0,
        upgrade_v0,
        (28, "Attempting to upgrade input file specified using deprecated V0LayerParameter"),
        (36, "Successfully upgraded file specified using deprecated V0LayerParameter"),
        (
            39,
            "Note that future Caffe releases will not support V0NetParameter; "
            "use ./build/tools/upgrade_net_proto_text for prototxt and "
            "./build/tools/upgrade_net_proto_binary for model weights "
            "upgrade this and any other net protos to the new format.",
        ),
        (
            33,
            "Warning: had one or more problems upgrading V0NetParameter to NetParameter (see above); "
            "continuing anyway.",
        ),
    ),
    Change(
        needs_data,
        upgrade_data,
        (46, "Attempting to upgrade input file specified using deprecated transformation parameters"),
        (49, "Successfully upgraded file specified using deprecated data transformation parameters."),
        (
            51,
            "Note that future Caffe releases will only support transform_param messages for transformation fields.",
        ),
    ),
    Change(
        needs_v1,
        upgrade_v1,
        (55, "Attempting to upgrade input file specified using deprecated V1LayerParameter"),
        (63, "Successfully upgraded file specified using deprecated V1LayerParameter"),
    ),
    Change(
        needs_input,
        upgrade_input,
        (69, "Attempting to upgrade input file specified using deprecated input fields"),
        (72, "Successfully upgraded file specified using deprecated input fields."),
        (74, "Note that future Caffe releases will only support input layers and not input fields."),
    ),
    Change(
        needs_batch_norm,
        upgrade_batch_norm,
        (79, "Attempting to upgrade batch norm layers using deprecated params"),
        (82, "Successfully upgraded batch norm layers using deprecated params."),
    ),
)
"""The changes of nets, in the order in which they came and are applied."""


def _apply(change: Change, net: NetParameter, source: str) -> bool:
    line, text = change.attempt
    glog.info(f"upgrade_proto.cpp:{line}", f"{text}: {source}")
    complete = change.upgrade(net)
    if complete or change.problem is None:
        line, text = change.success
        glog.info(f"upgrade_proto.cpp:{line}", text)
    else:
        line, text = change.problem
        glog.error(f"upgrade_proto.cpp:{line}", text)
    if change.note:
        line, text = change.note
        glog.warning(f"upgrade_proto.cpp:{line}", text)
    return complete
