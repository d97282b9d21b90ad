"""CaffeNet's training on a GPU, operation by operation and by a graph, beside the same training on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import caffe
from caffe.device import set_precision
from caffe.proto.caffe_pb2 import TEST, LayerParameter, SolverParameter
from caffe.proto.text import read_net
from caffe.solvers.captured import capture_iterations
from caffe.solvers.solver import Solver, make_solver

CAFFENET = Path(__file__).parents[3] / "models" / "CaffeNet" / "train_val.prototxt"
CLASSES, PICTURES, BATCH = 4, 24, 8
ITERATIONS = 50
BASE_LR = 0.00005
"""At which one thread of a CPU differs from two by 0.000002; at ten times as much, rounding alone makes it 0.003."""


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures, brighter from class to class."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    lines = []
    for i in range(PICTURES):
        label = i % CLASSES
        picture = rng.integers(0, 80, (240, 240, 3)) + 55 * label
        lines.append(f"{folder / f'{i}.png'} {label}\n")
        assert cv2.imwrite(str(folder / f"{i}.png"), picture.astype(np.uint8))
    path = folder / "list.txt"
    path.write_text("".join(lines))
    return path


def losses(listing: Path, prepare: Callable[[Solver], None] = lambda solver: None) -> list[float]:
    """The losses of CaffeNet without what chance does on the device, its dropout."""
    param = SolverParameter(
        type="SGD", base_lr=BASE_LR, lr_policy="fixed", momentum=0.9, weight_decay=0.0005, max_iter=ITERATIONS
    )
    param.random_seed = 3
    param.net_param.CopyFrom(read_net(str(CAFFENET)))
    layers = [layer for layer in param.net_param.layer if TEST not in [rule.phase for rule in layer.include]]
    data = LayerParameter(name="data", type="ImageData", top=["data", "label"])
    data.transform_param.MergeFrom(layers[0].transform_param)
    data.transform_param.ClearField("mean_file")
    data.transform_param.mean_value.extend([120, 120, 120])
    data.image_data_param.source, data.image_data_param.batch_size = str(listing), BATCH
    data.image_data_param.shuffle = True
    del param.net_param.layer[:]
    param.net_param.layer.extend([data, *(layer for layer in layers[1:] if layer.type != "Dropout")])
    set_precision("fp32")
    solver = make_solver(param)
    prepare(solver)
    found = []
    for _ in range(ITERATIONS):
        solver.step(1)
        found.append(float(solver._losses[-1]))
    solver.close()
    return found


@pytest.fixture(scope="module")
def expected(listing: Path) -> list[float]:
    """The CPU's losses, which fall."""
    caffe.set_mode_cpu()
    found = losses(listing)
    assert found[0] > 5
    assert max(found[-10:]) < 2
    return found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("prepare", [lambda solver: None, capture_iterations], ids=["eager", "graph"])
def test_it_trains_as_on_the_cpu(
    listing: Path, expected: list[float], prepare: Callable[[Solver], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # which a graph switches on
    caffe.set_mode_gpu()
    try:
        np.testing.assert_allclose(losses(listing, prepare), expected, rtol=0, atol=1e-3)
    finally:
        caffe.set_mode_cpu()
