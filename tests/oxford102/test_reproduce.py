"""What reproduce.py refuses before it trains; it runs for real in tests/scripts/test_reproduce.py."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from oxford102.errors import ToolError
from oxford102.lists import Entry, write_list
from oxford102.reproduce import Job, Model, reproduce

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A project with a copy of models/Demo and three pictures in each list."""
    root = tmp_path / "project"
    shutil.copytree(MODELS / "Demo", root / "models" / "Demo")
    data = root / "data" / "demo"
    data.mkdir(parents=True)
    cv2.imwrite(str(data / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for split in ("train", "valid", "test"):
        write_list(data / f"{split}.txt", [Entry(data / "a.png", 0)] * 3)
    return Job(root / "models" / "Demo", root)


def test_what_is_missing_is_named(job: Job) -> None:
    nowhere = job.folder.parent / "Nowhere"
    with pytest.raises(ToolError, match="Nowhere: no such model folder; there are Demo"):
        reproduce(replace(job, folder=nowhere))
    (job.folder / "pretrained-weights.caffemodel").unlink()
    with pytest.raises(ToolError, match=r"nothing that bootstrap.py brings: .*Demo/pretrained-weights.caffemodel; see"):
        reproduce(job)
    with pytest.raises(ToolError, match=r"brings: .*own.caffemodel"):
        reproduce(replace(job, weights=Path("own.caffemodel")))
    (job.folder / "test.prototxt").unlink()
    with pytest.raises(ToolError, match=r"test\.prototxt: no such file; new_model.py writes it where"):
        reproduce(job)
    (job.folder / "solver.prototxt").unlink()
    with pytest.raises(ToolError, match=r"solver\.prototxt: no such file; expected a folder as those of models/"):
        reproduce(job)


def test_own_pictures_are_not_bootstrapped(job: Job) -> None:
    path = job.folder / "train_val.prototxt"
    path.write_text(path.read_text().replace("data/demo/valid", "data/own/valid"))
    with pytest.raises(ToolError, match=r"brings: .*project/data/own/valid\.txt"):
        reproduce(job)


def test_a_damaged_file_of_results_is_told_before_training(job: Job) -> None:
    (job.root / "results").mkdir()
    (job.root / "results" / "results.csv").write_text("what")
    with pytest.raises(ToolError, match="expected the first line model,data"):
        reproduce(job)
    assert not (job.folder / "logs").exists()


def test_weights_older_than_their_solver(job: Job) -> None:
    final = job.folder / "snapshots" / "finetuned_iter_600.caffemodel"
    shutil.copy(job.folder / "pretrained-weights.caffemodel", final)
    os.utime(final, (0, 0))
    with pytest.raises(
        ToolError, match=r"finetuned_iter_600.caffemodel is older than .*solver\.prototxt; move it away"
    ):
        reproduce(job)


def test_one_device_takes_the_solver_of_one(job: Job) -> None:
    shutil.copytree(MODELS / "ResNet50", job.folder.parent / "ResNet50")
    resnet = replace(job, folder=job.folder.parent / "ResNet50")
    assert Model(resnet).solver_path.name == "solver_one_gpu.prototxt"
    assert Model(replace(resnet, gpu="0")).solver_path.name == "solver_one_gpu.prototxt"
    assert Model(replace(resnet, gpu="0,1")).solver_path.name == "solver.prototxt"


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in MODELS.glob("*/solver.prototxt")))
def test_every_model_names_its_weights(folder: str) -> None:
    weights = Model(Job(MODELS / folder, MODELS.parent)).weights
    assert weights == MODELS / folder.removesuffix("-frozen") / "pretrained-weights.caffemodel"
