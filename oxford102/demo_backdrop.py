"""What lies behind an invented flower, and the camera's part: light, colour cast, focus, grain."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from oxford102.demo_petals import Array, bgr, noise


def paint_backdrop(rng: np.random.Generator, size: int) -> Array:
    """A blurred background, [size, size, 3]; painted at half the size, as it is out of focus."""
    painters = (_foliage, _foliage, _grass, _soil, _sky, _bokeh, _night)
    picture = painters[rng.integers(len(painters))](rng, size // 2)
    picture = cv2.GaussianBlur(picture, (0, 0), size * rng.uniform(0.007, 0.022))
    return np.clip(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)


def expose(picture: Array, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The picture as a camera gives it back, as bytes."""
    size = picture.shape[0]
    slope = rng.uniform(-0.22, 0.22, 2)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + slope[0] * axis[:, None] + slope[1] * axis[None, :]
    cast = rng.normal(1, 0.05, 3) * rng.uniform(0.78, 1.15)
    picture = picture * light[..., None].astype(np.float32) * cast.astype(np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.9))
    picture = np.clip(picture, 0, 1) ** np.float32(rng.uniform(0.85, 1.15))
    picture = picture * 255 + rng.normal(0, rng.uniform(1, 4), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _wash(rng: np.random.Generator, size: int, top: Array, bottom: Array, rough: float) -> Array:
    """A vertical run from one colour to another with soft patches."""
    run = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    patches = 1 + rough * noise(rng, 6, (size, size))[..., None]
    return np.ascontiguousarray((top + (bottom - top) * run) * patches, np.float32)


def _green(rng: np.random.Generator, low: float = 0.15, high: float = 0.6) -> Array:
    return bgr(tuple(rng.uniform((0.2, 0.35, low), (0.36, 0.8, high))))


def _foliage(rng: np.random.Generator, size: int) -> Array:
    picture = _wash(rng, size, _green(rng, 0.1, 0.3), _green(rng, 0.1, 0.3), 0.2)
    tone = _green(rng)
    for _ in range(38):
        colour = np.clip(tone * rng.uniform(0.4, 1.5) + rng.normal(0, 0.03, 3), 0, 1)
        axes = (rng.uniform(0.2, 0.5) * size, rng.uniform(0.07, 0.16) * size)
        box = (tuple(rng.uniform(0, size, 2)), axes, rng.uniform(0, 360))
        cv2.ellipse(picture, box, colour.tolist(), -1, cv2.LINE_AA)
    return picture


def _grass(rng: np.random.Generator, size: int) -> Array:
    picture = _wash(rng, size, _green(rng, 0.3, 0.6), _green(rng, 0.1, 0.25), 0.1)
    tone = _green(rng, 0.3, 0.7)
    for _ in range(70):
        foot = rng.uniform((0, 0.6), (1, 1.3)) * size
        tip = foot + np.array([rng.normal(0, 0.2), -rng.uniform(0.5, 1.1)]) * size
        colour = np.clip(tone * rng.uniform(0.5, 1.4), 0, 1)
        low, high = foot.astype(int).tolist(), tip.astype(int).tolist()
        cv2.line(picture, low, high, colour.tolist(), int(rng.integers(1, 5)), cv2.LINE_AA)
    return picture


def _soil(rng: np.random.Generator, size: int) -> Array:
    colour = bgr(tuple(rng.uniform((0.05, 0.2, 0.25), (0.1, 0.5, 0.55))))
    layers = [noise(rng, cells, (size, size)) * weight for cells, weight in ((9, 0.12), (25, 0.12), (60, 0.14))]
    return np.ascontiguousarray(colour * (1 + np.sum(layers, 0))[..., None], np.float32)


def _sky(rng: np.random.Generator, size: int) -> Array:
    hue = rng.uniform(0.54, 0.62)
    picture = _wash(rng, size, bgr((hue, 0.65, 0.8)), bgr((hue, 0.25, 0.95)), 0.02)
    cloud = np.clip(noise(rng, 5, (size, size)) * 0.4 + rng.uniform(-0.2, 0.3), 0, 0.9)[..., None]
    return picture + (np.float32(0.95) - picture) * cloud


def _bokeh(rng: np.random.Generator, size: int) -> Array:
    picture = _wash(rng, size, _green(rng, 0.2, 0.5), _green(rng, 0.1, 0.3), 0.15)
    light = np.zeros_like(picture)
    for _ in range(16):
        colour = bgr(tuple(rng.uniform((0.08, 0.1, 0.15), (0.4, 0.6, 0.5))))
        disc = np.zeros_like(picture)
        x, y = (int(n) for n in rng.uniform(0, size, 2))
        cv2.circle(disc, (x, y), int(rng.uniform(0.04, 0.13) * size), colour.tolist(), -1, cv2.LINE_AA)
        light += disc * 0.6
    return picture + light


def _night(rng: np.random.Generator, size: int) -> Array:
    colour = bgr(tuple(rng.uniform((0.0, 0.0, 0.03), (1.0, 0.5, 0.2))))
    return _wash(rng, size, colour, colour * 0.5, 0.2)
