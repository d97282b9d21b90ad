"""What is in the folders of models/: each prototxt, from the net's definition and the recipe of its training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import caffe
from caffe import layers as L
from caffe.proto import caffe_pb2
from oxford102.model_nets import Head, Top, Writer
from oxford102.model_recipes import RECIPES, Recipe
from oxford102.prototxt import net_text

CLASSES, IMAGENET_CLASSES = 102, 1000
TRAIN, VALID, TEST = 1020, 1020, 6149  # pictures of Oxford-102
SIDE = 256  # pixels: what pictures are squeezed to before they are cropped
CROPS = 10  # that predict.py looks at
TEST_BATCH = 43  # 143 such batches meet each of the test pictures once


def model_files() -> Iterator[tuple[str, str]]:
    """Each file below models/ that is made: its path there and its text."""
    for recipe in RECIPES:
        yield f"{recipe.folder}/train_val.prototxt", train_val(recipe)
        yield f"{recipe.folder}/test.prototxt", test(recipe)
        yield f"{recipe.folder}/deploy.prototxt", deploy(recipe)
        if recipe.imagenet:
            yield f"{recipe.folder}/deploy_imagenet.prototxt", deploy_imagenet(recipe)
        yield f"{recipe.folder}/solver.prototxt", solver(recipe, "solver.prototxt")
        if recipe.gpus > 1:
            yield f"{recipe.folder}/solver_one_gpu.prototxt", solver(recipe.one_gpu, "solver_one_gpu.prototxt")


def _data(recipe: Recipe, split: str, batch: int, phase: int | None = None) -> tuple[Top, Top]:
    """The layer that reads the pictures and labels of a split; cropped anywhere and mirrored for training."""
    training = split == "train"
    mean = "mean_file" if isinstance(recipe.mean, str) else "mean_value"
    transform = {"crop_size": recipe.crop, "mirror": training, mean: recipe.mean}
    rest: dict[str, Any] = {"transform_param": transform, "ntop": 2}
    if phase is not None:
        rest["include"] = {"phase": phase}
    if recipe.lmdb:
        source = f"../../data/{split}_lmdb"
        return L.Data(source=source, batch_size=batch, backend=caffe_pb2.DataParameter.LMDB, **rest)
    if training:
        rest["shuffle"] = True
    source = f"../../data/{split}.txt"
    return L.ImageData(source=source, batch_size=batch, new_height=SIDE, new_width=SIDE, **rest)


def _scored(recipe: Recipe, w: Writer, data: tuple[Top, Top], **accuracy: Any) -> caffe_pb2.NetParameter:
    """The whole net between pictures with labels and the loss."""
    n = w.spec
    n.data, n.label = data
    scores = recipe.body(w, n.data, Head(recipe.head, CLASSES))
    n.accuracy = L.Accuracy(scores, n.label, **accuracy)
    n.loss = L.SoftmaxWithLoss(scores, n.label)
    return n.to_proto()


def train_val(recipe: Recipe) -> str:
    """The net for training and validation."""
    w = Writer(training=True, frozen=recipe.frozen)
    validation = _data(recipe, "valid", recipe.valid_batch, caffe.TEST)
    net = _scored(recipe, w, validation, include={"phase": caffe.TEST})
    pictures = caffe.NetSpec()
    pictures.data, pictures.label = _data(recipe, "train", recipe.batch, caffe.TRAIN)
    both = caffe_pb2.NetParameter(name=recipe.name, layer=[*pictures.to_proto().layer, *net.layer])
    header = [f"{recipe.title} on Oxford-102. In this folder:", _train_command(recipe, "solver.prototxt"), recipe.about]
    return net_text(both, header, w.notes | ({"data": recipe.data} if recipe.data else {}))


def test(recipe: Recipe) -> str:
    """The net for the test pictures."""
    w = Writer()
    net = _scored(recipe, w, _data(recipe, "test", TEST_BATCH))
    net.name = recipe.name
    command = f"caffe test -model test.prototxt -weights FILE.caffemodel -iterations {TEST // TEST_BATCH} -gpu 0"
    return net_text(net, [f"{recipe.title} on the {TEST:,} test pictures. In this folder:", command], w.notes)


def deploy(recipe: Recipe) -> str:
    """The net for prediction."""
    w = Writer()
    w.add("prob", L.Softmax(_predicted(recipe, w, Head(recipe.head, CLASSES))))
    about = f"{CROPS} crops of {recipe.crop}x{recipe.crop} pixels in, {CLASSES} probabilities each out"
    return _named_text(recipe.name, w, f"{recipe.title} for prediction: {about}.")


def deploy_imagenet(recipe: Recipe) -> str:
    """The net for prediction with the weights as they come."""
    w = Writer()
    scores = _predicted(recipe, w, Head(recipe.published, IMAGENET_CLASSES, new=False))
    if recipe.imagenet_prob:
        w.add("prob", L.Softmax(scores))
    about = f"{IMAGENET_CLASSES:,} classes of ImageNet, for the weights as they come"
    return _named_text(recipe.folder, w, f"{recipe.title} as published: {about}.")


def _predicted(recipe: Recipe, w: Writer, head: Head) -> Top:
    data = w.add("data", L.Input(shape={"dim": [CROPS, 3, recipe.crop, recipe.crop]}))
    return recipe.body(w, data, head)


def _named_text(name: str, w: Writer, header: str) -> str:
    net = w.spec.to_proto()
    net.name = name
    return net_text(net, [header], w.notes)


def _train_command(recipe: Recipe, file: str) -> str:
    devices = ",".join(map(str, range(recipe.gpus)))
    return f"caffe train -solver {file} -weights {recipe.weights} -gpu {devices}"


def solver(recipe: Recipe, file: str) -> str:
    """How the net is trained; `file` is the name that its text tells of itself."""
    pictures = recipe.batch * recipe.gpus * recipe.iter_size
    batches = {
        (1, 1): f"in batches of {pictures}",
        (1, 2): f"in pairs of batches of {recipe.batch}",
        (2, 1): f"in batches of {recipe.batch} on each of two GPUs",
    }[recipe.gpus, recipe.iter_size]
    epoch = TRAIN / pictures
    epochs = recipe.max_iter / epoch
    rate = f"# {recipe.rate}\n" if recipe.rate else ""
    iter_size = f"iter_size: {recipe.iter_size}\n" if recipe.iter_size > 1 else ""
    other = "" if recipe.gpus > 1 else "# Without -gpu it trains on the CPU.\n"
    return f"""\
# {_train_command(recipe, file)}
{other}net: "train_val.prototxt"

# {VALID // recipe.valid_batch} batches of {recipe.valid_batch}: each of the {VALID:,} validation pictures once.
test_iter: {VALID // recipe.valid_batch}
test_interval: {recipe.test_interval}

{rate}# {TRAIN:,} training pictures {batches}: an epoch is {epoch:.1f} iterations, the run {epochs:,.0f} epochs.
{iter_size}base_lr: {recipe.base_lr}
lr_policy: "step"
gamma: 0.1
stepsize: {recipe.stepsize}
max_iter: {recipe.max_iter}
momentum: 0.9
weight_decay: {recipe.weight_decay}

display: {recipe.display}
snapshot: {recipe.snapshot}
snapshot_prefix: "snapshots/{recipe.prefix}"
"""
