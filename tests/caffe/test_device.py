"""Memory that a process keeps, counted by the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")

FAULTS = """
import resource, sys
import numpy as np
import caffe
from caffe import device

def faults(run):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
ALL = (64 << 20) // (4 << 10) // 512
"""Pages of 2 MiB, the largest that there are, in 64 MiB."""

NET = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 4 dim: 4 dim: 1024 dim: 1024 } } }
layer { name: "power" type: "Power" bottom: "data" top: "power" power_param { power: 2 } }
layer { name: "sum" type: "Reduction" bottom: "power" top: "sum" loss_weight: 1 }
"""


def told(script: str, *arguments: object) -> list[int]:
    """What a script prints."""
    command = [sys.executable, "-c", FAULTS + script, *map(str, arguments)]
    return [int(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()]


def test_pages_are_fetched_once() -> None:
    before, after = told("""
write = lambda: np.ones(8 << 20)
device.set_large_blocks_apart()
print(min(faults(write) for _ in range(3)))
device.keep_pages()
write()
print(min(faults(write) for _ in range(3)))
""")
    assert before >= ALL
    assert after < before / 8


def test_large_blocks_do_not_lie_between_small_ones() -> None:
    """Memory for one large block comes out of what two smaller ones left, though much small was made in between."""
    apart, mixed = told("""
def grown():
    blocks, kept = [], []
    for _ in range(8):
        blocks.append(np.ones(1 << 20))
        kept.append([bytes(5000) for _ in range(1000)])
    del blocks
    device.keep_pages()
    first = [np.ones(1 << 20) for _ in range(8)]
    del first
    return faults(lambda: np.ones(8 << 20)), kept

device.set_large_blocks_apart()
print(grown()[0])
device.keep_pages.cache_clear()
print(grown()[0])
""")
    assert apart < ALL / 4
    assert mixed >= ALL


def test_a_net_keeps_its_pages_after_its_first_passes(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    passes = told(
        """
net = caffe.Net(sys.argv[1], caffe.TRAIN)
print(*(faults(net.run_forward) for _ in range(15)))
""",
        tmp_path / "net.prototxt",
    )
    assert min(passes[:2]) >= ALL
    assert median(passes[2:]) < ALL / 4  # a few may still take a new place, none takes one each time


def test_a_solver_s_test_net_leaves_that_to_the_train_net(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" test_iter: 1 test_interval: 100 base_lr: 0 lr_policy: "fixed"'
    )
    passes = told(
        """
solver = caffe.SGDSolver(sys.argv[1])
print(*(faults(solver.test_nets[0].run_forward) for _ in range(5)))
""",
        tmp_path / "solver.prototxt",
    )
    assert min(passes) >= ALL
