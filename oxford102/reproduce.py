"""From nothing to the test accuracy of a model folder: the work of reproduce.py.

    1. bootstrap.py, where pictures, mean or weights are missing and it can bring them
    2. caffe train -resume, as the comment of the solver file says, with its log in logs/ of the folder
    3. caffe test, on the validation and on the test pictures, each picture once, with the last weights
    4. a row in results/results.csv, and README.md's table

Each step that is done already is skipped, so that the same command goes on after an interrupt.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from google.protobuf import text_format

from caffe.proto import caffe_pb2
from oxford102.catalog import MODELS
from oxford102.databases import find_tool
from oxford102.errors import ToolError
from oxford102.files import write_whole
from oxford102.lists import read_list
from oxford102.log_parser import parse_log, read_text
from oxford102.model_folder import Command, read_command, those_beside
from oxford102.results import PUBLISHED_DATA, Result, append, draw, read_results
from oxford102.retarget import data_layer, data_param, list_of, read_message
from oxford102.weights import WEIGHTS_NAME

LOGGED = ("-minloglevel=0", "-logtostderr=false")
"""Flags that make `caffe` log all to its files and standard error, whatever the environment says."""


@dataclass(frozen=True)
class Job:
    """Which model folder to reproduce, in the project at `root`.

    `gpu` is a number, "" for the CPU; `weights` replace those that the solver's comment names; `data` is the label of
    the pictures, "" for the name of their folder.
    """

    folder: Path
    root: Path
    gpu: str = ""
    weights: Path | None = None
    data: str = ""


def reproduce(job: Job) -> None:
    """Do what is missing and print each step; raises ToolError where one fails, KeyboardInterrupt if stopped."""
    model = Model(job)
    results = job.root / "results" / "results.csv"
    rows = read_results(results)  # a damaged file is told before days of training
    model.bring()
    trained = model.train()
    accuracies = [model.score(path) for path in (model.net_path, model.test_path)]
    row = model.result(*accuracies)
    print(f"{row.model} on {row.data}: validation {row.validation} %, test {row.test} %")
    if not trained and row.measured() in [old.measured() for old in rows]:
        print(f"{results}: has this row already")
    else:
        append(results, row)
        print(f"{results}: a row more")
    draw(job.root / "README.md", results)


class Model:
    """A model folder: what its files say, and the steps on it."""

    def __init__(self, job: Job) -> None:
        self.job, self.folder = job, job.folder.absolute()
        path, self.command = _solver(job)
        self.solver_path, self.solver = path, read_message(path, caffe_pb2.SolverParameter())
        self.net_path, self.test_path = self.folder / self.solver.net, self.folder / "test.prototxt"
        if not self.solver.net or not self.net_path.is_file():
            raise ToolError(f"{path}: expected net: with a file of this folder, got '{self.solver.net}'")
        if not self.test_path.is_file():
            raise ToolError(f"{self.test_path}: no such file; new_model.py writes it where the data have a test.txt")
        self.nets = {name: read_message(name, caffe_pb2.NetParameter()) for name in (self.net_path, self.test_path)}
        layers = [(self.net_path, caffe_pb2.TRAIN), (self.net_path, caffe_pb2.TEST), (self.test_path, caffe_pb2.TEST)]
        self.layers = [data_layer(self.nets[name], name, phase) for name, phase in layers]
        named = job.weights or self.command.weights
        self.weights = named and _inside(Path.cwd(), named)
        self.gpu = ["-gpu", job.gpu] if job.gpu else []

    def bring(self) -> None:
        """Let bootstrap.py bring what it can; raises ToolError that names what is missing still."""
        missing = self._missing()
        data, demo = self.job.root / "data", self.job.root / "data" / "demo"
        folders = {path.parent for path in missing}
        owner = self.weights.parent.name if self.weights else ""
        ours = self.weights == self.job.root / "models" / owner / WEIGHTS_NAME and owner in MODELS
        if demo in folders:
            self._bootstrap("--demo", "--no-models")
        elif any(path.parent == data and path in self._sources() for path in missing):
            self._bootstrap(*(["--models", owner] if ours else ["--no-models"]))
        elif ours and missing:
            self._bootstrap("--no-data", "--models", owner)
        if missing := self._missing():
            told = ", ".join(map(str, missing))
            readme = f"; see {self.weights.parent / 'README.md'}, or give --weights" if self.weights in missing else ""
            raise ToolError(f"not there, and nothing that bootstrap.py brings: {told}{readme}")
        print(f"{self.folder.name}: data and weights are there")

    def _bootstrap(self, *flags: str) -> None:
        run([sys.executable, str(self.job.root / "bootstrap.py"), *flags], self.job.root)

    def _sources(self) -> list[Path]:
        return [_inside(self.folder, data_param(layer).source) for layer in self.layers]

    def _missing(self) -> list[Path]:
        """What training and testing need and is not there, each once."""
        means = [layer.transform_param.mean_file for layer in self.layers if layer.transform_param.mean_file]
        needed = [*self._sources(), *(_inside(self.folder, mean) for mean in means), self.weights]
        if self.final().exists():
            needed.remove(self.weights)
        return list(dict.fromkeys(path for path in needed if path and not path.exists()))

    def final(self) -> Path:
        """The weights that training ends with."""
        ending = ".h5" if self.solver.snapshot_format == caffe_pb2.SolverParameter.HDF5 else ""
        name = f"{self.solver.snapshot_prefix}_iter_{self.solver.max_iter}.caffemodel{ending}"
        return _inside(self.folder, name)

    def train(self) -> bool:
        """Train from where the last run came; False where that was done before."""
        final = self.final()
        if final.exists():
            newer = [path for path in (self.solver_path, self.net_path) if path.stat().st_mtime > final.stat().st_mtime]
            if newer:
                raise ToolError(f"{final} is older than {newer[0]}; move it away to train anew, or touch it to keep it")
            print(f"{final}: trained already")
            return False
        logs = self.folder / "logs"
        for made in (logs, final.parent):
            made.mkdir(exist_ok=True)
        start = ["-weights", os.path.relpath(self.weights, self.folder)] if self.weights else []
        words = ["-solver", self.solver_path.name, *start, *self.gpu, "-resume"]
        log = ["-log_dir", "logs", *LOGGED, "-alsologtostderr=false"]
        run([find_tool("caffe"), "train", *words, *log], self.folder)
        if not final.exists():
            raise ToolError(f"training ended without {final}; do snapshots of a longer run lie there? Move them away")
        return True

    def score(self, path: Path) -> float:
        """The accuracy of the trained net on the pictures of the phase TEST of `path`, each counted once."""
        net, once = self.nets[path], path
        layer = data_layer(net, path, caffe_pb2.TEST)
        pictures, batch = len(read_list(list_of(layer, self.folder))), data_param(layer).batch_size
        size = next(size for size in range(min(batch, pictures), 0, -1) if pictures % size == 0)
        if size != batch:
            data_param(layer).batch_size = size
            once = path.with_name(f"{path.name}.part")
            write_whole(once, text_format.MessageToString(net).encode())
        weights = os.path.relpath(self.final(), self.folder)
        words = ["-model", once.name, "-weights", weights, "-iterations", str(pictures // size), *self.gpu, *LOGGED]
        try:
            text = run([find_tool("caffe"), "test", *words], self.folder, quiet=True)
        finally:
            if once != path:
                once.unlink()
        tops = [part.top[0] for part in net.layer if part.type == "Accuracy" and part.accuracy_param.top_k == 1]
        found = re.findall(rf"\] {re.escape(tops[-1])} = (\S+)$", text, re.MULTILINE) if tops else []
        if not found:
            raise ToolError(f"{path}: expected an Accuracy layer with top_k 1, whose output `caffe test` can print")
        return float(found[-1])

    def result(self, validation: float, test: float) -> Result:
        """The row for results.csv."""
        train, layer = self.layers[0], data_param(self.layers[0])
        sides = [getattr(layer, "new_height", 0), train.transform_param.crop_size]
        batch = layer.batch_size * self.solver.iter_size * max(1, len(self.job.gpu.split(",")))
        pixels = "->".join(str(side) for side in sides if side)
        settings = [f"{pixels} px"] if pixels else []
        settings += [f"{self.solver.max_iter} iterations of {batch}", f"rate {self.solver.base_lr:g}"]
        log = _last_training(self.folder / "logs")
        ends = [row.seconds for rows in (parse_log(log).train, parse_log(log).test) for row in rows[-1:]] if log else []
        folder = self._sources()[0].parent
        return Result(
            self.folder.name,
            self.job.data or (PUBLISHED_DATA if folder == self.job.root / "data" else folder.name),
            ", ".join(settings),
            f"{100 * validation:.2f}",
            f"{100 * test:.2f}",
            str(self.solver.max_iter),
            f"{max(ends):.0f}" if ends and not math.isnan(max(ends)) else "",
            _device(self.job.gpu, log, self.folder),
            f"{datetime.now(timezone.utc):%Y-%m-%d}",
            _commit(self.job.root),
        )


def _solver(job: Job) -> tuple[Path, Command]:
    """The solver file for one device and the command in its comment."""
    if not job.folder.is_dir():
        raise ToolError(f"{job.folder}: no such model folder{those_beside(job.folder)}")
    path, single = job.folder / "solver.prototxt", job.folder / "solver_one_gpu.prototxt"
    if not path.is_file():
        raise ToolError(f"{path}: no such file; expected a folder as those of models/")
    command = read_command(path)
    if command.gpus > len(job.gpu.split(",")) and single.is_file():
        return single, read_command(single)
    return path, command


def run(command: Sequence[str], folder: Path, quiet: bool = False) -> str:
    """Print a command as one would type it and run it in a folder; its standard error where it is `quiet`.

    A Ctrl-C, SIGTERM or SIGHUP reaches it once, and it is waited for, so that it can write its snapshot. Raises
    ToolError where it fails, KeyboardInterrupt where it was stopped.
    """
    words = [Path(command[0]).name if command[0] != sys.executable else "python", *command[1:]]
    print(f"$ cd {shlex.quote(str(folder))} && {shlex.join(words)}", flush=True)
    pipe = subprocess.PIPE if quiet else None
    child = subprocess.Popen(command, cwd=folder, stderr=pipe, text=True, errors="replace", start_new_session=True)
    while True:
        try:
            text = child.communicate()[1] or ""
            break
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
    if child.returncode in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if child.returncode:
        last = f": {text.strip().splitlines()[-1]}" if text.strip() else "; what it says is above"
        raise ToolError(f"`{shlex.join(words[:2])}` in {folder} ended with status {child.returncode}{last}")
    return text


def _inside(folder: Path, name: str | Path) -> Path:
    """A path as it is meant in `folder`, without ..; links stay."""
    return Path(os.path.normpath(folder / name))


def _last_training(logs: Path) -> str:
    """The logs of the last training: its runs in their order, from the one that started anew."""
    texts: list[str] = []
    paths = logs.glob("caffe.*.log.INFO.*")
    for path in sorted(paths, key=lambda path: (path.name.rsplit(".", 2)[1], path.stat().st_mtime), reverse=True):
        texts.insert(0, read_text(path))
        if "Resuming from" not in texts[0]:
            break
    return "".join(texts) if any("Iteration" in text for text in texts) else ""


def _device(gpu: str, log: str, folder: Path) -> str:
    """The name of the GPU in a log, else that of the CPU and its threads."""
    if found := re.search(r"\] GPU \d+: (.*)", log):
        return found[1]
    told = subprocess.run([find_tool("caffe"), "device_query"], cwd=folder, capture_output=True, text=True).stdout
    processor, threads = (re.search(pattern, told) for pattern in (r"CPU: +(.*)", r"Threads: (\d+)"))
    count = f"{threads[1]} thread{'s' * (threads[1] != '1')}" if threads else ""
    return f"{processor[1]}, {count}" if processor and threads and not gpu else ""


def _commit(root: Path) -> str:
    """The commit of the project, with + where tracked files differ from it but the results; "" without git."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)

    try:
        found = git("rev-parse", "--short", "HEAD")
        differs = git("diff", "--quiet", "HEAD", "--", ".", ":!results", ":!README.md").returncode
    except OSError:
        return ""
    return f"{found.stdout.strip()}{'+' if differs else ''}" if found.returncode == 0 else ""
