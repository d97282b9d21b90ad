"""What ``-gpu`` means, for every command that has it."""

from __future__ import annotations

import os

import torch

from caffe import device, glog
from caffe.errors import DeviceError

TRAIN_LINE = 210


def gpus(gpu: str) -> list[int]:
    """The numbers that the flag names.

    Raises:
        DeviceError: it names none.
    """
    if gpu == "all":
        return list(range(max(1, torch.cuda.device_count())))
    if not all(name.strip().isdecimal() for name in gpu.split(",")):
        raise DeviceError(f"-gpu {gpu}: expected a GPU's number or all")
    return [int(name) for name in gpu.split(",")]


def choose(gpu: str, precision: str, cpu_line: int, gpu_line: int) -> None:
    """Make nets on the GPU that the flag names, or on the CPU where it is empty, with that precision.

    Args:
        gpu: a GPU's number, several, or ``all``; training takes the one of this process, all else the first.
        precision: one of `caffe.device.PRECISIONS`.
        cpu_line, gpu_line: where the action says so in Caffe's caffe.cpp.

    Raises:
        DeviceError: there is no such GPU or precision, or none for this process.
    """
    device.set_precision(precision)
    if not gpu:
        glog.info(f"caffe.cpp:{cpu_line}", "Use CPU.")
        device.set_mode_cpu()
        return
    numbers = gpus(gpu)
    place = int(os.environ.get("LOCAL_RANK", "0")) if gpu_line == TRAIN_LINE else 0
    if place >= len(numbers):
        raise DeviceError(
            f"-gpu {gpu}: there is no GPU for process {place} of this machine; start as many processes as it names GPUs"
        )
    number = numbers[place]
    device.set_device(number)
    device.set_mode_gpu()
    name = torch.cuda.get_device_name(number)
    # training names all of its GPUs, the other actions their one
    lines = (f"Using GPUs {', '.join(map(str, numbers))}", f"GPU {number}: {name}")
    if gpu_line != TRAIN_LINE:
        lines = (f"Use GPU with device ID {number}", f"GPU device name: {name}")
    for i, line in enumerate(lines):
        glog.info(f"caffe.cpp:{gpu_line + 5 * i}", line)
