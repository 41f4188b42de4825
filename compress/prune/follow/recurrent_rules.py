"""Rules of recurrent layers: hidden unit j is row j of every gate, and column j of the recurrent weights. See rules.py.

With zero rows and a zero state, a unit stays zero: its candidate is tanh(0). PyTorch's LSTM, GRU and RNN know one
`hidden_size`, so unit j goes from all layers and both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.follow.site import Axes, Followed, Site, unknown

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1, "lstm_cell": 4, "gru_cell": 3, "rnn_tanh_cell": 1}
"""Blocks of rows in the weights."""


def recurrent(
    at: Site,
    x: Followed,
    states: Any,
    parameters: Any,
    has_biases: Any,
    layers: int,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> list[Axes]:
    """lstm, gru, rnn over a sequence: the output has the hidden units of both directions, one after the other."""
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    packed = not isinstance(parameters, tuple) or not isinstance(has_biases, bool)
    if packed or len(parameters) != layers * directions * each:  # a projection adds a weight to each
        unknown(at, x, states, parameters, has_biases)
        return []
    at.keep(x.axes[:-1], "it mixes positions")
    inputs, unit = x.axes[-1], None
    for layer in range(layers):
        for direction in range(directions):
            start = (layer * directions + direction) * each
            unit = _cell(at, inputs, parameters[start : start + each], unit)
        inputs = None if unit is None else np.concatenate([unit] * directions)
    given = states if isinstance(states, tuple) else (states,)
    if unit is not None and not all(state.made_in == at.module and not state.followed for state in given):
        at.keep([unit, *(axis for state in given for axis in state.axes)], "its first state comes from outside")
    last: Axes = (None,) * (len(x.shape) - 1)
    return [(*last, inputs), *[(*last, unit)] * len(given)]


def cell(at: Site, x: Followed, states: Any, *parameters: Any) -> list[Axes]:
    """lstm_cell, gru_cell, rnn_tanh_cell: one step, whose states are results of the step before or zeros of its own."""
    given = states if isinstance(states, tuple) else (states,)
    unit = _cell(at, x.axes[-1], [each for each in parameters if isinstance(each, Followed)], None)
    for state in given:
        if state.followed or state.made_in != at.module:
            unit = at.same(unit, state.axes[-1])
    return [(*x.axes[:-1], unit)] * len(given)


def _cell(at: Site, inputs: Axis, parameters: Sequence[Followed], unit: Axis) -> Axis:
    """The units of one direction of one layer, the same as `unit` if there is one."""
    from_input, from_hidden, *biases = parameters
    at.same(inputs, from_input.axes[1])
    at.channels.produce(from_input.axes[0])
    rows = [each.axes[0] for each in (from_input, from_hidden, *biases)]
    gates = [gate for ids in rows if ids is not None for gate in np.split(ids, GATES[at.operator])]
    return at.same(*gates, from_hidden.axes[1], *([] if unit is None else [unit]))
