"""Random numbers of the process: the one place that `random_seed` and `caffe.set_random_seed` reach.

Fillers and seeds of readers are drawn on the host, so that a net starts from the same weights and reads
the same pictures wherever it runs; dropout masks are drawn on the net's device.
"""

from __future__ import annotations

from typing import Any

import torch

_host = torch.Generator()
_host.seed()
_devices: dict[torch.device, torch.Generator] = {}


def set_random_seed(seed: int) -> None:
    """Seed everything random that happens from here on (pycaffe's `set_random_seed`)."""
    _host.manual_seed(int(seed))
    _devices.clear()


def next_seed() -> int:
    """Draw a seed in [0, 2**31) for a reader or a device from the process's generator."""
    return int(torch.randint(2**31, (), generator=_host))


def generator(device: torch.device | None = None) -> torch.Generator:
    """Give the generator of ``device``; the host's by default. A GPU's is seeded from the host's."""
    if device is None or device.type == "cpu":
        return _host
    if device not in _devices:
        _devices[device] = torch.Generator(device).manual_seed(next_seed())
    return _devices[device]


def state() -> dict[str, Any]:
    """Everything needed to go on drawing the same numbers later; `restore` takes it back."""
    return {"host": _host.get_state(), "devices": {str(d): g.get_state() for d, g in _devices.items()}}


def restore(saved: dict[str, Any]) -> None:
    """Go on from what `state` returned."""
    _host.set_state(saved["host"])
    _devices.clear()
    for name, value in saved["devices"].items():
        device = torch.device(name)
        _devices[device] = torch.Generator(device)
        _devices[device].set_state(value)
