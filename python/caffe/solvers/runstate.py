"""What Caffe's own files cannot hold and an exact resumption needs: random state, reading positions, what layers carry.

It lies beside the snapshot as ``PREFIX_iter_N.runstate``, in JSON. Without it a run resumes as with BVLC Caffe:
same weights, history and iteration, but data read from its start and random numbers drawn anew.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caffe import glog, rng
from caffe.errors import CaffeError, FormatError
from caffe.proto.binary import whole_file

if TYPE_CHECKING:
    from caffe.layers.base import Layer
    from caffe.net import Net
    from caffe.solvers.solver import Solver


def path_beside(state_file: str) -> Path:
    """The run state that belongs to a ``.solverstate`` or ``.solverstate.h5``."""
    return Path(state_file.removesuffix(".h5").removesuffix(".solverstate") + ".runstate")


def take(solver: Solver) -> dict[str, Any]:
    """The run state as it is now, in plain values."""
    nets = (solver.net, *solver.test_nets)
    return {
        "random": _encode(rng.state()),
        "readers": [{name: layer.state() for name, layer in _named(net) if layer.is_data} for net in nets],
        "memory": [
            {name: [v.tolist() for v in layer.memory] for name, layer in _named(net) if layer.memory} for net in nets
        ],
    }


def write(solver: Solver, state_file: str) -> None:
    """Write the run state that belongs to ``state_file``: that from before a test, where one is under way."""
    with whole_file(str(path_beside(state_file))) as file:
        file.write(json.dumps(solver.before_test or take(solver)).encode())


def restore(solver: Solver, state_file: str) -> None:
    """Take random state, reading positions and memory up again, where the file for it is there.

    Raises:
        FormatError: the file is there but cannot be read.
        DataError: a position belongs to other data.
    """
    path = path_beside(state_file)
    if not path.exists():
        glog.warning(
            "solver.cpp:517",
            f"There is no {path} beside the snapshot: data is read from its start and random numbers are drawn anew.",
        )
        return
    try:
        state = json.loads(path.read_bytes())
        rng.restore(_decode(state["random"]))
        for net, positions in zip((solver.net, *solver.test_nets), state["readers"], strict=False):
            for name, layer in _named(net):
                if layer.is_data and name in positions:
                    layer.restore(positions[name])
        for net, carried in zip((solver.net, *solver.test_nets), state.get("memory", []), strict=False):
            for name, layer in _named(net):
                layer.memory = [torch.tensor(values, device=net.device) for values in carried.get(name, ())]
    except CaffeError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as problem:
        raise FormatError(
            f"{path}: not a run state that this version wrote ({problem}); remove the file to resume without it"
        ) from problem


def _named(net: Net) -> Iterator[tuple[str, Layer]]:
    """The net's layers by name; those of a name that came before get a number after it."""
    seen: Counter[str] = Counter()
    for layer in net.wired:
        seen[layer.name] += 1
        yield layer.name if seen[layer.name] == 1 else f"{layer.name}#{seen[layer.name]}", layer


def _encode(random: dict[str, Any]) -> dict[str, str]:
    """Generator states, which are byte tensors, as text."""
    states = {"host": random["host"], **random["devices"]}
    return {name: b64encode(state.numpy().tobytes()).decode() for name, state in states.items()}


def _decode(text: dict[str, str]) -> dict[str, Any]:
    states = {k: torch.from_numpy(np.frombuffer(b64decode(v), np.uint8).copy()) for k, v in text.items()}
    return {"host": states.pop("host"), "devices": states}
