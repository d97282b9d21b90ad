"""The one reader of Caffe's training logs: text in, rows of numbers out.

    log = read_log(Path("train.log"))
    log.model                                  # "Oxford102_CaffeNet"
    [(row.iteration, row.loss) for row in log.train]
    [(row.iteration, row.outputs["accuracy"]) for row in log.tests(net=0)]

It reads what BVLC Caffe printed from the end of 2014 to 2020: with and without `(r iter/s, t s/D iters)`, the rate
before or after the loss, `nan`, `-nan` and `inf` as values, other programs' lines in between. A last line
without its end is left out, for its number may be cut. Several runs in one text (a resumed training) are
one history: a later row of an iteration replaces the earlier one, and the clock stands still in between.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from oxford102.errors import ToolError

_NUMBER = r"([-+]?(?:nan|inf|\d+\.?\d*(?:e[-+]?\d+)?))(?=[\s(,]|$)"
_STAMP = re.compile(r".*[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})\s+\d+ [\w.]+:\d+\] (.*)")
_PATTERNS = {
    "solving": re.compile(r"Solving\b(.*)"),  # a net may have no name
    "testing": re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)"),
    "loss": re.compile(rf"Iteration (\d+)(?: \([^)]*\))?, loss = {_NUMBER}"),
    "rate": re.compile(rf"Iteration (\d+)(?: \([^)]*\))?, lr = {_NUMBER}"),
    "output": re.compile(rf"\s*(Train|Test) net output #(\d+): (\S+) = {_NUMBER}"),
    "other": re.compile(r".*Iteration"),
}
_LEAP, _COMMON = 2000, 2001  # years that stand for the one a glog stamp does not tell


@dataclass(frozen=True)
class TrainRow:
    """One displayed training iteration.

    `seconds` since the start of training; `rate` is the learning rate; `loss` is the one in the iteration's
    line, which Caffe averages over `average_loss` iterations; `outputs` are the net's own. `seconds` and
    `rate` are nan where the log does not tell them.
    """

    iteration: int
    seconds: float
    rate: float
    loss: float
    outputs: Mapping[str, float]


@dataclass(frozen=True)
class TestRow:
    """One test of one test net. An output of several values has the names `x`, `x[1]`, `x[2]` …"""

    __test__ = False  # not a test case of pytest

    net: int
    iteration: int
    seconds: float
    outputs: Mapping[str, float]


@dataclass(frozen=True)
class Log:
    """A training: the model's name ("" where the log does not tell it) and its rows in order of iteration."""

    model: str
    train: tuple[TrainRow, ...]
    test: tuple[TestRow, ...]

    def tests(self, net: int = 0) -> tuple[TestRow, ...]:
        """The rows of one test net."""
        return tuple(row for row in self.test if row.net == net)


@dataclass(frozen=True)
class Entry:
    """A line of the log that tells something.

    `kind` is "solving", "testing", "loss", "rate", "output", or "other" for a further line that names an
    iteration; `found` is what its pattern took; `time` counts seconds from the log's first stamp (nan without).
    """

    kind: str
    found: re.Match[str]
    time: float


def read_text(path: Path) -> str:
    """The text of a log file, whatever other programs wrote into it."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_log(path: Path) -> Log:
    """The training in a log file; raises ToolError where the file holds none."""
    return parse_log(read_text(path), str(path))


def parse_log(text: str, source: str = "the log") -> Log:
    """The training in a text; raises ToolError, naming `source`, where it holds none."""
    reader = _Reader()
    for entry in read_entries(text):
        reader.take(entry)
    log = reader.log()
    if not log.train and not log.test:
        raise ToolError(
            f"{source}: no training in it; looked for Caffe's lines 'Iteration N, loss = x' and "
            "'Iteration N, Testing net (#k)' with 'Test net output #i: name = x'; "
            "give what `caffe train` writes to its standard error"
        )
    return log


class _Clock:
    """Adds up the time between stamps, which may tell no year."""

    def __init__(self, year: int) -> None:
        self.year = year
        self.last: datetime | None = None
        self.passed = timedelta()

    def stamp(self, year: str | None, *fields: str) -> None:
        """Take the time of a line; a jump back by more than a day is a new year."""
        try:
            month, day, hour, minute, second, microsecond = map(int, fields)
            time = datetime(int(year or self.year), month, day, hour, minute, second, microsecond)
        except ValueError:  # a line that only looks like one of Caffe's
            return
        if self.last is not None:
            passed = time - self.last
            if passed < timedelta(days=-1):
                passed += timedelta(days=366 if calendar.isleap(self.year) else 365)
            self.passed += passed
        self.last = time

    def seconds(self) -> float:
        """Seconds from the first stamp to the last; nan where no line had one."""
        return math.nan if self.last is None else self.passed.total_seconds()


def read_entries(text: str) -> Iterator[Entry]:
    """The lines that tell something, in their order."""
    clock = _Clock(_LEAP if re.search(r"[IWEF]0229 ", text) else _COMMON)
    for line in text[: text.rfind("\n") + 1].splitlines():
        if stamp := _STAMP.match(line):
            clock.stamp(*stamp.groups()[:-1])
            line = stamp.groups()[-1]
        for kind, pattern in _PATTERNS.items():
            if found := pattern.match(line):
                yield Entry(kind, found, clock.seconds())
                break


@dataclass
class _Reader:
    model: str = ""
    seconds: float = 0.0
    start: float = 0.0  # of this run, on the log's clock
    before: float = 0.0  # seconds of the earlier runs
    rates: dict[int, float] = field(default_factory=dict)
    train: dict[int, TrainRow] = field(default_factory=dict)
    test: dict[tuple[int, int], TestRow] = field(default_factory=dict)
    outputs: dict[str, dict[str, float]] = field(default_factory=dict)  # of the current Train and Test row
    begun: bool = False

    def take(self, entry: Entry) -> None:
        """Add what a line of the log tells."""
        found = entry.found
        if entry.kind == "solving":
            self.model = found[1].strip()
            self.begin(entry.time)
        elif entry.kind == "testing":
            key = (int(found[2]), int(found[1]))
            self.test[key] = TestRow(*key, self.row_seconds(entry.time), self.new_outputs("Test"))
        elif entry.kind == "loss":
            iteration, seconds = int(found[1]), self.row_seconds(entry.time)
            self.train[iteration] = TrainRow(iteration, seconds, math.nan, float(found[2]), self.new_outputs("Train"))
        elif entry.kind == "rate":
            self.rates[int(found[1])] = float(found[2])
        elif entry.kind == "output" and found[1] in self.outputs:
            add_output(self.outputs[found[1]], found[3], float(found[4]))

    def begin(self, time: float) -> None:
        self.start, self.before = time, self.seconds
        self.outputs = {}
        self.begun = True

    def row_seconds(self, time: float) -> float:
        if not self.begun:  # the text starts in the middle of a run
            self.begin(time)
        if math.isnan(self.start):  # no line until now told its time
            self.start = time
        self.seconds = round(self.before + time - self.start, 6)
        return self.seconds

    def new_outputs(self, phase: str) -> dict[str, float]:
        self.outputs[phase] = {}
        return self.outputs[phase]

    def log(self) -> Log:
        train = (replace(row, rate=self.rates.get(n, math.nan)) for n, row in sorted(self.train.items()))
        test = (row for _, row in sorted(self.test.items()) if row.outputs)
        return Log(self.model, tuple(train), tuple(test))


def add_output(outputs: dict[str, float], name: str, value: float) -> None:
    """Add a value under its name; a further value of the same output gets its index."""
    if name in outputs:
        name = f"{name}[{sum(key == name or key.startswith(name + '[') for key in outputs)}]"
    outputs[name] = value
