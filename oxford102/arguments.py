"""Values on command lines that argparse knows no type for."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """A whole number from 0 to 4,294,967,295, which is as far as numpy's seeds go."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def above_zero(text: str) -> float:
    """A number above 0 and below a million."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and below a million")
    return value


def count(text: str) -> int:
    """A whole number above 0 and below 100 million."""
    if not text.isdecimal() or not 0 < int(text) < 10**8:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0 and below 100 million")
    return int(text)


def web_address(text: str) -> str:
    """A URL that starts with http:// or https://."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"'{text}' is not a URL: expected http://… or https://…")
    return text
