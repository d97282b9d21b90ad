"""How many pictures of each class the lists have, and what they look like: the work of show_data.py."""

from __future__ import annotations

import math
import sys
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oxford102.errors import ToolError
from oxford102.files import sha256
from oxford102.lists import SPLITS, Entry, read_list, read_names
from oxford102.plots import COLOURS, PALE, STYLE, save_figure

CELL, GAP, DPI = 192, 18, 150  # pixels: the side of a sample, the space between, an inch
ROW_CLASSES = 24  # up to so many classes have a row of samples each, more have one sample each
SHEET_CLASSES = 150  # a sheet has no more classes
NAMED = 130  # a histogram has no more names and numbers

Lists = Mapping[str, Sequence[Entry]]


@dataclass(frozen=True)
class Job:
    """Which lists to show (a data folder, or list files), with which names, and where the drawings go."""

    sources: Sequence[Path]
    output: Path
    labels: Path | None = None
    seed: int = 777
    force: bool = False


def show(job: Job) -> None:
    """Write histogram.png and samples.png, print the counts, and warn of pictures that are in two lists.

    Raises ToolError where a list or the names are not as they should be.
    """
    targets = [job.output / "histogram.png", job.output / "samples.png"]
    there = next((path for path in targets if path.exists()), None)
    if there is not None and not job.force:
        raise ToolError(f"{there} exists; choose another -o, or give --force to replace it")
    lists = read_lists(job.sources)
    names = _names(job, lists)
    warned = overlaps(lists)
    for text in warned:
        print(f"show_data.py: warning: {text}", file=sys.stderr)
    counts = {
        name: np.bincount([entry.label for entry in entries], minlength=len(names)) for name, entries in lists.items()
    }
    for name, count in counts.items():
        print(f"{name}: {count.sum():,} pictures, {_span(count)} in each of {len(names)} classes")
    figures = [draw_histogram(counts, names, warned), draw_samples(next(iter(lists.values())), names, job.seed)]
    job.output.mkdir(parents=True, exist_ok=True)
    for figure, path in zip(figures, targets, strict=True):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that no font here has
            save_figure(figure, path)
        print(path)


def read_lists(sources: Sequence[Path]) -> dict[str, list[Entry]]:
    """The lists of a data folder by the names of their splits, or list files by theirs."""
    if len(sources) == 1 and sources[0].is_dir():
        files = [path for path in (sources[0] / f"{name}.txt" for name in SPLITS) if path.is_file()]
        if not files:
            raise ToolError(
                f"{sources[0]} has none of {', '.join(f'{name}.txt' for name in SPLITS)}; give a data folder"
            )
    else:
        files = list(sources)
    stems = [path.stem for path in files]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in files]
    return {name: read_list(path) for name, path in zip(names, files, strict=True)}


def _names(job: Job, lists: Lists) -> list[str]:
    """A name for each label: from the file given, or from labels.txt beside the lists, or by number."""
    first = job.sources[0]
    path = job.labels or (first if first.is_dir() else first.parent) / "labels.txt"
    classes = 1 + max(entry.label for entries in lists.values() for entry in entries)
    if job.labels is None and not path.is_file():
        return [f"class {label}" for label in range(classes)]
    names = read_names(path)
    if len(names) < classes:
        raise ToolError(
            f"{path} has {len(names)} names, but the lists have label {classes - 1}; give the right --labels"
        )
    return names


def overlaps(lists: Lists) -> list[str]:
    """What to warn of: pictures that are not there, and files that are in two lists, by path or by content."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    missing = []
    for path in {entry.path for entries in lists.values() for entry in entries}:
        if path.is_file():
            sizes[path.stat().st_size].append(path)
        else:
            missing.append(path)
    same = {path: sha256(path) for paths in sizes.values() if len(paths) > 1 for path in paths}
    keys = {name: {same.get(entry.path, str(entry.path)): entry.path for entry in lists[name]} for name in lists}
    warned = [f"pictures that are not there: {len(missing):,}, as {min(missing)}"] if missing else []
    for one, other in combinations(keys, 2):
        common = keys[one].keys() & keys[other].keys()
        if common:
            example = min(keys[one][key] for key in common)
            warned.append(f"pictures of {one} that are also in {other}: {len(common):,}, as {example}")
    return warned


def _span(count: NDArray[np.int64]) -> str:
    low, high = count.min(), count.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def draw_histogram(counts: Mapping[str, NDArray[np.int64]], names: Sequence[str], warned: Sequence[str] = ()) -> Figure:
    """The pictures of each class, a panel a list: {list: [classes]}; warnings stand above."""
    classes = len(names)
    row = 0.24 if classes <= 40 else 0.165  # inches
    height = 1.2 + 0.2 * len(warned) + max(row * min(classes, NAMED), 1.2)
    size = 9 if classes <= 40 else 7
    with rc_context({**STYLE, "font.size": size}):
        figure = Figure(figsize=(2.2 + 2.8 * len(counts), height), layout="constrained")
        if warned:
            above = "\n".join(textwrap.shorten(text, 40 + 35 * len(counts), placeholder=" …") for text in warned)
            figure.suptitle(above, color="#b00000", fontsize=9, parse_math=False)
        panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
        for i, (axes, (name, count)) in enumerate(zip(panels, counts.items(), strict=True)):
            _draw_bars(axes, count, COLOURS[i % len(COLOURS)], size)
            title = f"{name}: {count.sum():,} pictures"
            axes.set_title(title, loc="left", pad=size + 9, fontsize=size + 3, parse_math=False)
            place: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
            axes.annotate(f"{_span(count)} a class", (0, 1), color="grey", fontsize=size, **place)
        if classes <= NAMED:
            told = [f"{textwrap.shorten(name, 32, placeholder=' …')}  {label}" for label, name in enumerate(names)]
            panels[0].set_yticks(range(classes), told, parse_math=False)
        else:
            panels[0].set_ylabel("label")
        panels[0].set_ylim(classes - 0.4, -0.6)
    return figure


def _draw_bars(axes: Axes, count: NDArray[np.int64], colour: str, size: float) -> None:
    bars = axes.barh(range(len(count)), count, 0.78 if len(count) <= NAMED else 1, color=colour)
    if len(count) <= NAMED:
        axes.bar_label(bars, [f"{value:,}" for value in count], padding=2, fontsize=size - 1, color="#444444")
    axes.set_xlim(0, max(1, count.max()) * 1.15)
    axes.tick_params(left=False)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_samples(entries: Sequence[Entry], names: Sequence[str], seed: int) -> Figure:
    """A sheet of pictures with the names of their classes: a row a class where there are few, else one a class."""
    generator = np.random.RandomState(seed)
    of_class: dict[int, list[Path]] = defaultdict(list)
    for number in generator.permutation(len(entries)):
        of_class[entries[number].label].append(entries[number].path)
    labels = sorted(of_class)
    if len(labels) > SHEET_CLASSES:
        labels = sorted(generator.permutation(labels)[:SHEET_CLASSES])
    if len(labels) <= ROW_CLASSES:
        columns = min(8, max(map(len, of_class.values())))
        cells = [
            (row, column, path)
            for row, label in enumerate(labels)
            for column, path in enumerate(of_class[label][:columns])
        ]
        return _sheet(cells, [names[label] for label in labels], columns, rows=len(labels))
    columns = math.ceil(math.sqrt(len(labels) * 1.3))
    cells = [(i // columns, i % columns, of_class[label][0]) for i, label in enumerate(labels)]
    return _sheet(cells, [names[label] for label in labels], columns, -(-len(labels) // columns))


def _sheet(cells: Sequence[tuple[int, int, Path]], names: Sequence[str], columns: int, rows: int) -> Figure:
    """Pictures at their rows and columns; one name a row stands left of it, one a picture below it."""
    by_row = len(names) == rows and columns > 1
    step_y, step_x = CELL + (GAP if by_row else 3 * GAP), CELL + GAP
    told = [textwrap.wrap(name, 20 if by_row else 18, max_lines=2, placeholder=" …") for name in names]
    left = 2 * GAP + 14 * max(len(line) for lines in told for line in lines) if by_row else 0
    height, width = rows * step_y + GAP, left + columns * step_x
    canvas = np.full((height, width, 3), 255, np.uint8)
    for row, column, path in cells:
        top, side = row * step_y + GAP, left + column * step_x + GAP // 2
        canvas[top : top + CELL, side : side + CELL] = _square(path)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for i, lines in enumerate(told):
        x, y = left - GAP / 2, i * step_y + GAP + CELL / 2
        place: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 11}
        if not by_row:
            x, y = (cells[i][1] + 0.5) * step_x, cells[i][0] * step_y + GAP + CELL + 5.0
            place = {"ha": "center", "va": "top", "fontsize": 9, "linespacing": 1.0}
        axes.text(x, y, "\n".join(lines), parse_math=False, **place)
    return figure


def _square(path: Path) -> NDArray[np.uint8]:
    """The square at the centre of a picture, [CELL, CELL, 3] in RGB; grey where it cannot be read."""
    content = path.read_bytes() if path.is_file() else b""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        return np.full((CELL, CELL, 3), 160, np.uint8)
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > CELL else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (CELL, CELL), interpolation=method)[..., ::-1], np.uint8)
