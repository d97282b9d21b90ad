"""Rows of figures as an aligned table of at most 120 columns."""

from __future__ import annotations

from collections.abc import Sequence

from caffe.blob import Shape

WIDTH = 120
"""Columns of the page."""

GAP = "  "
PREFIXES = ("", " k", " M", " G", " T", " P")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Align the rows under their titles: columns ``left`` to the left, all others to the right.

    A row of no cells becomes a rule. Where the lines would be longer than the page, the longest column to the
    left is narrowed, and its texts lose their middle.
    """
    cells = [titles, *(row for row in rows if row)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    while sum(widths) + len(GAP) * (len(widths) - 1) > WIDTH and max(widths[i] for i in left) > 8:
        widths[max(left, key=lambda i: widths[i])] -= 1
    rule = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
    lines = [_line(row, widths, left) if row else rule for row in [titles, (), *rows]]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], left: Sequence[int]) -> str:
    texts = [
        shorten(text, width).ljust(width) if i in left else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return GAP.join(texts).rstrip()


def shorten(text: str, width: int) -> str:
    """Leave out the middle of a text that is too long."""
    if len(text) <= width:
        return text
    return text[: (width - 1) // 2] + "…" + text[len(text) - width // 2 :]


def figure(value: float) -> str:
    """Print with three digits and a prefix: ``723 M``, ``1.45 G``; 0 as a dash."""
    if not value:
        return "-"
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value /= 1000
        power += 1
    return f"{value:.0f}" if not power else f"{value:.3g}{PREFIXES[power]}"


def shapes(tops: Sequence[Shape]) -> str:
    """Print the shapes of a layer's tops: ``64x3x227x227, 64``; of many alike ``3 x 10x96``."""
    texts = ["x".join(map(str, top)) or "1" for top in tops]
    if len(texts) > 1 and len(set(texts)) == 1:
        return f"{len(texts)} x {texts[0]}"
    return ", ".join(texts) or "-"
