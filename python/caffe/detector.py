"""pycaffe's Detector: a net that scores windows of pictures, as R-CNN does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from caffe.classifier import transformer_of
from caffe.errors import CaffeError
from caffe.io import load_image, resize_image
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST

SELECTIVE_SEARCH = "selective_search_ijcv_with_python"


class Detector(Net):
    """A net with one input, and the preparation of windows for it.

    Args:
        model_file: prototxt.
        pretrained_file: caffemodel.
        mean, input_scale, raw_scale, channel_swap: see `caffe.io.Transformer`.
        context_pad: pixels of a window's surroundings on each side of the input, as R-CNN has 16.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
        """Score windows.

        Args:
            images_windows: pairs of a picture's path and its windows, [n, 4]: ymin, xmin, ymax, xmax.

        Returns:
            For each window its ``window``, ``prediction`` (the net's output) and ``filename``.
        """
        found: list[dict[str, Any]] = []
        prepared = []
        name = self.inputs[0]
        for filename, windows in images_windows:
            image = load_image(filename)
            for window in windows:
                prepared.append(self.transformer.preprocess(name, self.crop(image, np.asarray(window))))
                found.append({"window": window, "filename": filename})
        if not prepared:
            return []
        feed: dict[str, Any] = {name: np.stack(prepared)}
        for entry, prediction in zip(found, self.forward_all(**feed)[self.outputs[0]], strict=True):
            entry["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Score the windows that selective search proposes; needs its Python interface and MATLAB.

        Raises:
            CaffeError: the interface is not installed.
        """
        try:
            search = import_module(SELECTIVE_SEARCH)
        except ImportError as problem:
            raise CaffeError(
                f"selective search needs the module {SELECTIVE_SEARCH} on PYTHONPATH, which is not there; propose "
                "windows by other means and score them with detect_windows"
            ) from problem
        names = [str(Path(name).resolve()) for name in image_fnames]
        windows = search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def crop(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Cut a window out of a picture.

        Args:
            im: [h, w, k].
            window: ymin, xmin, ymax, xmax.

        Returns:
            The window as it is; with context_pad, warped to the input with its surroundings, the mean where
            these lie outside the picture.
        """
        if not self.context_pad:
            cut = im[window[0] : window[2], window[1] : window[3]]
            if not cut.size:
                raise CaffeError(f"the window {window.tolist()} lies outside the picture, which is {im.shape[:2]}")
            return cut
        side = self.blobs[self.inputs[0]].width
        scale = side / (side - self.context_pad * 2)
        half = (window[2:] - window[:2] + 1) / 2
        centre = window[:2] + half
        box = np.round(np.concatenate([centre - scale * half, centre + scale * half])).astype(int)
        factor = side / (box[2:] - box[:2] + 1)
        pad = np.round(np.maximum(0, -box[:2]) * factor).astype(int)
        box = np.clip(box, 0, np.tile(im.shape[:2], 2))
        if not (box[2:] > box[:2]).all():
            raise CaffeError(f"the window {window.tolist()} lies outside the picture, which is {im.shape[:2]}")
        size = np.minimum(np.round((box[2:] - box[:2] + 1) * factor).astype(int), side - pad)
        crop = self.crop_mean.astype(np.float32)
        (top, left), (rows, columns) = pad, size
        warped = resize_image(im[box[0] : box[2], box[1] : box[3]], (rows, columns))
        crop[top : top + rows, left : left + columns] = warped
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the pixels of context around a window, and what is seen beyond the picture: the mean, unprepared."""
        name = self.inputs[0]
        channels, height, width = self.blobs[name].shape[1:]
        self.crop_dims = np.array([height, width, channels])
        self.context_pad = context_pad
        mean = np.broadcast_to(self.transformer.mean.get(name, 0.0), (channels, height, width))
        mean = mean / self.transformer.raw_scale.get(name, 1)
        order = self.transformer.channel_swap.get(name, range(channels))
        self.crop_mean = mean[np.argsort(order)].transpose(1, 2, 0)
