"""caffe device_query -gpu all."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import torch

from caffe import glog
from caffe.errors import DeviceError
from caffe.tools.device_flag import gpus

ATTRIBUTES = (
    (184, "Total shared memory per block", (8,)),
    (185, "Total registers per block", (12,)),
    (186, "Warp size", (10,)),
    (187, "Maximum memory pitch", (11,)),
    (188, "Maximum threads per block", (1,)),
    (189, "Maximum dimension of block", (2, 3, 4)),
    (192, "Maximum dimension of grid", (5, 6, 7)),
    (195, "Clock rate", (13,)),
    (196, "Total constant memory", (9,)),
    (197, "Texture alignment", (14,)),
    (198, "Concurrent copy and execution", (15,)),
    (200, "Number of multiprocessors", (16,)),
    (201, "Kernel execution timeout", (17,)),
)
"""Caffe's line in common.cpp, its words, and the numbers of the CUDA driver's attributes that it prints."""

YES_OR_NO = (15, 17)
"""Attributes that are truths."""


def work(options: SimpleNamespace) -> int:
    """Log each GPU in Caffe's words, and print what else there is to compute on."""
    glog.info("caffe.cpp:138", f"Querying GPUs {options.gpu}")
    numbers = _numbers(options.gpu or "all")
    if numbers:
        for number in numbers:
            _query(number)
    else:
        print(f"GPU:     none; {_why_none()}")
    print(_processor())
    return 0


def _numbers(gpu: str) -> list[int]:
    """Read -gpu; an empty list where there is no GPU at all."""
    numbers = gpus(gpu)
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    for number in numbers:
        if number >= count:
            raise DeviceError(f"GPU {number} was asked for, but there are {count}: choose one from 0 to {count - 1}")
    return numbers


def _query(number: int) -> None:
    """Log what BVLC logs of a GPU."""
    properties = torch.cuda.get_device_properties(number)
    lines: list[tuple[int, str, object]] = [
        (178, "Device id", number),
        (179, "Major revision number", properties.major),
        (180, "Minor revision number", properties.minor),
        (181, "Name", properties.name),
        (182, "Total global memory", properties.total_memory),
    ]
    driver, value = ctypes.CDLL("nvcuda" if os.name == "nt" else "libcuda.so.1"), ctypes.c_int()
    for line, words, attributes in ATTRIBUTES:
        values = []
        for attribute in attributes:
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, number)
            values.append(("No", "Yes")[value.value] if attribute in YES_OR_NO else str(value.value))
        lines.append((line, words, ", ".join(values)))
    for line, words, answer in lines:
        glog.info(f"common.cpp:{line}", f"{words + ':':<30} {answer}")


def _why_none() -> str:
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is a build without CUDA"
    return f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) sees no NVIDIA driver or device"


def _processor() -> str:
    """Say what the CPU is, how much of it PyTorch uses, and how much memory there is."""
    model = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    name = model[1] if model else platform.processor() or platform.machine()
    memory = {key: int(size) / 2**20 for key, size in re.findall(r"^(\w+): +(\d+) kB$", _read("/proc/meminfo"), re.M)}
    size = f"{memory['MemTotal']:.1f} GiB, {memory['MemAvailable']:.1f} GiB of it free" if memory else "unknown"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"CPU:     {name}\n"
        f"Cores:   {os.cpu_count()}, {usable} of them for this process\n"
        f"Threads: {torch.get_num_threads()} in PyTorch (OMP_NUM_THREADS sets them)\n"
        f"Memory:  {size}"
    )


def _read(path: str) -> str:
    """Give what the system tells, nothing where it is not Linux."""
    return Path(path).read_text() if Path(path).is_file() else ""
