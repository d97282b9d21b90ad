"""Every file that is fetched (places in order of trust, size, hash) and the facts of each data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oxford102 import demo_flowers
from oxford102.labels import OXFORD102_NAMES


@dataclass(frozen=True)
class Asset:
    """One file. `size` is in bytes; size and sha256 are None where the file is not a published one.

    `licence` is the publisher's, `what` says what it is.
    """

    name: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    licence: str = ""
    what: str = ""

    def __str__(self) -> str:
        facts = f"{self.name}: {self.what}\n  {self.size:,} bytes, sha256 {self.sha256}\n  licence: {self.licence}"
        return "\n  ".join([facts, *self.urls])


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
    """Pretrained weights of one model.

    `mean_values` (blue, green, red) are to be subtracted from its pictures; `mean` is the same as a picture,
    where there is one. `stand_in` names the row of TORCHVISION that helps where every place fails.
    """

    model: str
    asset: Asset
    mean_values: tuple[float, float, float]
    mean: Asset | None = None
    stand_in: str | None = None


@dataclass(frozen=True)
class Convertible:
    """Weights of torchvision, for scripts/convert_torchvision.py; the converted belong to `model`."""

    model: str
    asset: Asset


def _flowers(name: str, what: str, size: int, sha256: str) -> Asset:
    places = (
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "https://thor.robots.ox.ac.uk/flowers/102/",
        "http://paddlemodels.bj.bcebos.com/flowers/",
    )
    licence = "none stated by Oxford; the photographs belong to who took them"
    return Asset(name, tuple(place + name for place in places), size, sha256, licence, what)


OXFORD102 = Dataset(
    title="Oxford-102 flowers",
    archive=_flowers(
        "102flowers.tgz",
        "the pictures of Oxford-102",
        344862509,
        "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
    ),
    labels=_flowers(
        "imagelabels.mat",
        "the category of each picture",
        502,
        "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
    ),
    splits=_flowers(
        "setid.mat",
        "the official split into train, valid and test",
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
    "BSD-2-Clause",
    "the mean picture of ImageNet 2012, which Caffe ships",
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
                "unrestricted",
                "CaffeNet trained on ImageNet 2012 by BVLC",
            ),
            (104, 117, 123),
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
                "CC-BY-4.0",
                "VGG-16 trained on ImageNet 2012 by its authors",
            ),
            (103.939, 116.779, 123.68),
            stand_in="vgg16",
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
                "MIT",
                "ResNet-50 trained on ImageNet 2012 by its authors",
            ),
            (103.063, 115.903, 123.152),
            stand_in="resnet50",
        ),
    )
}


def _torchvision(name: str, what: str, size: int, sha256: str) -> Asset:
    url = f"https://download.pytorch.org/models/{name}"
    return Asset(name, (url,), size, sha256, "BSD-3-Clause", f"{what} trained on ImageNet 2012 by torchvision")


TORCHVISION = {
    "vgg16": Convertible(
        "VGG16",
        _torchvision(
            "vgg16-397923af.pth",
            "VGG-16",
            553433881,
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
    ),
    "resnet50": Convertible(
        "ResNet50-v1.5",
        _torchvision(
            "resnet50-0676ba61.pth",
            "ResNet-50 v1.5",
            102530333,
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        ),
    ),
    "resnet50-v2": Convertible(
        "ResNet50-v1.5",
        _torchvision(
            "resnet50-11ad3fa6.pth",
            "ResNet-50 v1.5, with torchvision's second recipe,",
            102540417,
            "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        ),
    ),
}


def all_assets() -> list[Asset]:
    """Every file of the catalogue that can be fetched."""
    flowers = [OXFORD102.archive, OXFORD102.labels, OXFORD102.splits]
    weights = [row.asset for row in MODELS.values()]
    return [*flowers, IMAGENET_MEAN, *weights, *(row.asset for row in TORCHVISION.values())]
