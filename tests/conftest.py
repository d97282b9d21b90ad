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


@pytest.fixture(autouse=True)
def device() -> None:
    """Make nets on the GPU, in float32, where CAFFE_TEST_DEVICE=cuda asks for it; a command in a test may change it."""
    if os.environ.get("CAFFE_TEST_DEVICE", "cpu") != "cpu":
        import caffe
        from caffe.device import set_precision

        set_precision("fp32")
        caffe.set_mode_gpu()


@pytest.fixture
def on_cpu(device: None) -> None:
    """Make nets on the CPU all the same."""
    import caffe

    caffe.set_mode_cpu()
