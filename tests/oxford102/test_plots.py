from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oxford102.errors import ToolError
from oxford102.log_parser import Log, TestRow, TrainRow
from oxford102.plots import CHARTS, accuracy_name, draw_chart, draw_curves, draw_prediction, save_figure


def made(tests: list[dict[str, float]], losses: list[float]) -> Log:
    """A log with a test each 10 iterations and a loss each 5."""
    train = tuple(TrainRow(5 * i, float(i), 0.1, loss, {}) for i, loss in enumerate(losses))
    test = tuple(TestRow(0, 10 * i, float(i), outputs) for i, outputs in enumerate(tests))
    return Log("net", train, test)


def accuracies(*values: float) -> Log:
    return made([{"accuracy": value} for value in values], [3.0, 2.0, 1.0])


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_two_panels_hold_the_rows_of_the_log() -> None:
    figure = draw_curves({"run": accuracies(0.1, 0.5, 0.8125, 0.75)})
    accuracy, loss = figure.axes
    assert accuracy.get_title("left") == "Validation accuracy"
    assert loss.get_title("left") == "Training loss"
    assert accuracy.lines[0].get_xydata().tolist() == [[0, 0.1], [10, 0.5], [20, 0.8125], [30, 0.75]]
    assert loss.lines[0].get_xydata().tolist() == [[0, 3], [5, 2], [10, 1]]
    assert legend(loss) == ["run"]


def test_best_point_is_marked_with_value_and_iteration() -> None:
    (accuracy, _) = draw_curves({"run": accuracies(0.1, math.nan, 0.8125, 0.75)}).axes
    assert accuracy.lines[1].get_xydata().tolist() == [[20, 0.8125]]
    assert texts(accuracy) == ["81.25 % at 20"]
    assert legend(accuracy) == ["run: best 81.25 % at 20"]


def test_first_of_equal_points_is_the_best() -> None:
    (accuracy, _) = draw_curves({"run": accuracies(0.5, 0.75, 0.75)}).axes
    assert legend(accuracy) == ["run: best 75.00 % at 10"]


def test_accuracy_axis_counts_in_percent() -> None:
    (accuracy, _) = draw_curves({"run": accuracies(0, 1)}).axes
    assert accuracy.yaxis.get_major_formatter()(0.25, None) == "25 %"
    assert accuracy.xaxis.get_major_formatter()(12500, None) == "12,500"


def test_runs_have_colours_of_their_own_and_share_the_panels() -> None:
    runs = {"a": accuracies(0.5, 0.625), "b": accuracies(0.25, 0.5), "never tested": made([], [1.0])}
    accuracy, loss = draw_curves(runs).axes
    assert legend(accuracy) == ["a: best 62.50 % at 10", "b: best 50.00 % at 10", "never tested: no value"]
    assert texts(accuracy) == []  # the legend tells them; beside the points they would lie over each other
    assert legend(loss) == ["a", "b", "never tested"]
    assert len({line.get_color() for line in loss.lines}) == 3


def test_eight_runs_can_be_told_apart() -> None:
    loss = draw_curves({str(i): made([], [1.0, 2.0]) for i in range(8)}).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in loss.lines}) == 8


def test_a_log_without_tests_has_one_panel() -> None:
    (loss,) = draw_curves({"run": made([], [2.0, 1.0])}).axes
    assert loss.get_title("left") == "Training loss"


def test_a_log_without_losses_is_drawn() -> None:
    accuracy, loss = draw_curves({"run": made([{"accuracy": 0.5}], [])}).axes
    assert legend(accuracy) == ["run: best 50.00 % at 0"]
    assert len(loss.lines[0].get_xydata()) == 0


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (["loss", "accuracy"], "accuracy"),
        (["accuracy_top5", "accuracy_top1", "loss"], "accuracy_top1"),
        (["loss3/top-5", "loss3/top-1"], "loss3/top-1"),
        (["loss1/top-1", "loss2/top-1", "loss3/top-1", "loss3/top-5"], "loss3/top-1"),
        (["acc_coarse", "Accuracy", "loss"], "Accuracy"),
        (["top5"], "top5"),
        (["loss", "mbox"], None),
        ([], None),
    ],
)
def test_output_named_like_an_accuracy_is_chosen(outputs: list[str], expected: str | None) -> None:
    assert accuracy_name([made([dict.fromkeys(outputs, 0.5)], [])]) == expected


def test_another_output_may_be_asked_for_and_its_least_value_is_best() -> None:
    log = made([{"accuracy": 0.5, "loss": 4.0}, {"accuracy": 0.6, "loss": 1.25}, {"accuracy": 0.7, "loss": 2.0}], [1.0])
    panel, _ = draw_curves({"run": log}, "loss").axes
    assert panel.get_title("left") == "Validation: loss"
    assert legend(panel) == ["run: best 1.25 at 10"]


def test_of_a_score_of_another_name_the_most_is_best() -> None:
    log = made([{"detection_eval": value} for value in (0.5, 0.75, 0.6)], [1.0])
    panel, _ = draw_curves({"run": log}, "detection_eval").axes
    assert panel.get_title("left") == "Validation: detection_eval"
    assert legend(panel) == ["run: best 0.75 at 10"]


def test_an_output_that_no_run_has_is_an_error() -> None:
    with pytest.raises(ToolError, match=r"^no test output 'acc' in the logs; they have accuracy$"):
        draw_curves({"run": accuracies(0.5)}, "acc")


def test_loss_axis_is_logarithmic_where_the_loss_spans_it() -> None:
    assert draw_curves({"run": made([], [5.0, 0.04])}).axes[0].get_yscale() == "log"
    assert draw_curves({"run": made([], [5.0, 0.5])}).axes[0].get_yscale() == "linear"
    assert draw_curves({"run": made([], [5.0, 0.0])}).axes[0].get_yscale() == "linear"


def test_values_that_are_not_finite_leave_gaps() -> None:
    loss = draw_curves({"run": made([], [5.0, math.inf, 0.01, -math.inf, math.nan, 1.0])}).axes[0]
    for line in loss.lines:
        assert np.isfinite(np.asarray(line.get_ydata())).tolist() == [True, False, True, False, False, True]


def test_smooth_line_is_a_weighted_mean() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 100)
    smooth = np.asarray(draw_curves({"run": made([], list(losses))}).axes[0].lines[1].get_ydata())
    for i in range(100):  # a window of three points, a thirtieth of a hundred: 1/2, 1, 1/2
        near = [(j, weight) for j, weight in ((i - 1, 0.5), (i, 1.0), (i + 1, 0.5)) if 0 <= j < 100]
        mean = sum(weight * losses[j] for j, weight in near) / sum(weight for _, weight in near)
        assert smooth[i] == pytest.approx(mean)


def small() -> Figure:
    return draw_prediction(np.full((20, 30, 3), (1.0, 0.6, 0.0)), "rose: 0.9000")


def test_prediction_is_the_picture_under_its_title(tmp_path: Path) -> None:
    figure = small()
    assert figure.axes[0].get_title() == "rose: 0.9000"
    save_figure(figure, tmp_path / "p.png")
    drawn = cv2.imread(str(tmp_path / "p.png"))
    height, width = drawn.shape[:2]
    assert drawn[height // 2, width // 2].tolist() == [0, 153, 255]  # BGR
    assert drawn[-1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("shape", [(10, 400, 3), (400, 10, 3), (30, 30, 1)])
def test_odd_pictures_are_drawn(shape: tuple[int, int, int], tmp_path: Path) -> None:
    save_figure(draw_prediction(np.zeros(shape), "x"), tmp_path / "p.png")
    height, width = cv2.imread(str(tmp_path / "p.png")).shape[:2]
    assert 400 < height < 1800
    assert width == 960


def test_formats_follow_the_name(tmp_path: Path) -> None:
    for suffix in (".png", ".svg", ".pdf", ".PNG"):
        save_figure(small(), tmp_path / f"p{suffix}")
    assert cv2.imread(str(tmp_path / "p.png")) is not None
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.PNG", "p.pdf", "p.png", "p.svg"]


def test_other_formats_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ToolError, match=r"p\.gif: cannot draw '\.gif' files; let the name end with \.png, \.svg, \.pdf"
    ):
        save_figure(small(), tmp_path / "p.gif")
    assert list(tmp_path.iterdir()) == []


# plot_training_log's charts

CHART_TRAIN = tuple(TrainRow(5 * i, 1.5 * i, rate, 4.0 - i, {}) for i, rate in enumerate((0.1, 0.1, 0.001)))
CHART_TEST = tuple(TestRow(0, 10 * i, 3.0 * i, {"accuracy": 0.25 * i, "loss": 2.0 - i}) for i in range(2))
CHART_LOG = Log("net", CHART_TRAIN, CHART_TEST)


@pytest.mark.parametrize(
    ("kind", "x", "y"),
    [
        (0, [0, 10], [0, 0.25]),
        (1, [0, 3], [0, 0.25]),
        (2, [0, 10], [2, 1]),
        (3, [0, 3], [2, 1]),
        (4, [0, 5, 10], [0.1, 0.1, 0.001]),
        (5, [0, 1.5, 3], [0.1, 0.1, 0.001]),
        (6, [0, 5, 10], [4, 3, 2]),
        (7, [0, 1.5, 3], [4, 3, 2]),
    ],
)
def test_a_chart_shows_its_numbers(kind: int, x: list[float], y: list[float]) -> None:
    (axes,) = draw_chart(kind, {"run": CHART_LOG}).axes
    assert axes.get_title(loc="left") == CHARTS[kind][0]
    assert axes.get_xlabel() == ("seconds" if kind % 2 else "iteration")
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_xdata(), float), x)
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata(), float), y)


def test_rates_of_a_step_are_told_by_their_values() -> None:
    (axes,) = draw_chart(4, {"run": CHART_LOG}).axes
    assert axes.get_yscale() == "log"
    np.testing.assert_allclose(axes.get_yticks(), [0.001, 0.1])


def test_a_best_time_is_told_in_seconds() -> None:
    (axes,) = draw_chart(1, {"run": CHART_LOG}).axes
    assert legend(axes) == ["run: best 25.00 % at 3 s"]


def test_runs_of_the_same_rate_stay_visible() -> None:
    (axes,) = draw_chart(4, {"a": CHART_LOG, "b": CHART_LOG}).axes
    assert axes.lines[0].get_linewidth() > axes.lines[1].get_linewidth()


@pytest.mark.parametrize(("kind", "what"), [(0, "test accuracy against iteration"), (7, "train loss against seconds")])
def test_what_no_log_tells_is_an_error(kind: int, what: str) -> None:
    bare = Log("net", (TrainRow(0, 0.0, 0.1, math.nan, {}),), ())
    with pytest.raises(ToolError, match=f"chart {kind} shows {what}, which none of the logs tells: run"):
        draw_chart(kind, {"run": bare})


def test_a_run_that_lacks_it_is_drawn_beside_one_that_has_it() -> None:
    (axes,) = draw_chart(2, {"a": Log("net", CHART_TRAIN, ()), "b": CHART_LOG}).axes
    assert legend(axes) == ["a: no value", "b: best 1 at 10"]
