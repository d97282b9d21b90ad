"""Values that argparse takes or refuses."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from oxford102.arguments import above_zero, count, whole


def test_values() -> None:
    assert (whole("0"), whole("4294967295")) == (0, 2**32 - 1)
    assert (above_zero("0.5"), above_zero("100")) == (0.5, 100)
    assert (count("1"), count("99999999")) == (1, 99_999_999)


@pytest.mark.parametrize("text", ["-1", "1.0", "", "x", "4294967296"])
def test_not_whole(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a whole number from 0 to 4294967295"):
        whole(text)


@pytest.mark.parametrize("text", ["-1", "0", "nan", "inf", "x"])
def test_not_above_zero(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a number above 0"):
        above_zero(text)


@pytest.mark.parametrize("text", ["-1", "0", "1.0", "x", "100000000"])
def test_not_a_count(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a whole number above 0"):
        count(text)
