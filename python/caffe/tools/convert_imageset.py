"""convert_imageset: pictures of a list file into a database of Datum messages.

convert_imageset -resize_height 256 -resize_width 256 -shuffle jpg/ train.txt train_lmdb
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from tqdm import tqdm

from caffe import glog
from caffe.data.databases import BACKENDS, Batch, new_database
from caffe.data.decode import read_image
from caffe.data.sources import read_list
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import Datum
from caffe.tools.flags import Command, Flag, UsageError, parse, run

COMMAND = Command(
    name="convert_imageset",
    usage="[FLAGS] ROOTFOLDER/ LISTFILE DB_NAME",
    summary=(
        "Put the pictures of LISTFILE, whose lines are 'path label', into the new database DB_NAME.\n"
        "Each path is read from ROOTFOLDER/path; end ROOTFOLDER with a slash. A picture that cannot be read\n"
        "is reported and left out."
    ),
    examples=(
        "convert_imageset -resize_height 256 -resize_width 256 -shuffle jpg/ train.txt train_lmdb",
        "convert_imageset -encoded -encode_type jpg jpg/ test.txt test_lmdb",
    ),
    flags=(
        Flag("gray", bool, False, "Treat the pictures as grey ones."),
        Flag("shuffle", bool, False, "Shuffle the pictures and their labels."),
        Flag("backend", str, "lmdb", "The kind of database: lmdb or leveldb."),
        Flag("resize_width", int, 0, "Width that pictures are resized to; 0 keeps it."),
        Flag("resize_height", int, 0, "Height that pictures are resized to; 0 keeps it."),
        Flag("check_size", bool, False, "Stop at a picture of another size than the first."),
        Flag("encoded", bool, False, "Store compressed pictures instead of pixels."),
        Flag("encode_type", str, "", "How to compress: png, jpg, ...; the file's own type unless given."),
    ),
    takes=(3, inf),
)

COMMIT_EVERY = 1000
"""Records between two commits, and between two log lines."""

Entry = tuple[int, str, int]
"""Number in the list, path, label."""


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: convert(*parse(COMMAND, argv)))


def convert(options: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Read the list and write the database."""
    _check(options)
    (root, list_file, database), more = arguments[:3], arguments[3:]
    if more:
        glog.warning("convert_imageset.cpp:72", f"{' '.join(more)}: no effect, as in Caffe; {COMMAND.usage}")
    lines = read_list(list_file)
    if options.shuffle:
        glog.info("convert_imageset.cpp:86", "Shuffling data")
        random.shuffle(lines)
    glog.info("convert_imageset.cpp:89", f"A total of {len(lines)} images.")
    if options.encode_type and not options.encoded:
        glog.info("convert_imageset.cpp:92", "encode_type specified, assuming encoded=true.")
    entries = [(number, path, label) for number, (path, label) in enumerate(lines)]
    with new_database(database, BACKENDS[options.backend]) as batch:
        written = _write(batch, _records(root, entries, options))
        if not written:
            raise DataError(
                f"none of the {len(entries)} pictures of {list_file} could be read from {root}: is the folder "
                "right, and does it end with a slash?"
            )
    if written < len(entries):
        message = f"{len(entries) - written} of {len(entries)} pictures were left out, see above."
        glog.warning("convert_imageset.cpp:154", message)
    return 0


def _check(options: SimpleNamespace) -> None:
    if options.backend not in BACKENDS:
        raise UsageError(f"Unknown database backend {options.backend}; known are {', '.join(BACKENDS)}")
    if (options.resize_height > 0) != (options.resize_width > 0):
        raise UsageError("-resize_height and -resize_width belong together: give both or neither")


def _write(batch: Batch, records: Iterator[tuple[str, Datum]]) -> int:
    """Put the records, with a commit every thousand; give their number."""
    count = 0
    for key, datum in records:
        batch.put(os.fsencode(key), datum.SerializeToString())
        count += 1
        if count % COMMIT_EVERY == 0:
            batch.commit()
            glog.info("convert_imageset.cpp:147", f"Processed {count} files.")
    if count % COMMIT_EVERY:
        glog.info("convert_imageset.cpp:153", f"Processed {count} files.")
    return count


def _records(root: str, entries: Sequence[Entry], options: SimpleNamespace) -> Iterator[tuple[str, Datum]]:
    """Keys and records of the pictures that can be read, in the list's order."""
    first: tuple[int, ...] = ()
    for (number, path, label), picture in _pictures(root, entries, options):
        first = first or picture.shape
        if options.check_size and picture.shape != first:
            raise DataError(
                f"Check failed: data.size() == data_size ({picture.size} vs. {np.prod(first)}) Incorrect data "
                f"field size {picture.size}: {path} has shape {picture.shape}, the first picture {first}; "
                "give -resize_height and -resize_width"
            )
        yield f"{number:08d}_{path}", _datum(root + path, picture, label, options)


def _pictures(root: str, entries: Sequence[Entry], options: SimpleNamespace) -> Iterator[tuple[Entry, np.ndarray]]:
    """Read pictures, a thread each, in the list's order; one that cannot be read is logged and left out."""
    threads = os.cpu_count() or 1
    cv2.setNumThreads(0)  # OpenCV would split each picture again
    bar = tqdm(total=len(entries), disable=not sys.stderr.isatty())
    with ThreadPoolExecutor(threads) as pool, bar:
        for start in range(0, len(entries), 8 * threads):
            chunk = entries[start : start + 8 * threads]
            pictures = pool.map(lambda entry: _read(root + entry[1], options), chunk)
            for entry, picture in zip(chunk, pictures, strict=True):
                bar.update()
                if picture is not None:
                    yield entry, picture


def _read(path: str, options: SimpleNamespace) -> np.ndarray | None:
    try:
        return read_image(path, options.resize_height, options.resize_width, not options.gray)
    except DataError as problem:
        glog.error("io.cpp:80", str(problem))
        return None


def _datum(path: str, picture: np.ndarray, label: int, options: SimpleNamespace) -> Datum:
    """Make the record of a picture [h, w, c]."""
    if not (options.encoded or options.encode_type):
        height, width, channels = picture.shape
        data = picture.transpose(2, 0, 1).tobytes()
        return Datum(channels=channels, height=height, width=width, data=data, label=label, encoded=False)
    own_type = Path(path).suffix[1:].lower().replace("jpeg", "jpg")
    wanted = options.encode_type.lower().replace("jpeg", "jpg") or own_type
    # Caffe keeps the file's own bytes with -gray too, and so its colours
    if wanted == own_type and options.resize_height <= 0 and not options.gray:
        return Datum(data=Path(path).read_bytes(), label=label, encoded=True)
    try:
        data = cv2.imencode(f".{wanted}", picture)[1].tobytes()
    except cv2.error as problem:
        raise DataError(
            f"{path}: OpenCV cannot compress a picture as '{wanted}'; give -encode_type png or jpg"
        ) from problem
    return Datum(data=data, label=label, encoded=True)
