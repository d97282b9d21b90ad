"""What Caffe's own log tools make of a log: parse_log's two tables and extract_seconds' column.

    train, test = read_tables(read_text(Path("train.log")))
    test.names                                 # ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]
    csv_text(test, ",")

A table holds the outputs that each iteration printed, as they stand in the log: runs that follow each other in one
log follow each other here, and the clock runs on from the first "Solving" through the breaks between them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oxford102.errors import ToolError
from oxford102.files import write_whole
from oxford102.log_parser import Entry, add_output, read_entries, read_text

LEADING = ("NumIters", "Seconds", "LearningRate")
_CURE = "give what `caffe train` writes to its standard error"


@dataclass
class Table:
    """One phase's rows, {column: value}; `add` takes output after output.

    Outputs of an iteration join one row until one of them is told again. An output of several values has the
    columns `x`, `x[1]`, `x[2]` …
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    last: int = -1  # number of the output that came last

    @property
    def names(self) -> list[str]:
        """The columns, in the order in which the log first told them."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def add(self, leading: tuple[float, float, float], number: int, name: str, value: float) -> None:
        """Add the value of an output; a new iteration, or the same output again, opens a row."""
        row = self.rows[-1] if self.rows else None
        if row is None or row["NumIters"] != leading[0] or (name in row and number <= self.last):
            row = dict(zip(LEADING, leading, strict=True))
            self.rows.append(row)
        self.last = number
        add_output(row, name, value)

    def finish(self) -> None:
        """Drop a last row that was cut short, and give the first rows the first rate that is told below them.

        Caffe prints the rate below the first outputs, so that its parse_log takes it from there, too.
        """
        if len(self.rows) > 1 and len(self.rows[-1]) < len(self.rows[-2]):
            self.rows.pop()
        rates = [row["LearningRate"] for row in self.rows]
        told = next((i for i, rate in enumerate(rates) if i and not math.isnan(rate)), 0)
        for row in self.rows[:told]:
            row["LearningRate"] = rates[told]


def read_tables(text: str) -> tuple[Table, Table]:
    """The Train and the Test table of a log; one that the log has no lines for is empty."""
    tables = {"Train": Table(), "Test": Table()}
    iteration, rate = math.nan, math.nan
    for entry, seconds in _since_start(text):
        if entry.kind in ("testing", "loss", "rate"):
            iteration = float(entry.found[1])
        if entry.kind == "rate":
            rate = float(entry.found[2])
        if entry.kind == "output" and not math.isnan(iteration):
            phase, number, name, value = entry.found.groups()
            tables[phase].add((iteration, seconds, rate), int(number), name, float(value))
    for table in tables.values():
        table.finish()
    return tables["Train"], tables["Test"]


def read_seconds(text: str) -> list[float]:
    """The seconds since "Solving" of each line that names an iteration; empty where the log has no "Solving"."""
    if not any(entry.kind == "solving" for entry in read_entries(text)):
        return []
    return [seconds for entry, seconds in _since_start(text) if entry.kind not in ("solving", "output")]


def _since_start(text: str) -> Iterator[tuple[Entry, float]]:
    """The entries from the first "Solving" on (all, where there is none), with the seconds since then."""
    entries = list(read_entries(text))
    first = next((i for i, entry in enumerate(entries) if entry.kind == "solving"), 0)
    for entry in entries[first:]:
        yield entry, round(entry.time - entries[first].time, 6)


def csv_text(table: Table, delimiter: str = ",") -> str:
    r"""The table as Caffe's parse_log writes it: a header, floats as Python writes them, lines that end in ``\r\n``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(table.rows)
    return text.getvalue()


def write_tables(log: Path, folder: Path, delimiter: str = ",") -> list[tuple[Path, bool]]:
    """Write a log's tables into `folder` as <log's name>.train and .test; give each name and whether it was written.

    A table without rows is not written. Raises ToolError where both have none, or `folder` is not there.
    """
    if not folder.is_dir():
        raise ToolError(f"{folder}: no such folder; make it first, the tables go there")
    tables = dict(zip(("train", "test"), read_tables(read_text(log)), strict=True))
    if not any(table.rows for table in tables.values()):
        raise ToolError(
            f"{log}: no training in it; looked for Caffe's lines 'Train net output #i: name = x' and 'Test net output "
            f"#i: name = x' below 'Iteration N'; {_CURE}"
        )
    written = [(folder / f"{log.name}.{phase}", bool(table.rows)) for phase, table in tables.items()]
    for (path, any_rows), table in zip(written, tables.values(), strict=True):
        if any_rows:
            write_whole(path, csv_text(table, delimiter).encode())
    return written


def write_seconds(log: Path, output: Path) -> None:
    """Write the seconds of each line that names an iteration, one a line.

    Raises ToolError where the log does not say when the training began, or has no such line.
    """
    text = read_text(log)
    seconds = read_seconds(text)
    if not seconds:
        raise ToolError(
            f"{log}: Start time not found, or no iteration after it; looked for Caffe's lines 'Solving <net>' and "
            f"'Iteration N'; {_CURE}"
        )
    write_whole(output, "".join(f"{value:f}\n" for value in seconds).encode())
