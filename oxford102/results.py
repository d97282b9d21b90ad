"""The table of results: rows of results/results.csv, beside the published numbers in README.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from oxford102.cache import locked
from oxford102.errors import ToolError
from oxford102.files import write_whole

START, END = "<!-- results -->", "<!-- /results -->"
PUBLISHED = {
    "CaffeNet": ("83.95", "81.43"),
    "CaffeNet-frozen": ("82.85", "about 80.4"),
    "VGG16": ("89.1", "86.3"),
    "VGG16-frozen": ("81.56", "under 80"),
    "ResNet50": ("91.37", "88.08"),
}
"""{model: validation and test accuracy on Oxford-102 in per cent}, by the article of 2016 that README.md names."""
PUBLISHED_DATA = "oxford102"


@dataclass(frozen=True)
class Result:
    """A row of results.csv, as text.

    `validation` and `test` are accuracies in per cent, `seconds` is what training took ("" where no log tells it),
    `commit` ends with + where a tracked file differed from it.
    """

    model: str
    data: str
    settings: str
    validation: str
    test: str
    iterations: str
    seconds: str
    device: str
    date: str
    commit: str

    def measured(self) -> tuple[str, ...]:
        """What was measured on what: the same for the same trained net, whenever it is scored."""
        return (self.model, self.data, self.settings, self.validation, self.test, self.iterations)


COLUMNS = tuple(field.name for field in fields(Result))


def read_results(path: Path) -> list[Result]:
    """The rows of a file, none where there is no file; raises ToolError at the first line that is no row."""
    if not path.exists():
        return []
    cure = "mend it, or take it back from git"
    try:
        lines = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ToolError(f"{path} is not a table of results ({error}); {cure}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        got = ",".join(lines[0]) if lines else "nothing"
        raise ToolError(f"{path}: expected the first line {','.join(COLUMNS)}, got {got}; {cure}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(COLUMNS) or not _is_number(line[3]) or not _is_number(line[4]):
            expected = f"{len(COLUMNS)} values with accuracies in the fourth and fifth"
            raise ToolError(f"{path}, row {number}: expected {expected}, got {','.join(line)}; {cure}")
    return [Result(*line) for line in lines[1:]]


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def append(path: Path, result: Result) -> None:
    """Add a row, whole or not at all, one process after the other; raises ToolError for a damaged file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.tmp"), lambda: print(f"{path}: another process writes; waiting for it")):
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([COLUMNS, *map(astuple, read_results(path)), astuple(result)])
        write_whole(path, out.getvalue().encode())


def table(results: Iterable[Result]) -> str:
    """The Markdown table: published rows with what was measured of them, then what else was measured.

    The last row of each model, data and settings counts.
    """
    latest = {(row.model, row.data, row.settings): row for row in results}
    lines = []
    for model, published in PUBLISHED.items():
        mine = [key for key in latest if key[:2] == (model, PUBLISHED_DATA)]
        rows = [latest.pop(key) for key in sorted(mine)]
        lines += [_line(row, published) for row in rows] or [_cells(model, PUBLISHED_DATA, "", *published, "", "")]
    lines += [_line(latest[key], ("", "")) for key in sorted(latest)]
    head = ("net", "data", "settings", "published: validation", "test", "measured: validation", "test")
    return "\n".join([_cells(*head), "|---" * 3 + "|---:" * 4 + "|", *lines])


def _line(row: Result, published: Sequence[str]) -> str:
    return _cells(row.model, row.data, row.settings, *published, row.validation, row.test)


def _cells(*cells: str) -> str:
    return "|".join(["", *(f" {cell.replace('|', '/')} " if cell else " " for cell in cells), ""])


def draw(readme: Path, results: Path) -> None:
    """Put the table between README.md's two markers; raises ToolError where they are not there."""
    text = readme.read_text("utf-8")
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise ToolError(f"{readme}: expected the lines {START} and {END}, between which the table goes")
    new = f"{head}{START}\n\n{table(read_results(results))}\n\n{END}{tail}"
    if new != text:
        write_whole(readme, new.encode())
