"""What a picture shows, with its probability: the work of predict.py, by pycaffe's public names alone.

A picture is squeezed to 256x256, cropped to the size of the net's input at the corners and the centre,
each crop also mirrored; the mean is subtracted and the probabilities of the ten crops are averaged.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from tqdm import tqdm

from oxford102.errors import ToolError, told
from oxford102.files import write_whole
from oxford102.lists import read_names
from oxford102.picture_sources import SUFFIXES as PICTURES
from oxford102.plots import SUFFIXES, draw_prediction, save_figure
from oxford102.runtime import check_weights, load_caffe, picture_net, use_device

LABELS = (Path("data/labels.txt"), Path(__file__).resolve().parent.parent / "data" / "labels.txt")
CROPS = 10


@dataclass(frozen=True)
class Guess:
    """A class that the picture may show; `number` counts from 0."""

    number: int
    name: str
    probability: float


def predict(args: argparse.Namespace) -> None:
    """Do what predict.py was asked for; raises ToolError where it cannot."""
    pictures, many = find_pictures(args.images), len(args.images) > 1 or args.images[0].is_dir()
    output = _output(args.output, pictures[0], many)
    if args.show and many:
        raise ToolError("--show opens the drawing of one picture; give one picture, or leave --show out")
    net = open_net(args.deploy, args.model, args.size, args.resize, args.gpu)
    set_mean(net, args.mean, args.size)
    names = class_names(args.labels, net.blobs[net.outputs[0]].data[0].size)
    rows, unread = [], 0
    for path in tqdm(pictures, unit=" pictures", disable=None if many else True):
        try:
            picture = load_picture(path)
        except ToolError as error:
            if not many:
                raise
            unread += 1
            tqdm.write(f"predict.py: {error}", file=sys.stderr)
            continue
        rows.append((path, best(probabilities(net, picture, args.center_only), names, args.top)))
    print(_as_json(rows) if args.json else _as_text(rows, many))
    if output is not None and many:
        write_whole(output, _as_csv(rows, args.top))
    elif output is not None:
        first = rows[0][1][0]
        save_figure(draw_prediction(picture, f"{first.name}: {first.probability:.4f}"), output)
        print(output, file=sys.stderr if args.json else sys.stdout)
        if args.show and not webbrowser.open(output.resolve().as_uri()):
            _note(f"no program to show {output} with")
    if unread:
        raise ToolError(f"{unread} of {len(pictures)} pictures could not be read; the others are done")


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures themselves and, in order of name, those in the folders."""
    pictures: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ToolError(f"{path}: no such picture or folder")
        inside = (
            [child for child in sorted(path.iterdir()) if child.suffix.lower() in PICTURES] if path.is_dir() else [path]
        )
        if not inside:
            raise ToolError(f"{path}: no picture in this folder; looked for {', '.join(PICTURES)}")
        pictures += inside
    return pictures


def _output(given: Path | None, picture: Path, many: bool) -> Path | None:
    """The file to write: a table for many pictures where one is asked for, a picture for one."""
    if given is None:
        return None if many else Path(f"{picture.stem}-prediction.png")
    expected = (".csv",) if many else SUFFIXES
    if given.suffix.lower() not in expected:
        what = "several pictures make a table" if many else "one picture makes a picture"
        raise ToolError(f"--output {given}: {what}; let the name end with {', '.join(expected)}")
    return given


def open_net(deploy: Path, model: Path, size: int, resize: int = 256, gpu: int | None = None) -> Any:
    """The net as a caffe.Classifier without a mean, on the CPU unless `gpu` is the number of a device.

    Raises ToolError where the files do not make a net of one input of `size` x `size`, or do not fit.
    """
    if resize < size:
        raise ToolError(f"pictures resized to {resize} cannot be cropped to {size}; give --resize {size} or more")
    for path in (deploy, model):
        if not path.is_file():
            raise ToolError(f"{path}: no such file")
    with told(f"--gpu {gpu}", Exception):
        use_device(gpu)
    net = picture_net("Classifier", deploy, model, raw_scale=255, channel_swap=(2, 1, 0))
    if len(net.inputs) > 1:
        raise ToolError(
            f"{deploy} has {len(net.inputs)} inputs, {', '.join(net.inputs)}; give a net with one, of pictures"
        )
    height, width = net.blobs[net.inputs[0]].data.shape[2:]
    if (height, width) != (size, size):
        raise ToolError(
            f"{deploy} takes {height}x{width} pixels, not {size}x{size}; give {height}, or change its input"
        )
    check_weights(net, deploy, model)
    _check_outputs(net, deploy)
    net.image_dims = np.array((resize, resize))
    return net


def _check_outputs(net: Any, deploy: Path) -> None:
    """Raise ToolError where the output is no score a class, and say which of several is taken."""
    name, *others = net.outputs
    shape = net.blobs[name].data.shape
    if np.prod(shape[2:]) > 1:
        raise ToolError(
            f"{deploy}: output '{name}' is {'x'.join(map(str, shape))}, with a score for each place of the picture; "
            "give a net with one score a class"
        )
    if others:
        _note(f"of the outputs {', '.join(net.outputs)} of {deploy} '{name}' is taken")


def set_mean(net: Any, mean: str, size: int) -> None:
    """Let the net's pictures lose a mean: see `load_mean`."""
    net.transformer.set_mean(net.inputs[0], load_mean(mean, size))


def load_mean(text: str, size: int) -> NDArray[np.float64]:
    """A mean in BGR: values "104,117,123" as [3], or a .npy or .binaryproto file, cut to [3, size, size].

    A mean picture is cropped at its centre. Raises ToolError where the text or the file is none of these.
    """
    path = Path(text)
    if path.suffix not in (".npy", ".binaryproto"):
        return _mean_values(text)
    mean = mean_picture(path)
    if mean.shape == (3,):
        return mean
    if mean.ndim != 3 or len(mean) != 3 or min(mean.shape[1:]) < size:
        shape = "x".join(map(str, mean.shape))
        raise ToolError(
            f"{path} is {shape}, expected 3 values or 3xHxW of at least {size}x{size} pixels; give such a mean"
        )
    top, left = ((side - size) // 2 for side in mean.shape[1:])
    return mean[:, top : top + size, left : left + size]


def _mean_values(text: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(value) for value in text.split(",")])
    except ValueError:
        values = np.empty(0)
    if len(values) not in (1, 3):
        raise ToolError(f"'{text}' is not a mean; give a .npy or .binaryproto file, or blue,green,red as 104,117,123")
    return np.broadcast_to(values, 3)


def mean_picture(path: Path) -> NDArray[np.float64]:
    """The array in a .npy or .binaryproto file, [c, h, w] for one of [1, c, h, w].

    Raises ToolError where the file holds none.
    """
    content, caffe = path.read_bytes(), load_caffe()
    try:
        if path.suffix == ".npy":
            mean = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            mean = caffe.io.blobproto_to_array(caffe.proto.caffe_pb2.BlobProto.FromString(content))
        mean = np.asarray(mean, np.float64)
    except Exception as error:  # numpy and protobuf raise many kinds on a file that is something else
        raise ToolError(f"{path} is not a mean picture ({error}); give a .npy or .binaryproto file that is") from error
    return mean[0] if mean.ndim == 4 and len(mean) == 1 else mean


def class_names(labels: Path | None, classes: int) -> list[str]:
    """A name for each of the net's outputs: from `labels`, else from data/labels.txt, else by number.

    Raises ToolError where `labels` has another number of names, one a line, or a file has none.
    """
    path = labels or next(filter(Path.is_file, LABELS), None)
    if path is None:
        problem = "no data/labels.txt"
    else:
        names = read_names(path)
        if len(names) == classes:
            return names
        problem = f"{path} has {len(names)} names, the net has {classes} outputs"
    if labels is not None:
        raise ToolError(f"{problem}; give a file with one name a line, in the order of the outputs")
    _note(f"{problem}; classes are told by number, --labels FILE gives names")
    return [f"class {number}" for number in range(classes)]


def load_picture(path: Path) -> NDArray[np.float32]:
    """A picture [h, w, 3], RGB in 0..1; raises ToolError where it is none."""
    try:
        return np.asarray(load_caffe().io.load_image(str(path)), np.float32)
    except Exception as error:  # the decoders behind a pycaffe raise a dozen kinds
        raise ToolError(f"{path} is not a picture that can be read; give a JPEG, PNG or the like") from error


def probabilities(net: Any, picture: NDArray[np.floating], center_only: bool = False) -> NDArray[np.float64]:
    """The probability of each class, [classes]: the average over ten crops, or the centre's alone.

    A net that ends in scores, without a Softmax layer, has the softmax of its average scores taken here.
    Raises ToolError where the outputs are no numbers.
    """
    entry = net.blobs[net.inputs[0]]
    entry.reshape(1 if center_only else CROPS, *entry.data.shape[1:])
    result = np.asarray(net.predict([picture], oversample=not center_only), np.float64).reshape(-1)
    if not np.isfinite(result).all():
        raise ToolError(f"the net's output '{net.outputs[0]}' holds nan or inf: its training has diverged")
    if result.min() < 0 or abs(result.sum() - 1) > 1e-3:
        result = softmax(result)
    return result


def best(chances: NDArray[np.float64], names: Sequence[str], top: int) -> list[Guess]:
    """The `top` most probable classes, the most probable first; the lower number first of equals."""
    order = np.argsort(-chances, kind="stable")[:top]
    return [Guess(int(number), names[number], float(chances[number])) for number in order]


Rows = Sequence[tuple[Path, Sequence[Guess]]]


def _as_text(rows: Rows, many: bool) -> str:
    if many:
        return "\n".join(f"{path}: {guesses[0].name} {guesses[0].probability:.4f}" for path, guesses in rows)
    return "\n".join(f"{guess.probability:.4f}  {guess.name}" for _, guesses in rows for guess in guesses)


def _as_json(rows: Rows) -> str:
    return json.dumps(
        [{"image": str(path), "guesses": [asdict(g) for g in guesses]} for path, guesses in rows], indent=2
    )


def _as_csv(rows: Rows, top: int) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", *(f"{what}_{rank}" for rank in range(1, top + 1) for what in ("name", "probability"))])
    for path, guesses in rows:
        writer.writerow([path, *(value for g in guesses for value in (g.name, f"{g.probability:.6f}"))])
    return table.getvalue().encode()


def _note(text: str) -> None:
    print(f"predict.py: {text}", file=sys.stderr)
