"""A pycaffe Classifier or Detector over many pictures or windows: the work of classify.py and detect.py."""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from oxford102.classify import load_picture, mean_picture
from oxford102.errors import ToolError, told
from oxford102.files import check_folder, write_whole
from oxford102.runtime import check_weights, load_caffe, picture_net

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "bvlc_reference_caffenet"
CORNERS = ("ymin", "xmin", "ymax", "xmax")
HDF5 = (".h5", ".hdf5", ".hdf")
AT_ONCE = 200  # pictures or windows that are in memory together

Window = tuple[str, NDArray[np.int64]]  # the picture's name; ymin, xmin, ymax, xmax


def add_net_flags(cli: argparse.ArgumentParser) -> None:
    """The flags that say which net scores, and how pictures are prepared for it."""
    what = f"the net's prototxt (models/{MODEL.name}/deploy.prototxt)"
    cli.add_argument("--model_def", type=Path, metavar="NET", default=MODEL / "deploy.prototxt", help=what)
    weights = MODEL / "bvlc_reference_caffenet.caffemodel"
    cli.add_argument(
        "--pretrained_model", type=Path, metavar="MODEL", default=weights, help="its weights (the .caffemodel there)"
    )
    cli.add_argument("--gpu", action="store_true", help="compute on the GPU")
    what = "mean picture (.npy, .binaryproto), used as each channel's mean; '' for none (data/imagenet_mean.npy)"
    cli.add_argument("--mean_file", default=str(ROOT / "data" / "imagenet_mean.npy"), metavar="FILE", help=what)
    cli.add_argument("--input_scale", type=float, metavar="X", help="factor after the mean is subtracted")
    cli.add_argument("--raw_scale", type=float, default=255.0, metavar="X", help="factor before that (255)")
    what = "order of the channels; '' keeps red, green, blue (2,1,0: blue first)"
    cli.add_argument("--channel_swap", type=whole_numbers, default="2,1,0", metavar="ORDER", help=what)


def whole_numbers(text: str) -> list[int] | None:
    """The numbers of "2,1,0"; None of an empty text."""
    try:
        return [int(number) for number in text.split(",")] if text else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected whole numbers with commas between, as 256,256") from None


def height_and_width(text: str) -> list[int]:
    """The numbers of "256,256"."""
    numbers = whole_numbers(text)
    if numbers is None or len(numbers) != 2 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected height,width in pixels, as 256,256")
    return numbers


def open_net(kind: str, args: argparse.Namespace, **more: Any) -> Any:
    """The caffe.Classifier or caffe.Detector that the flags describe; raises ToolError where there is none."""
    for flag in ("model_def", "pretrained_model"):
        if not getattr(args, flag).is_file():
            raise ToolError(f"{getattr(args, flag)}: no such file; name the right one with --{flag}")
    mean = channel_means(Path(args.mean_file)) if args.mean_file else None
    caffe = load_caffe()
    with told("--gpu", Exception):
        caffe.set_mode_gpu() if args.gpu else caffe.set_mode_cpu()
    print("GPU mode" if args.gpu else "CPU mode")
    more |= {"mean": mean, "channel_swap": args.channel_swap}
    more |= {"input_scale": args.input_scale, "raw_scale": args.raw_scale}
    net = picture_net(kind, args.model_def, args.pretrained_model, **more)
    check_weights(net, args.model_def, args.pretrained_model)
    return net


def channel_means(path: Path) -> NDArray[np.float64]:
    """The mean of each channel of a mean picture [c, h, w], as [c]; raises ToolError where the file holds none."""
    if not path.is_file():
        raise ToolError(f"{path}: no such file; name one with --mean_file, or give --mean_file '' for no mean")
    mean = mean_picture(path)
    if mean.ndim not in (1, 3):
        raise ToolError(f"{path} is {'x'.join(map(str, mean.shape))}, expected channels x height x width")
    return mean.reshape(len(mean), -1).mean(1)


# Pictures


def classify(args: argparse.Namespace) -> None:
    """Do what classify.py was asked for: write the scores [pictures, classes] as a .npy file."""
    output = args.output_file if args.output_file.suffix == ".npy" else Path(f"{args.output_file}.npy")
    check_folder(output)
    inputs = find_inputs(args.input_file, args.ext)
    net = open_net("Classifier", args, image_dims=args.images_dim)
    print(f"Loading {'folder' if args.input_file.is_dir() else 'file'}: {args.input_file}")
    print(f"Classifying {len(inputs)} inputs.")
    start = time.monotonic()
    scores = []
    for chunk in _chunks(inputs, " pictures"):
        pictures = [load_picture(entry) if isinstance(entry, Path) else entry for entry in chunk]
        with told(str(args.model_def), Exception):
            scores.append(net.predict(pictures, not args.center_only))
    print(f"Done in {time.monotonic() - start:.2f} s.")
    print(f"Saving results into {output}")
    content = io.BytesIO()
    np.save(content, np.concatenate(scores))
    write_whole(output, content.getvalue())


def find_inputs(path: Path, ext: str) -> Sequence[Any]:
    """The pictures of a .npy file [n, h, w, k], those of a folder that end in .`ext`, by name, or the one of a file."""
    if not path.exists():
        raise ToolError(f"{path}: no such picture, folder or .npy file")
    if path.is_dir():
        names = sorted(name for name in path.iterdir() if fnmatch(name.name, f"*.{ext}"))
        if not names:
            raise ToolError(f"{path}: no picture that ends in .{ext} in this folder; --ext names another ending")
        return names
    if not path.name.endswith("npy"):
        return [path]
    try:
        pictures = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ToolError(f"{path} is not a .npy file of numbers ({error})") from error
    if pictures.ndim != 4 or not len(pictures):
        shape = "x".join(map(str, pictures.shape))
        raise ToolError(f"{path} is {shape}, expected pictures x height x width x channels, RGB from 0 to 1")
    return list(np.asarray(pictures, np.float32))


def _chunks(items: Sequence[Any], unit: str) -> Iterator[Sequence[Any]]:
    """The items, so many at once, with a bar where there is more than one chunk of them."""
    with tqdm(total=len(items), unit=unit, disable=None if len(items) > AT_ONCE else True) as bar:
        for at in range(0, len(items), AT_ONCE):
            chunk = items[at : at + AT_ONCE]
            yield chunk
            bar.update(len(chunk))


# Windows


def detect(args: argparse.Namespace) -> None:
    """Do what detect.py was asked for: write the scores of windows as a .csv or .h5 file."""
    if args.output_file.suffix.lower() not in (".csv", *HDF5):
        raise ToolError(f"{args.output_file}: expected a name that ends in .csv or .h5")
    check_folder(args.output_file)
    wanted = ".csv" if args.crop_mode == "list" else ".txt"
    if args.input_file.suffix.lower() != wanted:
        what = "the windows as filename,xmin,ymin,xmax,ymax" if wanted == ".csv" else "one picture's name a line"
        raise ToolError(f"{args.input_file}: --crop_mode {args.crop_mode} takes a {wanted} file with {what}")
    start = time.monotonic()
    print("Loading input...")
    with told(str(args.input_file), Exception):
        if args.crop_mode == "list":
            windows = read_windows(args.input_file)
            found = _score_windows(open_net("Detector", args, context_pad=args.context_pad), windows)
        else:
            names = [name for name in args.input_file.read_text(encoding="utf-8").splitlines() if name.strip()]
            found = open_net("Detector", args, context_pad=args.context_pad).detect_selective_search(names)
    print(f"Processed {len(found)} windows in {time.monotonic() - start:.3f} s.")
    start = time.monotonic()
    write_detections(args.output_file, found)
    print(f"Saved to {args.output_file} in {time.monotonic() - start:.3f} s.")


def read_windows(path: Path) -> list[Window]:
    """The windows of a .csv file with the columns filename, xmin, ymin, xmax, ymax, those of a picture together.

    Raises ToolError, naming the line, where a column is missing or the numbers are no window.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        missing = [name for name in ("filename", *CORNERS) if name not in names]
        if missing:
            raise ToolError(
                f"{path}: no column {', '.join(missing)}; the first line names filename,xmin,ymin,xmax,ymax"
            )
        windows = [(row["filename"], _corners(row, f"{path}, line {rows.line_num}")) for row in rows]
    if not windows:
        raise ToolError(f"{path}: no window in it; give lines of filename,xmin,ymin,xmax,ymax")
    order = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in windows))}
    return sorted(windows, key=lambda window: order[window[0]])


def _corners(row: dict[str, str], place: str) -> NDArray[np.int64]:
    try:
        window = np.array([int(row[name]) for name in CORNERS])
    except (TypeError, ValueError):
        raise ToolError(f"{place}: expected whole numbers of pixels for {', '.join(CORNERS)}") from None
    if window[0] >= window[2] or window[1] >= window[3] or window.min() < 0:
        raise ToolError(f"{place}: {dict(zip(CORNERS, window.tolist(), strict=True))} is no window of a picture")
    return window


def _score_windows(net: Any, windows: Sequence[Window]) -> list[dict[str, Any]]:
    """What the net says of each window, a chunk at a time."""
    side = net.blobs[net.inputs[0]].data.shape[3]
    if 2 * (net.context_pad or 0) >= side:
        raise ToolError(
            f"--context_pad {net.context_pad} leaves nothing of the net's input, which is {side} pixels wide"
        )
    found: list[dict[str, Any]] = []
    for chunk in _chunks(windows, " windows"):
        pictures = [(name, [corners for _, corners in group]) for name, group in groupby(chunk, lambda w: w[0])]
        found += net.detect_windows(pictures)
    return found


def write_detections(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write what caffe.Detector found: a table of class scores as .csv, or as .h5 three arrays side by side.

    The arrays are `filename` [n], `window` [n, 4] (ymin, xmin, ymax, xmax) and `prediction` [n, classes].
    """
    names = [entry["filename"] for entry in found]
    windows = np.array([entry["window"] for entry in found]).reshape(-1, 4)
    scores = np.array([np.ravel(entry["prediction"]) for entry in found])
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["filename", *CORNERS, *(f"class{number}" for number in range(scores.shape[-1]))])
        table.writerows([name, *window, *row] for name, window, row in zip(names, windows, scores, strict=True))
        write_whole(path, text.getvalue().encode())
        return
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("filename", data=names, dtype=h5py.string_dtype())
        file.create_dataset("window", data=windows).attrs["columns"] = CORNERS
        file.create_dataset("prediction", data=scores)
    write_whole(path, content.getvalue())
