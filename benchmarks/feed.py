"""The inputs of timed calls: every call gets one that the engine has not seen, so that remembering never pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

SWAPS = 8
"""Pairs of elements that change places in an integer input."""
KEPT = 1024
"""Elements of an output that are compared, evenly spread; a language model's logits would be megabytes a call."""


class Feed:
    """Fresh inputs from a pool of real ones, in buffers that are filled anew before each call.

    Args:
        pool: named arrays of equal shapes, one mapping for each distinct input.
        seed: of the order and of what is changed.
    """

    def __init__(self, pool: Sequence[Mapping[str, np.ndarray]], seed: int) -> None:
        self._pool = pool
        self._held = {name: np.array(array) for name, array in pool[0].items()}
        self._random = np.random.default_rng(seed)
        self._widest = max(self._held, key=lambda name: self._held[name].size)
        sample = [inputs[self._widest] for inputs in pool]
        self._floats = np.issubdtype(self._held[self._widest].dtype, np.floating)
        self._lowest = float(min(map(np.min, sample)))
        self._largest = float(max(map(np.max, sample)))

    def fresh(self, calls: int, untouched: int | None = None) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """For each call the pool's index and the buffers, one or a few elements changed; call `untouched` gets its as it is.

        The buffers are the same objects at every call: an engine that goes by their identity answers stale.
        """
        held = self._held[self._widest].reshape(-1)
        chosen = self._random.integers(len(self._pool), size=calls)
        places = self._random.integers(held.size, size=(calls, 2 * SWAPS))
        values = self._random.uniform(self._lowest, self._largest, size=calls)
        for call in range(calls):
            index = int(chosen[call])
            for name, array in self._pool[index].items():
                np.copyto(self._held[name], array)
            if call != untouched and self._floats:
                held[places[call, 0]] = values[call]
            elif call != untouched:
                held[places[call]] = held[places[call, ::-1]]
            yield index, self._held

    def twice(self, calls: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Each of `calls` fresh inputs, and at once the same again; the buffers are filled anew for both."""
        for index, inputs in self.fresh(calls):
            seen = {name: array.copy() for name, array in inputs.items()}
            for _ in range(2):
                for name, array in seen.items():
                    np.copyto(self._held[name], array)
                yield index, self._held


def kept(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most KEPT elements of each output, evenly spread, as float64 of shape (elements,)."""
    flat = {name: np.asarray(output).reshape(-1) for name, output in outputs.items()}
    return {name: values[:: -(-values.size // KEPT) or 1].astype(np.float64) for name, values in flat.items()}
