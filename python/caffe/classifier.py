"""pycaffe's Classifier: a net that takes pictures and gives class scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe.io import Transformer, oversample, resize_image
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST


class Classifier(Net):
    """A net with one input, and the preparation of its pictures.

    Args:
        model_file: prototxt.
        pretrained_file: caffemodel.
        image_dims: (height, width) that pictures are resized to before they are cropped to the input;
            the input's own unless given.
        mean, input_scale, raw_scale, channel_swap: see `caffe.io.Transformer`.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        # a number in its place, which scripts give, is a phase and says nothing
        self.image_dims = np.array(image_dims) if np.ndim(image_dims) else self.crop_dims  # type: ignore[arg-type]
        if (self.image_dims < self.crop_dims).any():
            raise ValueError(
                f"image_dims {self.image_dims} must be at least as large as the input of {model_file}, {self.crop_dims}"
            )

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Classify pictures.

        Args:
            inputs: n pictures [h, w, k], of any sizes.
            oversample: average over four corners, centre and their mirror images; else the centre only.

        Returns:
            [n, classes] scores.
        """
        pictures = np.stack([resize_image(picture, self.image_dims) for picture in inputs])
        crops = _oversample(pictures, self.crop_dims) if oversample else self._centre(pictures)
        name = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        feed: dict[str, Any] = {name: prepared}
        scores = self.forward_all(**feed)[self.outputs[0]]
        return scores.reshape(len(inputs), 10, -1).mean(1) if oversample else scores

    def _centre(self, pictures: np.ndarray) -> np.ndarray:
        height, width = self.crop_dims
        top, left = (self.image_dims - self.crop_dims) // 2
        return pictures[:, top : top + height, left : left + width]


def transformer_of(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> Transformer:
    """Make the transformer from pictures [h, w, k] to the net's first input."""
    name = net.inputs[0]
    transformer = Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


_oversample = oversample  # `predict` has an argument of that name, pycaffe's
