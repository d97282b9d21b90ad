"""How PyTorch's threads wait for work."""

from __future__ import annotations

import os

BRIEF = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000"}
"""Environment for less than a millisecond of spinning; GOMP_SPINCOUNT is the GNU runtime's, others sleep at once."""


def wait_briefly() -> None:
    """Let the threads of PyTorch, which is to be loaded yet, spin briefly before they sleep, unless told otherwise.

    Threads that spin for long take a core from another process; those that sleep at once take longer to wake than
    many a layer takes for a single picture.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.update(BRIEF | os.environ)
