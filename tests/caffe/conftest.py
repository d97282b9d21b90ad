"""Pictures for the tests of the data path: generated, stored without loss, so every pixel is known."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

MakePictures = Callable[[Sequence[tuple[int, int]]], tuple[Path, list[np.ndarray]]]


@pytest.fixture(scope="session", autouse=True)
def elsewhere() -> torch.device:
    """A device beside the CPU, on which tensors have no values; autograd must know it before its first pass.

    Where the tests use a GPU it is that one, for PyTorch would take pinned memory to be the other's.
    """
    if os.environ.get("CAFFE_TEST_DEVICE", "cpu") != "cpu":
        return torch.device("cuda:0")
    _setup_privateuseone_for_python_backend("elsewhere")
    return torch.device("elsewhere:0")


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """Write a PNG of each (height, width) and a list of them, labelled 0, 1, ...; give the list's path and pixels.

    The paths in the list are absolute. Pixels are [h, w, 3], BGR, uint8.
    """

    def make(sizes: Sequence[tuple[int, int]]) -> tuple[Path, list[np.ndarray]]:
        rng = np.random.default_rng(len(sizes))
        pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        lines = []
        for i, picture in enumerate(pictures):
            path = tmp_path / f"picture {i}.png"
            assert cv2.imwrite(str(path), picture)
            lines.append(f"{path} {i}\n")
        listing = tmp_path / "list.txt"
        listing.write_text("".join(lines))
        return listing, pictures

    return make


@pytest.fixture
def files_end_at() -> Iterator[Callable[[int], None]]:
    """Call it with a number of bytes, and no file can be written beyond it from then on, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
