"""Long sums in parts: every position once, in runs that are short enough, and results that stay accurate."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import TensorType
from edgecc.kernels import partial_sums
from edgecc.kernels.iteration import Axis, elements
from edgecc.loop.index import const, substitute, var
from edgecc.ops.reduction import Reduce
from tests.support import kernels


def positions(parts, sizes):
    """The offsets that parts visit, in order, for values of the open sizes."""

    def number(index):
        return substitute(index, {name: const(size) for name, size in sizes.items()}).const

    for part in parts:
        axes = (*part.outer, *part.run)
        for at in itertools.product(*(range(number(axis.stop)) for axis in axes)):
            yield number(part.start[0]) + sum(i * axis.strides[0] for i, axis in zip(at, axes, strict=True))


@settings(max_examples=80)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.sampled_from((1, 4, 8, 32)), st.integers(2, 40), st.data())
def test_every_position_is_visited_once(extents, sums, longest, data):
    sizes = {f"n{i}": data.draw(st.integers(0, extent)) for i, extent in enumerate(extents) if data.draw(st.booleans())}
    strides = np.cumprod([1, *extents[:0:-1]])[::-1]
    axes = [Axis(extent, (int(stride),), var(f"n{i}") if f"n{i}" in sizes else None) for i, (extent, stride) in enumerate(zip(extents, strides, strict=True))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_sums, "LONGEST", longest)
        parts = partial_sums.cut(axes, sums)
    space = list(positions([partial_sums.Part((const(0),), (), tuple(axes))], sizes))
    visited = list(positions(parts, sizes))
    if elements(axes) <= 2 * longest * sums:
        assert visited == space
    else:
        assert sorted(visited) == sorted(space)
        assert all(elements(part.run) <= longest * sums for part in parts)


@pytest.mark.parametrize("machine", ["x86-64-v3", "generic-c", "cortex-a76"])
@pytest.mark.parametrize(("dims", "axes", "order"), [((1, 5, 150, 170), (2, 3), (0, 2, 3, 1)), ((3, 30_011), (1,), (0, 1)), ((20_011, 3), (0,), (0, 1))],
                         ids=["channels last", "rows", "columns"])
def test_long_sums_lose_no_more_than_short_ones(machine, dims, axes, order):
    """Of numbers of one sign a sum that goes term by term loses thousands of roundings."""
    x = np.abs(kernels.numbers(0, dims)) + 1
    request = kernels.request_for(Reduce("mean", axes), [x], machine, inputs=[kernels.laid_out(TensorType.of(x), order)])
    kernels.check(request, [x], units=16.0, machine=machine)
