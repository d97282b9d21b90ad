"""Recurrent layers: RNN, LSTM and the single LSTM step."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch

from caffe import glog
from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.onednn import linear


def lstm_step(cell: torch.Tensor, gates: torch.Tensor, cont: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997): the new cell and the new output.

    Shapes: cell and output [..., D]; gates [..., 4·D] before their non-linearity: input, forget, output and
    new value; cont [..., 1], 0 where a sequence begins and nothing is to be remembered.
    """
    i, f, o, g = gates.chunk(4, -1)
    cell = cont * f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return cell, o.sigmoid() * cell.tanh()


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM for N streams.

    Shapes: bottoms cell [1, N, D], gates [1, N, 4·D] and continuation indicators [1, N] (without gradient);
    tops cell and output [1, N, D].
    """

    bottoms = (3, 3)
    tops = (2, 2)
    differentiable = (True, True, False)
    undifferentiable = "sequence indicators"

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        cell, gates, cont = bottoms
        fits = len(cell) == 3 and cell[0] == 1 and gates == (*cell[:2], 4 * cell[2]) and cont == cell[:2]
        if not fits:
            raise self.error(
                "Check failed: bottoms must be [1, N, D], [1, N, 4 * D] and [1, N]: they are "
                f"{', '.join(describe(shape) for shape in bottoms)}"
            )
        return [cell, cell]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        cell, gates, cont = bottoms
        return list(lstm_step(cell, gates, cont.detach().unsqueeze(-1)))


class _Recurrent(Layer):
    """What RNN and LSTM share: T steps over N streams, in each of which sequences follow one another.

    Shapes: bottoms x [T, N, ...]; cont [T, N], 0 where a stream begins a new sequence, else 1; where given,
    a static input [N, ...] that is added in every step; with ``expose_hidden`` the first states
    [1, N, D] each. Tops: the outputs [T, N, D]; with ``expose_hidden`` the last states [1, N, D] each.

    As in Caffe, where the states are not exposed the last ones of a batch are the first ones of the next; no
    gradient flows through first or last states.
    """

    bottoms = (2, None)
    tops = (1, None)
    undifferentiable = "sequence indicators"
    states: ClassVar[int]
    gates: ClassVar[int]  # rows of a weight for each value of the state

    def flows_to(self, bottom: int) -> bool:
        return bottom != 1

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, x = self.param.recurrent_param, bottoms[0]
        if p.num_output <= 0:
            raise self.error("Check failed: num_output > 0 num_output must be positive")
        self._check_counts(self.states if p.expose_hidden else 0)
        if len(x) < 3:
            raise self.error(
                "bottom[0] must have at least 2 axes -- (#timesteps, #streams, ...), and one of values: it is "
                f"{describe(x)}"
            )
        self.steps, self.waits = x[0], p.debug_info  # which logs every state
        glog.info(
            "recurrent_layer.cpp:20",
            f"Initializing recurrent layer: assuming input batch contains {x[0]} timesteps of {x[1]} "
            "independent streams.",
        )
        self._make_blobs(prod(x[2:]), prod(bottoms[2][1:]) if self.static else None)

    def _check_counts(self, exposed: int) -> None:
        bottoms, tops = len(self.param.bottom), len(self.param.top)
        if not 2 + exposed <= bottoms <= 3 + exposed:
            raise self.error(f"takes {2 + exposed} bottom blobs, or {3 + exposed} with a static input; not {bottoms}")
        if tops != 1 + exposed:
            raise self.error(
                f"Check failed: ExactNumTopBlobs() == top.size() ({1 + exposed} vs. {tops}) {self.type} Layer "
                f"produces {1 + exposed} top blob(s) as output."
            )
        self.static = bottoms == 3 + exposed

    def _make_blobs(self, inputs: int, static: int | None) -> None:
        """Add the weights of so many values of x, the biases, the weights of the static input and of the state."""
        p = self.param.recurrent_param
        rows = self.gates * p.num_output
        self.add_blob((rows, inputs), p.weight_filler)
        self.add_blob((rows,), p.bias_filler)
        if static is not None:
            self.add_blob((rows, static), p.weight_filler)
        self.add_blob((rows, p.num_output), p.weight_filler)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, x, cont = self.param.recurrent_param, bottoms[0], bottoms[1]
        if x[:1] != (self.steps,):
            raise self.error(
                f"Check failed: T_ == bottom[0]->shape(0) input number of timesteps changed from {self.steps}: "
                f"bottom 0 is {describe(x)}"
            )
        if cont != x[:2]:
            raise self.error(
                "bottom[1] must have exactly 2 axes -- (#timesteps, #streams): it is "
                f"{describe(cont)} where bottom 0 is {describe(x)}"
            )
        self._check_inputs(x, bottoms[2] if self.static else None)
        state = (1, x[1], p.num_output)
        exposed = self.states if p.expose_hidden else 0
        for i in range(2 + self.static, 2 + self.static + exposed):
            if bottoms[i] != state:
                raise self.error(
                    f"bottom[{i}] shape must match hidden state input shape: {describe(state)}, it is "
                    f"{describe(bottoms[i])}"
                )
        return [(self.steps, *state[1:]), *[state] * exposed]

    def _check_inputs(self, x: Shape, static: Shape | None) -> None:
        """Refuse inputs that the weights are not for."""
        given = [("bottom 0", x[2:], 0)]
        if static is not None:
            if static[:1] != x[1:2] or len(static) < 2:
                raise self.error(f"the static input must be [{x[1]}, ...], one for a stream: it is {describe(static)}")
            given.append(("the static input", static[1:], 2))
        for what, values, weight in given:
            if prod(values) != self.blobs[weight].shape[1]:
                raise self.error(
                    f"Check failed: K_ == new_K Input size incompatible with inner product parameters: {what} has "
                    f"{prod(values)} values a step, the weights are for {self.blobs[weight].shape[1]}"
                )

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, x, cont = self.param.recurrent_param, bottoms[0], bottoms[1].detach()
        given = linear(x.flatten(2), self.weight(0), self.weight(1))  # [t, n, d or 4d]
        if self.static:
            given = given + linear(bottoms[2].flatten(1), self.weight(2))
        if p.expose_hidden:
            states = [state.detach() for state in bottoms[-self.states :]]
        else:
            states = [state.clone() for state in self._remembered(x.shape[1])]
        outputs = []
        for t in range(self.steps):
            states = self._step(given[t : t + 1], states, cont[t : t + 1].unsqueeze(-1))
            outputs.append(states[0])
            if p.debug_info:
                self._log(t + 1, states)
        last = [state.detach() for state in states]
        for kept, state in zip(self.memory, last, strict=False):
            kept.copy_(state)
        return [self._output(torch.cat(outputs)), *(last if p.expose_hidden else [])]

    def _remembered(self, streams: int) -> list[torch.Tensor]:
        """The last states of the batch before, zeros for the first."""
        shape = 1, streams, self.param.recurrent_param.num_output
        if not self.memory or self.memory[0].shape != shape:
            self.memory = [torch.zeros(shape, device=self.device) for _ in range(self.states)]
        return self.memory

    def _log(self, step: int, states: Sequence[torch.Tensor]) -> None:
        for name, state in zip("hc", states, strict=False):
            mean = float(state.detach().abs().mean())
            glog.info("net.cpp:593", f"    [Forward] Layer {self.name}, top blob {name}_{step} data: {mean:g}")

    def _step(self, given: torch.Tensor, states: list[torch.Tensor], cont: torch.Tensor) -> list[torch.Tensor]:
        """Next states, the hidden one first, from the weighted input [1, N, ...] and the states before."""
        raise NotImplementedError

    def _output(self, hidden: torch.Tensor) -> torch.Tensor:
        """Top from the hidden states [T, N, D]."""
        return hidden


@register("LSTM")
class LSTM(_Recurrent):
    """Long short-term memory; the output is the hidden state.

    Blobs: W_xc [4·D, inputs], b_c [4·D], with a static input W_xc_static [4·D, its values], W_hc [4·D, D];
    their rows are the input, forget and output gates and the new value. States: hidden, cell.
    """

    states = 2
    gates = 4

    def _step(self, given: torch.Tensor, states: list[torch.Tensor], cont: torch.Tensor) -> list[torch.Tensor]:
        hidden, cell = states
        gates = given + linear(hidden * cont, self.weight(len(self.blobs) - 1))
        cell, hidden = lstm_step(cell, gates, cont)
        return [hidden, cell]


@register("RNN")
class RNN(_Recurrent):
    """Simple recurrence: h_t = tanh(W_xh · x_t + W_hh · cont_t · h_{t−1} + b_h), output tanh(W_ho · h_t + b_o).

    Blobs: W_xh [D, inputs], b_h [D], with a static input W_xh_static [D, its values], W_hh [D, D],
    W_ho [D, D], b_o [D]. State: hidden.
    """

    states = 1
    gates = 1

    def _make_blobs(self, inputs: int, static: int | None) -> None:
        super()._make_blobs(inputs, static)
        p = self.param.recurrent_param
        self.add_blob((p.num_output, p.num_output), p.weight_filler)
        self.add_blob((p.num_output,), p.bias_filler)

    def _step(self, given: torch.Tensor, states: list[torch.Tensor], cont: torch.Tensor) -> list[torch.Tensor]:
        weight = self.weight(len(self.blobs) - 3)
        return [(given + linear(states[0] * cont, weight)).tanh()]

    def _output(self, hidden: torch.Tensor) -> torch.Tensor:
        n = len(self.blobs)
        return linear(hidden, self.weight(n - 2), self.weight(n - 1)).tanh()
