"""compute_image_mean: the mean picture of a database, and the mean of each channel.

compute_image_mean train_lmdb mean.binaryproto
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from caffe import glog
from caffe.data.databases import BACKENDS, Records, open_database
from caffe.data.decode import datum_pixels
from caffe.data.sources import parse_datum
from caffe.errors import DataError
from caffe.proto.binary import write_message
from caffe.proto.caffe_pb2 import BlobProto
from caffe.tools.flags import Command, Flag, UsageError, parse, run

COMMAND = Command(
    name="compute_image_mean",
    usage="[FLAGS] INPUT_DB [OUTPUT_FILE]",
    summary=(
        "Compute the mean picture of the database INPUT_DB and write it to OUTPUT_FILE (.binaryproto), for\n"
        "transform_param { mean_file }. The mean of each channel, for mean_value, is logged."
    ),
    examples=("compute_image_mean train_lmdb mean.binaryproto", "compute_image_mean train_lmdb"),
    flags=(Flag("backend", str, "lmdb", "The kind of database: lmdb or leveldb."),),
    takes=(1, 2),
)

LOG_EVERY = 10000
"""Records between two log lines."""


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: compute(*parse(COMMAND, argv)))


def compute(options: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Read the database, write and log its mean."""
    if options.backend not in BACKENDS:
        raise UsageError(f"Unknown database backend {options.backend}; known are {', '.join(BACKENDS)}")
    source = arguments[0]
    with closing(open_database(source, BACKENDS[options.backend])) as database:
        mean = mean_picture(database, source)
    channels, height, width = mean.shape
    if len(arguments) == 2:
        glog.info("compute_image_mean.cpp:108", f"Write to {arguments[1]}")
        blob = BlobProto(num=1, channels=channels, height=height, width=width, data=mean.ravel())
        write_message(arguments[1], blob)
    glog.info("compute_image_mean.cpp:114", f"Number of channels: {channels}")
    for c in range(channels):
        # summed one after the other in float32, as Caffe does: np.sum would give other last digits
        value = np.cumsum(mean[c], dtype=np.float32)[-1] / np.float32(height * width)
        glog.info("compute_image_mean.cpp:119", f"mean_value channel [{c}]: {value:g}")
    return 0


def mean_picture(database: Records, source: str) -> np.ndarray:
    """Mean of all records, [c, h, w], summed and divided in float32 as Caffe does.

    Raises:
        DataError: the records are not all of one shape.
    """
    total: np.ndarray | None = None
    count = 0
    for key, value in tqdm(database.read(), total=len(database), disable=not sys.stderr.isatty()):
        name = f"{source}, record {key.decode(errors='backslashreplace')}"
        datum = parse_datum(value, name)
        pixels = datum_pixels(datum, name)
        if total is None:
            if datum.encoded:
                glog.info("compute_image_mean.cpp:57", "Decoding Datum")
            total = np.zeros(pixels.shape, np.float32)
            glog.info("compute_image_mean.cpp:70", "Starting iteration")
        if pixels.shape != total.shape:
            raise DataError(
                f"Check failed: size_in_datum == data_size ({pixels.size} vs. {total.size}) Incorrect data "
                f"field size {pixels.size}: {name} has shape {pixels.shape}, the first record {total.shape}; "
                "make the database with convert_imageset -resize_height and -resize_width"
            )
        total += pixels
        count += 1
        if count % LOG_EVERY == 0:
            glog.info("compute_image_mean.cpp:95", f"Processed {count} files.")
    if total is None:
        raise DataError(f"{source}: the database has no records")
    if count % LOG_EVERY:
        glog.info("compute_image_mean.cpp:101", f"Processed {count} files.")
    return total / np.float32(count)
