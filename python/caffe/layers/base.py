"""The layer: a differentiable function from bottom tensors to top tensors.

A layer type is a subclass that says how many bottoms and tops it takes, checks its parameters and makes
its parameter blobs in `setup`, answers the shapes of its tops in `reshape`, and computes in `forward`
with torch operations. Autograd differentiates `forward`; a layer never writes a backward pass unless
Caffe's gradient is not autograd's, and then as a `torch.autograd.Function` with a comment that says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Generic

import torch

from caffe import parallel
from caffe.blob import Blob, BlobVec
from caffe.data.prefetch import AnyBatch, Prefetcher
from caffe.errors import LayerError
from caffe.fillers import fill
from caffe.proto.caffe_pb2 import TRAIN, FillerParameter, LayerParameter, LossParameter
from caffe.proto.wire import blob_shape

Shape = tuple[int, ...]


class Layer:
    """One layer of a net.

    Attributes:
        param: the layer's LayerParameter, its ``phase`` set.
        blobs: its parameter blobs, in Caffe's order (weights, then bias).
        device: where its tensors live.
        wanted: per parameter blob, whether its gradient is asked for; the net sets it.
        leaves: the autograd leaves that the last forward pass used, by parameter blob.
        memory: what it carries from one pass to the next, beside its blobs; a pass writes over it.

    Class attributes:
        type: Caffe's name of the layer, set by `caffe.layers.registry.register`.
        bottoms, tops: (least, most) number of bottoms and tops; ``None`` as most is "any number".
        differentiable: per bottom, whether a gradient flows to it; a shorter tuple repeats its last entry.
        undifferentiable: what BVLC calls the bottoms that no gradient flows to, in refusing one; without it
            the gradient there is zero.
        is_loss: the first top has loss weight 1 where the prototxt gives none, and the top may be left out.
        is_data: the layer brings pictures or records in; the solver asks it for its reading position.
        half: what it does where a net's precision is below float32: None computes in float32 all the same, False in the
            type that its bottoms have, True in the lower precision.
        gives_away_top: the top is memory of its own, which neither this layer nor its gradient reads again.
        waits: a pass goes through the host, so that a GPU cannot repeat it by itself.
    """

    type: ClassVar[str] = ""
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    differentiable: ClassVar[tuple[bool, ...]] = (True,)
    undifferentiable: ClassVar[str] = ""
    is_loss: ClassVar[bool] = False
    is_data: ClassVar[bool] = False
    half: ClassVar[bool | None] = None
    gives_away_top: ClassVar[bool] = False
    waits: bool = False

    def __init__(self, param: LayerParameter, device: torch.device) -> None:
        self.param = param
        self.name: str = param.name
        self.device = device
        self.training: bool = param.phase == TRAIN
        self.blobs = BlobVec(device)
        self.wanted: list[bool] = []
        self.leaves: dict[int, torch.Tensor] = {}
        self.memory: list[torch.Tensor] = []

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

    def overwrite(self, bottom: torch.Tensor) -> torch.Tensor:
        """Compute the only top from the only bottom, whose memory may be used for it."""
        return self.forward(bottom)[0]

    def flows_to(self, bottom: int) -> bool:
        """Whether a gradient flows to that bottom."""
        return self.differentiable[min(bottom, len(self.differentiable) - 1)]

    def check_flows(self, wanted: Sequence[bool]) -> None:
        """Refuse a gradient that is wanted at a bottom where none flows, as BVLC does in its backward passes."""
        for i, want in enumerate(wanted):
            if want and self.undifferentiable and not self.flows_to(i):
                raise self.error(
                    f"Check failed: !propagate_down[{i}] {self.type} Layer cannot backpropagate to "
                    f"{self.undifferentiable}: '{self.param.bottom[i]}' comes from layers with parameters to learn. "
                    f"Give every bottom a propagate_down, and this one (number {i}) propagate_down: false"
                )

    def state(self) -> dict[str, Any]:
        """Where a reading layer stands, in plain values; `restore` takes it back."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on reading from where `state` was taken."""

    def close(self) -> None:
        """Let go of files and threads."""

    # What subclasses use

    def weight(self, i: int) -> torch.Tensor:
        """Parameter blob ``i`` as this pass's autograd leaf (it asks for a gradient only where `wanted`)."""
        if i not in self.leaves:
            self.leaves[i] = self.blobs[i].leaf(self.wanted[i] and torch.is_grad_enabled())
        return self.leaves[i]

    def own_weight(self, i: int) -> torch.Tensor:
        """Parameter blob ``i``, for a layer that adds or copies it.

        There the parameter's gradient may be the top's gradient itself; the factor 1 gives it its own memory.
        """
        return self.weight(i) * 1

    def add_blob(self, shape: Shape, filler: FillerParameter | None = None) -> Blob:
        """Append a parameter blob of that shape, filled as the prototxt says (zeros without a filler).

        A prototxt may hold the values themselves (``blobs { shape { … } data: … }``), then of all the blobs.
        """
        blob = Blob(shape, self.device)
        if self.param.blobs:
            self._take(blob)
        elif filler is not None:
            fill(blob, filler, self.name)
        self.blobs.append(blob)
        return blob

    def _take(self, blob: Blob) -> None:
        """Fill the next blob with the prototxt's values for it; axes of length 1 do not count in its shape."""
        i, given = len(self.blobs), self.param.blobs
        if i >= len(given):
            raise self.error(f"Incorrect number of weight blobs. The prototxt holds {len(given)}, the layer has more")
        shape = blob_shape(given[i])
        if [n for n in shape if n != 1] != [n for n in blob.shape if n != 1]:
            raise self.error(
                f"Incorrect weight shape: expected shape {describe(blob.shape)}; "
                f"instead, shape was {describe(shape)} in blobs number {i} of the prototxt"
            )
        values = given[i].double_data or given[i].data
        if len(values) != blob.count:
            raise self.error(
                f"Check failed: count_ == proto.data_size() ({blob.count} vs. {len(values)}) "
                f"blobs number {i} of the prototxt does not hold as many values as its shape says"
            )
        blob.data.reshape(-1)[:] = values

    def need_pictures(self, shape: Shape) -> None:
        """Refuse a bottom that is not [n, c, h, w]."""
        if len(shape) != 4:
            raise self.error(
                "Check failed: 4 == bottom[0]->num_axes() Input must have 4 axes, corresponding to "
                f"(num, channels, height, width): it has shape {list(shape)}"
            )

    def axis(self, index: int, shape: Shape, what: str = "axis") -> int:
        """Canonical form of a possibly negative axis (Caffe's CanonicalAxisIndex)."""
        if not -len(shape) <= index < len(shape):
            raise self.error(
                f"{what} {index} is out of range for a {len(shape)}-D blob with shape {describe(shape)}; "
                f"give one from {-len(shape)} to {len(shape) - 1}"
            )
        return index % len(shape)

    def forbid_in_place(self) -> None:
        """Refuse a top that is its bottom."""
        if self.param.top[0] == self.param.bottom[0]:
            raise self.error(
                f"Check failed: top[0] != bottom[0] {self.type} Layer does not allow in-place computation. "
                "Give its top a name of its own"
            )

    def error(self, message: str) -> LayerError:
        """An error that names this layer and its type; the caller raises it."""
        return LayerError(self.name, f"({self.param.type}) {message}")


class BlobLayer(Layer):
    """A layer that works on the net's own blobs, forward and backward, instead of being differentiated.

    Attributes:
        bottom, top: the blobs that the net joins it to, before `setup`.
    """

    waits = True
    bottom: list[Blob]
    top: list[Blob]

    def backward(self, propagate_down: list[bool]) -> None:
        """Write the bottoms' gradients where asked for, and add to the parameters', from the tops'."""
        raise NotImplementedError(f"{type(self).__name__} must have a backward pass")


class ReadingLayer(Layer, Generic[AnyBatch]):
    """A layer whose batches a thread makes ahead; `setup` makes the prefetcher.

    Attributes:
        staged: batches that `forward` takes before it asks for new ones.
    """

    bottoms = (0, 0)
    is_data = True
    _prefetcher: Prefetcher[AnyBatch]

    def __init__(self, param: LayerParameter, device: torch.device) -> None:
        super().__init__(param, device)
        self.staged: deque[Sequence[torch.Tensor]] = deque()

    @property
    def shares(self) -> tuple[int, int]:
        """This process's number and how many read: of every so many records of training it takes its own."""
        return (parallel.solver_rank(), parallel.solver_count()) if self.training else (0, 1)

    def stage(self) -> tuple[torch.Tensor, ...]:
        """Take the next batch to the device."""
        raise NotImplementedError(f"{type(self).__name__} must give its batches")

    def compute(self, *staged: torch.Tensor) -> list[torch.Tensor]:
        """Give the tops of a batch: what was staged, unless a subclass computes more."""
        return list(staged)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        """Give the next batch."""
        return self.compute(*(self.staged.popleft() if self.staged else self.stage()))

    def state(self) -> dict[str, Any]:
        """Reading position and random state after the last batch given, in plain values."""
        return self._prefetcher.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on reading from where `state` was taken."""
        self._prefetcher.restore(state)

    def close(self) -> None:
        """End the thread and close what it reads."""
        self._prefetcher.close()


class ElementwiseLayer(Layer):
    """Top has the bottom's shape, each element computed from its own; may be computed in place."""

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]


class LossLayer(Layer):
    """A layer that ends in one number, which counts in the net's loss with weight 1 unless told otherwise.

    Its top may be left out of the prototxt. `unset` is the normalization of nets that ask for none.
    """

    bottoms = (2, 2)
    differentiable: ClassVar[tuple[bool, ...]] = (True, False)
    undifferentiable = "label inputs"
    is_loss = True
    unset: ClassVar[LossParameter.NormalizationMode] = LossParameter.VALID

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms[:2]
        if not scores or scores[:1] != labels[:1]:
            raise self.error(
                "Check failed: bottom[0]->shape(0) == bottom[1]->shape(0) The data and label should have the same "
                f"first dimension. Bottom 0 is {describe(scores)}, bottom 1 {describe(labels)}"
            )
        return [()]

    @property
    def ignored(self) -> int | None:
        """The label that does not count, if there is one."""
        p = self.param.loss_param
        return p.ignore_label if p.HasField("ignore_label") else None

    def normalizer(self, predictions: int, counted: torch.Tensor, batch: int) -> torch.Tensor | float:
        """What the sum is divided by, as ``loss_param.normalization`` says (never below 1).

        VALID (the default of most types): predictions whose label counts; FULL: all
        predictions; BATCH_SIZE: the batch; NONE: 1. The older ``normalize: false`` means BATCH_SIZE, true VALID.
        """
        p = self.param.loss_param
        mode = p.normalization if p.HasField("normalization") else self.unset
        if not p.HasField("normalization") and p.HasField("normalize"):
            mode = LossParameter.VALID if p.normalize else LossParameter.BATCH_SIZE
        if mode == LossParameter.VALID:
            return counted.sum().clamp(min=1)
        return max(1, {LossParameter.FULL: predictions, LossParameter.BATCH_SIZE: batch}.get(mode, 1))


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """[N, ...] as a matrix with a row an item."""
    return x.reshape(x.shape[0], prod(x.shape[1:]))


def with_slope(value: torch.Tensor, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """``value``, with ``slope`` as its derivative by ``x``: where Caffe's gradient is not that of its value."""
    return value.detach() + (x - x.detach()) * slope.detach()


def describe(shape: Sequence[int]) -> str:
    """Shape as Caffe prints it: ``2 3 8 8 (384)``."""
    return " ".join([*map(str, shape), f"({prod(shape)})"])
