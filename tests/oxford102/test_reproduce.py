"""What reproduce.py refuses before it trains; it runs for real in tests/scripts/test_reproduce.py."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from oxford102 import reproduce as module
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


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were to be run; instead each is noted, and `caffe test` says what it would."""
    commands: list[list[str]] = []

    def note(command: list[str], folder: Path, quiet: bool = False) -> str:
        commands.append([Path(command[0]).name, *command[1:]])
        return "I0101 00:00:00.000000 1 caffe.cpp:318] accuracy = 0.25\n" if quiet else ""

    monkeypatch.setattr(module, "run", note)
    monkeypatch.setattr(module, "find_tool", lambda name: f"/somewhere/{name}")
    return commands


def flags(command: list[str]) -> list[str]:
    """Behind bootstrap.py."""
    return command[2:] if command[1].endswith("bootstrap.py") else []


def test_bootstrap_brings_what_is_missing_and_no_more(job: Job, ran: list[list[str]]) -> None:
    shutil.copytree(MODELS / "CaffeNet", job.folder.parent / "CaffeNet", ignore=shutil.ignore_patterns("*.caffemodel"))
    flowers, data = replace(job, folder=job.folder.parent / "CaffeNet"), job.root / "data"

    def brought(job: Job) -> list[str]:
        with pytest.raises(ToolError, match="nothing that bootstrap.py brings"):
            Model(job).bring()
        return flags(ran.pop())

    assert brought(flowers) == ["--models", "CaffeNet"]
    own = job.root / "own.caffemodel"
    own.touch()
    assert brought(replace(flowers, weights=own)) == ["--no-models"]
    for name in ("train.txt", "valid.txt", "test.txt"):
        (data / name).touch()
    assert brought(flowers) == ["--no-data", "--models", "CaffeNet"]
    (data / "imagenet_mean.binaryproto").touch()
    (data / "demo" / "valid.txt").unlink()
    assert brought(job) == ["--demo", "--no-models"]
    assert ran == []
    Model(replace(flowers, weights=own)).bring()
    assert ran == []


@pytest.mark.parametrize(("gpu", "words"), [("", []), ("0", ["-gpu", "0"]), ("0,1", ["-gpu", "0,1"])])
def test_training_and_testing_take_the_gpus(job: Job, ran: list[list[str]], gpu: str, words: list[str]) -> None:
    model = Model(replace(job, gpu=gpu))
    with pytest.raises(ToolError, match="training ended without .*finetuned_iter_600.caffemodel"):
        model.train()
    assert model.score(model.test_path) == 0.25
    for command, action in zip(ran, ("train", "test"), strict=True):
        assert command[:2] == ["caffe", action]
        given = command.index("-gpu") if "-gpu" in command else len(command)
        assert command[given : given + 2] == words


def test_the_row_of_a_run_without_a_log(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MODELS / "CaffeNet", job.folder.parent / "CaffeNet", ignore=shutil.ignore_patterns("*.caffemodel"))
    monkeypatch.setattr(module, "_device", lambda gpu, log, folder: f"GPU {gpu}{log}")
    flowers = replace(job, folder=job.folder.parent / "CaffeNet", gpu="0,1")
    row = Model(flowers).result(0.84021, 0.815)
    assert (row.model, row.data, row.validation, row.test) == ("CaffeNet", "oxford102", "84.02", "81.50")
    assert row.settings == "256->227 px, 50000 iterations of 100, rate 0.001"
    assert (row.iterations, row.seconds, row.device) == ("50000", "", "GPU 0,1")
    assert Model(job).result(0, 0).data == "demo"
    assert Model(replace(job, data="mine")).result(0, 0).data == "mine"


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
