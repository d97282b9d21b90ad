"""The features of a frozen net's pictures, computed once, and a small net that trains on them.

The work of cache_features.py. The runtime reads and prepares the pictures itself, by the net's own data layers
without their crop; what is done here is to cut the crops out and to mirror them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from caffe.proto import caffe_pb2
from oxford102.cache import Need, check_room
from oxford102.errors import ToolError, told
from oxford102.feature_net import Cut, find_cut, input_net, small_net
from oxford102.feature_pictures import Reader, Variant
from oxford102.feature_store import Row, disk_size, hdf5_writer, lmdb_writer
from oxford102.files import new_folder, write_whole
from oxford102.model_folder import read_command, those_beside
from oxford102.prototxt import net_text
from oxford102.reschedule import solver_text
from oxford102.retarget import data_layer, layer_notes, path_from, read_message
from oxford102.runtime import build_net, check_weights, use_device

SPLITS = {caffe_pb2.TRAIN: "train", caffe_pb2.TEST: "valid"}

README = """\
# {title}

The part of [{model}]({origin}) that learns. What lies below it, up to the blob
`{blob}`, was computed once by `scripts/cache_features.py`: {variants} of each
of {train:,} training pictures, and the centre of each of {valid:,} validation pictures.

## Commands

In this folder:

    {command}

The layers have the names that they have in {model}, so all weights come together in one file with:

    python -c "import caffe
    net = caffe.Net('{full}', caffe.TEST)
    net.copy_from('{weights}')
    net.copy_from('{last}')
    net.save('{whole}')"

The test and deploy prototxts of {model} take this file as any that was trained there.{test}
"""


@dataclass(frozen=True)
class Job:
    """What to cache of which model, and where.

    Without `weights` those named in solver.prototxt are taken, without `upto` the last blob before anything learns.
    `corners` adds the four corners to the centre crop, `mirror` the mirrored crops, where training mirrors at all.
    """

    model: Path
    output: Path
    upto: str | None = None
    weights: Path | None = None
    corners: bool = True
    mirror: bool = True
    hdf5: bool = False
    seed: int = 0
    gpu: int | None = None
    force: bool = False


def cache_features(job: Job) -> None:
    """Write the folder, whole; raises ToolError where model, weights or pictures are not as they should be."""
    solver_path = job.model / "solver.prototxt"
    if not solver_path.is_file():
        raise ToolError(f"{job.model}: no solver.prototxt in such a folder{those_beside(job.model, '*-frozen')}")
    if job.output.resolve() == job.model.resolve():
        raise ToolError(f"{job.output} is the model itself; choose another -o")
    if job.output.exists() and not (job.force and job.output.is_dir()):
        raise ToolError(f"{job.output} exists; choose another -o, or give --force to replace what was cached there")
    with new_folder(job.output) as part:
        with told(str(job.model), RuntimeError, ValueError, lmdb.Error):
            Maker(job, solver_path).make(part)
        _into_place(part, job.output)
    print(f"{job.output}: ready; its README.md has the commands")


def _into_place(part: Path, output: Path) -> None:
    """Rename the folder; where there is one already, replace what is in it but for its snapshots."""
    if not output.exists():
        part.replace(output)
        return
    for path in [
        path for split in SPLITS.values() for path in (*output.glob(f"{split}*.h5*"), output / f"{split}_lmdb")
    ]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in part.iterdir():
        if path.name != "snapshots" or not (output / "snapshots").exists():
            path.replace(output / path.name)


def places(pictures: int, variants: int, seed: int) -> NDArray[np.int64]:
    """Where each variant of each picture comes, [pictures, variants].

    Each round goes through all pictures in a new order, with another variant of each, as an epoch does.
    """
    generator = np.random.RandomState(seed)
    rounds = np.array([generator.permutation(variants) for _ in range(pictures)])
    orders = np.array([generator.permutation(pictures) for _ in range(variants)])
    return np.array([[turn * pictures + orders[turn, p] for turn in rounds[p]] for p in range(pictures)])


class Maker:
    """Computes the features of a model and writes the files of its cached folder."""

    def __init__(self, job: Job, solver_path: Path) -> None:
        self.job, self.solver = job, read_message(solver_path, caffe_pb2.SolverParameter())
        self.path = job.model / self.solver.net
        if not self.solver.net or not self.path.is_file():
            raise ToolError(f"{solver_path}: expected net: with a file of this folder, got '{self.solver.net}'")
        weights = job.weights or read_command(solver_path).weights
        if weights is None:
            raise ToolError(f"{solver_path} names no weights in its comment; give --weights")
        if not weights.is_file():
            raise ToolError(f"{weights}: no such weights; bootstrap.py gets them, or give others with --weights")
        self.weights, self.message = weights, read_message(self.path, caffe_pb2.NetParameter())
        use_device(job.gpu)
        self.layers = [data_layer(self.message, self.path, phase) for phase in SPLITS]
        self.readers = [Reader(layer, job.model) for layer in self.layers]
        self.net, self.cut = self._frozen()
        self.shape = tuple(self.net.blobs[self.cut.blob].data.shape[1:])
        self.variants = [self.readers[0].variants(job.corners, job.mirror), self.readers[1].variants(False, False)]

    def _frozen(self) -> tuple[Any, Cut]:
        """The net with its weights, and where it is cut."""
        shape = (self.readers[1].batch, *self.readers[1].shape)
        net = build_net(input_net(self.message, shape, shape[:1], caffe_pb2.TEST, self.path))
        cut = find_cut(self.message, self.path, {name: len(blobs) for name, blobs in net.params.items()}, self.job.upto)
        net.copy_from(str(self.weights))
        check_weights(net, self.path, self.weights, cut.below)
        return net, cut

    def make(self, part: Path) -> None:
        """Write all files to the empty folder `part`."""
        counts = [reader.count * len(variants) for reader, variants in zip(self.readers, self.variants, strict=True)]
        numbers = int(np.prod(self.shape))
        print(
            f"'{self.cut.blob}', {' x '.join(map(str, self.shape))}: {self.readers[0].count:,} pictures x "
            f"{len(self.variants[0])} and {counts[1]:,} x 1 take {sum(counts) * numbers * 4 / 1e6:,.1f} MB"
        )
        size = sum(disk_size(count, self.shape, self.job.hdf5) for count in counts)
        check_room([Need("the features", part, size)], "choose fewer crops, or another disk with -o")
        (part / "snapshots").mkdir()
        write_whole(part / "snapshots" / ".gitkeep", b"")
        for reader, variants, split in zip(self.readers, self.variants, SPLITS.values(), strict=True):
            self.store(reader, variants, part, split)
        for name, text in self.files().items():
            write_whole(part / name, text.encode())

    def store(self, reader: Reader, variants: Sequence[Variant], part: Path, split: str) -> None:
        """Write the features of a reader's pictures; training's in an order that mixes them."""
        order = np.arange(reader.count)[:, np.newaxis]
        if split == "train":
            order = places(reader.count, len(variants), self.job.seed)
        rows = order.size
        if self.job.hdf5:
            writer = hdf5_writer(part / f"{split}.h5.txt", rows, self.shape, (self.cut.blob, reader.tops[1]))
        else:
            writer = lmdb_writer(part / f"{split}_lmdb", rows, self.shape)
        done = 0
        with writer as write, tqdm(total=rows, unit=" crops", desc=split, disable=None) as bar:
            for pictures, labels in reader.read():
                features = self.features(reader.crops(pictures, variants))
                here = order[done : done + len(labels)].ravel()
                each = np.repeat(labels, len(variants))
                write(Row(*row) for row in zip(here.tolist(), features, each.astype(int).tolist(), strict=True))
                done += len(labels)
                bar.update(len(here))

    def features(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the blob of the cut holds for crops, [n, ...]; in batches as those of the model's own test."""
        entry, found = self.net.blobs[self.readers[1].tops[0]], []
        for start in range(0, len(crops), self.readers[1].batch):
            some = crops[start : start + self.readers[1].batch]
            entry.reshape(*some.shape)
            entry.data[...] = some
            self.net.forward(end=self.cut.last)
            found.append(np.array(self.net.blobs[self.cut.blob].data))
        if found[0].shape[1:] != self.shape:
            raise ToolError(f"{self.path}: crops give '{self.cut.blob}' different shapes; set crop_size")
        return np.concatenate(found)

    @property
    def crops(self) -> str:
        """How many crops of each picture are for training."""
        return f"{len(self.variants[0])} crops" if len(self.variants[0]) > 1 else "the centre"

    def files(self) -> dict[str, str]:
        """{name: text} of the prototxts and the README."""
        job, move, solver = self.job, path_from(self.job.output), self.solver
        prefix = Path(solver.snapshot_prefix).name or "net"
        solver.net, solver.snapshot_prefix = "train_val.prototxt", f"snapshots/{prefix}"
        weights, last = move(self.weights), f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel"
        command = f"caffe train -solver solver.prototxt -weights {quote(str(weights))}"
        command += "" if job.gpu is None else f" -gpu {job.gpu}"
        train, valid = self.readers
        net = small_net(self.message, self.cut, self.data_layers())
        kept = {layer.name for layer in net.layer if layer.bottom}
        notes = {name: note for name, note in layer_notes(self.path, self.message).items() if name in kept}
        title = f"{job.model.resolve().name} from '{self.cut.blob}' on, its features cached. In this folder:"
        seen = f"{train.count:,} pictures, {self.crops} of each, in batches of {train.batch}: the model's schedule."
        testing = f"The centres of {valid.count:,} pictures in batches of {valid.batch}."
        return {
            "train_val.prototxt": net_text(net, [title, command], notes),
            "solver.prototxt": solver_text(solver, [command], testing, seen),
            "README.md": self.readme(command, last, f"snapshots/{prefix}_whole.caffemodel"),
        }

    def data_layers(self) -> Iterator[Any]:
        """The layers that read the features, as the model's read pictures."""
        for (phase, split), layer, reader in zip(SPLITS.items(), self.layers, self.readers, strict=True):
            new: Any = caffe_pb2.LayerParameter(name=layer.name, type="HDF5Data" if self.job.hdf5 else "Data")
            new.top[:] = (self.cut.blob, reader.tops[1])
            new.include.add().phase = phase
            param = new.hdf5_data_param if self.job.hdf5 else new.data_param
            param.source = f"{split}.h5.txt" if self.job.hdf5 else f"{split}_lmdb"
            param.batch_size = reader.batch
            if not self.job.hdf5:
                new.data_param.backend = caffe_pb2.DataParameter.LMDB
            yield new

    def readme(self, command: str, last: str, whole: str) -> str:
        """The folder's README.md."""
        model, move, tests = self.job.model, path_from(self.job.output), ""
        deploy, test = (model / f"{name}.prototxt" for name in ("deploy", "test"))
        if test.is_file():
            number = re.search(r"-iterations[ =](\d+)", test.read_text("utf-8"))
            ours = path_from(model)(self.job.output / whole)
            tests = f" There:\n\n    caffe test -model test.prototxt -weights {quote(str(ours))}"
            tests += f" -iterations {number[1]}" if number else ""
        return README.format(
            title=self.job.output.name,
            model=model.resolve().name,
            origin=move(model / "README.md"),
            blob=self.cut.blob,
            train=self.readers[0].count,
            valid=self.readers[1].count,
            variants=self.crops,
            command=command,
            full=move(next(path for path in (deploy, test, self.path) if path.is_file())),
            weights=move(self.weights),
            last=last,
            whole=whole,
            test=tests,
        )
