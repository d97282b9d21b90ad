from __future__ import annotations

import dataclasses
import re

import pytest

from oxford102.catalog import IMAGENET_MEAN, MODELS, OXFORD102, TORCHVISION, Asset, all_assets

FLOWERS = [OXFORD102.archive, OXFORD102.labels, OXFORD102.splits]
ALL = all_assets()


@pytest.mark.parametrize("asset", ALL, ids=lambda asset: asset.name)
def test_every_asset_can_be_fetched_and_verified(asset: Asset) -> None:
    assert asset.urls
    assert all(re.match(r"https?://[^/ ]+/\S+$", url) for url in asset.urls)
    assert len(set(asset.urls)) == len(asset.urls)
    assert asset.size is not None
    assert asset.size > 0
    assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256 or "")
    assert asset.licence
    assert asset.what


def test_no_two_assets_share_a_place_or_a_hash() -> None:
    places = [url for asset in ALL for url in asset.urls]
    assert len(set(places)) == len(places)
    assert len({asset.sha256 for asset in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("asset", "name", "size"),
    [
        (OXFORD102.archive, "102flowers.tgz", 344_862_509),
        (OXFORD102.labels, "imagelabels.mat", 502),
        (OXFORD102.splits, "setid.mat", 14_989),
        (IMAGENET_MEAN, "imagenet_mean.npy", 128 + 3 * 256 * 256 * 8 - 48),
    ],
)
def test_sizes_of_the_published_files(asset: Asset, name: str, size: int) -> None:
    assert (asset.name, asset.size) == (name, size)


@pytest.mark.parametrize("asset", FLOWERS, ids=lambda asset: asset.name)
def test_oxford_itself_is_asked_first(asset: Asset) -> None:
    assert asset.urls[0] == f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{asset.name}"
    assert len(asset.urls) == 3


def test_the_facts_of_oxford102() -> None:
    assert OXFORD102.sizes == {"train": 1020, "valid": 1020, "test": 6149}
    assert OXFORD102.images == 8189 == sum(OXFORD102.sizes.values())
    assert len(OXFORD102.class_names) == 102


def test_only_caffenet_needs_the_imagenet_mean() -> None:
    assert {name: row.mean for name, row in MODELS.items()} == {
        "CaffeNet": IMAGENET_MEAN,
        "VGG16": None,
        "ResNet50": None,
    }


def test_the_list_names_every_file() -> None:
    assert len(ALL) == 3 + 1 + 3 + 3
    assert {IMAGENET_MEAN, *FLOWERS} < set(ALL)
    text = str(OXFORD102.splits)
    assert text.startswith("setid.mat: the official split into train, valid and test\n  14,989 bytes, sha256 46b8678f")
    assert text.splitlines()[-3:] == [f"  {url}" for url in OXFORD102.splits.urls]


@pytest.mark.parametrize("asset", [row.asset for row in TORCHVISION.values()], ids=lambda asset: asset.name)
def test_torchvision_puts_the_hash_into_the_name(asset: Asset) -> None:
    assert asset.name.endswith(f"-{str(asset.sha256)[:8]}.pth")


def test_every_stand_in_is_there() -> None:
    assert {name: row.stand_in for name, row in MODELS.items()} == {
        "CaffeNet": None,  # torchvision has no such net
        "VGG16": "vgg16",
        "ResNet50": "resnet50",
    }
    assert {"vgg16", "resnet50"} < set(TORCHVISION)


def test_rows_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OXFORD102.images = 1  # type: ignore[misc]
