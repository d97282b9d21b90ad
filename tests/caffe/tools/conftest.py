"""A job small enough to run in no time: six noise pictures of two classes, a net of one layer, a solver."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

NET = """
name: "n"
layer { name: "d" type: "ImageData" top: "x" top: "y" image_data_param { source: "list.txt" batch_size: 4 }
        transform_param { crop_size: 12 } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2
        weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 display: 1 snapshot_prefix: "s/run" '


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.png {i % 2}\n" for i in range(6)))
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER + "max_iter: 1000000")
    return tmp_path
