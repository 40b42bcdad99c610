"""GPTQ: weights are rounded term by term, and what each rounding did to the product is made up for by the terms still to come.

Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate post-training quantization for generative pre-trained transformers", 2022,
algorithm 1: in columns of the weights, with the Cholesky factor of the inverse of the operand's second moments, and updates of
far columns put together (lazy batch updates). The order of the columns is kept, since blocks of neighbours share a scale, which is
chosen when their first column is reached.
"""

from __future__ import annotations

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.blocks import BlockForm, BlockWeights, codes_of, grid

DAMPING = 0.01
"""What is added to the diagonal of the moments, times its mean (section 3.3 of the paper)."""

LAZY = 128
"""Columns whose effect on all later ones is put together."""


def gptq(weights: Array, form: BlockForm, gram: Array) -> BlockWeights:
    """Weights [channels, terms] rounded for operands whose sum of x x' is `gram`, [terms, terms]."""
    left = weights.astype(np.float64).copy()
    channels, terms = left.shape
    factor = _inverse_factor(left, gram)
    codes = np.zeros((channels, terms), np.uint8)
    blocks = -(-terms // form.block)
    scales, zeros = np.ones((channels, blocks), np.float32), np.zeros((channels, blocks), np.uint8)
    span = max(1, LAZY // form.block) * form.block
    for start in range(0, terms, span):
        stop = min(start + span, terms)
        errors = np.zeros((channels, stop - start))
        for column in range(start, stop):
            block = column // form.block
            if column % form.block == 0:
                # Within the batch all earlier columns have been made up for already.
                scales[:, block], zeros[:, block] = grid(left[:, column:min(column + form.block, terms)], form)
            scale, zero = scales[:, block].astype(np.float64), zeros[:, block].astype(np.float64)
            code = codes_of(left[:, column], scale, zero, form)
            codes[:, column] = code
            error = (left[:, column] - (code - zero) * scale) / factor[column, column]
            errors[:, column - start] = error
            left[:, column + 1:stop] -= np.outer(error, factor[column, column + 1:stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return BlockWeights(form, codes, scales, zeros)


def _inverse_factor(weights: Array, gram: Array) -> Array:
    """The upper Cholesky factor of the inverse of the damped moments. Terms never seen get weights of zero, in place."""
    moments = gram.astype(np.float64).copy()
    unseen = np.diagonal(moments) <= 0
    moments[unseen, unseen] = 1.0
    weights[:, unseen] = 0.0
    damping = DAMPING * float(np.mean(np.diagonal(moments)))
    while True:
        try:
            lower = np.linalg.cholesky(moments + damping * np.eye(moments.shape[0]))
            inverse_lower = np.linalg.inv(lower)
            return np.asarray(np.linalg.cholesky(inverse_lower.T @ inverse_lower).T)
        except np.linalg.LinAlgError:
            damping *= 10
