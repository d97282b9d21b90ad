"""What becomes of other exceptions."""

from __future__ import annotations

import pytest

from oxford102.errors import ToolError, told


def test_errors_of_the_kinds_asked_for_are_told_in_one_line() -> None:
    with pytest.raises(ToolError, match="^a.prototxt: no such layer$"), told("a.prototxt", ValueError):
        raise ValueError("no such\n  layer")
    with pytest.raises(KeyError), told("a.prototxt", ValueError, RuntimeError):
        raise KeyError("a bug")


@pytest.mark.parametrize("error", [ToolError("b.jpg is no picture"), FileNotFoundError(2, "No such file", "b.jpg")])
def test_what_names_its_file_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as seen, told("a.prototxt", Exception):
        raise error
    assert seen.value is error
