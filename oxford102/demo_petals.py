"""What an invented flower is made of, and the painting of one petal or leaf.

A `Species` says what all flowers of a kind share. A petal is painted on a small canvas of its own, ``u``
along its length (0 at the base, 1 at the tip) and ``v`` across (-1..1 at the belly), and is laid onto the
flower by the affine map of its place in space. Layers are BGRA floats in 0..1 with premultiplied alpha.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # of float32
Colour = tuple[float, float, float]  # hue, saturation, value, each in 0..1

MARKS = ("plain", "veins", "speckles", "stripe", "margin", "eye")

_ROWS, _COLUMNS = 112, 80
_PAD, _SPAN = 0.08, 1.35  # the canvas shows u in -pad..1+pad and v in -span..span


@dataclass(frozen=True)
class Ring:
    """A ring of equal petals; ``length`` is in flower radii, ``width`` in petal lengths."""

    petals: int
    length: float = 1.0
    width: float = 0.6
    rise: float = 10.0  # degrees out of the flower's plane, towards the eye


@dataclass(frozen=True)
class Centre:
    """The middle of a flower: a disc and the stamens around it, in flower radii."""

    radius: float
    colour: Colour
    florets: bool = True
    stamens: int = 0
    reach: float = 0.3
    anthers: Colour = (0.13, 0.85, 0.9)


@dataclass(frozen=True)
class Species:
    """What all flowers of a kind share."""

    rings: tuple[Ring, ...]
    centre: Centre
    body: Colour
    throat: Colour  # the petal's colour at its base
    mark: str = "plain"  # one of MARKS
    ink: Colour = (0.95, 0.8, 0.4)  # the mark's colour
    belly: float = 0.6  # where along its length a petal is widest
    point: float = 0.5  # its tip: 0.3 blunt, 0.5 elliptic, 1 pointed
    notch: float = 0.0  # depth of the dent in the tip
    ruffle: float = 0.0  # depth of the waves along the edge


LEAF = Species((), Centre(0, (0, 0, 0)), (0.3, 0.6, 0.4), (0.27, 0.5, 0.45), "veins", (0.25, 0.4, 0.6), 0.42, 0.9)


def bgr(colour: Colour) -> Array:
    """The colour as three BGR floats."""
    hue, saturation, value = colour
    r, g, b = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return np.array([b, g, r], np.float32)


def smooth(low: float, high: float, x: Array) -> Array:
    """The smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, cells: int, shape: tuple[int, int]) -> Array:
    """Soft noise of standard deviation about 1 with ``cells`` bumps a side, [rows, columns]."""
    grid = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)


def over(below: Array, above: Array) -> None:
    """Blend a BGRA layer over another, or over a BGR picture, in place."""
    below *= 1 - above[..., 3:]
    below += above[..., : below.shape[2]]


def paint_petal(species: Species, rng: np.random.Generator) -> Array:
    """One petal seen from above, on a soft shadow of its own, [rows, columns, 4]."""
    u = np.linspace(-_PAD, 1 + _PAD, _ROWS, dtype=np.float32)[:, None]
    v = np.linspace(-_SPAN, _SPAN, _COLUMNS, dtype=np.float32)[None, :]
    v = v + rng.normal(0, 0.12) * u * u  # no petal is quite straight
    u = u / (1 - species.notch * np.exp(-((v / 0.25) ** 2)) + _waves(v * 1.6, species.ruffle * 0.5, rng))
    half = _outline(u, species.belly, species.point) * (1 + _waves(u * 2, species.ruffle, rng) * np.sign(v))
    across = np.clip(v / np.maximum(half, 1e-3), -1, 1)
    alpha = np.clip((half - np.abs(v)) * _COLUMNS / (2 * _SPAN) / 1.5 + 0.5, 0, 1) * (u > 0) * (u < 1)
    colour = _inked(species, u, across, rng) * _shading(u, across, rng)[..., None]
    shadow = cv2.blur(alpha, (13, 13)) * 0.45
    return np.dstack([np.clip(colour, 0, 1) * alpha[..., None], alpha + (1 - alpha) * shadow])


def place_petal(along: npt.NDArray[np.float64], side: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The affine map [2, 2 + 1] from a petal's canvas to one where its base lies at the origin.

    ``along`` is where its tip comes to lie, ``side`` half its width, both [2] in pixels.
    """
    across, down = 2 * _SPAN / (_COLUMNS - 1), (1 + 2 * _PAD) / (_ROWS - 1)
    return np.column_stack([side * across, along * down, -_SPAN * side - _PAD * along])


def _outline(u: Array, belly: float, point: float) -> Array:
    """Half the width at ``u``, 1 at the belly: u^p (1-u)^q, whose maximum lies at p / (p + q)."""
    p = point * belly / (1 - belly)
    inside = np.clip(u, 0, 1)
    return inside**p * (1 - inside) ** point / (belly**p * (1 - belly) ** point)


def _waves(x: Array, depth: float, rng: np.random.Generator) -> Array:
    phase, beat = rng.uniform(0, 2 * math.pi, 2).tolist()
    return depth * (0.6 * np.sin(11 * x + phase) + 0.4 * np.sin(19 * x + beat))


def _shading(u: Array, across: Array, rng: np.random.Generator) -> Array:
    """How much light a petal gives back: domed across, a crease in the middle, darker at the base."""
    domed = 1.06 - 0.24 * across**2 - 0.1 * np.exp(-((across / 0.07) ** 2))
    fine = 1 - 0.05 * np.cos(across * 34 + 2 * u) * smooth(0.0, 0.3, u)
    return domed * fine * (0.72 + 0.3 * smooth(0, 0.55, u)) * (1 + 0.045 * noise(rng, 5, (_ROWS, _COLUMNS)))


def _inked(species: Species, u: Array, across: Array, rng: np.random.Generator) -> Array:
    """The petal's pigments, [rows, columns, 3]."""
    body, throat, ink = bgr(species.body), bgr(species.throat), bgr(species.ink)
    base = 1 - smooth(0.12, 0.5, u + 0.06 * np.cos(9 * across))
    pale = 0.12 * smooth(0.5, 1.1, u)
    colour = body + (throat - body) * base[..., None] + (1 - body) * pale[..., None]
    amount = _mark(species.mark, u, across, rng)[..., None]
    return colour + (ink - colour) * amount


def _mark(kind: str, u: Array, across: Array, rng: np.random.Generator) -> Array:
    """Where the ink goes, 0..1."""
    if kind == "veins":
        lines = np.abs(np.cos(across * 3.5 * math.pi + 0.4 * np.sin(5 * u + rng.uniform(0, 6)))) ** 5
        return 0.9 * lines * smooth(0.05, 0.2, u) * (1 - smooth(0.6, 0.95, u + 0.25 * across**2))
    if kind == "speckles":
        return _speckles(rng) * smooth(0.08, 0.16, u) * (1 - smooth(0.7, 0.85, u))
    if kind == "stripe":
        return 0.9 * (1 - smooth(0.16, 0.34, np.abs(across))) * (1 - smooth(0.7, 0.95, u)) * np.ones_like(u)
    if kind == "margin":
        edge = np.minimum(1 - np.abs(across), (1 - u) * 2.2)
        return 0.9 * (1 - smooth(0.12, 0.32, edge)) * smooth(0.2, 0.4, u)
    if kind == "eye":
        wave = u + 0.04 * np.cos(14 * across)
        return 0.9 * smooth(0.26, 0.33, wave) * (1 - smooth(0.44, 0.54, wave))
    if kind == "plain":
        return np.zeros(np.broadcast_shapes(u.shape, across.shape), np.float32)
    raise ValueError(f"unknown mark {kind!r}: expected one of {', '.join(MARKS)}")


def _speckles(rng: np.random.Generator) -> Array:
    dots = np.zeros((_ROWS, _COLUMNS), np.uint8)
    for x, y, radius in rng.uniform((8, 0, 2.2), (_COLUMNS - 8, _ROWS, 4.2), (34, 3)):
        cv2.circle(dots, (round(x * 16), round(y * 16)), round(radius * 16), 235, -1, cv2.LINE_AA, 4)
    return dots.astype(np.float32) / 255
