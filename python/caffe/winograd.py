"""Convolutions of 3 x 3 windows with a fourth of the multiplications (Winograd 1980; Lavin and Gray 2016).

Along an axis, four results of a kernel of three weights depend on six values. Both are taken as polynomials, evaluated
at six points, multiplied there, and the results read off; in two axes at 36 points, at each of which a matrix product
runs over the channels. So 36 multiplications make the 16 results of a tile of 6 x 6 values, instead of 144.

How much is lost to rounding hangs on the points. With the usual 0, ±1, ±2 and infinity, which make for small whole
factors, it is three to five times as much as without all this. Here the transforms are matrix products, to which one
factor is as good as another; with 0, ±2/3, ±3/2 and infinity it is about twice as much.

A value that is not finite makes NaN of all results of its tiles.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from caffe.onednn import Geometry, Packed

MEASURED = torch.backends.cpu.get_cpu_capability().startswith("AVX")
"""Whether this is a CPU of the kind on which it was seen to pay, with AVX2 or AVX-512."""

POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)  # and infinity
KERNEL, STEP = 3, 4
TILE = STEP + KERNEL - 1
TILES = 32
"""From how many tiles a picture on the transformed weights are worth reading: they are four times as many."""
CHANNELS = 80
"""From what half of the harmonic mean of inner and outer channels on the products outweigh the transforms."""
CHUNK = 2**24
"""Bytes of the tiles that are transformed at a time, which are to stay in the cache."""


def _evaluate(n: int) -> np.ndarray:
    """What evaluates a polynomial of n coefficients at the points: [6, n]; at infinity the last of them counts."""
    return np.vstack([np.power.outer(POINTS, np.arange(n)), np.eye(n)[-1:]])


def _in_both_axes(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.kron(matrix, matrix)).float()


WEIGHTS = _in_both_axes(_evaluate(KERNEL))  # [36, 9]
VALUES = _in_both_axes(np.linalg.inv(_evaluate(TILE)).T)  # [36, 36]
RESULTS = _in_both_axes(_evaluate(STEP).T)  # [16, 36]


class Winograd:
    """A convolution of 3 x 3 windows, one place apart, for one shape of bottom."""

    @staticmethod
    def pays(weight: torch.Size, geometry: Geometry, shape: torch.Size) -> bool:
        """Whether it can be done this way, and sooner than without."""
        pad, stride, dilation, group = geometry
        inner, outer = weight[1], weight[0]
        return (
            MEASURED
            and weight[2:] == (KERNEL, KERNEL)
            and (stride, dilation, group) == ((1, 1), (1, 1), 1)
            and inner * outer >= CHANNELS * (inner + outer)
            and prod(_tiles(_lengths(shape, pad))) >= TILES
        )

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, pad: tuple[int, ...], shape: torch.Size
    ) -> None:
        """Transform ``weight`` [num_output, C, 3, 3] for bottoms of ``shape``; ``bias`` is [num_output]."""
        outer, inner = weight.shape[:2]
        self._pad, self._bias = pad, weight.new_zeros(outer) if bias is None else bias
        self._lengths = _lengths(shape, pad)
        self._rows, self._columns = _tiles(self._lengths)
        fit = CHUNK // (self._columns * TILE**2 * max(inner, outer) * weight.itemsize)
        self._rows_at_once = _even(self._rows, fit)
        self._pictures_at_once = _even(shape[0], fit // self._rows)
        at_once = self._pictures_at_once * self._rows_at_once * self._columns
        points = (WEIGHTS @ weight.flatten(2).permute(2, 0, 1).flatten(1)).view(-1, inner, 1, 1)  # [36 · outer, inner]
        a_group_a_point = ((0, 0), (1, 1), (1, 1), TILE**2)
        self._products = Packed(points, None, a_group_a_point, (1, TILE**2 * inner, 1, at_once))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve x [N, C, H, W], channels last in memory; no gradient is recorded."""
        pictures, rows = self._pictures_at_once, self._rows_at_once
        top = x.new_empty(len(x), *self._lengths, len(self._bias))
        for n in _starts(len(x), pictures):
            tiles = self._cut(x[n : n + pictures])
            for row in _starts(self._rows, rows):
                results = self._convolve(tiles[:, row : row + rows])
                place = top[n : n + pictures, STEP * row : STEP * (row + rows)]
                torch.add(results[:, : place.shape[1], : place.shape[2]], self._bias, out=place)
        return top.permute(0, 3, 1, 2)

    def _cut(self, x: torch.Tensor) -> torch.Tensor:
        """Overlapping tiles of the padded pictures, a view: [N, rows, columns, 6, 6, C]."""
        sides: list[int] = []
        for axis, (tiles, pad) in enumerate(zip((self._rows, self._columns), self._pad, strict=True), start=2):
            sides = [pad, STEP * tiles + KERNEL - 1 - x.shape[axis] - pad, *sides]
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *sides))
        return padded.unfold(1, TILE, STEP).unfold(2, TILE, STEP).permute(0, 1, 2, 4, 5, 3)

    def _convolve(self, tiles: torch.Tensor) -> torch.Tensor:
        """What tiles [N, rows, columns, 6, 6, C] become: [N, rows · 4, columns · 4, num_output]."""
        n, rows, columns, _, _, inner = tiles.shape
        values = VALUES @ tiles.reshape(-1, TILE**2, inner)
        one_picture = values.view(1, 1, -1, TILE**2 * inner).permute(0, 3, 1, 2)  # of a place a tile
        products = self._products(one_picture).permute(0, 2, 3, 1).view(len(values), TILE**2, -1)
        results = (RESULTS @ products).view(n, rows, columns, STEP, STEP, -1)
        return results.transpose(2, 3).reshape(n, rows * STEP, columns * STEP, -1)


def _lengths(shape: torch.Size, pad: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length + 2 * p - KERNEL + 1 for length, p in zip(shape[2:], pad, strict=True))


def _tiles(lengths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-length // STEP) for length in lengths)


def _even(count: int, most: int) -> int:
    """At most so many at once, about as many each time."""
    return -(-count // -(-count // max(most, 1)))


def _starts(count: int, at_once: int) -> list[int]:
    """Where to begin each time; the last ones overlap, as the weights are packed for so many tiles."""
    return [min(start, count - at_once) for start in range(0, count, at_once)]
