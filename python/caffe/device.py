"""Where nets are made: pycaffe's mode and device, as one process-wide choice.

Caffe keeps the mode in a global; so does this module, and it is the only place that does. A net asks for
`current` once, when it is made, and stays there.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from functools import cache

import torch

from caffe.errors import DeviceError

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", "tf32", *HALVES)
FP16_GRADIENTS = 1024.0
"""What gradients are multiplied by on their way through a net in fp16, where those below 6e-8 would be zero; a power of
two changes no digit of the others (Micikevicius et al. 2018)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)

_gpu = False
_index = 0
_precision = "tf32"


def set_mode_cpu() -> None:
    """Make nets on the CPU from here on."""
    global _gpu
    _gpu = False


def set_mode_gpu() -> None:
    """Make nets on the GPU chosen by `set_device` (0 unless told otherwise).

    Raises:
        DeviceError: PyTorch sees no CUDA device.
    """
    global _gpu
    _check(_index)
    _gpu = True
    _allow_tf32()


def set_device(index: int) -> None:
    """Choose the GPU by its number; takes effect with `set_mode_gpu`.

    Raises:
        DeviceError: there is no such GPU.
    """
    global _index
    _check(index)
    _index = index


def set_precision(name: str) -> None:
    """Choose how nets made from here on multiply: fp32, tf32 (the default), bf16 or fp16.

    tf32 is float32 rounded to 10 bits in the products of a GPU's convolutions and inner products, and fp32 on a CPU.
    With bf16 (7 bits) they and the layers after them compute in bfloat16, with fp16 (10 bits, up to 65504) in float16;
    weights, updates and losses stay float32.

    Raises:
        DeviceError: there is no such precision.
    """
    global _precision
    if name not in PRECISIONS:
        raise DeviceError(f"-precision {name}: expected one of {', '.join(PRECISIONS)}")
    _precision = name
    if _gpu:
        _allow_tf32()


def half() -> torch.dtype | None:
    """The type that stands in for float32 in a net made now, if any."""
    return HALVES.get(_precision)


def gradient_scale() -> float:
    """What gradients are multiplied by in a net made now."""
    return FP16_GRADIENTS if _precision == "fp16" else 1.0


def _allow_tf32() -> None:
    with warnings.catch_warnings():
        # some releases of PyTorch warn of other settings to come, which must not be mixed with these: its compiler does
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision("highest" if _precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = _precision != "fp32"


def current() -> torch.device:
    """The device on which a net made now will live."""
    return torch.device("cuda", _index) if _gpu else torch.device("cpu")


@cache
def set_large_blocks_apart() -> None:
    """Let the process's large blocks of memory lie apart from its small ones, where the C library is glibc.

    What a process makes in its first passes and keeps for good is small: kernels that were chosen, objects. Were it to
    lie between large blocks, these could not be joined for a larger one once they are free.
    """
    _mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    _mallopt(_MMAP_THRESHOLD, 128 * 2**10)


@cache
def keep_pages() -> None:
    """Let the process keep memory that it frees, where the C library is glibc; to be called after the first passes.

    It hands large blocks back to the system at once, and every iteration would fetch and zero the pages of its
    blobs anew: a third of SqueezeNet's time on a CPU.
    """
    _mallopt(_MMAP_MAX, 0)


def _mallopt(parameter: int, value: int) -> None:
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        libc.mallopt(parameter, value)


def gpu_available() -> bool:
    """Whether PyTorch can use a CUDA device here."""
    return torch.cuda.is_available()


def _check(index: int) -> None:
    if not torch.cuda.is_available():
        raise DeviceError(
            f"Cannot use GPU in CPU-only Caffe: check mode. GPU {index} was asked for, but PyTorch "
            f"{torch.__version__} sees no CUDA device. Leave out -gpu (or call caffe.set_mode_cpu()), "
            "or install a CUDA build of PyTorch and an NVIDIA driver"
        )
    count = torch.cuda.device_count()
    if not 0 <= index < count:
        raise DeviceError(f"GPU {index} was asked for, but there are {count}: choose one from 0 to {count - 1}")
