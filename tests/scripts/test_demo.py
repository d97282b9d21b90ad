"""The demo's files fit each other and its data; its helpers say what they should. The demo itself is `make demo`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from oxford102 import demo_flowers
from oxford102.errors import ToolError

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "Demo"
NETS = ("train_val", "train_val_frozen", "test", "deploy")
SOLVERS = {"solver": "train_val", "solver_frozen": "train_val_frozen", "solver_scratch": "train_val"}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def net_of(name: str) -> caffe_pb2.NetParameter:
    return text_format.Parse((MODEL / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def solver_of(name: str) -> caffe_pb2.SolverParameter:
    return text_format.Parse((MODEL / f"{name}.prototxt").read_text(), caffe_pb2.SolverParameter())


def body(name: str) -> list[caffe_pb2.LayerParameter]:
    """A net's layers between data and loss, without rates and fillers."""
    layers = [layer for layer in net_of(name).layer if layer.top[0] not in ("data", "loss", "accuracy", "prob")]
    for layer in layers:
        layer.ClearField("param")
        for part in (layer.convolution_param, layer.inner_product_param):
            part.ClearField("weight_filler")
            part.ClearField("bias_filler")
    return layers


def test_training_test_and_prediction_are_one_net() -> None:
    bodies = [body(name) for name in NETS]
    assert all(other == bodies[0] for other in bodies)
    assert bodies[0][-1].name == "fc5_demo"
    assert bodies[0][-1].inner_product_param.num_output == demo_flowers.CLASSES


def test_pretraining_differs_in_its_last_layer_alone() -> None:
    *ours, last = body("train_val")
    *theirs, pretrained = body("pretrain_train_val")
    assert ours == theirs
    assert (pretrained.name, pretrained.inner_product_param.num_output) == ("fc5", 120)
    assert last.name != pretrained.name


def test_what_learns_and_how_fast() -> None:
    for name, convolutions in (("train_val", (1, 2)), ("train_val_frozen", (0, 0))):
        rates = {layer.name: tuple(p.lr_mult for p in layer.param) for layer in net_of(name).layer if layer.param}
        assert rates == {**dict.fromkeys(("conv1", "conv2", "conv3", "conv4"), convolutions), "fc5_demo": (10, 20)}


def test_the_trainings_differ_in_nothing_else() -> None:
    solvers = {name: solver_of(name) for name in SOLVERS}
    assert {name: solver.net for name, solver in solvers.items()} == {k: f"{v}.prototxt" for k, v in SOLVERS.items()}
    assert len({solver.snapshot_prefix for solver in solvers.values()}) == 3
    for solver in solvers.values():
        solver.ClearField("net")
        solver.ClearField("snapshot_prefix")
    assert solvers["solver"] == solvers["solver_frozen"] == solvers["solver_scratch"]


def test_batches_meet_each_picture_once(demo: ModuleType) -> None:
    valid, test = net_of("train_val").layer[1], net_of("test").layer[0]
    assert solver_of("solver").test_iter[0] * valid.image_data_param.batch_size == demo_flowers.SPLITS["valid"]
    assert demo.TEST_BATCHES * test.image_data_param.batch_size == demo_flowers.SPLITS["test"]


def test_prediction_prepares_pictures_as_training_does(demo: ModuleType) -> None:
    for name, numbers in (("train_val", (0, 1)), ("train_val_frozen", (0, 1)), ("test", (0,))):
        for layer in (net_of(name).layer[number] for number in numbers):
            data, transform = layer.image_data_param, layer.transform_param
            assert (str(transform.crop_size), str(data.new_height), str(data.new_width)) == (
                demo.SIZE,
                demo.RESIZE,
                demo.RESIZE,
            )
            assert ",".join(f"{value:g}" for value in transform.mean_value) == demo.MEAN
    assert list(net_of("deploy").layer[0].input_param.shape[0].dim) == [10, 3, int(demo.SIZE), int(demo.SIZE)]


def test_the_shipped_weights_fit_all_but_the_last_layer() -> None:
    path = MODEL / "pretrained-weights.caffemodel"
    assert path.stat().st_size < 500_000
    stored = caffe_pb2.NetParameter.FromString(path.read_bytes())
    shapes = {layer.name: [tuple(blob.shape.dim) for blob in layer.blobs] for layer in stored.layer if layer.blobs}
    net = caffe.Net(str(MODEL / "deploy.prototxt"), caffe.TEST, weights=str(path))
    ours = {name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()}
    assert shapes.pop("fc5") == [(120, 96), (120,)]
    assert ours.pop("fc5_demo") == [(24, 96), (24,)]
    assert shapes == ours
    first = next(layer for layer in stored.layer if layer.name == "conv1").blobs[0]
    assert np.array_equal(net.params["conv1"][0].data.ravel(), np.array(first.data, np.float32))


def test_a_command_is_shown_as_one_types_it(demo: ModuleType) -> None:
    plot = [sys.executable, ROOT / "scripts" / "plot_curves.py", "--labels", "two words", "-o", ROOT / "demo" / "c.png"]
    assert demo.typed(plot, ROOT) == "python scripts/plot_curves.py --labels 'two words' -o demo/c.png"
    train = [Path("/somewhere/bin/caffe"), "train", "-solver", ROOT / "demo" / "solver.prototxt"]
    expected = "(cd models/Demo && caffe train -solver ../../demo/solver.prototxt 2> ../../demo/a.log)"
    assert demo.typed(train, MODEL, ROOT / "demo" / "a.log") == expected


def test_a_command_that_fails_stops_the_demo(demo: ModuleType, tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; print('so\\nit says\\n', file=sys.stderr); sys.exit(3)"]
    with pytest.raises(ToolError, match=r"(?s)failed with exit status 3: python -c .*; its last line:\nit says$"):
        demo.run(failing, ROOT, tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == "so\nit says\n\n"


def test_a_solver_gets_other_settings_and_keeps_the_rest(demo: ModuleType) -> None:
    text = (MODEL / "solver.prototxt").read_text()
    other = demo.with_setting(demo.with_setting(text, "random_seed", "77"), "snapshot_prefix", r'"a\1b"')
    changed = [pair for pair in zip(text.splitlines(), other.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [new for _, new in changed] == ["random_seed: 77", r'snapshot_prefix: "a\1b"']
    with pytest.raises(ToolError, match="has no line 'iter_size: …'"):
        demo.setting(text, "iter_size")


def test_the_accuracy_of_caffe_test(demo: ModuleType, tmp_path: Path, golden: Path) -> None:
    assert demo.tested_accuracy(golden / "logs" / "test.log") == 0.8
    (tmp_path / "empty.log").touch()
    with pytest.raises(ToolError, match="empty.log: no line 'accuracy = …' in it"):
        demo.tested_accuracy(tmp_path / "empty.log")


def test_the_table_is_aligned(demo: ModuleType) -> None:
    path = Path("x")
    rows = [demo.Result("fine-tuned", 0.85, 1.0, 9.04, path, path), demo.Result("scratch", 0.05, 0.5, 120, path, path)]
    table = demo.table(rows).splitlines()
    assert [line.split() for line in table] == [
        ["validation", "test", "seconds"],
        ["fine-tuned", "85.0%", "100.0%", "9.0"],
        ["scratch", "5.0%", "50.0%", "120.0"],
    ]
    assert len({len(line) for line in table}) == 1


def test_an_output_that_is_a_file_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--output", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"demo.py: error: {tmp_path / 'file'}: File exists\n"
