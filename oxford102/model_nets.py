"""The nets of models/, each written once, in NetSpec, for training, testing and prediction.

A net is a function of a `Writer`, the top with the pictures, and the `Head` (its last layer); it gives the top
with the scores. The names are those of the published weights: Caffe matches layers by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P

Top: TypeAlias = Any  # a top of NetSpec
Filler: TypeAlias = "dict[str, str | float]"
Shape: TypeAlias = "dict[str, Any]"  # fields of convolution_param

XAVIER: Filler = {"type": "xavier"}
MSRA: Filler = {"type": "msra"}
NEW = "New: no layer of the weights' file has this name, so it starts at random; it learns ten times as fast."


@dataclass(frozen=True)
class Head:
    """The last layer: its name, its number of classes, and whether it is new, not the published one."""

    name: str
    outputs: int
    new: bool = True


def gaussian(std: float) -> Filler:
    """Start from a normal distribution."""
    return {"type": "gaussian", "std": std}


class Writer:
    """Writes layers one after the other.

    Attributes:
        spec: what is written so far.
        notes: layer name -> comment.
        training: whether parameters get their rates and starting values, which only training needs.
        frozen: how the names of the layers begin that do not learn.
    """

    def __init__(self, training: bool = False, frozen: tuple[str, ...] = ()) -> None:
        self.spec = NetSpec()
        self.notes: dict[str, str] = {}
        self.training = training
        self.frozen = frozen

    def add(self, name: str, top: Top) -> Top:
        """Name a layer's top, and so the layer."""
        self.spec[name] = top
        return top

    def conv(
        self, name: str, bottom: Top, filler: Filler, bias: float | None = 0, new: bool = False, **shape: Any
    ) -> Top:
        """A convolution whose biases start at `bias`; without biases where that is None."""
        if bias is None:
            shape["bias_term"] = False
        return self.add(name, L.Convolution(bottom, **shape, **self._learning(name, filler, bias, new)))

    def fc(self, name: str, bottom: Top, outputs: int, std: float, bias: float = 0, new: bool = False) -> Top:
        """A layer in which each output sees each input."""
        learning = self._learning(name, gaussian(std), bias, new)
        return self.add(name, L.InnerProduct(bottom, num_output=outputs, **learning))

    def _learning(self, name: str, filler: Filler, bias: float | None, new: bool) -> dict[str, Any]:
        if not self.training:
            return {}
        if new:
            self.notes[name] = NEW
        rate = 0 if name.startswith(self.frozen) else 10 if new else 1
        weight = {"param": [{"lr_mult": rate, "decay_mult": min(rate, 1)}], "weight_filler": filler}
        if bias is None:
            return weight
        rates = [*weight["param"], {"lr_mult": 2 * rate, "decay_mult": 0}]
        return weight | {"param": rates, "bias_filler": {"type": "constant", "value": bias}}

    def relu(self, name: str, bottom: Top) -> Top:
        """ReLU in place."""
        return self.add(name, L.ReLU(bottom, in_place=True))

    def max_pool(self, name: str, bottom: Top, kernel: int, **more: int) -> Top:
        """The greatest of each window, every second place."""
        return self.add(name, L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=2, **more))

    def mean_pool(self, name: str, bottom: Top) -> Top:
        """The mean over all places, however many the picture's size makes."""
        return self.add(name, L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True))

    def dropout(self, name: str, bottom: Top) -> Top:
        """Half of the values are dropped in training."""
        return self.add(name, L.Dropout(bottom, in_place=True, dropout_ratio=0.5))


def _two_fc(w: Writer, top: Top, std: float, bias: float, head: Head) -> Top:
    """AlexNet's end, which VGG keeps: two layers of 4,096 outputs, then the classes."""
    for i in (6, 7):
        top = w.fc(f"fc{i}", top, 4096, std, bias)
        top = w.relu(f"relu{i}", top)
        top = w.dropout(f"drop{i}", top)
    return w.fc(head.name, top, head.outputs, 0.01, new=head.new)


def caffenet(w: Writer, top: Top, head: Head) -> Top:
    """AlexNet, but pooled before it is normalised."""
    plan: list[tuple[Shape, float]] = [  # shape, and where the biases start
        ({"num_output": 96, "kernel_size": 11, "stride": 4}, 0),
        ({"num_output": 256, "kernel_size": 5, "pad": 2, "group": 2}, 1),
        ({"num_output": 384, "kernel_size": 3, "pad": 1}, 0),
        ({"num_output": 384, "kernel_size": 3, "pad": 1, "group": 2}, 1),
        ({"num_output": 256, "kernel_size": 3, "pad": 1, "group": 2}, 1),
    ]
    for i, (shape, bias) in enumerate(plan, 1):
        top = w.conv(f"conv{i}", top, gaussian(0.01), bias, **shape)
        top = w.relu(f"relu{i}", top)
        if i in (1, 2, 5):
            top = w.max_pool(f"pool{i}", top, 3)
        if i in (1, 2):
            top = w.add(f"norm{i}", L.LRN(top, local_size=5, alpha=0.0001, beta=0.75))
    return _two_fc(w, top, 0.005, 1, head)


def vgg16(w: Writer, top: Top, head: Head) -> Top:
    """VGG-16: five blocks of two or three 3x3 convolutions, each block halved."""
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, depth + 1):
            top = w.conv(f"conv{block}_{i}", top, gaussian(0.01), num_output=width, kernel_size=3, pad=1)
            top = w.relu(f"relu{block}_{i}", top)
        top = w.max_pool(f"pool{block}", top, 2)
    return _two_fc(w, top, 0.005, 0, head)


def squeezenet(w: Writer, top: Top, head: Head) -> Top:
    """SqueezeNet v1.0: eight fire modules, each squeezed by 1x1 and expanded by 1x1 and 3x3 convolutions."""
    top = w.conv("conv1", top, XAVIER, num_output=96, kernel_size=7, stride=2)
    top = w.relu("relu_conv1", top)
    top = w.max_pool("pool1", top, 3)
    for i, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        top = _fire(w, f"fire{i}", top, squeeze)
        if i in (4, 8):
            top = w.max_pool(f"pool{i}", top, 3)
    top = w.dropout("drop9", top)
    top = w.conv(head.name, top, gaussian(0.001), new=head.new, num_output=head.outputs, kernel_size=1, pad=1)
    if not head.new:  # a new class that falls below 0 would learn no more behind it
        top = w.relu(f"relu_{head.name}", top)
    return w.mean_pool("pool_final", top)


def _fire(w: Writer, name: str, top: Top, squeeze: int) -> Top:
    def conv(part: str, bottom: Top, outputs: int, **shape: Any) -> Top:
        made = w.conv(f"{name}/conv{part}", bottom, XAVIER, num_output=outputs, **shape)
        return w.relu(f"{name}/relu_conv{part}", made)

    top = conv("1x1_1", top, squeeze, kernel_size=1)
    ones = conv("1x1_2", top, 4 * squeeze, kernel_size=1)
    threes = conv("3x3_2", top, 4 * squeeze, kernel_size=3, pad=1)
    return w.add(f"{name}/concat", L.Concat(ones, threes))


def resnet50(w: Writer, top: Top, head: Head) -> Top:
    """ResNet-50 as its authors published it: the stride on a block's first 1x1 convolutions."""
    top = _normalized(w, "conv1", top, bias=0, num_output=64, kernel_size=7, pad=3, stride=2)
    return _residual_blocks(w, w.max_pool("pool1", top, 3), head, strided="2a")


def resnet50_v15(w: Writer, top: Top, head: Head) -> Top:
    """ResNet-50 as torchvision has it: the stride on a block's 3x3 convolution."""
    w.notes["pool1"] = "As torchvision pools: a frame of one pixel, and no window over the end."
    w.notes["res3a_branch2b"] = (
        "Here and in res4a and res5a the stride is on the 3x3, in ResNet50 on the 1x1 before it."
    )
    top = _normalized(w, "conv1", top, num_output=64, kernel_size=7, pad=3, stride=2)
    top = w.max_pool("pool1", top, 3, pad=1, round_mode=P.Pooling.FLOOR)
    return _residual_blocks(w, top, head, strided="2b")


def _residual_blocks(w: Writer, top: Top, head: Head, strided: str) -> Top:
    w.notes["bn_conv1"] = (
        "use_global_stats is left to the phase: the batch's statistics in training, else the kept ones."
    )
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
        for block in range(depth):
            stride = 2 if stage > 2 and block == 0 else 1
            top = _residual_block(w, f"res{stage}{'abcdef'[block]}", top, width, stride, strided, wider=block == 0)
    top = w.mean_pool("pool5", top)
    return w.fc(head.name, top, head.outputs, 0.01, new=head.new)


def _residual_block(w: Writer, name: str, top: Top, width: int, stride: int, strided: str, wider: bool) -> Top:
    """1x1, 3x3, 1x1, and around them the block's input, which a 1x1 makes as wide where it is not."""
    side, path = top, top
    if wider:
        shape: Shape = {"num_output": 4 * width, "kernel_size": 1, "pad": 0, "stride": stride}
        side = _normalized(w, f"{name}_branch1", top, relu=False, **shape)
    for part, outputs, kernel in (("2a", width, 1), ("2b", width, 3), ("2c", 4 * width, 1)):
        shape = {"num_output": outputs, "kernel_size": kernel, "pad": kernel // 2}
        shape["stride"] = stride if part == strided else 1
        path = _normalized(w, f"{name}_branch{part}", path, relu=part != "2c", **shape)
    return w.relu(f"{name}_relu", w.add(name, L.Eltwise(side, path)))


def _normalized(w: Writer, name: str, top: Top, relu: bool = True, bias: float | None = None, **shape: Any) -> Top:
    """Convolution, BatchNorm and Scale, and a ReLU where asked for."""
    stem = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    top = w.conv(name, top, MSRA, bias, **shape)
    top = w.add(f"bn{stem}", L.BatchNorm(top, in_place=True))
    top = w.add(f"scale{stem}", L.Scale(top, bias_term=True, in_place=True))
    return w.relu(f"{name}_relu", top) if relu else top
