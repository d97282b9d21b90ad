"""caffe train -check: read everything a run would read, run one iteration, and list all problems at once."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from caffe import glog, weights
from caffe.data.decode import read_image
from caffe.data.hdf5_rows import read_rows
from caffe.data.sources import Database, ImageList, Record
from caffe.data.transform import check_batch, load_transform
from caffe.data.windows import read_windows
from caffe.errors import CaffeError, DataError
from caffe.graph.rules import filter_net
from caffe.layers import registry
from caffe.proto import binary, hdf5
from caffe.proto.caffe_pb2 import TRAIN, ImageDataParameter, LayerParameter, NetParameter, SolverParameter
from caffe.solvers import nets
from caffe.solvers.solver import Solver, make_solver

SHOWN = 20
"""Problems listed of one layer's records."""

JUDGES = ("SoftmaxWithLoss", "Accuracy", "HingeLoss", "MultinomialLogisticLoss", "InfogainLoss")
"""Layers whose bottom[1] holds class numbers and whose bottom[0] has a score a class."""

Load = Callable[[], Record]


@dataclass
class Findings:
    """What is well and what is not, in the order it was found."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, where: str, problem: object) -> None:
        """Note a problem once, whoever meets it."""
        text = " ".join(str(problem).split())
        if not any(text in known for known in self.problems):
            self.problems.append(f"{where}: {text}")


def work(param: SolverParameter, file: str) -> int:
    """Check the run that the solver file describes; the exit status is 1 where there are problems."""
    level = os.environ.get("GLOG_minloglevel", "0")
    glog.init_log(max(1, int(level) if level.isdigit() else 0))
    found = Findings()
    for title, net in _nets(param, found):
        for layer in net.layer:
            _check_layer(f"{title}, layer '{layer.name}'", layer, net, found)
    _rehearse(param, found)
    print(f"{file}: nothing was trained", *found.facts, sep="\n  ")
    for problem in found.problems:
        glog.error("caffe.cpp:239", problem)
    if found.problems:
        glog.fatal("caffe.cpp:239", f"{file}: {len(found.problems)} problems, see above")
        return 1
    print("  no problems")
    return 0


def _nets(param: SolverParameter, found: Findings) -> list[tuple[str, NetParameter]]:
    """The nets as their phases leave them; what cannot be read is a problem."""
    described = []
    try:
        described.append(("train net", filter_net(nets.train_net(param))))
        for number, message in enumerate(nets.test_nets(param)):
            described.append((f"test net #{number}", filter_net(message)))
    except CaffeError as problem:
        found.add("solver", problem)
    return described


def _check_layer(where: str, layer: LayerParameter, net: NetParameter, found: Findings) -> None:
    try:
        registry.check(layer)
        layer.phase = net.state.phase
        if layer.type in RECORDS:
            with ExitStack() as sources:
                _check_records(where, layer, RECORDS[layer.type](layer, sources), classes(net, layer), found)
    except (CaffeError, OSError) as problem:
        found.add(where, problem)


# What a layer reads: a function for each record


def _of_list(layer: LayerParameter, sources: ExitStack) -> list[Load]:
    param = ImageDataParameter()
    param.CopyFrom(layer.image_data_param)
    param.shuffle, param.rand_skip = False, 0
    source = ImageList(param, np.random.default_rng())
    sources.callback(source.close)
    return [lambda i=i: source.load(i) for i in range(len(source))]  # type: ignore[misc]


def _of_database(layer: LayerParameter, sources: ExitStack) -> list[Load]:
    param, transform = layer.data_param, layer.transform_param
    color = transform.force_color or param.force_encoded_color
    source = Database(param.source, param.backend, force_color=color, force_gray=transform.force_gray)
    sources.callback(source.close)
    nobody = np.random.default_rng()
    return [lambda: source.load(source.take(nobody))] * len(source)


def _of_hdf5(layer: LayerParameter, sources: ExitStack) -> list[Load]:
    files = Path(layer.hdf5_data_param.source).read_text(errors="surrogateescape").split()
    return [lambda file=file: _rows(file, layer) for file in files]  # type: ignore[misc]


def _rows(file: str, layer: LayerParameter) -> Record:
    """All rows of a file as one record, which has no picture."""
    read_rows(file, list(layer.top))
    return Record(file, np.zeros((1, 0, 0), np.uint8), 0)


def _of_windows(layer: LayerParameter, sources: ExitStack) -> list[Load]:
    windows = read_windows(layer.window_data_param)
    return [
        lambda path=path: Record(path, read_image(path).transpose(2, 0, 1), 0)  # type: ignore[misc]
        for path in windows.images
    ]


RECORDS = {"ImageData": _of_list, "Data": _of_database, "HDF5Data": _of_hdf5, "WindowData": _of_windows}


def classes(net: NetParameter, data: LayerParameter) -> int:
    """Number of classes that the layer's labels, its second top, choose among; 0 where nothing says it."""
    for place, judge in enumerate(net.layer):
        if judge.type in JUDGES and len(data.top) > 1 and list(judge.bottom[1:2]) == [data.top[1]]:
            size = _scores(list(net.layer[:place]), judge.bottom[0])
            if size:
                return size
    return 0


def _scores(layers: list[LayerParameter], blob: str) -> int:
    """Outputs of the convolution or inner product that ``blob`` comes from, whatever lies between them."""
    for layer in reversed(layers):
        if blob in layer.top:
            size = max(layer.inner_product_param.num_output, layer.convolution_param.num_output)
            if size or not layer.bottom:
                return size
            blob = layer.bottom[0]
    return 0


def _check_records(where: str, layer: LayerParameter, loads: list[Load], count: int, found: Findings) -> None:
    """Read every record; check its shape against the transformation and the first one's, and its label."""
    is_picture = layer.type in ("ImageData", "Data")
    transform = load_transform(layer.transform_param, layer.phase == TRAIN)
    one_by_one = 1 in (layer.image_data_param.batch_size, layer.data_param.batch_size)
    labels: Counter[int] = Counter()
    first: Record | None = None
    problems: list[Exception] = []
    threads = 1 if layer.type == "Data" else os.cpu_count() or 1
    for read in tqdm(_ahead(loads, threads), where, len(loads), leave=False, disable=not sys.stderr.isatty()):
        if isinstance(read, Exception):
            problems.append(read)
            continue
        labels[read.label] += 1
        first = first or read
        if count and not 0 <= read.label < count:
            problems.append(DataError(f"{read.key}: label {read.label} is outside 0 to {count - 1}"))
        if is_picture:
            pair = [read] if one_by_one else [first, read]
            try:
                check_batch(transform, [r.pixels.shape for r in pair], [r.key for r in pair])
            except DataError as problem:
                problems.append(problem)
    for reason in problems[:SHOWN]:
        found.add(where, reason)
    if len(problems) > SHOWN:
        found.add(where, f"{len(problems) - SHOWN} more records like these")
    if is_picture and labels:
        each = f"{min(labels.values())} to {max(labels.values())} a class"
        missing = f", none of {count - len(labels)} of {count} classes" if 0 < len(labels) < count else ""
        found.facts.append(f"{where}: {len(loads)} pictures, {len(labels)} classes, {each}{missing}")
    else:
        found.facts.append(f"{where}: {len(loads)} files")


def _ahead(loads: list[Load], threads: int) -> Iterator[Record | Exception]:
    """Read records, a thread each and a few ahead, in order; an error comes in its record's place."""

    def attempt(load: Load) -> Record | Exception:
        try:
            return load()
        except CaffeError as problem:
            return problem

    waiting = iter(loads)
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(waiting, 8 * threads)):
            yield from pool.map(attempt, chunk)


# One iteration


def _rehearse(param: SolverParameter, found: Findings) -> None:
    """Make the solver, without its weights where these do not fit, and run an iteration without an update."""
    files = [path.strip() for entry in param.weights for path in entry.split(",")]
    del param.weights[:]
    sources = {path: _read_weights(path, found) for path in files}
    solver = None
    try:
        solver = make_solver(param)
        for path, layers in sources.items():
            if layers is not None:
                _check_weights(solver, path, layers, found)
        _run(solver, found)
    except (CaffeError, OSError) as problem:
        found.add("run", problem)
    finally:
        if solver:
            solver.close()


def _read_weights(path: str, found: Findings) -> list[binary.LayerWeights] | None:
    """The layers of a weights file that have weights, none of an HDF5 file; None where it cannot be read."""
    try:
        if path.endswith(".h5"):
            with hdf5.reading(path):
                return []
        return [layer for layer in binary.read_weights(path) if layer.blobs]
    except CaffeError as problem:
        found.add("weights", problem)
    return None


def _check_weights(solver: Solver, path: str, layers: list[binary.LayerWeights], found: Findings) -> None:
    """Compare a weights file with the train net, layer by layer, and load it where all fits."""
    net, mine, theirs = solver.net, set(solver.net.params), {layer.name for layer in layers}
    before, own = len(found.problems), weights.by_name(net)
    for layer in layers:
        if layer.name in own:
            try:
                weights.check_layer(path, layer, own[layer.name].blobs)
            except CaffeError as problem:
                found.add("weights", problem)
    if layers:
        found.facts.append(
            f"weights {path}: {len(mine & theirs)} layers land, ignored: {_names(theirs - mine)}, "
            f"left at their fillers: {_names(mine - theirs)}"
        )
    if len(found.problems) == before:
        net.copy_from(path)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _run(solver: Solver, found: Findings) -> None:
    p = solver.param
    loss = float(solver.compute_gradients())
    iteration = _seconds(lambda: float(solver.compute_gradients()))
    tests = [_seconds(lambda net=net: float(net.run_forward())) for net in solver.test_nets]  # type: ignore[misc]
    found.facts.append(f"one iteration: loss {loss:.4g}")
    if not np.isfinite(loss):
        found.add("run", f"the loss of the first iteration is {loss}")
    training = iteration * p.max_iter
    testing = sum(s * n for s, n in zip(tests, p.test_iter, strict=True))
    testing *= p.max_iter // p.test_interval + 1 if tests else 0
    found.facts.append(
        f"expected time: about {_clock(training)} for {p.max_iter} iterations and {_clock(testing)} for tests, "
        "on this machine as busy as it is now"
    )
    found.facts.append(f"memory: {_memory(solver.net.device)}")


def _memory(device: torch.device) -> str:
    """Most that the process has held so far, of what there is."""
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    text = f"{used / 2**30:.2f} GiB of {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f}"
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        text += f", on the GPU {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB of {total / 2**30:.1f}"
    return text


def _seconds(run: Callable[[], object]) -> float:
    """How long it takes, the second time: the first one warms up."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
