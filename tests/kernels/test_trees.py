"""Tree ensembles against the operator's reference, over shapes, layouts and targets; tables full of wild indices included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.types import TensorType
from edgecc.kernels.registry import lower
from edgecc.ops.trees import TREE_AGGREGATES, TreeEnsemble
from tests.support import kernels

TABLES = tuple(range(1, 10))


def ensemble(seed, rows, features, depth, trees, targets, dtype, wild=False):
    """Complete trees as tables, and rows with NaN; leaves have up to three entries."""
    random = np.random.default_rng(seed)
    inner, each = 2**depth - 1, 2**(depth + 1) - 1
    count = trees * each
    base, own = np.repeat(np.arange(trees) * each, each), np.tile(np.arange(each), trees)
    is_leaf = own >= inner
    yes, no = (np.where(is_leaf, base + own, base + 2 * own + k) for k in (1, 2))
    first = np.concatenate([[0], np.cumsum(np.where(is_leaf, random.integers(0, 4, count), 0))])
    target = random.integers(0, targets, first[-1])
    tables = [random.integers(0, features, count), yes, no, random.integers(0, 2, count), first, target, np.arange(trees) * each]
    if wild:
        tables = [np.where(random.random(len(t)) < 0.3, random.integers(-2**31, 2**31 - 1, len(t)), t) for t in tables]
    feature, yes, no, missing, first, target, roots = (t.astype(np.int32) for t in tables)
    split, weight = (random.integers(-2, 3, n).astype(dtype) / 2 for n in (count, len(target)))
    x = (random.integers(-3, 4, (rows, features)) / 2).astype(dtype)
    x[random.random(x.shape) < 0.2] = np.nan
    return [x, feature, split, yes, no, missing, first, target, weight, roots]


@st.composite
def cases(draw):
    depth, targets = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    arrays = ensemble(draw(st.integers(0, 999)), draw(st.integers(0, 9)), draw(st.integers(1, 5)), depth, draw(st.integers(0, 4)) + 1, targets,
                      draw(st.sampled_from((np.float32, np.float32, np.float64, np.float16))), draw(st.booleans()))
    op = TreeEnsemble(targets, depth, draw(st.sampled_from(TREE_AGGREGATES)))
    types = [TensorType.of(a) for a in arrays]
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=[draw(kernels.views(types[0]))], constants=TABLES,
                               outputs=[draw(kernels.views(op.infer(types)[0]))], threads=draw(st.sampled_from((1, 3)))), arrays


@settings(max_examples=80)
@given(cases())
def test_agrees_with_the_reference(case):
    kernels.check(*case, units=8.0)


def tables(feature, split, yes, no, missing, first, target, weight, roots):
    integers = (np.array(t, np.int32) for t in (feature, yes, no, missing, first, target, roots))
    feature, yes, no, missing, first, target, roots = integers
    return [feature, np.array(split, np.float32), yes, no, missing, first, target, np.array(weight, np.float32), roots]


@pytest.mark.parametrize("flag", [-7, 0, 1, 2**31 - 1])
def test_any_flag_but_0_means_that_missing_values_go_to_yes(flag):
    arrays = [np.array([[np.nan]], np.float32),
              *tables([0, 0, 0], [0.0] * 3, [1, 1, 2], [2, 1, 2], [flag, 0, 0], [0, 0, 1, 2], [0, 0], [1.0, 2.0], [0])]
    op = TreeEnsemble(1, 1)
    assert op.reference(arrays)[0][0, 0] == (1.0 if flag else 2.0)
    kernels.check(kernels.request_for(op, arrays, constants=TABLES), arrays, units=8.0)


def test_trees_without_entries():
    arrays = [np.zeros((2, 1), np.float32), *tables([0], [0.0], [0], [0], [1], [0, 0], [], [], [0])]
    kernels.check(kernels.request_for(TreeEnsemble(1, 0), arrays, constants=TABLES), arrays, units=8.0)


def test_trees_must_be_constants():
    arrays = ensemble(0, 2, 3, 2, 1, 1, np.float32)
    with pytest.raises(EdgeccError) as caught:
        lower(kernels.request_for(TreeEnsemble(1, 2), arrays))
    assert caught.value.code == "E112"


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    arrays = ensemble(0, 49, 7, 4, 5, 3, np.float32)
    for aggregate in ("sum", "max"):
        kernels.check(kernels.request_for(TreeEnsemble(3, 4, aggregate), arrays, machine, constants=TABLES), arrays, units=8.0, machine=machine)
