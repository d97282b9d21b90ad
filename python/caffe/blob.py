"""The blob: an array of values and one of gradients, on the host and on the device at once.

Each of the two is a `Memory` with one head, like Caffe's SyncedMemory. On the CPU host and device are the
same memory. A memory that nobody has looked at from Python adopts a new tensor without a copy; one that
has been looked at keeps its place, so a numpy view once taken goes on showing the current values.
"""

from __future__ import annotations

import math
import sys
from itertools import count

import numpy as np
import torch

from caffe.errors import CaffeError

Shape = tuple[int, ...]

_moments = count()
"""A number for each time that any memory changed hands."""


class Memory:
    """Values of one shape: a device tensor, and a numpy view of them, always float32, for who asks."""

    __slots__ = ("_host", "_host_is_newer", "_room", "_tensor", "_touched", "device", "shape")

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.device = device
        self._tensor: torch.Tensor | None = None
        self._room: torch.Tensor | None = None  # all that a smaller shape left of the memory that _tensor begins in
        self._host: np.ndarray | None = None
        self._host_is_newer = False
        self._touch()

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written here; such memory reads as zeros."""
        return self._tensor is None

    @property
    def stays(self) -> bool:
        """Whether new values are copied to where the old ones are."""
        return self._host is not None and self.device.type == "cpu"

    def tensor(self) -> torch.Tensor:
        """The values on the device, uploaded first where a numpy view may have been written to."""
        if self._tensor is None:
            self._tensor = torch.zeros(self.shape, device=self.device)
        if self._host_is_newer:
            # in its place, for whoever holds the tensor; as `data`: a write that autograd does not see
            self._tensor.data.copy_(torch.from_numpy(self._host))
            self._host_is_newer = False
        return self._tensor

    def set(self, values: torch.Tensor) -> None:
        """Take over ``values``: adopted as they are, or copied where a numpy view is out on the CPU."""
        self._touch()
        shape = tuple(values.shape)
        if self._host is not None and self.stays and shape == self.shape:
            # through numpy: a write that autograd does not see, as a C++ layer writing its top
            np.copyto(self._host, values.float().numpy())
            return
        if shape != self.shape or self.device.type == "cpu":
            self._host = None
        self.shape = shape
        self._tensor, self._room = values, None
        self._host_is_newer = False

    def host(self) -> np.ndarray:
        """A live numpy view. On a GPU, what is written to it is uploaded before the next use."""
        self._touch()
        if self.device.type == "meta":  # a net of shapes alone: a layer of the user's may look, and sees zeros
            return np.zeros(self.shape, np.float32)
        tensor = self.tensor()
        if not self.stays and self._room is None and tensor.untyped_storage().nbytes() != tensor.nbytes:
            # a part of another blob's memory, or one number in many places: not to be written to
            tensor = self._tensor = tensor.clone(memory_format=torch.contiguous_format)
        if self.device.type != "cpu":
            values = tensor.detach().float().cpu().numpy()
            if self._host is None:
                self._host = np.empty(self.shape, np.float32)
            np.copyto(self._host, values)
            self._host_is_newer = True
        elif self._host is None:
            if not tensor.is_contiguous() or tensor.dtype != torch.float32:
                tensor, self._room = tensor.float().contiguous(), None
                self._tensor = tensor
            self._host = tensor.numpy(force=True)
        return self._host

    def clear(self) -> None:
        """Make all values zero, without touching memory that nobody looks at."""
        self._touch()
        if self._host is not None and self.stays:
            self._host.fill(0)
        else:
            self._tensor = self._room = None
            self._host_is_newer = False

    def _touch(self) -> None:
        """Take a new moment: values are written, but not by torch, or somebody gets a view to write to."""
        self._touched = next(_moments)

    @property
    def moment(self) -> int:
        """When it last changed hands."""
        return self._touched

    def stamp(self) -> tuple[int, int] | None:
        """Give what no memory's values ever had before they were these; None where they may change unnoticed.

        That is so while somebody holds a numpy view; the attribute and getrefcount's argument are the two others.
        """
        if self._tensor is None or (self._host is not None and sys.getrefcount(self._host) > 2):
            return None
        return self._touched, self._tensor._version

    def let_go(self) -> None:
        """Free memory that nobody looks at: the values are about to be set anew."""
        if self._host is None:
            self._tensor = self._room = None

    def reshape(self, shape: Shape) -> None:
        """Take another shape of the same memory, as long as it is large enough; else of new zeros.

        On a CPU arrays that were given out before go on showing that memory.
        """
        if shape == self.shape:
            return
        self._touch()
        if self._tensor is not None and self._host_is_newer:
            # to memory of its own: the tensor's may be another blob's too, which has newer values for it
            self._tensor, self._room = torch.empty_like(self._tensor).copy_(torch.from_numpy(self._host)), None
        flat = None if self._tensor is None else self._tensor.reshape(-1)
        room, count = flat if self._room is None else self._room, math.prod(shape)
        if room is None or count > room.numel():
            self._tensor = self._room = self._host = None
        else:
            self._tensor, self._room = room[:count].view(shape), room
            self._host = self._tensor.numpy(force=True) if self.stays else None
        self.shape, self._host_is_newer = shape, False


class _Reshaped(Memory):
    """Another memory seen in a different shape (a parameter shared with PERMISSIVE dimension checks)."""

    __slots__ = ("owner",)

    def __init__(self, owner: Memory, shape: Shape) -> None:
        super().__init__(shape, owner.device)
        self.owner = owner

    @property
    def empty(self) -> bool:
        return self.owner.empty

    def tensor(self) -> torch.Tensor:
        return self.owner.tensor().view(self.shape)

    def set(self, values: torch.Tensor) -> None:
        self.owner.set(values.reshape(self.owner.shape))

    def host(self) -> np.ndarray:
        return self.owner.host().reshape(self.shape)

    def clear(self) -> None:
        self.owner.clear()

    @property
    def moment(self) -> int:
        return self.owner.moment

    def stamp(self) -> tuple[int, int] | None:
        return self.owner.stamp()


class Blob:
    """Values and gradients of one shape (NCHW for pictures), as pycaffe's Blob.

    ``data`` and ``diff`` are live numpy views; `data_tensor` and `diff_tensor` are for the runtime.
    """

    def __init__(self, shape: Shape = (), device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self._data = Memory(tuple(shape), self.device)
        self._diff = Memory(tuple(shape), self.device)

    # pycaffe

    @property
    def data(self) -> np.ndarray:
        """Values as a live float32 array, a new one each time: its shape may be set."""
        return self._data.host().view()

    @property
    def diff(self) -> np.ndarray:
        """Gradients as a live float32 array, a new one each time."""
        return self._diff.host().view()

    @property
    def shape(self) -> Shape:
        """Length of each axis."""
        return self._data.shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def reshape(self, *dims: int) -> None:
        """Take the shape ``dims``."""
        if any(d < 0 for d in dims):
            raise CaffeError(f"Check failed: shape[i] >= 0: a blob cannot have the shape {list(dims)}")
        self._data.reshape(tuple(int(d) for d in dims))
        self._diff.reshape(self._data.shape)

    def _legacy(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise CaffeError(
                f"Cannot use legacy accessors on Blobs with > 4 axes: the shape is {list(self.shape)}; use shape"
            )
        return self.shape[axis] if axis < len(self.shape) else 1

    @property
    def num(self) -> int:
        """Length of axis 0 (1 where there is none)."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Length of axis 1 (1 where there is none)."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Length of axis 2 (1 where there is none)."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Length of axis 3 (1 where there is none)."""
        return self._legacy(3)

    # the runtime

    def data_tensor(self) -> torch.Tensor:
        """Values on the device."""
        return self._data.tensor()

    def diff_tensor(self) -> torch.Tensor:
        """Gradients on the device."""
        return self._diff.tensor()

    @property
    def has_diff(self) -> bool:
        """Whether a gradient was ever set or asked for; without one it is all zeros."""
        return not self._diff.empty

    def newer_than(self, other: Blob) -> bool:
        """Whether its values were set, or given to somebody who may write to them, after those of the other."""
        return self._data.moment > other._data.moment

    def stamp(self) -> tuple[int, int] | None:
        """`Memory.stamp` of the values."""
        return self._data.stamp()

    def leaf(self, wanted: bool, overwritten: bool = False) -> torch.Tensor:
        """Values as an autograd leaf that asks for its gradient where ``wanted``.

        Where the blob is ``overwritten`` before that gradient is asked for, they do not change with it.
        """
        values = self._data.tensor().detach()
        return (values.clone() if overwritten and self._data.stays else values).requires_grad_(wanted)

    def set_data(self, values: torch.Tensor) -> None:
        """Take new values, with their shape."""
        self._data.set(values)
        self._diff.reshape(self._data.shape)

    def let_go_data(self) -> None:
        """Free the values, which are about to be set anew, unless somebody looks at them."""
        self._data.let_go()

    def set_diff(self, values: torch.Tensor) -> None:
        """Take new gradients."""
        self._diff.set(values)

    def add_diff(self, values: torch.Tensor) -> None:
        """Add to the gradients; ``values`` must be memory of their own, for they may be kept."""
        if self.has_diff:
            self._diff.tensor().add_(values)
        else:
            self._diff.set(values.contiguous())

    def clear_diff(self) -> None:
        """Make the gradients zero."""
        self._diff.clear()

    def let_go_diff(self) -> None:
        """Free the gradients, which are about to be set anew, unless somebody looks at them."""
        self._diff.let_go()

    def share_data(self, other: Blob) -> None:
        """Take the values of a blob of the same shape for its own, now and from here on; gradients stay apart."""
        self._data = other._data

    def seen_as(self, shape: Shape) -> Blob:
        """Give a blob of another shape over the same values and gradients."""
        other = Blob(shape, self.device)
        other._data, other._diff = _Reshaped(self._data, shape), _Reshaped(self._diff, shape)
        return other


class BlobVec(list[Blob]):
    """A layer's parameter blobs, as pycaffe's: a list that can make more of them."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros; in a Python layer's `setup` it becomes one to learn."""
        self.append(Blob(shape, self._device))
