"""Second moments of what matrix products are multiplied with, in bounded memory: layers are looked at in as many passes as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Progress, Samples, observe, watched

BUDGET_BYTES = 1 << 29
"""What the moments of one pass may take together."""


class Gram:
    """Sums over rows x of a value [..., K]: of x x' (the Gram matrix), and of |x|.

    Attributes:
        matrix: float64 [K, K]. magnitude: float64 [K]. rows: how many were seen.
    """

    def __init__(self, terms: int) -> None:
        self.matrix = np.zeros((terms, terms))
        self.magnitude = np.zeros(terms)
        self.rows = 0

    def add(self, values: Array) -> None:
        """Looks at one sample; rows that are not finite are left out."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        self.matrix += rows.T @ rows
        self.magnitude += np.abs(rows).sum(axis=0)
        self.rows += rows.shape[0]


def passes_over(sizes: Mapping[str, int], budget: int = BUDGET_BYTES) -> Iterator[tuple[str, ...]]:
    """The values in groups whose matrices fit into the budget; a single one may exceed it. `sizes`: K of each value."""
    group: list[str] = []
    used = 0
    for name, terms in sizes.items():
        size = 8 * terms * terms
        if group and used + size > budget:
            yield tuple(group)
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield tuple(group)


def grams(network: Network, samples: Samples, names: Sequence[str], progress: Progress) -> Mapping[str, Gram]:
    """The moments of values of the network over the samples."""
    found = {name: Gram(network.types[name][1][-1]) for name in names}
    with watched(network, names, progress, "the float network") as run:
        observe(network, run, samples, {name: [gram] for name, gram in found.items()}, progress("looking at operands", len(samples)))
    return found
