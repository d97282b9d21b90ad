"""How many processes train, and which this is: pycaffe's names.

`caffe train` sets them (see `caffe.solvers.group`) and data layers read their share by them. `NCCL`, with which
scripts join processes themselves, is not there and says what to do instead.
"""

from __future__ import annotations

from typing import Any

from caffe.errors import DeviceError

_count = 1
_rank = 0


def solver_count() -> int:
    """Number of solvers that `set_solver_count` was told; 1 at first."""
    return _count


def set_solver_count(count: int) -> None:
    """Note the number of solvers."""
    global _count
    _count = int(count)


def solver_rank() -> int:
    """Number of this solver that `set_solver_rank` was told; 0, the root, at first."""
    return _rank


def set_solver_rank(rank: int) -> None:
    """Note the number of this solver."""
    global _rank
    _rank = int(rank)


def set_multiprocess(multiprocess: bool) -> None:
    """Do nothing: pycaffe's solvers ask whether they are processes, here there is only one."""


def has_nccl() -> bool:
    """Whether `NCCL` can be used: it cannot."""
    return False


class NCCL:
    """pycaffe's all-reduce over several GPUs, which is not there.

    Raises:
        DeviceError: whenever one is made.
    """

    def __init__(self, *args: Any) -> None:
        raise DeviceError(_NO_NCCL)

    @staticmethod
    def new_uid() -> bytes:
        """Make the key by which processes find each other.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(_NO_NCCL)


_NO_NCCL = "caffe.NCCL is not available (see has_nccl): train on several GPUs with caffe train -gpu 0,1"
