"""Every file that is fetched (places in order of trust, size, hash) and the facts of each data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oxford102 import demo_flowers
from oxford102.labels import OXFORD102_NAMES


@dataclass(frozen=True)
class Asset:
    """One file. `size` is in bytes; size and sha256 are None where the file is not a published one."""

    name: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A set of pictures in Oxford's layout: an archive of jpg/image_00001.jpg …, a label file, a split file.

    `sizes` gives the number of pictures in train, valid and test. `draw` writes the three files of a set that
    is not published but made on the spot.
    """

    title: str
    archive: Asset
    labels: Asset
    splits: Asset
    images: int
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]
    draw: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Weights:
    """Pretrained weights of one model; `mean` is the mean they were trained with, where it is a picture."""

    model: str
    asset: Asset
    mean: Asset | None = None


def _flowers(name: str, size: int, sha256: str) -> Asset:
    places = (
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "https://thor.robots.ox.ac.uk/flowers/102/",
        "http://paddlemodels.bj.bcebos.com/flowers/",
    )
    return Asset(name, tuple(place + name for place in places), size, sha256)


OXFORD102 = Dataset(
    title="Oxford-102 flowers",
    archive=_flowers(
        "102flowers.tgz",
        344862509,
        "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
    ),
    labels=_flowers(
        "imagelabels.mat",
        502,
        "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
    ),
    splits=_flowers(
        "setid.mat",
        14989,
        "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
    ),
    images=8189,
    class_names=OXFORD102_NAMES,
    sizes={"train": 1020, "valid": 1020, "test": 6149},
)


DEMO = Dataset(
    title="drawn flowers",
    archive=Asset("102flowers.tgz"),
    labels=Asset("imagelabels.mat"),
    splits=Asset("setid.mat"),
    images=demo_flowers.IMAGES,
    class_names=demo_flowers.CLASS_NAMES,
    sizes=demo_flowers.SPLITS,
    draw=demo_flowers.write_archive,
)

IMAGENET_MEAN = Asset(
    "imagenet_mean.npy",
    (
        "https://raw.githubusercontent.com/BVLC/caffe/9b891540183ddc834a02b2bd81b31afae71b2153/"
        "python/caffe/imagenet/ilsvrc_2012_mean.npy",
    ),
    1572944,
    "97eefba7e046ee097121ad18564329636d2f9c153b748c7313653cae8594a149",
)

_OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/"

MODELS = {
    row.model: row
    for row in (
        Weights(
            "CaffeNet",
            Asset(
                "bvlc_reference_caffenet.caffemodel",
                (
                    "http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel",
                    _OPENVINO + "caffenet/bvlc_reference_caffenet.caffemodel",
                    "https://media.githubusercontent.com/media/facebookarchive/models/"
                    "12eea128cd5b982d5354f79c64eb01b67999205e/bvlc_reference_caffenet/original.caffemodel",
                ),
                243862418,
                "472d4a06035497b180636d8a82667129960371375bd10fcb6df5c6c7631f25e0",
            ),
            mean=IMAGENET_MEAN,
        ),
        Weights(
            "VGG16",
            Asset(
                "VGG_ILSVRC_16_layers.caffemodel",
                (
                    "http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
                    _OPENVINO + "vgg16/VGG_ILSVRC_16_layers.caffemodel",
                    "https://deepdetect.com/models/vgg_16/VGG_ILSVRC_16_layers.caffemodel",
                ),
                553432081,
                "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",
            ),
        ),
        Weights(
            "ResNet50",
            Asset(
                "ResNet-50-model.caffemodel",
                (
                    "https://dl.opencv.org/models/ResNet-50-model.caffemodel",
                    "https://www.deepdetect.com/models/resnet/ResNet-50-model.caffemodel",
                ),
                102462397,
                "44ee2b08816cede2b7aaa047888df07dcab52f73399aa1c8bef05a17bfdd4888",
            ),
        ),
    )
}
