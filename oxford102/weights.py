"""The pretrained weights of the models: where each goes, what goes with it, and what helps where it is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oxford102.catalog import TORCHVISION, Weights
from oxford102.download import UnfetchedError, Want, summary
from oxford102.errors import ToolError
from oxford102.files import write_whole
from oxford102.mean import mean_proto

WEIGHTS_NAME = "pretrained-weights.caffemodel"  # in the folder of its model
CONVERTED = ", converted from torchvision's"  # ends the net's name in such caffemodels


@dataclass(frozen=True)
class Order:
    """A file to bring, what to say once it is there, and what to say where no place has it."""

    want: Want
    then: str = ""
    otherwise: str = ""


def orders(weights: Sequence[Weights], torchvision: Sequence[str], models: Path, data: Path) -> list[Order]:
    """The weights into their models' folders; their mean and the named files of torchvision into the data folder."""
    found = []
    for row in weights:
        target = models / row.model / WEIGHTS_NAME
        if _is_converted(target):
            print(f"{target}: already there{CONVERTED}")
            continue
        values = ", ".join(f"{value:g}" for value in row.mean_values)
        stand_in = _stand_in(row, models, data) if row.stand_in else ""
        found.append(Order(Want(row.asset, target), f"{target}: its mean_value (BGR): {values}", stand_in))
    means = {row.mean: None for row in weights if row.mean}
    found += [Order(Want(mean, data / mean.name)) for mean in means]
    for name in torchvision:
        asset = TORCHVISION[name].asset
        then = f"{data / asset.name}: to convert it: {_conversion(name, models, data)}"
        found.append(Order(Want(asset, data / asset.name), then))
    return found


def finish(orders: Iterable[Order], outcomes: Mapping[Want, str | ToolError]) -> None:
    """Rebuild the .binaryproto of each mean and say what is next."""
    for order in orders:
        if isinstance(outcomes[order.want], str):
            if order.want.target.suffix == ".npy":
                _rebuild_proto(order.want.target)
            print(order.then, end="\n" if order.then else "")


def failures(orders: Iterable[Order], outcomes: Mapping[Want, str | ToolError]) -> str:
    """All that could not be brought, and what may help instead, in one message; "" where nothing failed."""
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, ToolError)]
    gone = [order for order in orders if isinstance(outcomes[order.want], UnfetchedError)]
    return "\n".join([summary(errors), *(order.otherwise for order in gone if order.otherwise)])


def _is_converted(path: Path) -> bool:
    """Whether `scripts/convert_torchvision.py` has written the file, whose first field is the net's name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return CONVERTED.encode() in file.read(128)


def _stand_in(row: Weights, models: Path, data: Path) -> str:
    """What helps where every place of a model's weights fails."""
    name = str(row.stand_in)
    return (
        f"Instead of {row.asset.name}, torchvision's weights can be converted:\n"
        f"  python bootstrap.py --torchvision {name}\n  {_conversion(name, models, data)}"
    )


def _conversion(name: str, models: Path, data: Path) -> str:
    """The command that makes a caffemodel of a file of torchvision."""
    row = TORCHVISION[name]
    source, target = (_short(path) for path in (data / row.asset.name, models / row.model / WEIGHTS_NAME))
    return f"python scripts/convert_torchvision.py {source} -o {target}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _rebuild_proto(path: Path) -> None:
    """The .binaryproto of a mean that is published as .npy, beside it."""
    proto = path.with_suffix(".binaryproto")
    if proto.exists():
        return
    try:
        mean = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ToolError(f"{path} is not a .npy file ({error}); delete it and run the command again") from error
    write_whole(proto, mean_proto(mean))
    print(f"{proto}: rebuilt from {path.name}")
