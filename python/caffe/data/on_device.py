"""Pictures on a GPU, as bytes: each goes there once where all of a source have one size and there is room for them.

The thread that reads uploads, on a stream of its own, while the device computes. Room is what the budget of
`caffe.data.cache` and half of the device's free memory allow; without it every batch is uploaded anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from caffe import glog
from caffe.data import cache
from caffe.data.transform import Draws, stack


@dataclass(frozen=True)
class Uploaded:
    """A batch for `caffe.data.transform.cut`.

    Attributes:
        pictures: [k, h, w, c], those of the batch, or all that are on the device.
        places: [n, 4], int64, as `cut` takes them.
        labels: [n], float32.
        ready: when the three are there, None where they are already.
    """

    pictures: torch.Tensor
    places: torch.Tensor
    labels: torch.Tensor
    ready: torch.cuda.Event | None

    def take(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give pictures, labels and places to the stream that computes."""
        tensors = self.pictures, self.labels, self.places
        if self.ready is not None:
            computing = torch.cuda.current_stream(self.pictures.device)
            computing.wait_event(self.ready)
            for tensor in tensors:
                tensor.record_stream(computing)
        return tensors


class Uploader:
    """Uploads the batches of a source with ``count`` records."""

    _used: ClassVar[int] = 0
    """Bytes that all uploaders keep on devices."""

    def __init__(self, device: torch.device, crop: int, count: int) -> None:
        self._device = device
        self._crop = crop
        self._count = count
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: torch.Tensor | None = None  # [count, h, w, c]
        self._numbers: dict[str, int] = {}  # of the pictures that are there, by key
        self._asked = False  # whether there is room

    def upload(
        self, keys: Sequence[str], pictures: Sequence[np.ndarray], labels: torch.Tensor, draws: Draws
    ) -> Uploaded:
        """Bring a batch to the device; only what is not there yet."""
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            numbers = self._keep(keys, pictures)
            if numbers is None or self._kept is None:
                numbers = np.arange(len(pictures))
                together, draws = stack(pictures, self._crop, draws)
                on_device = self._copy(torch.from_numpy(together))
            else:
                on_device = self._kept
            places = np.stack([numbers, draws.tops, draws.lefts, draws.mirrors], 1).astype(np.int64)
            return Uploaded(
                on_device,
                self._copy(torch.from_numpy(places)),
                self._copy(labels),
                self._stream.record_event() if self._stream else None,
            )

    def _copy(self, values: torch.Tensor) -> torch.Tensor:
        if self._stream:  # from pinned memory the thread need not wait for the copy
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)

    def _keep(self, keys: Sequence[str], pictures: Sequence[np.ndarray]) -> np.ndarray | None:
        """Upload pictures that are not there yet; give the numbers of all, None where one cannot be kept."""
        if not self._asked:
            self._asked = True
            self._kept = self._room(pictures[0])
        if self._kept is None:
            return None
        fresh = {key: p.transpose(1, 2, 0) for key, p in zip(keys, pictures, strict=True) if key not in self._numbers}
        if fresh:
            first, last = len(self._numbers), len(self._numbers) + len(fresh)
            if last > len(self._kept) or {p.shape for p in fresh.values()} != {tuple(self._kept.shape[1:])}:
                return None
            together = torch.from_numpy(np.stack(list(fresh.values())))
            if together.dtype != self._kept.dtype:
                return None
            self._kept[first:last] = self._copy(together)
            self._numbers.update(zip(fresh, range(first, last), strict=True))
        return np.array([self._numbers[key] for key in keys])

    def _room(self, picture: np.ndarray) -> torch.Tensor | None:
        """Memory for all pictures of the source, if they are as large as this one and there is enough."""
        bytes_needed = self._count * picture.nbytes
        room = cache.limit() - Uploader._used
        if self._stream:
            room = min(room, torch.cuda.mem_get_info(self._device)[0] // 2)
        if bytes_needed > room:
            glog.info(
                "base_data_layer.cpp:104",
                f"{self._count} pictures take {bytes_needed / 2**20:.0f} MB, {self._device} has room for "
                f"{room / 2**20:.0f} (CAFFE_CACHE_MB, half of its free memory): each batch is uploaded anew.",
            )
            return None
        Uploader._used += bytes_needed
        channels, height, width = picture.shape
        none = torch.from_numpy(np.empty(0, picture.dtype))
        return none.new_empty((self._count, height, width, channels), device=self._device)

    def close(self) -> None:
        """Let go of the pictures."""
        if self._kept is not None:
            Uploader._used -= self._kept.nbytes
        self._kept = None
        self._numbers = {}
