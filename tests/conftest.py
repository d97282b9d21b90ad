"""Shared by all tests: where the recordings are, silence of the runtime's log, and the device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the recordings."""
    return GOLDEN


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    """Make nets on the GPU where CAFFE_TEST_DEVICE=cuda asks for it."""
    if os.environ.get("CAFFE_TEST_DEVICE", "cpu") != "cpu":
        import caffe

        caffe.set_mode_gpu()
