"""Draw one picture of an invented flower: its pose, light, leaves, neighbours and background.

A random generator says how this flower differs from others of its species.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from oxford102.demo_backdrop import expose, paint_backdrop
from oxford102.demo_petals import (
    LEAF,
    Array,
    Centre,
    Colour,
    Ring,
    Species,
    bgr,
    over,
    paint_petal,
    place_petal,
)

_SUPERSAMPLING = 2
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Pose:
    """Where a flower stands: ``turn`` [3, 3] takes its space to the canvas's, whose z points to the eye."""

    centre: Vector  # [2], in pixels
    radius: float  # in pixels
    turn: Vector
    light: Vector  # a unit vector in the canvas's space

    @property
    def axes(self) -> Vector:
        """The projection [2, 3] onto the canvas."""
        return self.turn[:2]


def draw(species: Species, rng: np.random.Generator, size: int = 128) -> npt.NDArray[np.uint8]:
    """A picture of one flower of the species, [size, size, 3], BGR."""
    canvas = size * _SUPERSAMPLING
    pose = _random_pose(rng, canvas)
    flower, leaves = np.zeros((2, canvas, canvas, 4), np.float32)
    _add_leaves(leaves, pose, rng)
    species = _vary(species, rng)
    start = rng.uniform(0, 2 * math.pi)
    for ring in species.rings:
        _add_petals(flower, species, ring, start, pose, rng)
        start += math.pi / ring.petals  # the next ring shows in the gaps of this one
    _add_centre(flower, species.centre, pose, rng)
    picture = paint_backdrop(rng, canvas)
    if rng.random() < 0.45:
        over(picture, _neighbour(flower, rng))
    over(picture, leaves)
    over(picture, flower)
    return expose(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), rng)


def _random_pose(rng: np.random.Generator, canvas: int) -> _Pose:
    tilt = math.radians(rng.uniform(0, 50))
    toward, spin = rng.uniform(0, 2 * math.pi, 2)
    turn = _spun(toward) @ _tilted(tilt) @ _spun(spin)
    light = np.array([*rng.normal(0, 0.6, 2), 1.0])
    centre = canvas * (0.5 + rng.uniform(-0.08, 0.08, 2))
    return _Pose(centre, canvas * rng.uniform(0.34, 0.48), turn, light / np.linalg.norm(light))


def _spun(angle: float) -> Vector:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _tilted(angle: float) -> Vector:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])


def _vary(species: Species, rng: np.random.Generator) -> Species:
    """The species as this flower wears it: pigments and proportions a little off."""
    hue, saturation, value = rng.normal(0, (0.018, 0.07, 0.05))

    def shift(colour: Colour) -> Colour:
        return colour[0] + hue, colour[1] * (1 + saturation), colour[2] * (1 + value)

    width = rng.uniform(0.88, 1.12)
    rise = rng.normal(0, 7)
    rings = tuple(replace(ring, width=ring.width * width, rise=ring.rise + rise) for ring in species.rings)
    return replace(
        species,
        rings=rings,
        body=shift(species.body),
        throat=shift(species.throat),
        ink=shift(species.ink),
        belly=species.belly + rng.normal(0, 0.015),
        notch=species.notch * rng.uniform(0.7, 1.3),
    )


def _add_petals(
    layer: Array, species: Species, ring: Ring, start: float, pose: _Pose, rng: np.random.Generator
) -> None:
    """Lay a ring of petals, the first in the direction ``start`` (radians); two paintings serve for all."""
    sprites = [paint_petal(species, rng) for _ in range(2)]
    for index in range(ring.petals):
        angle = start + (index + rng.normal(0, 0.09)) * 2 * math.pi / ring.petals
        rise = math.radians(ring.rise + rng.normal(0, 6))
        length = ring.length * rng.uniform(0.92, 1.05) * pose.radius
        _add_petal(layer, sprites[index % 2], (angle, rise, length, length * ring.width / 2), pose)


def _add_petal(layer: Array, sprite: Array, place: tuple[float, float, float, float], pose: _Pose) -> None:
    """Lay a petal: ``place`` is its azimuth and rise in radians, its length and half width in pixels."""
    angle, rise, length, half_width = place
    along = np.array([math.cos(angle) * math.cos(rise), math.sin(angle) * math.cos(rise), math.sin(rise)])
    side = np.array([-math.sin(angle), math.cos(angle), 0])
    facing = pose.turn @ np.cross(along, side)
    lit = 0.62 + 0.42 * abs(float(facing @ pose.light))
    sprite = sprite * np.array([lit, lit, lit, 1], np.float32)
    _lay(layer, sprite, pose.axes @ along * length, pose.axes @ side * half_width, pose.centre)


def _lay(layer: Array, sprite: Array, along: Vector, side: Vector, base: Vector) -> None:
    """Put the sprite onto the layer, working only inside the box it covers."""
    affine = place_petal(along, side)
    affine[:, 2] += base
    rows, columns = sprite.shape[:2]
    corners = affine @ np.array([[0, columns, 0, columns], [0, 0, rows, rows], [1, 1, 1, 1]])
    low = np.clip(np.floor(corners.min(1)).astype(int), 0, layer.shape[0])
    high = np.clip(np.ceil(corners.max(1)).astype(int) + 1, 0, layer.shape[0])
    if (high <= low).any():
        return
    affine[:, 2] -= low
    patch = cv2.warpAffine(sprite, affine, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
    over(layer[low[1] : high[1], low[0] : high[0]], patch)


def _add_centre(layer: Array, centre: Centre, pose: _Pose, rng: np.random.Generator) -> None:
    """Florets in Vogel's spiral on a low dome, stamens around it."""
    size = layer.shape[0]
    ink = np.zeros((size, size, 4), np.uint8)
    count = 130 if centre.florets else 26
    steps = np.sqrt((np.arange(count) + 0.5) / count)
    golden = np.arange(count) * math.pi * (3 - math.sqrt(5))
    radius = centre.radius * rng.uniform(0.9, 1.1)
    dome = np.stack([steps * np.cos(golden), steps * np.sin(golden), 0.7 * (1 - steps**2) + 0.2]) * radius
    places = (pose.axes @ dome * pose.radius).T + pose.centre
    grain = radius * pose.radius * (0.13 if centre.florets else 0.34)
    for index in reversed(range(count)):  # the middle lies on top
        value = (0.62 + 0.5 * (1 - steps[index])) * rng.uniform(0.8, 1.2)
        _dot(ink, places[index], grain * (1.25 if index > count * 0.6 else 1), _shade(centre.colour, value))
    _add_stamens(ink, centre, pose, rng)
    drawn = ink.astype(np.float32) / 255
    shadow = np.zeros_like(drawn)
    shadow[..., 3] = cv2.GaussianBlur(drawn[..., 3], (0, 0), size / 70) * 0.5
    over(layer, shadow)
    over(layer, drawn)


def _add_stamens(ink: npt.NDArray[np.uint8], centre: Centre, pose: _Pose, rng: np.random.Generator) -> None:
    """A thread and an anther each, leaning outwards."""
    for index in range(centre.stamens):
        angle = (index + rng.uniform(-0.3, 0.3)) * 2 * math.pi / centre.stamens
        reach = centre.reach * rng.uniform(0.75, 1.15)
        away = np.array([math.cos(angle), math.sin(angle), 0])
        foot, tip = away * centre.radius * 0.6 + (0, 0, 0.05), away * reach + (0, 0, 0.12 + reach * 0.5)
        low, high = (pose.axes @ point * pose.radius + pose.centre for point in (foot, tip))
        thread = _shade((0.16, 0.25, 0.95), rng.uniform(0.75, 1))
        cv2.line(ink, _sixteenths(low), _sixteenths(high), thread, 2, cv2.LINE_AA, 4)
        _dot(ink, high, pose.radius * 0.035, _shade(centre.anthers, rng.uniform(0.75, 1.1)))


def _shade(colour: Colour, value: float) -> tuple[float, float, float, float]:
    blue, green, red = bgr((colour[0], colour[1], colour[2] * value)) * 255
    return float(blue), float(green), float(red), 255.0


def _dot(ink: npt.NDArray[np.uint8], place: Vector, radius: float, colour: tuple[float, ...]) -> None:
    cv2.circle(ink, _sixteenths(place), max(int(radius * 16), 8), colour, -1, cv2.LINE_AA, 4)


def _sixteenths(place: Vector) -> tuple[int, int]:
    """A place in sixteenths of a pixel: the four fractional bits of OpenCV's drawing."""
    x, y = np.rint(place * 16).astype(int).tolist()
    return x, y


def _add_leaves(layer: Array, pose: _Pose, rng: np.random.Generator) -> None:
    """A few leaves behind the flower."""
    green = rng.uniform((0.22, 0.4, 0.3), (0.36, 0.75, 0.6))
    leaf = replace(LEAF, body=tuple(green), throat=(green[0] - 0.03, green[1], green[2] * 0.8))
    sprite = paint_petal(leaf, rng)
    for angle in rng.uniform(0, 2 * math.pi, rng.integers(0, 5)):
        length = pose.radius * rng.uniform(1.1, 1.7)
        _add_petal(layer, sprite, (angle, -0.3, length, length * rng.uniform(0.16, 0.26)), pose)


def _neighbour(flower: Array, rng: np.random.Generator) -> Array:
    """Another flower of the same plant: smaller, turned, to the side and out of focus."""
    size = flower.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(0, 360), rng.uniform(0.4, 0.75))
    away = rng.uniform(0, 2 * math.pi)
    turn[:, 2] = turn[:, 2] + size * 0.5 * np.array([math.cos(away), math.sin(away)])
    moved = cv2.warpAffine(flower, turn, (size, size)) * rng.uniform(0.75, 1.0)
    return cv2.GaussianBlur(moved, (0, 0), size * rng.uniform(0.012, 0.03))
