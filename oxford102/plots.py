"""Pictures of a training and of a prediction, drawn without a screen and written whole."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from oxford102.errors import ToolError
from oxford102.files import write_whole
from oxford102.log_parser import Log, TestRow, TrainRow

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
STYLE = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
}
PALE = "#dddddd"

CHARTS = tuple(
    (title, along)
    for title in ("Test accuracy", "Test loss", "Train learning rate", "Train loss")
    for along in ("iteration", "seconds")
)
"""Title and horizontal axis of the charts that plot_training_log numbers from 0 to 7."""

Series = tuple[NDArray[np.float64], NDArray[np.float64]]  # iterations or seconds, values (nan where not finite)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix: .png, .svg or .pdf. Raises ToolError for others."""
    if path.suffix.lower() not in SUFFIXES:
        raise ToolError(f"{path}: cannot draw '{path.suffix}' files; let the name end with {', '.join(SUFFIXES)}")
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:].lower(), dpi=150)
    write_whole(path, content.getvalue())


def draw_prediction(picture: NDArray[np.floating], title: str) -> Figure:
    """A picture [h, w, 3 or 1] of RGB values in 0..1 under its title."""
    height, width = picture.shape[:2]
    figure = Figure(figsize=(6.4, 0.6 + 6 * min(max(height / width, 0.4), 1.6)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=15)
    axes.set_axis_off()
    return figure


def accuracy_name(logs: Sequence[Log]) -> str | None:
    """The test output that is named most like an accuracy, the last of equals; None where none is.

    "accuracy" itself goes first, then names with "acc" or "top", those that count five guesses last. Of a net with
    several heads (GoogLeNet) the last one is the net's own, the others help in training.
    """
    names = [name for log in logs for row in log.tests() for name in row.outputs if _is_accuracy(name)]
    return min(reversed(names), key=lambda name: (name.lower() != "accuracy", "5" in name), default=None)


def draw_curves(runs: Mapping[str, Log], output: str | None = None) -> Figure:
    """Validation accuracy and training loss against iterations, one colour a run, {label: log}.

    `output` names the output of the first test net to draw instead of the one named like an accuracy.
    Without any, only the loss is drawn. Raises ToolError where no run has the output asked for.
    """
    name = output or accuracy_name(list(runs.values()))
    tests = {label: _tests(log, name) for label, log in runs.items()}
    if output and not any(len(iterations) for iterations, _ in tests.values()):
        known = sorted({key for log in runs.values() for row in log.tests() for key in row.outputs})
        raise ToolError(f"no test output '{output}' in the logs; they have {', '.join(known) or 'none at all'}")
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 4.8) if name else (7, 4.8), layout="constrained")
        *left, right = figure.subplots(1, 2 if name else 1, squeeze=False)[0]
        if name:
            _draw_tests(left[0], tests, name)
        _draw_losses(right, {label: _losses(log) for label, log in runs.items()})
    return figure


def draw_chart(kind: int, runs: Mapping[str, Log]) -> Figure:
    """One of the `CHARTS` of {label: log}, one colour a run; raises ToolError where no run has what it shows."""
    title, along = CHARTS[kind]
    series = {label: _chart_series(title, along, log) for label, log in runs.items()}
    if not any(np.isfinite(y).any() for _, y in series.values()):
        raise ToolError(
            f"chart {kind} shows {title.lower()} against {along}, which none of the logs tells: {', '.join(runs)}"
        )
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        if title == "Train learning rate":
            _draw_rates(axes, series, along)
        elif title == "Train loss":
            _draw_losses(axes, series, along)
        else:
            _draw_tests(axes, series, title.split()[1], along)
        axes.set_title(title, loc="left")
    return figure


def _chart_series(title: str, along: str, log: Log) -> Series:
    rows: Sequence[TrainRow | TestRow] = log.train
    values = [row.loss if title == "Train loss" else row.rate for row in log.train]
    if title.startswith("Test"):
        name = accuracy_name([log]) if title == "Test accuracy" else _loss_name(log)
        rows = log.tests()
        values = [row.outputs.get(name or "", np.nan) for row in rows]
    return _series(
        [(row.seconds if along == "seconds" else row.iteration, y) for row, y in zip(rows, values, strict=True)]
    )


def _loss_name(log: Log) -> str | None:
    names = [name for row in log.tests() for name in row.outputs if "loss" in name.lower() and not _is_accuracy(name)]
    return "loss" if "loss" in names else next(reversed(names), None)


def _tests(log: Log, name: str | None) -> Series:
    return _series([(row.iteration, row.outputs[name]) for row in log.tests() if name and name in row.outputs])


def _losses(log: Log) -> Series:
    return _series([(row.iteration, row.loss) for row in log.train])


def _series(points: Sequence[tuple[float, float]]) -> Series:
    x, values = np.array(points, np.float64).reshape(-1, 2).T
    return x, np.where(np.isfinite(values), values, np.nan)


def _is_accuracy(name: str) -> bool:
    return re.search(r"acc|top", name, re.IGNORECASE) is not None


def _draw_tests(axes: Axes, tests: Mapping[str, Series], name: str, along: str = "iteration") -> None:
    accuracy = _is_accuracy(name)
    for i, (label, (x, y)) in enumerate(tests.items()):
        (line,) = axes.plot(x, y, label=f"{label}: no value")
        _dress(line, i)
        if np.isnan(y).all():
            continue
        best = int(np.nanargmin(y) if re.search("loss|err", name, re.IGNORECASE) and not accuracy else np.nanargmax(y))
        told = (f"{100 * y[best]:.2f} %" if accuracy else f"{y[best]:.4g}") + f" at {_short(x[best])}"
        told += " s" if along == "seconds" else ""
        line.set_label(f"{label}: best {told}")
        axes.plot(x[best], y[best], "o", color=line.get_color(), markeredgecolor="white", markersize=9, zorder=3)
        if len(tests) == 1:
            _name_point(axes, (float(x[best]), y[best]), told, above=accuracy)
    axes.margins(y=0.12)  # room for the text
    if accuracy:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    title = "Validation accuracy" if accuracy else "Validation"
    _finish(axes, title if name.lower() == "accuracy" else f"{title}: {name}", along)


def _name_point(axes: Axes, point: tuple[float, float], text: str, above: bool) -> None:
    left, right = axes.get_xlim()
    place = (point[0] - left) / (right - left)
    side = "right" if place > 0.8 else "left" if place < 0.2 else "center"
    offset = (0, 9 if above else -18)
    axes.annotate(text, point, offset, textcoords="offset points", ha=side, weight="bold", zorder=4)


def _draw_rates(axes: Axes, rates: Mapping[str, Series], along: str) -> None:
    for i, (label, (x, y)) in enumerate(rates.items()):
        (line,) = axes.plot(x, y, drawstyle="steps-post", label=label)
        _dress(line, i)
        line.set_linewidth(1.5 + 2 * (len(rates) - 1 - i))  # runs of the same rate show below one another
    levels = np.unique(np.concatenate([y[np.isfinite(y)] for _, y in rates.values()]))
    if _spans(rates, 5):
        axes.set_yscale("log")
    if len(levels) <= 8:
        axes.set_yticks(levels)
        axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(y=0.1)
    _finish(axes, "", along)


def _spans(series: Mapping[str, Series], factor: float) -> bool:
    """Whether the values are positive, the largest more than `factor` times the least."""
    seen = np.concatenate([y for _, y in series.values()])
    seen = seen[np.isfinite(seen)]
    return bool(len(seen)) and seen.min() > 0 and seen.max() > factor * seen.min()


def _draw_losses(axes: Axes, losses: Mapping[str, Series], along: str = "iteration") -> None:
    logarithmic = _spans(losses, 100)
    for i, (label, (x, y)) in enumerate(losses.items()):
        raw, smooth = axes.plot(x, y, x, np.exp(_smooth(np.log(y))) if logarithmic else _smooth(y))
        _dress(raw, i)
        _dress(smooth, i)
        raw.set(alpha=0.25, linewidth=0.8)
        smooth.set_label(label)
    if logarithmic:
        axes.set_yscale("log")
    if any(_window(y).size > 1 for _, y in losses.values()):
        axes.set_title("smoothed; pale: as logged", loc="right", fontsize=9, color="grey", weight="normal")
    _finish(axes, "Training loss", along)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted mean over a thirtieth of the points around each; what is not finite stays a gap."""
    if not len(values):
        return values
    window = _window(values)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), window, "same")
    weight = np.convolve(finite.astype(float), window, "same")
    return np.where(finite, total / np.where(finite, weight, 1), np.nan)


def _window(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.hanning(max(1, len(values) // 30) + 2)[1:-1], np.float64)


def _dress(line: Line2D, run: int) -> None:
    """Give a line the look of its run; where it has few points, they are shown."""
    dashes = ("-", "--", ":")[run // len(COLOURS) % 3]
    line.set(color=COLOURS[run % len(COLOURS)], linestyle=dashes)
    if len(np.asarray(line.get_xdata())) < 30:
        line.set_marker(".")


def _short(value: float) -> str:
    """An iteration or a time in few digits: 50,000 and 13.2 and 0.142."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _finish(axes: Axes, title: str, along: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(along)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=along == "iteration"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(framealpha=0.9, edgecolor=PALE)
