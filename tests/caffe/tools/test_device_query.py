"""caffe device_query: what there is, with a GPU or without."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from caffe.tools.main import main

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")


@needs_none
@pytest.mark.parametrize("words", [[], ["-gpu", "0"], ["-gpu", "all"]])
def test_without_a_gpu_it_says_so(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", *words]) == 0
    captured = capsys.readouterr()
    assert re.match(rf"GPU:     none; PyTorch {re.escape(torch.__version__)} ", captured.out)
    assert captured.err.rstrip("\n").endswith(f"caffe.cpp:138] Querying GPUs {words[-1] if words else ''}")


def test_the_processor_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query"]) == 0
    out = capsys.readouterr().out
    assert f"\nCores:   {os.cpu_count()}, " in f"\n{out}"
    assert f"Threads: {torch.get_num_threads()} in PyTorch" in out
    assert re.search(r"^CPU:     \S", out, re.MULTILINE)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        total = int(meminfo.read_text().split()[1]) / 2**20
        assert f"Memory:  {total:.1f} GiB, " in out


@pytest.mark.parametrize("gpu", ["zero", "0,one", "-1"])
def test_a_gpu_is_a_number(gpu: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-gpu", gpu]) == 1
    assert f"-gpu {gpu}: expected a GPU's number or all" in capsys.readouterr().err.splitlines()[-1]


@needs_gpu
def test_a_gpu_is_described_in_caffes_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-gpu", "0"]) == 0
    err = capsys.readouterr().err
    properties = torch.cuda.get_device_properties(0)
    for line in (
        "common.cpp:178] Device id:                     0",
        f"common.cpp:179] Major revision number:         {properties.major}",
        f"common.cpp:181] Name:                          {properties.name}",
        f"common.cpp:182] Total global memory:           {properties.total_memory}",
        "common.cpp:186] Warp size:                     32",
        "common.cpp:188] Maximum threads per block:     1024",
        "common.cpp:189] Maximum dimension of block:    1024, 1024, 64",
        f"common.cpp:200] Number of multiprocessors:     {properties.multi_processor_count}",
    ):
        assert line in err


@needs_gpu
def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    count = torch.cuda.device_count()
    assert main(["device_query", "-gpu", str(count)]) == 1
    assert f"GPU {count} was asked for, but there are {count}" in capsys.readouterr().err
