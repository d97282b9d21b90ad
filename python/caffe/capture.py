"""What layers must know of an iteration that is being captured, to be repeated without the host.

While `capturing`, nothing may wait for the values on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_mistakes: list[torch.Tensor] | None = None


@contextmanager
def capturing() -> Iterator[list[torch.Tensor]]:
    """Note what layers would refuse; the list gets a tensor of bool for each that may have to."""
    global _mistakes
    _mistakes = []
    try:
        yield _mistakes
    finally:
        _mistakes = None


def under_way() -> bool:
    """Whether an iteration is being captured: nothing may be looked at."""
    return _mistakes is not None


def defers(wrong: torch.Tensor) -> bool:
    """Whether it is not the layer's part to look if any value is ``wrong``, but that of who captures."""
    if _mistakes is None:
        return False
    _mistakes.append(wrong)
    return True
