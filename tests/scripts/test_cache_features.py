"""The command; its files are compared in tests/oxford102/test_feature_cache.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Run


def test_mistakes_end_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"")
    for args, message in (
        (["Nope"], "Nope: no solver.prototxt in such a folder; there are CaffeNet-frozen"),
        (["CaffeNet-frozen", "--weights", "absent"], "absent: no such weights"),
        (["CaffeNet-frozen", "-o", "."], ". exists; choose another -o, or give --force"),
    ):
        done = run("cache_features.py", *args)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.startswith("cache_features.py: error: ")
        assert done.stderr.count("\n") == 1


def test_usage_and_help(run: Run) -> None:
    assert run("cache_features.py").returncode == 2
    assert run("cache_features.py", "A", "--crops", "nine").returncode == 2
    assert run("cache_features.py", "A", "-gpu", "-1").returncode == 2
    assert "cache_features.py CaffeNet-frozen --upto conv5" in run("cache_features.py", "--help").stdout
