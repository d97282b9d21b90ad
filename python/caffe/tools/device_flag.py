"""What ``-gpu`` means, for every command that has it."""

from __future__ import annotations

import torch

from caffe import device, glog
from caffe.errors import DeviceError


def choose(gpu: str, place: str) -> None:
    """Make nets on the GPU that the flag names, or on the CPU where it is empty.

    Args:
        gpu: a GPU's number, or ``all``.
        place: Caffe's ``file.cpp:line`` for "Use CPU."

    Raises:
        DeviceError: there is no such GPU, or several are asked for.
    """
    if not gpu:
        glog.info(place, "Use CPU.")
        device.set_mode_cpu()
        return
    names = [str(i) for i in range(max(1, torch.cuda.device_count()))] if gpu == "all" else gpu.split(",")
    if not all(name.strip().isdecimal() for name in names):
        raise DeviceError(f"-gpu {gpu}: expected a GPU's number or all")
    if len(names) > 1:
        raise DeviceError(f"-gpu {gpu}: training on several GPUs is not there yet; name one")
    number = int(names[0])
    device.set_device(number)
    device.set_mode_gpu()
    glog.info("caffe.cpp:210", f"Using GPUs {number}")
    glog.info("caffe.cpp:215", f"GPU {number}: {torch.cuda.get_device_name(number)}")
