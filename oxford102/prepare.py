"""From the published files to what Caffe trains on: pictures, lists, names, mean, databases, weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oxford102.archive import is_complete, unpack_pictures
from oxford102.catalog import Asset, Dataset, Weights
from oxford102.databases import write_database
from oxford102.download import fetch, take
from oxford102.errors import ToolError
from oxford102.files import part_of, sha256, write_whole
from oxford102.labels import read_labels
from oxford102.mean import mean_of, mean_proto, write_mean
from oxford102.progress import Progress
from oxford102.splits import Splits, list_text, picture_name, read_splits, shuffled

WEIGHTS_NAME = "pretrained-weights.caffemodel"  # in the folder of its model


@dataclass(frozen=True)
class Job:
    """What to prepare, and where.

    `source` is a folder or the base URL of the three published files (None: the catalogue's places);
    `unverified` takes files whose hash differs; `lmdb` asks for databases; `weights` go below `models`.
    """

    dataset: Dataset
    data: Path
    source: str | None = None
    unverified: bool = False
    lmdb: bool = False
    weights: Sequence[Weights] = ()
    models: Path = Path("models")


def prepare(job: Job) -> None:
    """Make the data folder and the weights ready for training; a second run does what is missing.

    Ends by printing the counts. Raises ToolError at the first file that is not as it should be; where only
    weights are missing, it says that the data are ready.
    """
    counts = prepare_data(job)
    try:
        fetch_weights(job)
    except (ToolError, OSError) as error:
        ready = f"the data in {job.data} are ready ({counts}), the pretrained weights are not"
        raise ToolError(f"{ready}:\n{error}\nTo go without weights, give --no-models.") from error
    print(counts)


def prepare_data(job: Job) -> str:
    """Everything in the data folder but the weights' mean; returns the counts in words."""
    _make_folder(job.data)
    job = _drawn(job)
    dataset, jpg = job.dataset, job.data / "jpg"
    progress = Progress(job.data / ".prepared.json")
    files = [_obtain(asset, job) for asset in (dataset.archive, dataset.labels, dataset.splits)]
    (archive, labels_file, splits_file), digests = zip(*files, strict=True)
    labels = read_labels(labels_file, dataset.images, len(dataset.class_names))
    splits = shuffled(read_splits(splits_file, dataset.sizes, dataset.images))

    def unpack() -> None:
        unpack_pictures(archive, jpg, dataset.images)

    progress.once(jpg, digests[0], is_complete(jpg, dataset.images), unpack)
    _mean(jpg, splits, progress, made_from=" ".join(digests))
    for name, numbers in splits.items():
        _keep(job.data / f"{name}.txt", list_text(job.data.resolve() / "jpg", numbers, labels))
    _keep(job.data / "labels.txt", "".join(f"{name}\n" for name in dataset.class_names))
    if job.lmdb:
        _databases(job.data, splits, progress, made_from=digests[0])
    return " · ".join(f"{name} {len(splits[name]):,}" for name in dataset.sizes)


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ToolError(f"{path} is a file, expected a folder for the data; choose another --data")
    path.mkdir(parents=True, exist_ok=True)


def _drawn(job: Job) -> Job:
    """The job with the source drawn, whole or not at all, where its set is made on the spot."""
    source = job.data / "source"
    if job.dataset.draw is None or job.source is not None:
        return job
    if not source.exists():
        part = part_of(source)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        job.dataset.draw(part)
        part.replace(source)
    return replace(job, source=str(source))


def _obtain(asset: Asset, job: Job) -> tuple[Path, str]:
    """Where one of the three files lies on this machine, and its SHA-256."""
    if job.source is not None and "://" not in job.source:
        path = Path(job.source, asset.name)
        if not path.exists():
            raise ToolError(f"{path} does not exist; --source names a folder or URL that holds {asset.name}")
        return path, take(asset, path, job.unverified)
    if job.source is not None:
        asset = replace(asset, urls=(f"{job.source.rstrip('/')}/{asset.name}",))
    path = job.data / asset.name
    return path, fetch(asset, path, job.unverified)


def _mean(jpg: Path, splits: Splits, progress: Progress, made_from: str) -> None:
    output = jpg.with_name("mean.npy")
    train, valid, test = ([jpg / picture_name(n) for n in splits[name]] for name in ("train", "valid", "test"))

    def work() -> None:
        write_mean(output, mean_of(train, valid + test))
        print(f"{jpg}: {len(train + valid + test):,} pictures unpacked and checked")

    present = output.exists() and output.with_suffix(".binaryproto").exists()
    progress.once(output, made_from, present, work)


def _keep(path: Path, text: str) -> None:
    """Write a text file, unless it is there with just that text."""
    content = os.fsencode(text)
    if path.is_file() and path.read_bytes() == content:
        print(f"{path}: already there")
        return
    write_whole(path, content)
    print(f"{path}: {len(text.splitlines()):,} lines")


def _databases(data: Path, splits: Splits, progress: Progress, made_from: str) -> None:
    for name in splits:
        listing, database = data / f"{name}.txt", data / f"{name}_lmdb"

        def work(listing: Path = listing, database: Path = database) -> None:
            write_database(listing, database)

        progress.once(database, f"{made_from} {sha256(listing)}", database.is_dir(), work)


def fetch_weights(job: Job) -> None:
    """Bring the weights to their models' folders, and the mean they were trained with to the data folder.

    All are tried; raises ToolError that names each one that failed.
    """
    wanted = {job.models / row.model / WEIGHTS_NAME: row.asset for row in job.weights}
    wanted.update({job.data / row.mean.name: row.mean for row in job.weights if row.mean})
    failures = []
    for target, asset in wanted.items():
        try:
            fetch(asset, target, job.unverified)
            if target.suffix == ".npy":
                _rebuild_proto(target)
        except ToolError as error:
            failures.append(str(error))
    if failures:
        raise ToolError("\n".join(failures))


def _rebuild_proto(path: Path) -> None:
    """The .binaryproto of a mean that is published as .npy, beside it."""
    proto = path.with_suffix(".binaryproto")
    if proto.exists():
        return
    try:
        mean = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ToolError(f"{path} is not a .npy file ({error}); delete it and run the command again") from error
    write_whole(proto, mean_proto(mean))
    print(f"{proto}: rebuilt from {path.name}")
