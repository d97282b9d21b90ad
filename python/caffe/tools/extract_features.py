"""extract_features: what blobs of a trained net hold, item by item, into databases of float Datum records.

extract_features squeezenet.caffemodel extract.prototxt pool10 features_lmdb 10 lmdb
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import inf
from types import SimpleNamespace

from tqdm import tqdm

from caffe import device, glog
from caffe.data.databases import BACKENDS, Batch, new_database
from caffe.errors import CaffeError, NetError
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST, Datum
from caffe.tools.flags import TRUE, Command, UsageError, parse, run

COMMAND = Command(
    name="extract_features",
    usage="WEIGHTS NET BLOB[,BLOB...] DB[,DB...] BATCHES lmdb|leveldb [CPU|GPU [DEVICE_ID]]",
    summary=(
        "Run the net NET, with the weights WEIGHTS, over BATCHES batches of its own data layer (of phase TEST), and\n"
        "put what each BLOB holds into the new database DB: a record an item, with the key 0000000000, 0000000001,\n"
        "... and a Datum whose float_data are the item's values, channels x height x width.\n"
        "Of the log only errors and results are shown; GLOG_logtostderr=1 in the environment shows all of it."
    ),
    examples=(
        "extract_features caffenet_iter_10000.caffemodel train_val.prototxt fc7 features_fc7 10 lmdb",
        "extract_features squeezenet.caffemodel extract.prototxt pool10,prob pool10_db,prob_db 5 lmdb GPU 0",
    ),
    flags=(),
    takes=(6, inf),
)

COMMIT_EVERY = 1000
"""Records between two commits of a database, and between two log lines."""


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: extract(*parse(COMMAND, argv)))


def extract(_: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Make the net and the databases, and fill these; all of them appear, or none."""
    _quiet()
    weights, file, blobs, databases, batches, backend, *place = arguments
    count = _batches(batches)
    if backend not in BACKENDS:
        raise UsageError(f"Unknown database backend {backend}; known are {', '.join(BACKENDS)}")
    targets = _targets(blobs.split(","), databases.split(","))
    _choose(place)
    net = Net(file, TEST, weights=weights)
    net.records = False
    try:
        _check_blobs(net, file, targets)
        _fill(net, targets, count, backend)
    finally:
        net.close()
    glog.error("extract_features.cpp:181", "Successfully extracted the features!")
    return 0


def _quiet() -> None:
    """Show errors and results alone, as BVLC's command does, unless the environment asks for more."""
    os.environ.setdefault("GLOG_alsologtostderr", "0")
    more = any(os.environ.get(f"GLOG_{name}", "").lower() in TRUE for name in ("logtostderr", "alsologtostderr"))
    files = os.environ.get("GLOG_log_dir")
    if not more and not files and os.environ.get("GLOG_minloglevel", "0") in ("", "0", "1"):
        glog.init_log(2)


def _batches(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"BATCHES must be a whole number above 0, it is '{text}'")
    return int(text)


def _targets(blobs: Sequence[str], databases: Sequence[str]) -> dict[str, str]:
    """Give the blobs' databases, by the database's name."""
    if len(blobs) != len(databases):
        raise NetError(
            f"Check failed: blob_names.size() == dataset_names.size() ({len(blobs)} vs. {len(databases)}) the number "
            f"of blob names and dataset names must be equal: they are {','.join(blobs)} and {','.join(databases)}"
        )
    if len(set(databases)) < len(databases) or not all(databases):
        raise UsageError(f"every blob needs a database of its own, given are {','.join(databases)}")
    return dict(zip(databases, blobs, strict=True))


def _choose(place: Sequence[str]) -> None:
    """Compute where the last arguments say, on the CPU without any."""
    kind, number, *more = (*place, *("CPU", "0")[len(place) :])
    number = number.removeprefix("DEVICE_ID=")  # as BVLC's own usage has it
    if more:
        glog.error("extract_features.cpp:44", f"{' '.join(more)}: no effect, as in Caffe")
    if kind not in ("CPU", "GPU") or not number.isdecimal():
        raise UsageError(f"expected CPU, GPU or GPU and its number after the backend, got {' '.join(place)}")
    if kind == "CPU":
        glog.error("extract_features.cpp:62", "Using CPU")
        device.set_mode_cpu()
        return
    glog.error("extract_features.cpp:52", "Using GPU")
    glog.error("extract_features.cpp:58", f"Using Device_id={number}")
    device.set_device(int(number))
    device.set_mode_gpu()


def _check_blobs(net: Net, file: str, targets: Mapping[str, str]) -> None:
    own = [blob for layer in net.wired if layer.type != "Split" for blob in net.top_names[layer.name]]
    for blob in targets.values():
        if blob not in net.blobs:
            raise NetError(
                f"Check failed: feature_extraction_net->has_blob(blob_names[i]) Unknown feature blob name {blob} in "
                f"the network {file}; it has {', '.join(dict.fromkeys(own))}"
            )


def _fill(net: Net, targets: Mapping[str, str], batches: int, backend: str) -> None:
    written = dict.fromkeys(targets, 0)
    with ExitStack() as stack:
        open_databases: dict[str, Batch] = {}
        for name in targets:
            glog.info("extract_features.cpp:125", f"Opening dataset {name}")
            open_databases[name] = stack.enter_context(new_database(name, BACKENDS[backend]))
        glog.error("extract_features.cpp:133", "Extracting Features")
        for _ in tqdm(range(batches), disable=not sys.stderr.isatty()):
            net.run_forward()
            for name, blob in targets.items():
                written[name] = _put(net, blob, open_databases[name], written[name])
    for name, blob in targets.items():
        _report(176, written[name], blob)


def _put(net: Net, blob: str, batch: Batch, first: int) -> int:
    """Add the items of the blob, numbered from ``first`` on; give the next number."""
    values = net.blobs[blob]
    if not values.count:
        raise CaffeError(f"the blob {blob} has the shape {list(values.shape)}: there is nothing in it to extract")
    number = first
    for item in values.data_tensor().cpu().numpy().reshape(values.num, -1):
        datum = Datum(channels=values.channels, height=values.height, width=values.width, float_data=item)
        batch.put(f"{number:010d}".encode(), datum.SerializeToString())
        number += 1
        if number % COMMIT_EVERY == 0:
            batch.commit()
            _report(165, number, blob)
    return number


def _report(line: int, count: int, blob: str) -> None:
    done = f"Extracted features of {count} query images for feature blob {blob}"
    glog.error(f"extract_features.cpp:{line}", done)


if __name__ == "__main__":
    sys.exit(main())
