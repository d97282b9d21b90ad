"""The command; its files are compared in tests/oxford102/test_new_model.py, and it runs in test_make_dataset.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Run


def test_mistakes_end_in_one_line(run: Run) -> None:
    for model, message in (
        ("Nope", "Nope: no such model folder; there are "),
        ("Demo", "data/labels.txt: no such file"),
    ):
        done = run("new_model.py", model, "--data", "data", "-o", "new")
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_usage_and_help(run: Run) -> None:
    assert run("new_model.py", "Demo", "-o", "new").returncode == 2
    for epochs in ("0", "-1", "nan", "many"):
        assert run("new_model.py", "Demo", "--data", "data", "-o", "new", "--epochs", epochs).returncode == 2
    for flags in (["--iterations", "0"], ["--crop", "1.5"], ["--resize", "x"], ["--epochs", "2", "--iterations", "3"]):
        assert run("new_model.py", "Demo", "--data", "data", "-o", "new", *flags).returncode == 2
    assert "-o models/Flowers17-CaffeNet" in run("new_model.py", "--help").stdout
