"""Model folders for other classes, loaded and trained by Caffe; every folder of models/ is a source."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.lists import Entry, write_list
from oxford102.model_folder import read_command
from oxford102.new_model import Job, new_model

MODELS = Path(__file__).resolve().parents[2] / "models"
FOLDERS = sorted(path.parent.name for path in MODELS.glob("*/solver.prototxt"))
SIZES = {"train": 48, "valid": 9, "test": 6}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of three classes that differ in colour, with the names of databases."""
    folder = tmp_path / "data" / "mine"
    (folder / "jpg").mkdir(parents=True)
    random = np.random.default_rng(4)
    for name, size in SIZES.items():
        entries = []
        for number in range(size):
            picture = random.integers(0, 60, (40, 40, 3), np.uint8)
            picture[..., number % 3] += 150
            cv2.imwrite(str(folder / "jpg" / f"{name} {number}.png"), picture)
            entries.append(Entry(folder / "jpg" / f"{name} {number}.png", number % 3))
        write_list(folder / f"{name}.txt", entries)
        (folder / f"{name}_lmdb").mkdir()
    (folder / "labels.txt").write_text("blue\ngreen\nred\n")
    return folder


@pytest.fixture
def job(tmp_path: Path, data: Path) -> Job:
    return Job(MODELS / "Demo", data, tmp_path / "models" / "Pets-Demo")


def message(path: Path) -> caffe_pb2.NetParameter:
    return text_format.Parse(path.read_text(), caffe_pb2.NetParameter())


def solver(path: Path) -> caffe_pb2.SolverParameter:
    return text_format.Parse(path.read_text(), caffe_pb2.SolverParameter())


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_model_of_the_project(job: Job, folder: str) -> None:
    job = replace(job, source=MODELS / folder, output=job.output.parent / f"Pets-{folder}")
    new_model(job)
    made = sorted(job.output.glob("*.prototxt"))
    assert {"deploy.prototxt", "solver.prototxt", "test.prototxt", "train_val.prototxt"} <= {path.name for path in made}
    for path in made:
        if path.name.startswith("solver"):
            continue
        old, new = message(MODELS / folder / path.name), message(path)
        changed = [(a, b) for a, b in zip(old.layer, new.layer, strict=True) if a != b]
        heads = [(a.name, b.name) for a, b in changed if a.name != b.name]
        assert len(heads) == 1
        assert heads[0][1] == re.sub("_(oxford_102|demo)$", "", heads[0][0]) + "_pets"
        for a, b in changed:  # but for the head's name and size, and the data, all is as it was
            if a.type not in ("Data", "ImageData"):
                text = text_format.MessageToString(b).replace(heads[0][1], heads[0][0])
                expected = re.sub("num_output: (102|24)", "num_output: 3", text_format.MessageToString(a))
                assert text == expected
            else:
                split = "test" if path.name == "test.prototxt" else "valid" if b.include[0].phase else "train"
                source = (b.data_param if b.type == "Data" else b.image_data_param).source
                assert (job.output / source).resolve().name == split + ("_lmdb" if b.type == "Data" else ".txt")
                assert (job.output / source).exists()


def test_caffe_trains_and_tests_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    new_model(replace(job, epochs=20))
    monkeypatch.chdir(job.output)
    weights = job.source / "pretrained-weights.caffemodel"
    training = caffe.get_solver("solver.prototxt")
    training.net.copy_from(str(weights))
    published = message(job.source / "pretrain_train_val.prototxt")
    assert "fc5_pets" not in {layer.name for layer in published.layer}
    assert training.net.params["fc5_pets"][0].data.shape == (3, 96)
    training.solve()
    trained = sorted(Path("snapshots").glob("*.caffemodel"))[-1]
    told = re.search(r"caffe test .*", Path("README.md").read_text())
    assert told is not None
    assert f"-weights {trained}" in told[0]
    net = caffe.Net("test.prototxt", caffe.TEST, weights=str(trained))
    net.forward()
    assert float(net.blobs["accuracy"].data) == 1
    assert len(net.blobs["label"].data) == 6
    deploy = caffe.Net("deploy.prototxt", caffe.TEST, weights=str(trained))
    assert deploy.blobs["prob"].data.shape == (10, 3)


def test_the_solver_fits_the_data(job: Job) -> None:
    new_model(job)
    made, old = solver(job.output / "solver.prototxt"), solver(job.source / "solver.prototxt")
    batches = [layer.image_data_param.batch_size for layer in message(job.output / "train_val.prototxt").layer[:2]]
    assert made.test_iter[0] * batches[1] == SIZES["valid"]
    epochs = [old.max_iter * 40 / 240, made.max_iter * batches[0] / SIZES["train"]]  # of the demo's 240 pictures
    assert epochs[1] == pytest.approx(epochs[0], rel=0.05)
    assert made.stepsize / made.max_iter == pytest.approx(old.stepsize / old.max_iter, rel=0.05)
    assert made.base_lr == old.base_lr
    text = (job.output / "solver.prototxt").read_text()
    assert text.startswith("# caffe train -solver solver.prototxt -weights ")
    assert "# 1 batches of 9: each of the 9 validation pictures once." in text


def test_commands_name_the_weights_where_they_are(job: Job) -> None:
    new_model(job)
    commands = re.findall(r"-solver (\S+)(?: -weights (\S+))?", (job.output / "README.md").read_text())
    assert [name for name, _ in commands] == ["solver.prototxt", "solver_frozen.prototxt", "solver_scratch.prototxt"]
    for name, weights in commands:
        if name == "solver_scratch.prototxt":
            assert weights == ""
        else:
            assert (job.output / weights).samefile(MODELS / "Demo" / "pretrained-weights.caffemodel")


def test_two_gpus_and_iter_size_make_an_iteration(job: Job) -> None:
    source = job.output.parent / "Two"
    shutil.copytree(MODELS / "Demo", source)
    text = (source / "solver.prototxt").read_text()
    (source / "solver.prototxt").write_text(f"# caffe train -solver solver.prototxt -gpu 0,1\niter_size: 2\n{text}")
    new_model(replace(job, source=source, epochs=100))
    made = solver(job.output / "solver.prototxt")
    assert made.max_iter == 30  # 100 epochs of 48 pictures, 4 * 40 an iteration
    assert "-gpu 0,1" in (job.output / "solver.prototxt").read_text().splitlines()[0]


def test_without_test_list_and_names(job: Job, data: Path) -> None:
    (data / "test.txt").unlink()
    (data / "labels.txt").unlink()
    with pytest.raises(ToolError, match=r"labels\.txt: no such file"):
        new_model(job)
    new_model(replace(job, classes=3))
    assert not (job.output / "test.prototxt").exists()
    readme = (job.output / "README.md").read_text()
    assert "caffe test" not in readme
    assert "--labels" not in readme


def test_snapshots_and_notes_stay_under_force(job: Job) -> None:
    new_model(job)
    before = {path.name: path.read_text() for path in job.output.glob("*.*")}
    (job.output / "snapshots" / "mine.caffemodel").write_text("trained")
    (job.output / "solver.prototxt").write_text("changed")
    with pytest.raises(ToolError, match="exists; choose another -o, or give --force"):
        new_model(job)
    assert (job.output / "solver.prototxt").read_text() == "changed"
    new_model(replace(job, force=True))
    assert {path.name: path.read_text() for path in job.output.glob("*.*")} == before
    assert (job.output / "snapshots" / "mine.caffemodel").read_text() == "trained"
    assert not list(job.output.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": MODELS / "Nope"}, "Nope: no such model folder; there are .*CaffeNet"),
        ({"source": MODELS}, "has no solver.prototxt"),
        ({"classes": 4}, r"--classes 4, but .*labels\.txt has 3 names; leave --classes out"),
        ({"data": MODELS}, r"labels\.txt: no such file"),
        ({"output": MODELS / "Demo", "force": True}, "is the model that it is made from"),
    ],
)
def test_mistakes_write_nothing(job: Job, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        new_model(replace(job, **changes))
    assert not job.output.parent.exists()


def test_labels_beyond_the_names(job: Job, data: Path) -> None:
    (data / "labels.txt").write_text("blue\ngreen\n")
    with pytest.raises(ToolError, match=r"train\.txt has label 2, expected 0 to 1 for 2 classes"):
        new_model(job)


def test_a_source_whose_epochs_are_unknown(job: Job) -> None:
    source = job.output.parent / "Own"
    shutil.copytree(MODELS / "Demo", source)
    for path in source.glob("*.prototxt"):
        path.write_text(path.read_text().replace("num_output: 24", "num_output: 5"))
    with pytest.raises(ToolError, match=r"train\.txt is not there to tell how many epochs .*; give --epochs"):
        new_model(replace(job, source=source))
    new_model(replace(job, source=source, epochs=10))
    assert solver(job.output / "solver.prototxt").max_iter == 12


def test_another_size_and_length(job: Job) -> None:
    job = replace(job, source=MODELS / "SqueezeNet", resize=144, crop=127, iterations=900)
    new_model(job)
    made, old = solver(job.output / "solver.prototxt"), solver(job.source / "solver.prototxt")
    assert made.max_iter == 900
    assert made.stepsize / 900 == pytest.approx(old.stepsize / old.max_iter, rel=0.05)
    assert 0 < made.test_interval < old.test_interval
    assert 0 < made.snapshot < old.snapshot
    layers = [*message(job.output / "train_val.prototxt").layer[:2], message(job.output / "test.prototxt").layer[0]]
    for layer in layers:
        assert (layer.image_data_param.new_height, layer.image_data_param.new_width) == (144, 144)
        assert layer.transform_param.crop_size == 127
    deploy = caffe.Net(str(job.output / "deploy.prototxt"), caffe.TEST)
    assert deploy.blobs["data"].data.shape == (10, 3, 127, 127)
    assert deploy.blobs["prob"].data.shape == (10, 3, 1, 1)
    assert " 104,117,123 127 --resize 144" in (job.output / "README.md").read_text()


@pytest.mark.parametrize(
    ("folder", "changes", "message"),
    [
        ("CaffeNet", {"resize": 144, "crop": 127}, "layer 'fc6' has weights for the net's own crop 227 only, not for"),
        ("VGG16", {"crop": 160}, "layer 'fc6' has weights for the net's own crop 224 only, not for 160; leave"),
        ("CaffeNet", {"resize": 240}, r"mean_file \S*imagenet_mean.binaryproto has its own size; leave --resize out"),
        ("ResNet50", {"resize": 240}, "'data' reads a database, whose pictures have their size; leave --resize out"),
        ("SqueezeNet", {"crop": 300}, "crops of 300 do not fit into pictures of 256 pixels"),
        ("SqueezeNet", {"resize": 20, "crop": 15}, "does not take pictures of 15 x 15: Layer 'pool8'"),
    ],
)
def test_sizes_that_do_not_fit(job: Job, folder: str, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        new_model(replace(job, source=MODELS / folder, **changes))
    assert not job.output.exists()


def test_a_database_may_be_cropped_where_the_net_pools_over_all(job: Job) -> None:
    new_model(replace(job, source=MODELS / "ResNet50", crop=160))
    assert message(job.output / "train_val.prototxt").layer[0].transform_param.crop_size == 160


def test_a_command_with_blanks_in_its_paths(tmp_path: Path) -> None:
    file = tmp_path / "solver.prototxt"
    file.write_text("# caffe train -solver solver.prototxt -weights '../My net/a b.caffemodel' -gpu 0,1\nnet: 'x'\n")
    command = read_command(file)
    assert (command.weights, command.gpu) == (tmp_path.parent / "My net" / "a b.caffemodel", "0,1")
