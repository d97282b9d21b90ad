"""Layers that users write in Python: the class they derive from, and the layer that runs one."""

from __future__ import annotations

import sys
from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import torch

from caffe.blob import Blob, BlobVec
from caffe.errors import NetError
from caffe.layers import base
from caffe.layers.base import BlobLayer, Shape
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import LayerParameter


class Layer(ABC):
    """pycaffe's ``caffe.Layer``: derive from it, and name the class in ``python_param { module layer }``.

    ``bottom`` and ``top`` are lists of `Blob`: ``.data`` and ``.diff`` are live numpy arrays.

    Attributes:
        param_str: text from the prototxt.
        phase: ``caffe.TRAIN`` or ``caffe.TEST``.
        blobs: parameter blobs; in `setup`, ``self.blobs.add_blob(3, 4)`` makes one, learned at the layer's
            ``param { lr_mult }``.
        type: ``Python``.
        name: the layer's name, unless the class has something of its own by that name.
    """

    param_str: str
    phase: int
    blobs: BlobVec
    type = "Python"

    def __init__(self, param: LayerParameter) -> None:
        self.layer_param = param

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:  # noqa: B027, it may stay away
        """Check the bottoms, read ``param_str``, make parameters; called once."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Reshape the tops, ``top[0].reshape(2, 3)``; called at set-up and before each forward pass."""
        raise NotImplementedError(f"{type(self).__name__} must reshape its tops")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Write the tops' data."""
        raise NotImplementedError(f"{type(self).__name__} must have a forward pass")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Write the bottoms' diff where ``propagate_down`` says so; add to that of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} must have a backward pass")


Layer.register(base.Layer)


@register("Python")
class Python(BlobLayer):
    """Runs the user's layer, ``user``; the two have one list of blobs.

    Its errors pass as they are, with a note (from Python 3.11 on) that names the layer.
    """

    bottoms = (0, None)
    tops = (0, None)

    def __init__(self, param: LayerParameter, device: torch.device) -> None:
        super().__init__(param, device)
        cls = self._find_class()
        given = {"blobs": self.blobs, "param_str": param.python_param.param_str, "phase": param.phase}
        if not hasattr(cls, "name"):
            given["name"] = param.name
        with self._noted():
            self.user: Layer = cls.__new__(cls, param)  # type: ignore[call-arg]
            vars(self.user).update(given)  # for __init__ to see
            self.user.__init__(param)  # type: ignore[misc]
            given.pop("name", None)  # it may have one of its own by now
            vars(self.user).update(given)

    def _find_class(self) -> type[Layer]:
        wanted = self.param.python_param
        place = f"Layer '{self.name}': python_param {{ module: '{wanted.module}' layer: '{wanted.layer}' }}"
        if not (wanted.module and wanted.layer):
            raise NetError(f"{place} must give both the module and the class in it")
        try:
            with self._noted():
                module = import_module(wanted.module)
        except ModuleNotFoundError as problem:
            if problem.name is None or not f"{wanted.module}.".startswith(f"{problem.name}."):
                raise  # the module is there, one that it needs is not
            raise NetError(f"{place}: {problem}; put its folder on PYTHONPATH") from problem
        cls = getattr(module, wanted.layer, None)
        if cls is None:
            raise NetError(f"{place}: {module.__file__} has no class '{wanted.layer}'")
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise NetError(f"{place}: '{wanted.layer}' must be a class derived from caffe.Layer, it is {cls!r}")
        return cls

    @contextmanager
    def _noted(self) -> Iterator[None]:
        wanted = self.param.python_param
        try:
            yield
        except Exception as problem:
            if sys.version_info >= (3, 11):
                problem.add_note(f"This was in layer '{self.name}' (Python: {wanted.module}.{wanted.layer})")
            raise

    def setup(self, bottoms: Sequence[Shape]) -> None:
        with self._noted():
            self.user.setup(self.bottom, self.top)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        with self._noted():
            self.user.reshape(self.bottom, self.top)
        return [blob.shape for blob in self.top]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        with self._noted():
            self.user.reshape(self.bottom, self.top)
            self.user.forward(self.bottom, self.top)
        return [blob.data_tensor() for blob in self.top]

    def backward(self, propagate_down: list[bool]) -> None:
        with self._noted():
            self.user.backward(self.top, propagate_down, self.bottom)
