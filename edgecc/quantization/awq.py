"""AWQ: terms whose operands are large are scaled up before weights are rounded, and their operands down, so that they lose less.

Lin et al., "AWQ: Activation-aware weight quantization for on-device LLM compression and acceleration", 2023, section 3.2: scales are
s = mean(|x|)^alpha for each term, and alpha is the one of a grid with the least error of the product, here computed from the
second moments of the operand instead of from samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.blocks import BlockForm, round_to_nearest

STEPS = 20
"""Values of alpha that are tried, evenly from 0 on."""


def awq_scales(products: Sequence[Array], form: BlockForm, gram: Array, magnitude: Array) -> Array:
    """Factors for the terms, float64 [terms], common to all products with one operand; ones where nothing else is better.

    Args:
        products: the weights [channels, terms] of each product. gram: sum of x x' over the operand's rows; magnitude: of |x|.
    """
    best, least = np.ones(magnitude.shape), _error(products, np.ones(magnitude.shape), form, gram)
    floor = max(float(magnitude.max(initial=0.0)) * 1e-4, 1e-30)
    for step in range(1, STEPS):
        scales = np.maximum(magnitude, floor) ** (step / STEPS)
        scales = scales / np.sqrt(scales.max() * scales.min())
        error = _error(products, scales, form, gram)
        if error < least:
            best, least = scales, error
    return best


def _error(products: Sequence[Array], scales: Array, form: BlockForm, gram: Array) -> float:
    total = 0.0
    for weights in products:
        difference = round_to_nearest(weights * scales, form).real / scales - weights
        total += float(np.einsum("nk,nk->", difference @ gram, difference))
    return total
