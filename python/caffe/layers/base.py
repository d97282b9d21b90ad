"""The layer: a differentiable function from bottom tensors to top tensors.

A layer type is a subclass that says how many bottoms and tops it takes, checks its parameters and makes
its parameter blobs in `setup`, answers the shapes of its tops in `reshape`, and computes in `forward`
with torch operations. Autograd differentiates `forward`; a layer never writes a backward pass unless
Caffe's gradient is not autograd's, and then as a `torch.autograd.Function` with a comment that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from caffe.blob import Blob
from caffe.errors import LayerError
from caffe.fillers import fill
from caffe.proto.caffe_pb2 import TRAIN, FillerParameter, LayerParameter

Shape = tuple[int, ...]


class Layer:
    """One layer of a net.

    Attributes:
        param: the layer's LayerParameter, its ``phase`` set.
        blobs: its parameter blobs, in Caffe's order (weights, then bias).
        device: where its tensors live.
        wanted: per parameter blob, whether its gradient is asked for; the net sets it.
        leaves: the autograd leaves that the last forward pass used, by parameter blob.

    Class attributes:
        type: Caffe's name of the layer, set by `caffe.layers.registry.register`.
        bottoms, tops: (least, most) number of bottoms and tops; ``None`` as most is "any number".
        differentiable: per bottom, whether a gradient flows to it; a shorter tuple repeats its last entry.
        is_loss: the first top has loss weight 1 where the prototxt gives none, and the top may be left out.
        is_data: the layer brings pictures or records in; the solver asks it for its reading position.
    """

    type: ClassVar[str] = ""
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    differentiable: ClassVar[tuple[bool, ...]] = (True,)
    is_loss: ClassVar[bool] = False
    is_data: ClassVar[bool] = False

    def __init__(self, param: LayerParameter, device: torch.device) -> None:
        self.param = param
        self.name: str = param.name
        self.device = device
        self.training: bool = param.phase == TRAIN
        self.blobs: list[Blob] = []
        self.wanted: list[bool] = []
        self.leaves: dict[int, torch.Tensor] = {}

    def setup(self, bottoms: Sequence[Shape]) -> None:
        """Check the parameters against the bottoms' shapes and make the parameter blobs; called once."""

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the tops' shapes for these bottoms; called at set-up and whenever a bottom changes shape."""
        raise NotImplementedError(f"{type(self).__name__} must say the shapes of its tops")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        """Compute the tops. The tensors are on `device`; a top may be a bottom itself or a view of it.

        An empty list leaves the tops as they are: somebody else writes to them.
        """
        raise NotImplementedError(f"{type(self).__name__} must compute its tops")

    def flows_to(self, bottom: int) -> bool:
        """Whether a gradient flows to that bottom."""
        return self.differentiable[min(bottom, len(self.differentiable) - 1)]

    def close(self) -> None:
        """Let go of files and threads."""

    # What subclasses use

    def weight(self, i: int) -> torch.Tensor:
        """Parameter blob ``i`` as this pass's autograd leaf (it asks for a gradient only where `wanted`)."""
        if i not in self.leaves:
            self.leaves[i] = self.blobs[i].leaf(self.wanted[i] and torch.is_grad_enabled())
        return self.leaves[i]

    def add_blob(self, shape: Shape, filler: FillerParameter | None = None) -> Blob:
        """Append a parameter blob of that shape, filled as the prototxt says (zeros without a filler)."""
        if len(self.blobs) < len(self.param.blobs):
            raise self.error("weights inside the prototxt (blobs) are not read; load them from a .caffemodel instead")
        blob = Blob(shape, self.device)
        if filler is not None:
            fill(blob, filler, self.name)
        self.blobs.append(blob)
        self.wanted.append(False)
        return blob

    def axis(self, index: int, shape: Shape, what: str = "axis") -> int:
        """Canonical form of a possibly negative axis (Caffe's CanonicalAxisIndex)."""
        if not -len(shape) <= index < len(shape):
            raise self.error(
                f"{what} {index} is out of range for a {len(shape)}-D blob with shape {describe(shape)}; "
                f"give one from {-len(shape)} to {len(shape) - 1}"
            )
        return index % len(shape)

    def error(self, message: str) -> LayerError:
        """An error that names this layer and its type; the caller raises it."""
        return LayerError(self.name, f"({self.param.type}) {message}")


class ElementwiseLayer(Layer):
    """Top has the bottom's shape, each element computed from its own; may be computed in place."""

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]


def describe(shape: Sequence[int]) -> str:
    """Shape as Caffe prints it: ``2 3 8 8 (384)``."""
    count = 1
    for dim in shape:
        count *= dim
    return " ".join([*map(str, shape), f"({count})"])
