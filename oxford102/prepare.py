"""From the published files to what Caffe trains on: pictures, lists, names, mean, databases, weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from oxford102.archive import is_complete, unpack_pictures
from oxford102.cache import Need, check_room, locked
from oxford102.catalog import Dataset, Weights
from oxford102.databases import write_database
from oxford102.download import Want, Ways, fetch_all, room_for, take
from oxford102.errors import ToolError
from oxford102.files import new_folder, sha256, write_whole
from oxford102.labels import read_labels
from oxford102.lists import Entry, list_text
from oxford102.mean import mean_of, write_mean
from oxford102.progress import Progress
from oxford102.splits import Splits, picture_name, read_splits, shuffled
from oxford102.weights import failures, finish, orders

PIXELS = 4096 * 49  # bytes: the pages that a 256x256 picture takes in an LMDB


@dataclass(frozen=True)
class Job:
    """What to prepare, and where.

    `source` is a folder or the base URL of the three published files (None: the catalogue's places); `ways` tells
    how files are fetched; `lmdb` asks for databases; `weights` go below `models`, and the files of torchvision
    that `torchvision` names into the data folder.
    """

    dataset: Dataset
    data: Path
    source: str | None = None
    ways: Ways = field(default_factory=Ways)
    lmdb: bool = False
    weights: Sequence[Weights] = ()
    torchvision: Sequence[str] = ()
    models: Path = Path("models")


def prepare(job: Job) -> None:
    """Make the data folder and the weights ready for training; a second run does what is missing.

    Ends by printing the counts. Raises ToolError at the first file that is not as it should be, or that names all
    files that cannot be fetched; where only weights are missing, it says that the data are ready.
    """
    _make_folder(job.data)
    with locked(job.data / ".prepare.lock", lambda: print(f"{job.data}: another process is at work; waiting for it")):
        job = _drawn(job)
        files = _files(job)
        extras = orders(job.weights, job.torchvision, job.models, job.data)
        wants = [want for want in files if not _is_given(job)] + [order.want for order in extras]
        check_room([*room_for(wants, job.ways), *_room_for_pictures(job, files[0])])
        outcomes = _given(job, files) | fetch_all(wants, job.ways)
        failed = failures(extras, outcomes)
        if any(isinstance(outcomes[want], ToolError) for want in files):
            raise ToolError(failed)
        counts = prepare_data(job, files, [str(outcomes[want]) for want in files])
        finish(extras, outcomes)
        if failed:
            ready = f"the data in {job.data} are ready ({counts}), the pretrained weights are not"
            raise ToolError(f"{ready}:\n{failed}\nTo go without weights, give --no-models.")
    print(counts)


def prepare_weights(job: Job) -> None:
    """Bring the weights alone; raises ToolError that names all that cannot be fetched."""
    if job.lmdb:
        raise ToolError("--lmdb is made of the data: leave out --no-data")
    _make_folder(job.data)
    extras = orders(job.weights, job.torchvision, job.models, job.data)
    wants = [order.want for order in extras]
    check_room(room_for(wants, job.ways))
    outcomes = fetch_all(wants, job.ways)
    finish(extras, outcomes)
    if failed := failures(extras, outcomes):
        raise ToolError(failed)


def prepare_data(job: Job, files: Sequence[Want], digests: Sequence[str]) -> str:
    """Everything in the data folder that is made of the three files; returns the counts in words."""
    dataset, jpg = job.dataset, job.data / "jpg"
    progress = Progress(job.data / ".prepared.json")
    archive, labels_file, splits_file = (want.target for want in files)
    labels = read_labels(labels_file, dataset.images, len(dataset.class_names))
    splits = shuffled(read_splits(splits_file, dataset.sizes, dataset.images))

    def unpack() -> None:
        unpack_pictures(archive, jpg, dataset.images)

    progress.once(jpg, digests[0], is_complete(jpg, dataset.images), unpack)
    _mean(jpg, splits, progress, made_from=" ".join(digests))
    pictures = job.data.resolve() / "jpg"
    for name, numbers in splits.items():
        entries = (Entry(pictures / picture_name(number), labels[number - 1]) for number in numbers)
        _keep(job.data / f"{name}.txt", list_text(entries))
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
        with new_folder(source) as part:
            job.dataset.draw(part)
            part.replace(source)
    return replace(job, source=str(source))


def _is_given(job: Job) -> bool:
    return job.source is not None and "://" not in job.source


def _files(job: Job) -> list[Want]:
    """The three published files, and where they lie or shall lie on this machine."""
    assets = (job.dataset.archive, job.dataset.labels, job.dataset.splits)
    if job.source is None or _is_given(job):
        folder = job.data if job.source is None else Path(job.source)
        return [Want(asset, folder / asset.name) for asset in assets]
    base = job.source.rstrip("/")
    return [Want(replace(asset, urls=(f"{base}/{asset.name}",)), job.data / asset.name) for asset in assets]


def _given(job: Job, files: Sequence[Want]) -> dict[Want, str | ToolError]:
    """The SHA-256 of the files in the folder that the user names."""
    if not _is_given(job):
        return {}
    for want in files:
        if not want.target.exists():
            wanted = f"--source names a folder or URL that holds {want.asset.name}"
            raise ToolError(f"{want.target} does not exist; {wanted}")
    return {want: take(want.asset, want.target, job.ways.unverified) for want in files}


def _room_for_pictures(job: Job, archive: Want) -> list[Need]:
    """What the unpacked pictures and the databases take, with the last page of each picture's file."""
    needs, images = [], job.dataset.images
    if not is_complete(job.data / "jpg", images):
        packed = archive.target.stat().st_size if archive.target.exists() else archive.asset.size or 0
        needs.append(Need("unpacked pictures", job.data, packed + 4096 * images))
    if job.lmdb and not (job.data / "test_lmdb").exists():
        needs.append(Need("databases", job.data, PIXELS * images))
    return needs


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
