"""Files of older Caffes become current ones: hand-written pairs, tables written out, Caffe's log lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.message import Message

from caffe.errors import FormatError
from caffe.proto.caffe_pb2 import (
    DataParameter,
    LayerParameter,
    NetParameter,
    SolverParameter,
    V0LayerParameter,
    V1LayerParameter,
)
from caffe.proto.text import parse
from caffe.proto.upgrade import try_upgrade_net, upgrade_net, upgrade_solver
from caffe.proto.upgrade_v0 import V0_COMMON, V0_TYPES


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> object:
    """A function that returns the lines logged since the last call: severity, place and text."""
    monkeypatch.setenv("GLOG_minloglevel", "0")

    def lines() -> list[str]:
        return [line[0] + " " + line.split(None, 3)[3] for line in capfd.readouterr().err.splitlines()]

    return lines


def net(text: str) -> NetParameter:
    return parse(text, NetParameter(), "net")


def layer_of(old: str) -> LayerParameter:
    (layer,) = upgrade_net(net(f"layers {{ {old} }}"), "net").layer
    return layer


def layer(text: str) -> LayerParameter:
    return parse(text, LayerParameter(), "layer")


V0_NET = """
name: "old"
force_backward: true
input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 9
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers {
  layer {
    name: "conv1" type: "conv" num_output: 4 kernelsize: 5 group: 2 stride: 3 biasterm: false
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { value: 1 }
    blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  }
  bottom: "pad1" top: "conv1"
}
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "conv1" top: "pad2" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "pad2" top: "pool1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } bottom: "pool1" top: "norm1" }
layers { layer { name: "fc" type: "innerproduct" num_output: 7 } bottom: "norm1" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.3 } bottom: "fc" top: "fc" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
"""

V0_NET_NOW = """
name: "old"
force_backward: true
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 9 } } }
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 4 kernel_size: 5 group: 2 stride: 3 bias_term: false pad: 2
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { value: 1 }
  }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm1" top: "fc" inner_product_param { num_output: 7 } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
"""


def test_v0_net(logged: object) -> None:
    old = net(V0_NET)
    assert upgrade_net(old, "old.prototxt") == net(V0_NET_NOW)
    assert old == net(V0_NET)
    assert logged() == [
        "I upgrade_proto.cpp:28] Attempting to upgrade input file specified using deprecated V0LayerParameter: "
        "old.prototxt",
        "I upgrade_proto.cpp:36] Successfully upgraded file specified using deprecated V0LayerParameter",
        "W upgrade_proto.cpp:39] Note that future Caffe releases will not support V0NetParameter; use "
        "./build/tools/upgrade_net_proto_text for prototxt and ./build/tools/upgrade_net_proto_binary for model "
        "weights upgrade this and any other net protos to the new format.",
        "I upgrade_proto.cpp:55] Attempting to upgrade input file specified using deprecated V1LayerParameter: "
        "old.prototxt",
        "I upgrade_proto.cpp:63] Successfully upgraded file specified using deprecated V1LayerParameter",
        "I upgrade_proto.cpp:69] Attempting to upgrade input file specified using deprecated input fields: "
        "old.prototxt",
        "I upgrade_proto.cpp:72] Successfully upgraded file specified using deprecated input fields.",
        "W upgrade_proto.cpp:74] Note that future Caffe releases will only support input layers and not input fields.",
    ]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        (
            'layer { type: "data" source: "db" batchsize: 5 rand_skip: 3'
            ' scale: 0.5 meanfile: "m" cropsize: 6 mirror: true }',
            'type: "Data" data_param { source: "db" batch_size: 5 rand_skip: 3 }'
            'transform_param { scale: 0.5 mean_file: "m" crop_size: 6 mirror: true }',
        ),
        (
            'layer { type: "images" source: "l" batchsize: 5 rand_skip: 3'
            " shuffle_images: true new_height: 8 new_width: 9 }",
            'type: "ImageData" image_data_param'
            '{ source: "l" batch_size: 5 rand_skip: 3 shuffle: true new_height: 8 new_width: 9 }',
        ),
        (
            'layer { type: "window_data" source: "w" batchsize: 5 det_fg_threshold: 0.6 det_bg_threshold: 0.4'
            ' det_fg_fraction: 0.2 det_context_pad: 16 det_crop_mode: "square" }',
            'type: "WindowData" window_data_param { source: "w" batch_size: 5 fg_threshold: 0.6 bg_threshold: 0.4'
            ' fg_fraction: 0.2 context_pad: 16 crop_mode: "square" }',
        ),
        (
            'layer { type: "hdf5_data" source: "h" batchsize: 5 }',
            'type: "HDF5Data" hdf5_data_param { source: "h" batch_size: 5 }',
        ),
        (
            'layer { type: "hdf5_output" hdf5_output_param { file_name: "o" } }',
            'type: "HDF5Output" hdf5_output_param { file_name: "o" }',
        ),
        ('layer { type: "concat" concat_dim: 2 }', 'type: "Concat" concat_param { concat_dim: 2 }'),
        ('layer { type: "infogain_loss" source: "m" }', 'type: "InfogainLoss" infogain_loss_param { source: "m" }'),
        (
            'layer { name: "c" type: "conv" pad: 3 blobs { num: 4 } }',
            'name: "c" type: "Convolution" convolution_param { pad: 3 } blobs { num: 4 }',
        ),
        ('layer { type: "pool" pool: STOCHASTIC pad: 3 }', 'type: "Pooling" pooling_param { pool: STOCHASTIC pad: 3 }'),
        (
            'layer { type: "tanh" } include { phase: TEST } loss_weight: 2',
            'type: "TanH" include { phase: TEST } loss_weight: 2',
        ),
    ],
)
def test_v0_layers(old: str, now: str) -> None:
    assert layer_of(old) == layer(now)


def test_no_v0_field_is_forgotten() -> None:
    """All but new_num and new_channels, which no layer of that time read."""
    known = {"type"} | set(V0_COMMON) | {name for _, _, fields in V0_TYPES.values() for name in fields}
    assert set(V0LayerParameter.DESCRIPTOR.fields_by_name) - known == {"new_num", "new_channels"}


def test_v1_layers_between_v0_layers_stay(logged: object) -> None:
    mixed = net('layers { layer { name: "a" type: "relu" } } layers { name: "b" type: TANH bottom: "a" top: "b" }')
    upgraded, complete = try_upgrade_net(mixed, "mixed")
    assert [(each.name, each.type) for each in upgraded.layer] == [("a", "ReLU"), ("b", "TanH")]
    assert complete
    assert not [line for line in logged() if line.startswith("E")]  # type: ignore[operator]


def test_v0_field_of_another_type_is_told(logged: object) -> None:
    assert layer_of('layer { name: "r" type: "relu" kernelsize: 3 }') == layer('name: "r" type: "ReLU"')
    lines = logged()
    assert "E upgrade_proto.cpp:180] Unknown parameter kernelsize for layer type relu" in lines
    assert (
        "E upgrade_proto.cpp:33] Warning: had one or more problems upgrading V0NetParameter to NetParameter "
        "(see above); continuing anyway." in lines
    )
    assert not any("Successfully upgraded file specified using deprecated V0" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layers { layer { name: "x" type: "convolve" } }', "Unknown layer name: convolve (layer 'x'; known: accuracy"),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" top: "p" }'
            'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
            "Padding layer input to non-convolutional / non-pooling layer type relu",
        ),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" top: "p" }'
            'layers { layer { type: "conv" } bottom: "p" bottom: "a" top: "r" }',
            "Conv Layer takes a single blob as input.",
        ),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" bottom: "b" top: "p" }'
            'layers { layer { type: "conv" } bottom: "p" top: "r" }',
            "Padding Layer takes a single blob as input.",
        ),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" top: "p" top: "q" }'
            'layers { layer { type: "conv" } bottom: "p" top: "r" }',
            "Padding Layer produces a single blob as output.",
        ),
        ('layers { name: "a" } layer { name: "b" }', "includes both 'layer' and 'layers' fields"),
        ('input: "a" input: "b" input_dim: 1 input_dim: 2', "Incorrect input blob dimension specifications"),
        ('input: "a" input: "b" input_shape { dim: 1 }', "Incorrect input blob dimension specifications"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        upgrade_net(net(text), "some/net.prototxt")
    assert str(caught.value).startswith("some/net.prototxt: ")
    assert message in str(caught.value)


V1_NAMES = """
NONE= ABSVAL=AbsVal ACCURACY=Accuracy ARGMAX=ArgMax BNLL=BNLL CONCAT=Concat CONTRASTIVE_LOSS=ContrastiveLoss
CONVOLUTION=Convolution DATA=Data DECONVOLUTION=Deconvolution DROPOUT=Dropout DUMMY_DATA=DummyData
EUCLIDEAN_LOSS=EuclideanLoss ELTWISE=Eltwise EXP=Exp FLATTEN=Flatten HDF5_DATA=HDF5Data HDF5_OUTPUT=HDF5Output
HINGE_LOSS=HingeLoss IM2COL=Im2col IMAGE_DATA=ImageData INFOGAIN_LOSS=InfogainLoss INNER_PRODUCT=InnerProduct LRN=LRN
MEMORY_DATA=MemoryData MULTINOMIAL_LOGISTIC_LOSS=MultinomialLogisticLoss MVN=MVN POOLING=Pooling POWER=Power RELU=ReLU
SIGMOID=Sigmoid SIGMOID_CROSS_ENTROPY_LOSS=SigmoidCrossEntropyLoss SILENCE=Silence SOFTMAX=Softmax
SOFTMAX_LOSS=SoftmaxWithLoss SPLIT=Split SLICE=Slice TANH=TanH WINDOW_DATA=WindowData THRESHOLD=Threshold
"""


def test_v1_types() -> None:
    names = dict(pair.split("=") for pair in V1_NAMES.split())
    assert set(names) == set(V1LayerParameter.LayerType.keys())
    for old, new in names.items():
        assert layer_of(f"type: {old}").type == new


def test_v1_lists_of_params() -> None:
    old = """
        name: "ip" type: INNER_PRODUCT bottom: "a" top: "b" loss_weight: 0.5
        include { phase: TRAIN } exclude { min_level: 1 }
        param: "w" blob_share_mode: STRICT blob_share_mode: PERMISSIVE
        blobs_lr: 1 blobs_lr: 2 blobs_lr: 3 weight_decay: 0.5 blobs { num: 7 }
    """
    assert layer_of(old) == layer("""
        name: "ip" type: "InnerProduct" bottom: "a" top: "b" loss_weight: 0.5
        include { phase: TRAIN } exclude { min_level: 1 } blobs { num: 7 }
        param { name: "w" share_mode: STRICT lr_mult: 1 decay_mult: 0.5 }
        param { share_mode: PERMISSIVE lr_mult: 2 }
        param { lr_mult: 3 }
    """)


def fill(message: Message) -> None:
    """Set the first scalar field of a parameter message, so that its loss would show."""
    field = message.DESCRIPTOR.fields[0]
    value = {"float": 3.5, "str": "s", "bool": True, "int": 2}
    current = getattr(message, field.name)
    if field.message_type is not None:
        sub = current.add() if hasattr(current, "add") else current
        sub.SetInParent()
    elif hasattr(current, "append"):
        current.append(2)
    elif field.enum_type is not None:
        setattr(message, field.name, field.enum_type.values[-1].number)
    else:
        setattr(message, field.name, value[type(current).__name__])


PARAM_FIELDS = [f.name for f in V1LayerParameter.DESCRIPTOR.fields if f.name.endswith("_param")]


@pytest.mark.parametrize("name", PARAM_FIELDS)
@pytest.mark.parametrize("filled", [True, False])
def test_every_v1_param_is_kept(name: str, filled: bool) -> None:
    old = NetParameter()
    param = getattr(old.layers.add(name="x"), name)
    param.SetInParent()
    if filled:
        fill(param)
    (new,) = upgrade_net(old, "net").layer
    assert new.HasField(name)
    assert getattr(new, name) == param


def test_transformations_move(logged: object) -> None:
    old = """
        layers { name: "d" type: DATA data_param { source: "db" scale: 0.5 mean_file: "m" crop_size: 6 mirror: true } }
        layers { name: "i" type: IMAGE_DATA image_data_param { source: "l" crop_size: 7 } transform_param { scale: 2 } }
        layers { name: "w" type: WINDOW_DATA window_data_param { source: "w" mirror: true } }
        layers { name: "r" type: RELU }
    """
    assert upgrade_net(net(old), "old.caffemodel") == net("""
        layer { name: "d" type: "Data" data_param { source: "db" }
                transform_param { scale: 0.5 mean_file: "m" crop_size: 6 mirror: true } }
        layer { name: "i" type: "ImageData" image_data_param { source: "l" } transform_param { scale: 2 crop_size: 7 } }
        layer { name: "w" type: "WindowData" window_data_param { source: "w" } transform_param { mirror: true } }
        layer { name: "r" type: "ReLU" }
    """)
    assert logged()[:3] == [
        "I upgrade_proto.cpp:46] Attempting to upgrade input file specified using deprecated transformation "
        "parameters: old.caffemodel",
        "I upgrade_proto.cpp:49] Successfully upgraded file specified using deprecated data transformation parameters.",
        "W upgrade_proto.cpp:51] Note that future Caffe releases will only support transform_param messages for "
        "transformation fields.",
    ]


def test_inputs() -> None:
    shapes = 'input: "a" input: "b" input_shape { dim: 1 dim: 2 } input_shape { dim: 3 } layer { name: "x" }'
    assert upgrade_net(net(shapes), "net") == net("""
        layer { name: "input" type: "Input" top: "a" top: "b"
                input_param { shape { dim: 1 dim: 2 } shape { dim: 3 } } }
        layer { name: "x" }
    """)
    dims = 'input: "a" input: "b" ' + " ".join(f"input_dim: {i}" for i in range(1, 9))
    assert upgrade_net(net(dims), "net") == net("""
        layer { name: "input" type: "Input" top: "a" top: "b"
                input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } shape { dim: 5 dim: 6 dim: 7 dim: 8 } } }
    """)
    assert upgrade_net(net(dims.replace('input: "b"', "")), "net") == net("""
        layer { name: "input" type: "Input" top: "a" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
    """)
    assert upgrade_net(net('input: "a" layer { name: "x" }'), "net") == net('layer { name: "x" }')


def test_batch_norm(logged: object) -> None:
    old = """
        layer { name: "bn" type: "BatchNorm" param { lr_mult: 1 } param { lr_mult: 2 name: "v" } param { } }
        layer { name: "two" type: "BatchNorm" param { lr_mult: 1 } param { lr_mult: 1 } }
        layer { name: "s" type: "Scale" param { lr_mult: 1 } param { } param { } }
    """
    zero = "lr_mult: 0 decay_mult: 0"
    assert upgrade_net(net(old), "net.prototxt") == net(f"""
        layer {{ name: "bn" type: "BatchNorm" param {{ {zero} }} param {{ {zero} name: "v" }} param {{ {zero} }} }}
        layer {{ name: "two" type: "BatchNorm" param {{ lr_mult: 1 }} param {{ lr_mult: 1 }} }}
        layer {{ name: "s" type: "Scale" param {{ lr_mult: 1 }} param {{ }} param {{ }} }}
    """)
    assert logged() == [
        "I upgrade_proto.cpp:79] Attempting to upgrade batch norm layers using deprecated params: net.prototxt",
        "I upgrade_proto.cpp:82] Successfully upgraded batch norm layers using deprecated params.",
    ]


def test_a_current_net_stays(logged: object, golden: Path) -> None:
    now = net((golden / "logs" / "net.prototxt").read_text())
    assert upgrade_net(now, "net") == now
    assert upgrade_net(net(V0_NET_NOW), "net") == net(V0_NET_NOW)
    assert logged() == []


def test_data_fields_of_current_layers_are_not_touched() -> None:
    now = NetParameter(layer=[{"type": "Data", "data_param": DataParameter(scale=2)}])
    assert upgrade_net(now, "net") == now


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_type(old: str, new: str, logged: object) -> None:
    solver = parse(f'solver_type: {old} snapshot_prefix: "p"', SolverParameter(), "s")
    assert upgrade_solver(solver, "s.prototxt") == SolverParameter(type=new, snapshot_prefix="p")
    assert solver.HasField("solver_type")
    assert logged() == [
        "I upgrade_proto.cpp:1084] Attempting to upgrade input file specified using deprecated 'solver_type' field "
        "(enum)': s.prototxt",
        "I upgrade_proto.cpp:1091] Successfully upgraded file specified using deprecated 'solver_type' field (enum) to "
        "'type' field (string).",
        "W upgrade_proto.cpp:1093] Note that future Caffe releases will only support 'type' field (string) for a "
        "solver's type.",
    ]


def test_two_solver_types() -> None:
    solver = parse('solver_type: ADAM type: "Adam"', SolverParameter(), "s")
    with pytest.raises(FormatError, match=r"^s\.prototxt: Failed to upgrade solver: old solver_type field \(enum\)"):
        upgrade_solver(solver, "s.prototxt")


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("models/x.y/solver.prototxt", "models/x.y/solver"),
        ("./a.b.prototxt", "./a.b"),
        ("dir.d/solver", "dir.d/solver"),
    ],
)
def test_snapshot_prefix_unset(source: str, prefix: str, logged: object) -> None:
    assert upgrade_solver(SolverParameter(), source).snapshot_prefix == prefix
    assert logged() == [f"I upgrade_proto.cpp:1108] snapshot_prefix was not specified and is set to {prefix}"]


def test_snapshot_prefix_is_a_directory(tmp_path: Path, logged: object) -> None:
    for given in (f"{tmp_path}", f"{tmp_path}/"):
        solver = upgrade_solver(SolverParameter(snapshot_prefix=given), "models/my.solver.prototxt")
        assert solver.snapshot_prefix == f"{tmp_path}/my.solver"
        assert logged() == [
            f"I upgrade_proto.cpp:1113] snapshot_prefix was a directory and is replaced to {tmp_path}/my.solver"
        ]
    solver = SolverParameter(snapshot_prefix=f"{tmp_path}/mine")
    assert upgrade_solver(solver, "solver.prototxt") == solver
