"""Sound random models: what is grown by recipes, with or without open dimensions, for `tests/fuzz/structured.py`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgecc.frontend.bind import Range
from tests.support.growth import PROBES, SYMBOLS, Array, Drawn, Growth
from tests.support.recipes_of_layers import RECIPES

OPSETS = (11, 13, 15, 17, 18, 19, 21, 22, 23, 24, 25)
TRIES = 40


@dataclass(frozen=True)
class Sound:
    """A model, how its inputs are filled, and the bounds of its open dimensions."""

    model: onnx.ModelProto
    inputs: Mapping[str, Drawn]
    shapes: Mapping[str, tuple[Range, ...]]

    def feeds(self, seed: int) -> Iterator[tuple[dict[str, int], dict[str, Array]]]:
        """Sizes and inputs: at the bounds and between; two sets of inputs where nothing is open."""
        between = {name: (low + high) // 2 for name, (low, high) in SYMBOLS.items()}
        corners = [{name: bounds[1] for name, bounds in SYMBOLS.items()}, {name: bounds[0] for name, bounds in SYMBOLS.items()}, between]
        for number, sizes in enumerate(corners if self.shapes else corners[:2]):
            yield sizes, self.feed(seed + number, sizes)

    def feed(self, seed: int, sizes: Mapping[str, int], *, wild: bool = False) -> dict[str, Array]:
        """Inputs of one run; with `wild` indices are out of range."""
        generator = np.random.default_rng(seed)
        return {name: drawn.draw(generator, sizes, wild=wild) for name, drawn in self.inputs.items()}


def sound_model(source: random.Random) -> Sound:
    """A model of one to about twelve nodes; every third has open dimensions."""
    is_open = source.randrange(3) == 0
    growth = Growth(source, source.choice(OPSETS), PROBES if is_open else PROBES[:1])
    for _ in range(source.choice((1, 1, 2))):
        dtype = np.dtype(source.choice((np.float32, np.float32, np.float32, np.float32, np.float16, np.float64)))
        growth.add_input(Drawn(source.choice(("quarters", "quarters", "positive")), dtype, _dims(source, is_open)))
    if source.randrange(3) == 0:
        growth.add_input(Drawn("quarters", np.dtype(source.choice((np.int64, np.int32, np.uint8, np.int8, np.int16, np.uint16, np.uint32))), _dims(source, is_open)))
    if source.randrange(4) == 0:
        growth.add_input(Drawn("bits", np.dtype(bool), source.choice(((), (2, 3)))))
    wanted = source.choice((1, 2, 3, 4, 6, 8, 12))
    for _ in range(TRIES):
        if len(growth.nodes) >= wanted:
            break
        source.choice(RECIPES)(growth)
    if not growth.nodes:
        growth.add("Identity", [growth.known[0]], exact=True)
    model = growth.model()
    used = {d for drawn in growth.inputs.values() for d in drawn.dims if isinstance(d, str)}
    return Sound(model, dict(growth.inputs), {name: (Range(*SYMBOLS[name]),) for name in SYMBOLS if name in used})


def _dims(source: random.Random, is_open: bool) -> tuple[int | str, ...]:
    dims: list[int | str] = [source.choice((1, 2, 3, 4, 5, 6)) for _ in range(source.choice((1, 2, 2, 3, 3, 4, 4)))]
    if is_open:
        for name in source.choice((("n",), ("m",), ("n", "m"))):
            dims[source.randrange(len(dims))] = name
    return tuple(dims)
