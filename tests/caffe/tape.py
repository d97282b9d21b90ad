"""A stand-in for a CUDA graph, on the CPU: a tape of the operations on tensors.

It holds each with the memory that it reads and writes, and repeats them on that memory, whatever Python would have done
by then. What a GPU could not do alone, it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from caffe import rng
from caffe.solvers.captured import CudaGraph

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.is_nonzero.default}


class Tape(TorchDispatchMode):
    """Notes and repeats.

    What is noted is done as well; so that it is not, what ``persistent`` gives and random numbers are set back.
    """

    def __init__(self, persistent: Callable[[], list[torch.Tensor]]) -> None:
        super().__init__()
        self.persistent = persistent
        self.steps: list[Callable[[], None]] = []
        self.captures = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS or func is aten.lift_fresh.default:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results = func._schema.returns
        if all(result.alias_info is None for result in results):
            self.steps.append(lambda: self._again(func, args, kwargs, out))
        elif any(argument.alias_info and argument.alias_info.is_write for argument in func._schema.arguments):
            self.steps.append(lambda: func(*args, **kwargs))
        return out

    @staticmethod
    def _again(func: Any, args: Any, kwargs: Any, out: Any) -> None:
        new = func(*args, **kwargs)
        for old, values in zip(*((x if isinstance(x, (tuple, list)) else (x,)) for x in (out, new)), strict=True):
            if isinstance(old, torch.Tensor):
                old.detach().copy_(values)

    @contextmanager
    def scope(self) -> Iterator[None]:
        yield

    @contextmanager
    def capture(self) -> Iterator[None]:
        self.steps.clear()
        self.captures += 1
        before = rng.state()
        state = [(x, x.clone()) for x in self.persistent()]
        with self:
            yield
        rng.restore(before)
        for x, values in state:
            x.copy_(values)

    @torch.no_grad()
    def replay(self) -> None:
        for step in self.steps:
            step()


class CountedGraph(CudaGraph):
    """What a tape stands in for."""

    captures = 0

    @contextmanager
    def capture(self) -> Iterator[None]:
        self.captures += 1
        with super().capture():
            yield
