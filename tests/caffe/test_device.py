"""Memory that a process keeps, counted by the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from caffe import device

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(8 << 20)  # 64 MiB, written and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
device.keep_pages()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_pages_are_fetched_once() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, stdout=subprocess.PIPE, text=True)
    before, after = map(int, done.stdout.split())
    assert before >= 8 * (64 << 20) // (4 << 10) // 512  # all of it each time, in pages of 2 MiB at least
    assert after < before / 8
