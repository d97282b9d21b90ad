"""A data folder for Caffe from anybody's pictures: the work of make_dataset.py.

The lists name the pictures where they are; nothing is copied.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oxford102.databases import write_database
from oxford102.errors import ToolError
from oxford102.files import write_whole
from oxford102.inspect_pictures import FATAL, Finding, Picture, inspect
from oxford102.lists import SPLITS, Entry, write_list
from oxford102.mean import mean_of, write_mean
from oxford102.picture_sources import find

ROWS = 30
"""So many findings are shown; report.csv holds all."""


@dataclass(frozen=True)
class Job:
    """What to make of which pictures, and where.

    `shares` gives each of train, valid and test its share of every class's pictures, in whole numbers where
    `counts` is true, else as fractions of 1; only test's may be 0. `seed` decides which pictures go where.
    """

    source: Path
    output: Path
    shares: Sequence[float] = (0.5, 0.25, 0.25)
    counts: bool = False
    seed: int = 777
    min_side: int = 32
    strict: bool = False
    lmdb: bool = False
    mean: bool = False
    force: bool = False


Lists = Mapping[str, Sequence[Entry]]  # by the names of SPLITS


def make_dataset(job: Job) -> None:
    """Check the pictures, split them, and write lists, names and report, on demand mean and databases.

    All of it is made before the first file is written, but for the databases. Raises ToolError where the
    folders, the shares or, with `strict`, the pictures do not fit.
    """
    check_shares(job.shares, job.counts)
    _check_output(job)
    found = find(job.source)
    if found.others:
        told = ", ".join(f"{count:,} {suffix}" for suffix, count in found.others.most_common(5))
        print(f"{sum(found.others.values()):,} files are no pictures by their names: {told}")
    kept, findings = inspect(found.pictures, job.min_side)
    findings = sorted([*found.findings, *findings], key=lambda finding: (not finding.skipped, finding.problem))
    print(report_text(findings, len(findings) if job.strict else ROWS), end="")
    fatal = sum(finding.problem in FATAL for finding in findings)
    if job.strict and fatal:
        raise ToolError(f"{fatal} problems, see above; mend them, or leave out --strict to go without these pictures")
    names = class_names({picture.label for picture in found.pictures})
    lists = split(kept, names, job)
    mean = mean_of([entry.path for entry in lists["train"]], []) if job.mean else None
    _clear(job.output)
    write_whole(job.output / "report.csv", report_table(findings))
    write_whole(job.output / "labels.txt", os.fsencode("".join(f"{name}\n" for name in names)))
    if mean is not None:
        write_mean(job.output / "mean.npy", mean)
    for name, entries in lists.items():
        write_list(job.output / f"{name}.txt", entries)
    left_out = len(found.pictures) + len(found.findings) - len(kept)
    counts = " · ".join(f"{name} {len(entries):,}" for name, entries in lists.items())
    print(f"{job.output}: {len(names)} classes, {counts}; {left_out:,} pictures left out")
    for name in lists if job.lmdb else ():
        write_database(job.output / f"{name}.txt", job.output / f"{name}_lmdb")


def check_shares(shares: Sequence[float], counts: bool) -> None:
    """Raise ToolError where train, valid or test cannot have such shares."""
    told = " ".join(f"{share:g}" for share in shares)
    if min(shares) < 0 or not shares[0] or not shares[1]:
        raise ToolError(f"train and valid need pictures, test may have 0; got {told}")
    if not counts and not abs(sum(shares) - 1) <= 1e-6:  # so that nan is caught
        raise ToolError(f"--split {told} adds to {sum(shares):g}, expected 1, as 0.5 0.25 0.25")


def _check_output(job: Job) -> None:
    output, source = job.output.resolve(), job.source.resolve()
    if job.source.is_dir() and (output == source or source in output.parents):
        raise ToolError(f"{job.output} is among the pictures of {job.source}; choose another folder with -o")
    if job.output.exists() and not job.output.is_dir():
        raise ToolError(f"{job.output} is a file, expected a folder; choose another with -o")
    there = [path.name for path in _outputs(job.output) if path.exists()]
    if there and not job.force:
        raise ToolError(f"{job.output} has a data set already ({', '.join(there)}); choose another -o, or give --force")


def _outputs(folder: Path) -> list[Path]:
    """All that may be written to a data folder."""
    names = [*(f"{name}.txt" for name in SPLITS), "labels.txt", "report.csv", "mean.npy", "mean.binaryproto"]
    return [folder / name for name in (*names, *(f"{name}_lmdb" for name in SPLITS))]


def _clear(folder: Path) -> None:
    """Make the folder; what an earlier data set left there goes, since it would not fit the new lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in _outputs(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def class_names(labels: set[str]) -> list[str]:
    """The classes in the order of their labels: by number where all are numbers, else by name."""
    if len(labels) < 2:
        raise ToolError(f"{len(labels)} class{'' if labels else 'es'} of pictures; a net needs two or more to tell")
    odd = next((name for name in labels if name.splitlines() != [name]), None)
    if odd is not None:
        raise ToolError(f"the class {odd!r} has a line break in its name; rename it")
    return sorted(labels, key=lambda name: (int(name), name)) if all(map(str.isdecimal, labels)) else sorted(labels)


def split(pictures: Sequence[Picture], names: Sequence[str], job: Job) -> Lists:
    """Deal the pictures of each class to train, valid and test, and shuffle the lists; the seed decides how.

    Raises ToolError that names the classes with too few pictures.
    """
    of_class: dict[str, list[Picture]] = {name: [] for name in names}
    for picture in sorted(pictures, key=lambda picture: picture.name):
        of_class[picture.label].append(picture)
    _check_classes(of_class, job)
    generator = np.random.RandomState(job.seed)  # its stream never changes, whatever the numpy
    lists: dict[str, list[Entry]] = {name: [] for name, share in zip(SPLITS, job.shares, strict=True) if share}
    for label, members in enumerate(of_class.values()):
        order = iter(generator.permutation(len(members)))
        sizes = list(map(int, job.shares)) if job.counts else deal(len(members), job.shares)
        for name, size in zip(lists, sizes, strict=False):
            lists[name] += [Entry(members[next(order)].path, label) for _ in range(size)]
    return {name: [entries[i] for i in generator.permutation(len(entries))] for name, entries in lists.items()}


def _check_classes(of_class: Mapping[str, Sequence[Picture]], job: Job) -> None:
    needed = int(sum(job.shares)) if job.counts else sum(share > 0 for share in job.shares)
    small = [f"{name} ({len(members)})" for name, members in of_class.items() if len(members) < needed]
    if small:
        what = f"{needed} of each" if job.counts else f"{needed} of each, one a list"
        cure = "give smaller counts, or --split" if job.counts else "add pictures, or take the class away"
        told = ", ".join(small[:5]) + (" …" if len(small) > 5 else "")
        raise ToolError(f"{len(small)} of {len(of_class)} classes have too few pictures ({what}): {told}; {cure}")


def deal(pictures: int, shares: Sequence[float]) -> list[int]:
    """How many of a class's pictures each list gets: its share, rounded so that all are dealt, and at least one.

    What rounding down leaves goes to the largest remainders, the first of equals.
    """
    exact = [pictures * share for share in shares]
    sizes = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(shares)), key=lambda i: sizes[i] - exact[i])
    for i in order[: pictures - sum(sizes)]:
        sizes[i] += 1
    for i, share in enumerate(shares):
        if share and not sizes[i]:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[i] = 1
    return sizes


def _was(findings: Sequence[Finding]) -> list[str]:
    """What became of each finding's picture, whichever of its findings was the reason."""
    gone = {f.picture for f in findings if f.skipped}
    return ["skipped" if f.picture in gone else "kept" for f in findings]


def report_text(findings: Sequence[Finding], most: int) -> str:
    """The findings as a table for a terminal, at `most` so many, and how many there are of each kind."""
    if not findings:
        return "no problems found\n"
    was = _was(findings)
    rows = [(f.picture.name, f.problem, how, f.detail) for f, how in zip(findings[:most], was, strict=False)]
    rows.insert(0, ("picture", "problem", "was", "particulars"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    if len(findings) > most:
        lines.append(f"… and {len(findings) - most:,} more, all of them in report.csv")
    kinds = Counter(f"{f.problem} ({how})" for f, how in zip(findings, was, strict=True))
    lines.append("found: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()))
    return "".join(f"{line}\n" for line in lines)


def report_table(findings: Sequence[Finding]) -> bytes:
    """All findings as a CSV file."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["picture", "label", "problem", "was", "particulars"])
    for f, how in zip(findings, _was(findings), strict=True):
        writer.writerow([f.picture.name, f.picture.label, f.problem, how, f.detail])
    return os.fsencode(table.getvalue())
