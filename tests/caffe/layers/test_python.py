"""Layers that users write: run, differentiated, learned, and their mistakes; the oracle is arithmetic by hand."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import NetError

MODULE = '''
import numpy as np
import caffe


class Times(caffe.Layer):
    """Top = param_str * bottom."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.asked = propagate_down
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff

    def set_factor(self, factor):
        self.factor = factor


class Euclid(caffe.Layer):
    """Half the mean square of the difference of two bottoms."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.diff / bottom[i].num * top[0].diff


class Shift(caffe.Layer):
    """Top = bottom + a learned number for each column."""

    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].shape[1])

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum(0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff


class Count(caffe.Layer):
    """A source: how often it ran, the phase, and a shape that grows."""

    def setup(self, bottom, top):
        self.runs = 0

    def reshape(self, bottom, top):
        top[0].reshape(self.runs + 1, 2)
        top[1].reshape()

    def forward(self, bottom, top):
        self.runs += 1
        top[0].data[...] = self.runs
        top[1].data[()] = self.phase


class Broken(caffe.Layer):
    def setup(self, bottom, top):
        if self.param_str == "setup":
            raise RuntimeError("no such thing")

    def reshape(self, bottom, top):
        if self.param_str != "reshape":
            top[0].reshape(1)
        else:
            super().reshape(bottom, top)

    def forward(self, bottom, top):
        if self.param_str == "forward":
            raise KeyError(self.name)


class Named(Times):
    """With names that the runtime uses for its own."""

    def __init__(self, param):
        super().__init__(param)
        self.seen = len(self.blobs), self.param_str, self.phase
        self.state, self.training, self.calls = "mine", "mine", 0

    @property
    def name(self):
        return "its own"

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.calls += 1


no_class = 3


class Fewer(Times):
    """The first item alone, which is known once all are there."""

    def setup(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        top[0].reshape(1, 3)


class Stranger:
    pass
'''


def layer(name: str, cls: str, bottoms: str, top: str, text: str = "", more: str = "") -> str:
    bottom = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return (
        f'layer {{ name: "{name}" type: "Python" {bottom} {tops} {more} python_param {{ module: "my_layers" '
        f'layer: "{cls}" param_str: "{text}" share_in_parallel: true }} }}\n'
    )


INPUTS = 'input: "x" input_shape { dim: 2 dim: 3 } input: "y" input_shape { dim: 2 dim: 3 }\n'


@pytest.fixture
def net_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., caffe.Net]:
    """Make a net from text, with the classes above in the module my_layers."""
    (tmp_path / "my_layers.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "half_layers.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_layers", raising=False)

    def make(text: str, phase: int = caffe.TRAIN) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase)

    return make


def test_in_the_middle_of_a_net(net_of: Callable[..., caffe.Net]) -> None:
    text = "force_backward: true\n" + INPUTS + layer("a", "Times", "x", "a", "10") + layer("b", "Times", "a", "b", "-2")
    net = net_of(text)
    net.blobs["x"].data[...] = values = np.arange(6).reshape(2, 3)
    assert np.array_equal(net.forward()["b"], -20 * values)
    net.blobs["b"].diff[...] = values
    assert np.array_equal(net.backward()["x"], -20 * values)
    assert net.layer_dict["a"].type == "Python"
    assert net.layer_dict["a"].asked == [True]
    net.blobs["x"].reshape(4, 1)
    net.forward()
    assert net.blobs["b"].data.shape == (4, 1)


def test_the_net_gives_the_users_own_object(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of(INPUTS + layer("a", "Named", "x", "a", "10"))
    mine = net.layers[-1]
    assert mine is net.layer_dict["a"]
    assert isinstance(mine, sys.modules["my_layers"].Named)
    assert isinstance(mine, caffe.Layer)
    assert isinstance(net.layers[0], caffe.Layer)
    assert mine.seen == (0, "10", caffe.TRAIN)
    assert (mine.name, mine.state, mine.training) == ("its own", "mine", "mine")
    mine.factor = 3
    net.blobs["x"].data[...] = 2
    assert np.all(net.forward()["a"] == 6)


def test_it_is_reshaped_once_a_pass_and_whenever_the_net_is(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of(INPUTS + layer("a", "Named", "x", "a", "10"))
    counts = [net.layers[-1].calls]
    for call in (net.forward, net.reshape, lambda: net.blobs["x"].reshape(7, 1), net.forward):
        call()
        counts.append(net.layers[-1].calls)
    assert counts == [1, 2, 3, 3, 4]
    assert net.blobs["a"].shape == (7, 1)


def test_what_it_wrote_stays_when_fewer_are_kept(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of(INPUTS + layer("a", "Fewer", "x", "a"))
    net.blobs["x"].data[...] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(net.forward()["a"], [[1, 2, 3]])


def test_backward_before_any_forward(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of("force_backward: true\n" + INPUTS + layer("a", "Times", "x", "a", "10"))
    net.blobs["a"].diff[...] = 7
    assert np.all(net.backward()["x"] == 70)


def test_between_layers_of_the_runtime(net_of: Callable[..., caffe.Net]) -> None:
    """The gradient through a Python layer is that through the Power layer that does the same."""
    fc = 'layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" inner_product_param { num_output: 3 %s } }\n'
    first = fc % ("f", "x", "f", 'weight_filler { type: "gaussian" std: 1 }')
    last = fc % ("g", "m", "g", 'weight_filler { type: "gaussian" std: 1 }')
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "g" bottom: "y" top: "loss" }'
    power = 'layer { name: "m" type: "Power" bottom: "f" top: "m" power_param { scale: 3 } }\n'
    gradients = []
    for middle in (layer("m", "Times", "f", "m", "3"), power):
        caffe.set_random_seed(4)
        net = net_of(INPUTS + first + middle + last + loss)
        net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=(2, 3))
        net.forward()
        net.backward()
        gradients.append(net.params["f"][0].diff.copy())
    assert np.allclose(*gradients, rtol=1e-5)
    assert np.any(gradients[0])


@pytest.mark.parametrize("keeps", [True, False])
def test_a_net_learns_from_it(net_of: Callable[..., caffe.Net], tmp_path: Path, keeps: bool) -> None:
    """Whether the solver keeps what blobs hold or not: a user's layer looks at the gradients that it sets."""
    fc = 'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param { num_output: 3 } }\n'
    net_of(INPUTS + fc + layer("loss", "Euclid", "f y", "loss", more="loss_weight: 1"))
    (tmp_path / "solver.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed"')
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.keeps_blobs = keeps
    solver.net.blobs["y"].data[...] = target = np.arange(6).reshape(2, 3)
    solver.step(1)
    np.testing.assert_allclose(solver.net.params["f"][1].data, 0.1 * target.sum(0) / 2, rtol=1e-6)


@pytest.mark.parametrize("weight", [1, 0.5])
def test_as_a_loss(net_of: Callable[..., caffe.Net], weight: float) -> None:
    fc = 'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param { num_output: 3 } }\n'
    net = net_of(INPUTS + fc + layer("loss", "Euclid", "f y", "loss", more=f"loss_weight: {weight}"))
    net.blobs["y"].data[...] = target = np.arange(6).reshape(2, 3)
    net.blobs["x"].data[...] = 1
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(weight * np.sum(target**2) / 4)
    net.clear_param_diffs()
    net.backward()
    assert np.allclose(net.params["f"][1].diff, -weight * target.sum(0) / 2)
    assert net.blob_loss_weights["loss"] == weight


def test_its_parameters_are_learned(net_of: Callable[..., caffe.Net], tmp_path: Path) -> None:
    text = (
        INPUTS
        + layer("s", "Shift", "x", "s", more="param { lr_mult: 2 }")
        + layer("loss", "Euclid", "s y", "loss", more="loss_weight: 1")
    )
    net_of(text)
    solver_file = tmp_path / "solver.prototxt"
    solver_file.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.25 lr_policy: "fixed" snapshot_prefix: "{tmp_path}/s" iter_size: 2'
    )
    solver = caffe.SGDSolver(str(solver_file))
    solver.net.blobs["y"].data[...] = [[4, 0, -2], [4, 0, -2]]
    for i in range(1, 4):  # each step goes halfway: rate 0.25 * 2, gradient shift - y
        solver.step(1)
        assert np.allclose(solver.net.params["s"][0].data, np.array([4, 0, -2]) * (1 - 0.5**i))
    solver.snapshot()
    again = net_of(text)
    again.copy_from(f"{tmp_path}/s_iter_3.caffemodel")
    assert np.array_equal(again.params["s"][0].data, solver.net.params["s"][0].data)
    third = net_of(text)
    third.share_with(again)
    again.params["s"][0].data[...] = 9
    assert np.all(third.forward()["loss"] > 20)


def test_a_source_reshapes_before_each_forward(net_of: Callable[..., caffe.Net]) -> None:
    for phase in (caffe.TRAIN, caffe.TEST):
        net = net_of(layer("c", "Count", "", "c p"), phase)
        assert net.blobs["c"].shape == (1, 2)
        net.forward()
        out = net.forward()
        assert out["c"].shape == (2, 2)
        assert np.all(out["c"] == 2)
        assert out["p"] == phase


def test_methods_of_the_users_class_are_reached_through_the_net(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of(INPUTS + layer("a", "Times", "x", "a", "10"))
    net.layer_dict["a"].set_factor(3)
    net.blobs["x"].data[...] = 1
    assert np.all(net.forward()["a"] == 3)
    assert isinstance(net.layer_dict["a"], caffe.Layer)
    with pytest.raises(AttributeError, match="nothing"):
        net.layer_dict["a"].nothing  # noqa: B018


def test_computing_in_place(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of("force_backward: true\n" + INPUTS + layer("a", "Times", "x", "x", "10"))
    net.blobs["x"].data[...] = 2
    assert np.all(net.forward()["x"] == 20)
    net.blobs["x"].diff[...] = 3
    net.backward()
    assert np.all(net.blobs["x"].diff == 30)


@pytest.mark.parametrize("where", ["setup", "forward"])
def test_errors_of_the_users_class_pass_with_a_note(net_of: Callable[..., caffe.Net], where: str) -> None:
    with pytest.raises((RuntimeError, KeyError)) as caught:
        net_of(INPUTS + layer("bad", "Broken", "x", "bad", where)).forward()
    assert type(caught.value) is (RuntimeError if where == "setup" else KeyError)
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["This was in layer 'bad' (Python: my_layers.Broken)"]


def test_what_a_class_lacks(net_of: Callable[..., caffe.Net]) -> None:
    with pytest.raises(NotImplementedError, match="Broken must reshape its tops"):
        net_of(INPUTS + layer("bad", "Broken", "x", "bad", "reshape"))
    with pytest.raises(NotImplementedError, match="Broken must have a backward pass"):
        net_of("force_backward: true\n" + INPUTS + layer("bad", "Broken", "x", "bad")).backward()
    with pytest.raises(ValueError, match="could not convert string to float: 'ten'"):
        net_of(INPUTS + layer("a", "Times", "x", "a", "ten"))


def test_classes_that_are_not_there(net_of: Callable[..., caffe.Net]) -> None:
    good = INPUTS + layer("a", "Times", "x", "a", "1")
    with pytest.raises(NetError, match="Layer 'a': python_param .*: No module named 'nowhere'; put its folder on PYTH"):
        net_of(good.replace("my_layers", "nowhere"))
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        net_of(good.replace("my_layers", "half_layers"))
    with pytest.raises(NetError, match="my_layers.py has no class 'Tmies'"):
        net_of(good.replace("Times", "Tmies"))
    for wrong in ("no_class", "Stranger"):
        with pytest.raises(NetError, match=f"'{wrong}' must be a class derived from caffe.Layer"):
            net_of(good.replace("Times", wrong))
    with pytest.raises(NetError, match="must give both the module and the class"):
        net_of('layer { name: "a" type: "Python" top: "a" python_param { module: "my_layers" } }')
