"""Which folder a model's name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxford102.model_folder import find_model, those_beside

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_a_name_is_that_of_our_model_else_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CaffeNet").mkdir()
    (tmp_path / "Mine" / "snapshots").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("CaffeNet", MODELS) == MODELS / "CaffeNet"
    assert find_model("Mine", MODELS) == Path("Mine")
    assert find_model("Nope", MODELS) == MODELS / "Nope"
    assert "; there are CaffeNet, CaffeNet-frozen, " in those_beside(MODELS / "Nope")
    assert those_beside(tmp_path / "Nope") == ""


def test_where_one_stands_is_a_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Mine" / "snapshots").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Mine")
    assert find_model(".", MODELS) == tmp_path / "Mine"
    monkeypatch.chdir(tmp_path / "Mine" / "snapshots")
    assert find_model("..", MODELS) == tmp_path / "Mine"
