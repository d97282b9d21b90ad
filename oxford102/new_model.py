"""A model folder for somebody's own classes, from one of models/: the work of new_model.py.

Prototxts are parsed and written anew, not edited as text, so any folder with the usual names will do: every
solver*.prototxt with the net that it names, test*.prototxt and deploy.prototxt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from caffe.proto import caffe_pb2
from oxford102.catalog import DEMO, OXFORD102
from oxford102.errors import ToolError
from oxford102.files import new_folder, write_whole
from oxford102.lists import SPLITS, read_list, read_names
from oxford102.model_folder import read_command, those_beside
from oxford102.new_size import set_size
from oxford102.prototxt import net_text
from oxford102.reschedule import Passes, new_iterations, reschedule, solver_text
from oxford102.retarget import (
    Target,
    data_layer,
    data_param,
    even_batches,
    heads,
    layer_notes,
    list_of,
    new_heads,
    outputs,
    path_from,
    point_at,
    read_message,
)

PREDICT = Path(__file__).resolve().parents[1] / "predict.py"
USES = {"train": "training", "valid": "validation", "test": "testing"}
README = """\
# {title}

{source} for the {classes} classes of `{data}`, written by `scripts/new_model.py` from
[its folder]({origin}), where weights, mean and recipe are described.

New is the last layer, {layers}: no layer of the weights' file has this name, so it
starts at random. The schedule of each solver is the source's, fitted to the number of pictures:
{pictures}.

## Commands

In this folder (`-check` added to a training finds out beforehand whether all is well):

{commands}
"""


@dataclass(frozen=True)
class Job:
    """Which model to make for which data, and where.

    `classes` is checked against the data's labels.txt, and needed where there is none. `epochs` is how often
    training sees each picture, `iterations` how long it is; without both, the source's epochs are carried over.
    `resize` and `crop` are the sides of pictures and crops in pixels; None leaves the source's.
    """

    source: Path
    data: Path
    output: Path
    classes: int | None = None
    epochs: float | None = None
    force: bool = False
    iterations: int | None = None
    resize: int | None = None
    crop: int | None = None


def new_model(job: Job) -> None:
    """Write the folder, whole; raises ToolError where source or data are not as they should be."""
    if not job.source.is_dir():
        raise ToolError(f"{job.source}: no such model folder{those_beside(job.source)}")
    if job.output.exists() and not (job.force and job.output.is_dir()):
        raise ToolError(f"{job.output} exists; choose another -o, or give --force to replace its prototxts")
    if job.output.resolve() == job.source.resolve():
        raise ToolError(f"{job.output} is the model that it is made from; choose another -o")
    target = read_target(job)
    files = Maker(job, target).files()
    with new_folder(job.output) as part:
        for name, text in files.items():
            (part / name).parent.mkdir(exist_ok=True)
            write_whole(part / name, text.encode())
        if job.output.exists():
            for name in files:
                (job.output / name).parent.mkdir(exist_ok=True)
                (part / name).replace(job.output / name)
        else:
            part.replace(job.output)
    print(f"{job.output}: ready; its README.md has the commands")


def read_target(job: Job) -> Target:
    """The data folder's sizes and classes; raises ToolError where lists and classes do not agree."""
    names = job.data / "labels.txt"
    classes = len(read_names(names)) if names.is_file() or job.classes is None else job.classes
    if job.classes not in (None, classes):
        raise ToolError(f"--classes {job.classes}, but {names} has {classes} names; leave --classes out")
    lists = {split: job.data / f"{split}.txt" for split in SPLITS}
    entries = {split: read_list(path) for split, path in lists.items() if split != "test" or path.exists()}
    for split, lines in entries.items():
        largest = max(entry.label for entry in lines)
        if largest >= classes:
            raise ToolError(f"{lists[split]} has label {largest}, expected 0 to {classes - 1} for {classes} classes")
    name = job.output.name.lower().removesuffix(f"-{job.source.name.lower()}")
    word = re.sub(r"[^a-z0-9]+", "_", name).strip("_") or "mine"
    return Target(job.data, {split: len(lines) for split, lines in entries.items()}, classes, word)


class Maker:
    """Makes the texts of the new folder's files."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self.move: Callable[[Path], str] = path_from(job.output)
        self.renamed: dict[str, str] = {}

    def files(self) -> dict[str, str]:
        """{path in the folder: text} of all files; prints what is new in them."""
        source = self.job.source
        files, commands, last, trained = {"snapshots/.gitkeep": ""}, {}, "", Path()  # BVLC Caffe makes no folder
        solvers = sorted(source.glob("solver*.prototxt"))
        if not solvers:
            raise ToolError(f"{source} has no solver.prototxt; expected a folder as those of models/")
        for path in solvers:
            solver = read_message(path, caffe_pb2.SolverParameter())
            files[path.name], files[solver.net], commands[path.name] = self.solver(path, solver)
            last = last or f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel"
            trained = trained if trained.name else source / solver.net
        for path in sorted(source.glob("test*.prototxt")) if "test" in self.target.sizes else ():
            files[path.name], commands[path.name] = self.test(path, last)
        path = source / "deploy.prototxt"
        if path.is_file():
            title = f"{self.job.output.name} for prediction, {self.target.classes} classes."
            files[path.name], commands[path.name] = self.net(path, [title]), self.predict(trained, last)
        files["README.md"] = self.readme(commands.values())
        return files

    def solver(self, path: Path, solver: Any) -> tuple[str, str, str]:
        """The texts of a solver and of the net that it trains, and the command that runs it."""
        net_path = path.parent / solver.net
        if not solver.net or Path(solver.net).name != solver.net or not net_path.is_file():
            raise ToolError(f"{path}: expected net: with a file of this folder, got '{solver.net}'")
        net = read_message(net_path, caffe_pb2.NetParameter())
        command = read_command(path)
        batch = data_param(data_layer(net, net_path, caffe_pb2.TRAIN)).batch_size * command.gpus * solver.iter_size
        if batch < 1 or solver.max_iter < 1:
            raise ToolError(f"{path}: expected max_iter, and batch_size in {solver.net}, above 0")
        given = self.job.iterations or self.job.epochs
        old = Passes(0 if given else _pictures(net, net_path), batch, solver.max_iter)
        train, valid = self.target.sizes["train"], self.target.sizes["valid"]
        solver.snapshot_prefix = f"snapshots/{Path(solver.snapshot_prefix).name or self.target.word}"
        reschedule(solver, self.job.iterations or new_iterations(old, train, self.job.epochs))
        new = Passes(train, batch, solver.max_iter)
        told = f"caffe train -solver {path.name}"
        if command.weights:
            told += f" -weights {quote(str(self.move(command.weights)))}"
            if not command.weights.is_file():
                print(f"{command.weights}: not there yet; bootstrap.py or the model's README.md tells where it is from")
        told += f" -gpu {command.gpu}" if command.gpu else ""
        title = f"{self.job.output.name}: {self.job.source.name} for {self.target.classes} classes. In this folder:"
        text = self.net(net_path, [title, told, "Only the last layer is new."], ("train", "valid"))
        size, number = even_batches(valid, data_param(data_layer(net, net_path, caffe_pb2.TEST)).batch_size)
        solver.test_iter[:] = [number]
        twice = size * number - valid
        testing = f"{number:,} batches of {size}: each of the {valid:,} validation pictures once"
        testing += f", {twice} of them twice." if twice else "."
        epochs = f"{new.epochs:,.{0 if new.epochs >= 10 else 1}f}"
        epoch = f"an epoch is {train / batch:.1f} iterations, the run {epochs} epochs."
        print(f"{path.name}: {new.iterations:,} iterations of {batch} pictures, {epochs} epochs")
        training = f"{train:,} training pictures, {batch} an iteration: {epoch}"
        header = [told, "Without -gpu it trains on the CPU."] if command.gpus == 1 and command.gpu else [told]
        return solver_text(solver, header, testing, training), text, told

    def test(self, path: Path, last: str) -> tuple[str, str]:
        """The text of the net that is scored on the test pictures, and the command that does it."""
        net = read_message(path, caffe_pb2.NetParameter())
        batch = data_param(data_layer(net, path, caffe_pb2.TEST)).batch_size
        _, number = even_batches(self.target.sizes["test"], batch)
        command = read_command(path)
        told = f"caffe test -model {path.name} -weights {last} -iterations {number}"
        told += f" -gpu {command.gpu}" if command.gpu else ""
        title = f"{self.job.output.name} on the {self.target.sizes['test']:,} test pictures. In this folder:"
        return self.net(path, [title, told], ("test", "test")), told

    def predict(self, path: Path, last: str) -> str:
        """The command that names a picture, with the mean and the sizes of the net that is trained, at `path`."""
        layer = data_layer(read_message(path, caffe_pb2.NetParameter()), path, caffe_pb2.TEST)
        transform, side = layer.transform_param, self.job.resize or layer.image_data_param.new_height
        crop = self.job.crop or transform.crop_size
        mean = ",".join(f"{value:g}" for value in transform.mean_value) or "0"
        if transform.mean_file:
            mean = quote(str(self.move(path.parent / transform.mean_file)))
        resize = f" --resize {side}" if side not in (0, 256) else ""
        names = self.target.data / "labels.txt"
        labels = f" --labels {quote(str(self.move(names)))}" if names.is_file() else ""
        return f"python {quote(str(self.move(PREDICT)))} PICTURE deploy.prototxt {last} {mean} {crop}{resize}{labels}"

    def readme(self, commands: Iterable[str]) -> str:
        """The folder's README.md."""
        job, sizes = self.job, self.target.sizes
        layers = ", ".join(f"`{new}` (there `{old}`)" for old, new in self.renamed.items())
        pictures = ", ".join(f"{count:,} for {USES[name]}" for name, count in sizes.items())
        return README.format(
            title=job.output.name,
            source=job.source.name,
            origin=self.move(job.source / "README.md"),
            data=self.move(job.data),
            classes=self.target.classes,
            layers=layers,
            pictures=pictures,
            commands="\n".join(f"    {command}" for command in commands),
        )

    def net(self, path: Path, header: list[str], splits: tuple[str, str] | None = None) -> str:
        """The text of a net for the new classes, and with `splits` for the new lists."""
        net = read_message(path, caffe_pb2.NetParameter())
        notes = layer_notes(path, net)
        renamed = new_heads(net, path, self.target)
        self.renamed |= renamed
        set_size(net, path, self.job.resize, self.job.crop)
        if splits:
            point_at(net, path, self.target, splits, self.move)
        net.name = self.job.output.name
        names = {layer.name for layer in net.layer}
        kept = {renamed.get(name, name): note for name, note in notes.items()}
        return net_text(net, header, {name: note for name, note in kept.items() if name in names})


def _pictures(net: Any, path: Path) -> int:
    """How many pictures the source is trained on: its list's, else those of the set with as many classes."""
    listing = list_of(data_layer(net, path, caffe_pb2.TRAIN), path.parent)
    if listing.is_file():
        return len(read_list(listing))
    classes = outputs(heads(net, path)[0])
    known = [dataset.sizes["train"] for dataset in (OXFORD102, DEMO) if len(dataset.class_names) == classes]
    if not known:
        raise ToolError(f"{path}: {listing} is not there to tell how many epochs its training takes; give --epochs")
    return known[0]
