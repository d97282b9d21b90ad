"""How each net of models/ is trained: one recipe a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from oxford102.model_nets import Head, Top, Writer, caffenet, resnet50, resnet50_v15, squeezenet, vgg16


@dataclass(frozen=True)
class Recipe:
    """One folder.

    Attributes:
        folder: its name.
        title: the net's name in comments.
        body: its definition.
        head, published: names of the new last layer, and of the one it stands for.
        crop: side of the net's input in pixels.
        mean: a file, or the values blue, green, red.
        about: comment on the training net, in lines.
        data: comment on its data.
        batch, valid_batch: pictures of a training and of a validation batch.
        iter_size: batches whose gradients are added up for one update.
        gpus: how many share an iteration.
        lmdb: whether the pictures come from databases.
        frozen: how the names of the layers begin that do not learn.
        weights: the pretrained ones, seen from the folder.
        rate: comment on the rate, then the solver's numbers.
        imagenet: whether there is a prototxt for the weights as they come.
        imagenet_prob: whether that one ends in probabilities, else in scores.
    """

    folder: str
    title: str
    body: Callable[[Writer, Top, Head], Top]
    head: str
    published: str
    crop: int
    mean: str | tuple[float, float, float]
    about: str = "Only the last layer is new; it learns ten times as fast as the others, which start from ImageNet."
    data: str = ""
    batch: int = 50
    valid_batch: int = 51
    iter_size: int = 1
    gpus: int = 1
    lmdb: bool = False
    frozen: tuple[str, ...] = ()
    weights: str = "pretrained-weights.caffemodel"
    rate: str = ""
    base_lr: str = "0.001"
    weight_decay: str = "0.0005"
    stepsize: int = 20000
    max_iter: int = 50000
    test_interval: int = 500
    display: int = 50
    snapshot: int = 10000
    imagenet: bool = True
    imagenet_prob: bool = True

    @property
    def name(self) -> str:
        """The nets' name, which logs tell."""
        return f"Oxford102_{self.folder.replace('-', '_')}"

    @property
    def prefix(self) -> str:
        """How its snapshots' names begin."""
        return self.folder.lower().replace("-", "_")

    @property
    def one_gpu(self) -> Recipe:
        """The same iterations on one device: what the other GPUs would do is done one after the other."""
        return replace(self, gpus=1, iter_size=self.iter_size * self.gpus)


CAFFENET = Recipe(
    "CaffeNet", "CaffeNet", caffenet, "fc8_oxford_102", "fc8", 227, "../../data/imagenet_mean.binaryproto"
)
VGG16 = Recipe(
    "VGG16",
    "VGG-16",
    vgg16,
    "fc8_oxford_102",
    "fc8",
    224,
    (103.939, 116.779, 123.68),
    data="The means are those of VGG's own training (blue, green, red). Two batches of 25 make an update (iter_size\n"
    "in solver.prototxt), which is an update on 50 pictures, as CaffeNet's, in half the memory.",
    batch=25,
    valid_batch=17,  # one of 51 would need more memory than the training
    iter_size=2,
)
RESNET50 = Recipe(
    "ResNet50",
    "ResNet-50",
    resnet50,
    "fc_oxford_102",
    "fc1000",
    224,
    (103.063, 115.903, 123.152),
    data="The published mean is a picture of 224x224, too small to subtract before cropping: these are its means.\n"
    "A batch is what one GPU takes. The databases keep the order of the lists, which bootstrap.py has shuffled.",
    batch=25,
    valid_batch=17,
    gpus=2,
    lmdb=True,
)
RESNET50_V15 = replace(
    RESNET50,
    folder="ResNet50-v1.5",
    title="ResNet-50 v1.5",
    body=resnet50_v15,
    mean=(103.53, 116.28, 123.675),
    data="The means are torchvision's 0.406, 0.456 and 0.485 of 255 (blue, green, red).\n"
    "A batch is what one GPU takes. The databases keep the order of the lists, which bootstrap.py has shuffled.",
)
SQUEEZENET = Recipe(
    "SqueezeNet",
    "SqueezeNet",
    squeezenet,
    "conv_final_oxford_102",
    "conv_final",
    227,
    (104, 117, 123),
    batch=32,
    rate="The features of SqueezeNet are large: a high rate kills it at once, and the loss stays at ln 102 = 4.62.",
    base_lr="0.00015",
    weight_decay="0.0002",
    stepsize=2400,
    max_iter=3000,
    test_interval=100,
    display=20,
    snapshot=1000,
    imagenet_prob=False,
)


def _frozen(recipe: Recipe, layers: tuple[str, ...], words: str) -> Recipe:
    return replace(
        recipe,
        folder=f"{recipe.folder}-frozen",
        about=f"{words} stay as they are, at rate 0 (lr_mult: 0, decay_mult: 0). The last layer is new.",
        weights=f"../{recipe.folder}/{recipe.weights}",
        frozen=layers,
        imagenet=False,
    )


RECIPES = (
    CAFFENET,
    _frozen(CAFFENET, ("conv",), "The five convolutions"),
    VGG16,
    _frozen(VGG16, ("conv",), "The thirteen convolutions"),
    RESNET50,
    RESNET50_V15,
    SQUEEZENET,
    _frozen(SQUEEZENET, ("conv1", "fire"), "All convolutions but the last"),
)
