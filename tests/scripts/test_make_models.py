"""make_models.py: what is in models/ is what it writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

MODELS = Path(__file__).resolve().parents[2] / "models"
Run = Callable[..., CompletedProcess[str]]


def test_the_files_here_are_its_output(run: Run, tmp_path: Path) -> None:
    done = run("make_models.py", "-o", "models")
    assert (done.returncode, done.stderr) == (0, "")
    made = {str(p.relative_to("models")): p.read_text() for p in Path("models").rglob("*") if p.is_file()}
    here = {
        str(p.relative_to(MODELS)): p.read_text()
        for folder in MODELS.iterdir()
        if folder.name != "Demo"
        for p in [*folder.glob("*.prototxt"), folder / "snapshots" / ".gitkeep"]
    }
    assert made == here
    assert sorted(done.stdout.split()) == sorted(f"models/{name}" for name in made if name.endswith(".prototxt"))


def test_only_what_differs_is_written(run: Run) -> None:
    run("make_models.py", "-o", "models")
    changed = Path("models/CaffeNet/solver.prototxt")
    changed.write_text("changed")
    assert run("make_models.py", "-o", "models").stdout == "models/CaffeNet/solver.prototxt\n"
    assert changed.read_text() == (MODELS / "CaffeNet" / "solver.prototxt").read_text()


def test_lines_are_short_and_say_what_was_decided() -> None:
    for path in MODELS.glob("*/*.prototxt"):
        assert max(map(len, path.read_text().splitlines())) <= 120, path
    files = {
        name: (MODELS / name).read_text() for name in ("VGG16/train_val.prototxt", "ResNet50-v1.5/deploy.prototxt")
    }
    assert re.search(r"# .*VGG's own training.*\n(# .*\n)?layer {\n  name: \"data\"", files["VGG16/train_val.prototxt"])
    assert re.search(
        r"# .*stride is on the 3x3.*\nlayer {\n  name: \"res3a_branch2b\"", files["ResNet50-v1.5/deploy.prototxt"]
    )


def test_no_folder_to_write_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("make_models.py", "-o", "file")
    assert done.returncode == 1
    assert done.stderr == "make_models.py: error: file/CaffeNet/snapshots: Not a directory\n"
