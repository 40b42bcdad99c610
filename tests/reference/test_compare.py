import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import ELEMENTWISE, Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import ArgReduce, BatchNorm, Reduce
from edgecc.reference.compare import (
    compare_before_after,
    compare_observations,
    compare_outputs,
    error_units,
    observe_graph,
    with_magnitudes,
)
from edgecc.reference.executor import sample_inputs

F32, F16 = DType.F32, DType.F16


# -- one operator -----------------------------------------------------------------------------------------


def units(result, expected, magnitude=1.0, dtype=F32):
    expected = np.asarray(expected, "f8")
    return error_units(np.asarray(result, dtype.numpy), expected, np.broadcast_to(magnitude, expected.shape), dtype)


def test_error_is_measured_in_roundoffs_of_the_magnitude():
    assert units([1 + 2**-23], [1.0]) == pytest.approx(2.0)
    assert units([1 + 2**-23], [1.0], 8.0) == pytest.approx(0.25)
    assert units([1 + 2**-10], [1.0], 1.0, F16) == pytest.approx(2.0)
    assert units([3.0, 1.0], [3.0, 1.0 + 2**-24]) == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize(("result", "expected"), [
    ([np.nan], [np.nan]), ([np.inf], [np.inf]), ([-np.inf], [-np.inf]), ([np.inf], [1e39]), ([0.0], [1e-45]), ([0.0], [1e-39])])
def test_equal_kinds_overflow_and_flushed_subnormals_are_no_errors(result, expected):
    assert units(result, expected) == 0.0


@pytest.mark.parametrize(("result", "expected"), [([np.nan], [1.0]), ([1.0], [np.nan]), ([np.inf], [-np.inf]), ([np.inf], [3e38]),
                                                  ([0.0, 1.0], [0.0])])
def test_other_kinds_and_shapes_are_infinite_errors(result, expected):
    assert units(result, expected, 1.0) == np.inf


def test_an_error_without_magnitude_is_infinite_and_no_elements_are_no_error():
    assert units([1e-3], [0.0], 0.0) == np.inf
    assert units([], []) == 0.0


def test_integers_are_exact():
    one = np.ones(1)
    assert error_units(np.array([3]), np.array([3]), one, DType.I64) == 0.0
    assert error_units(np.array([3]), np.array([4]), one, DType.I64) == np.inf
    assert error_units(np.array([True]), np.array([False]), one, DType.BOOL) == np.inf


def test_float32_sums_stay_within_units_where_a_relative_tolerance_would_not():
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((8, 4096)).astype("f4"), generator.standard_normal((4096, 8)).astype("f4")
    result = np.zeros((8, 8), "f4")
    for k in range(4096):
        result += a[:, k:k + 1] * b[k]
    wide = [x.astype("f8") for x in (a, b)]
    assert error_units(result, MatMul().reference(wide)[0], MatMul().magnitude(wide)[0], F32) < 8
    wrong = result.copy()
    wrong[0, 0] += a[0, 0] * b[0, 0]
    assert error_units(wrong, MatMul().reference(wide)[0], MatMul().magnitude(wide)[0], F32) > 100


# -- a graph before and after a pass ----------------------------------------------------------------------


def conv_bn(folded=False, *, epsilon=1e-3, least_variance=1e-6, mutate=None):
    """conv -> batch norm -> relu, or the same with the norm folded into weights rounded to float32."""
    generator = np.random.default_rng(3)
    w = generator.standard_normal((5, 3, 3, 3)).astype("f4")
    b, scale, bias, mean = (generator.standard_normal(5).astype("f4") for _ in range(4))
    variance = generator.uniform(least_variance, 10 * least_variance, 5).astype("f4")
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 3, 6, 7)), "x")
    conv = Conv((1, 1), (1, 1, 1, 1), (1, 1))
    if folded:
        p = {"w": w, "b": b, "scale": scale, "bias": bias, "mean": mean, "variance": variance, "epsilon": epsilon}
        p = {k: np.asarray(v, "f8") for k, v in p.items()}
        if mutate:
            mutate(p)
        k = p["scale"] / np.sqrt(p["variance"] + p["epsilon"])
        new_w = (p["w"] * k[:, None, None, None]).astype("f4")
        y = graph.add(conv, x, graph.constant(new_w), graph.constant(((p["b"] - p["mean"]) * k + p["bias"]).astype("f4")))
    else:
        y = graph.add(conv, x, graph.constant(w), graph.constant(b))
        y = graph.add(BatchNorm(epsilon), y, *(graph.constant(a) for a in (scale, bias, mean, variance)))
    y = graph.add(Elementwise(ELEMENTWISE["Relu"].build([Arg(0, F32)], {})), y)
    graph.set_outputs([y], ["y"])
    return graph


@pytest.mark.parametrize("least_variance", [1e-8, 1e-4, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_folding_a_batch_norm_stays_within_its_units_whatever_the_variances(least_variance, seed):
    before, after = conv_bn(least_variance=least_variance), conv_bn(True, least_variance=least_variance)
    feeds = sample_inputs(before, seed)
    (change,) = compare_before_after(before, after, feeds, tolerance_units=2.0)
    assert change.ok and 0.0 < change.units < 2.0 and change.plain_ratio < 1.0, change
    (change,) = compare_before_after(before, after, feeds)
    assert not change.ok and "allowed" in change.detail  # the constants were rounded: not an exact pass


def drop_mean(p):
    p["mean"][:] = 0


def drop_epsilon(p):
    p["epsilon"] = np.zeros(())


def flip_sign(p):
    p["bias"] *= -1


def forget_bias(p):
    p["b"] *= 0


def swap_kernel_axes(p):
    p["w"] = p["w"].swapaxes(2, 3)


def shift_channels(p):
    p["scale"] = np.roll(p["scale"], 1)


def lose_precision(p):
    p["w"] = p["w"].astype("f2").astype("f8")


@pytest.mark.parametrize("mutate", [drop_mean, drop_epsilon, flip_sign, forget_bias, swap_kernel_axes, shift_channels, lose_precision])
def test_mistakes_in_folding_are_caught(mutate):
    # Large variances: dropping epsilon moves results by 5e-6 of themselves, within a common tolerance of 1e-5.
    settings = {"epsilon": 1e-5, "least_variance": 1.0}
    before, after = conv_bn(**settings), conv_bn(True, mutate=mutate, **settings)
    (change,) = compare_before_after(before, after, sample_inputs(before, 0), tolerance_units=4.0)
    assert not change.ok and change.units > 4.0


def chain(*expressions, dtype=F32, shape=(64,)):
    graph = Graph()
    value = graph.add_input(TensorType(dtype, shape), "x")
    for expression in expressions:
        value = graph.add(Elementwise(expression), value)
    graph.set_outputs([value], ["y"])
    return graph


X, ONE = Arg(0, F32), literal(1.0, F32)


def test_exact_rewriting_passes_with_no_units():
    third = literal(1 / 3, F32)
    before = chain(apply("mul", X, third), apply("add", X, ONE), apply("exp", X))
    after = chain(apply("exp", apply("add", apply("mul", X, third), ONE)))
    (change,) = compare_before_after(before, after, sample_inputs(before))
    assert change.ok and change.units < 1e-6


def test_an_equal_form_that_cancels_is_caught_by_the_plain_run():
    """(x + 2^30) - 2^30 is x in float64, but for 1e-7, and a multiple of 64 in float32."""
    before = chain(apply("add", X, ONE))
    big = literal(2.0**30, F32)
    after = chain(apply("add", X, big), apply("sub", X, big), apply("add", X, ONE))
    (change,) = compare_before_after(before, after, sample_inputs(before), tolerance_units=4.0)
    assert change.units < 4.0 and change.plain_ratio > 1.0 and not change.ok and "rounding errors grew" in change.detail


def test_a_constant_that_overflows_when_folded_is_caught():
    before = chain(apply("mul", X, literal(2.0**100, F32)), apply("mul", X, literal(2.0**-100, F32)))
    after = chain(apply("mul", X, literal(2.0**200, F32)), apply("mul", X, literal(2.0**-200, F32)))
    (change,) = compare_before_after(before, after, sample_inputs(before), tolerance_units=4.0)
    assert not change.ok and "NaN or infinite" in change.detail


def test_an_overflow_that_fusion_removes_is_allowed():
    before = chain(apply("mul", X, literal(2.0**127, F32)), apply("mul", X, literal(2.0**-127, F32)))
    after = chain(X)
    feeds = {"x": np.linspace(-8, 8, 64).astype("f4")}
    assert not np.all(np.isfinite(observe_graph(before, feeds, samples=0).plain["y"]))
    (change,) = compare_before_after(before, after, feeds)
    assert change.ok


def test_a_new_nan_is_caught():
    before = chain(apply("abs", X))
    after = chain(apply("exp", apply("log", X)))  # equal for positive x
    (change,) = compare_before_after(before, after, sample_inputs(before))
    assert not change.ok and change.units == np.inf


def test_masks_and_exponents_do_not_inflate_magnitudes():
    mask = apply("mul", apply("sub", ONE, Arg(0, F32)), literal(-3e38, F32))
    graph = Graph()
    x, m = graph.add_input(TensorType(F32, (8,)), "x"), graph.add_input(TensorType(F32, (8,)), "mask")
    bias = graph.add(Elementwise(mask), m)
    graph.set_outputs([graph.add(Elementwise(apply("add", Arg(0, F32), Arg(1, F32))), x, bias)], ["y"])
    feeds = {"x": np.linspace(0.1, 1, 8).astype("f4"), "mask": np.ones(8, "f4")}
    assert observe_graph(graph, feeds).magnitudes["y"].max() < 10


def arg_max(first):
    graph = Graph()
    x = graph.add_input(TensorType(F32, (4, 8)), "x")
    y = graph.add(Elementwise(first), x)
    graph.set_outputs([graph.add(ArgReduce("max", 1, False), y)], ["y"])
    return graph


def test_integer_outputs_must_be_equal_except_where_rounding_decides():
    before = arg_max(apply("mul", X, literal(0.3, F32)))
    feeds = sample_inputs(before, 1)
    assert compare_before_after(before, arg_max(apply("mul", literal(0.3, F32), X)), feeds)[0].ok
    (change,) = compare_before_after(before, arg_max(apply("neg", X)), feeds)
    assert not change.ok and change.units == np.inf and "elements differ" in change.detail


def test_integers_that_hang_on_the_last_bit_are_not_compared():
    def graph(second):
        out = Graph()
        x = out.add_input(TensorType(F32, (1, 4)), "x")
        terms = out.constant(np.array([[0.1, 0.7, second, 0.2]], "f4"))
        total = out.add(Elementwise(apply("add", Arg(0, F32), Arg(1, F32))), x, terms)
        out.set_outputs([out.add(ArgReduce("max", 1), total)], ["y"])
        return out

    feeds = {"x": np.zeros((1, 4), "f4")}
    tie, above = graph(0.7), graph(float(np.nextafter(np.float32(0.7), np.float32(1))))
    results = [observe_graph(g, feeds, samples=0).wide["y"].item() for g in (tie, above)]
    assert results == [1, 2]
    assert compare_before_after(above, tie, feeds, samples=16)[0].ok
    assert not compare_before_after(graph(0.71), tie, feeds, samples=16)[0].ok


def test_magnitudes_can_be_measured_once():
    before, after = conv_bn(), conv_bn(True)
    feeds = sample_inputs(before)
    first, second = observe_graph(before, feeds), observe_graph(after, feeds, samples=0)
    assert second.magnitudes is None
    later = with_magnitudes(second, first)
    assert compare_observations(later, second)[0].units == 0.0
    with pytest.raises(EdgeccError, match="without magnitudes"):
        compare_observations(second, first)


def test_a_changed_interface_is_an_error():
    before, feeds = chain(X), {"x": np.zeros(64, "f4")}
    renamed = chain(X)
    renamed.output_names = ["z"]
    with pytest.raises(EdgeccError, match="the outputs were y and became z"):
        compare_before_after(before, renamed, feeds)
    with pytest.raises(EdgeccError, match=r"output y was float32\[64\] and became bool\[64\]"):
        compare_before_after(before, chain(apply("isnan", X)), feeds)


def test_half_precision_is_measured_in_its_own_unit():
    half = Arg(0, F16)
    before = chain(apply("mul", half, literal(0.3, F16)), dtype=F16)
    after = chain(apply("mul", half, literal(0.3 + 2**-12, F16)), dtype=F16)
    (change,) = compare_before_after(before, after, sample_inputs(before), tolerance_units=4.0)
    assert change.ok and change.units > 0.1


def test_comparison_of_graphs_without_elements_or_floats():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (0, 3)), "x")
    graph.set_outputs([graph.add(Reduce("sum", (1,)), x)], ["y"])
    assert compare_before_after(graph, graph.copy(), {"x": np.zeros((0, 3), "f4")})[0].ok
    graph = chain(Arg(0, DType.I32), dtype=DType.I32)
    assert compare_before_after(graph, graph.copy(), sample_inputs(graph))[0].ok


# -- a network end to end ---------------------------------------------------------------------------------


def compare(result, expected, **options):
    (comparison,) = compare_outputs({"y": np.asarray(result)}, {"y": np.asarray(expected)}, **options)
    return comparison


def test_tolerance_follows_the_largest_expected_value():
    expected = np.array([100.0, 1e-3], "f4")
    ok = compare(expected + np.float32(5e-3), expected)
    assert ok.ok and ok.tolerance == pytest.approx(1e-2 + 1e-6) and ok.max_abs_err == pytest.approx(5e-3, rel=1e-2)
    assert ok.max_rel_err == pytest.approx(5e-5, rel=1e-2)  # the small element does not count
    assert not compare(expected + np.float32(2e-2), expected).ok


def test_small_outputs_of_zeros_fail():
    expected = np.full(4, 1e-4, "f4")
    assert not compare(np.zeros(4, "f4"), expected).ok
    assert compare(expected + np.float32(5e-7), expected).ok


def test_tolerances_can_be_given():
    assert not compare(np.float32([1.00001]), np.float32([1.0]), relative=1e-6, absolute=0.0).ok


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kinds_of_numbers_must_match(bad):
    result = compare(np.float32([1.0, bad]), np.float32([1.0, 1.0]))
    assert not result.ok and result.max_abs_err == np.inf
    assert compare(np.float32([1.0, bad]), np.float32([1.0, bad])).ok


def test_integers_and_bools_must_be_equal():
    assert compare([1, 2], [1, 2]).ok
    result = compare([1, 5], [1, 2])
    assert not result.ok and result.max_abs_err == 3 and result.tolerance == 0
    assert not compare([2**60], [2**60 + 1]).ok
    assert not compare([True], [False]).ok


def test_half_precision_outputs_get_the_roundoff_of_their_type():
    assert compare(np.float16([1.003]), np.float32([1.0])).ok


def test_a_second_right_answer_counts():
    expected = {"y": np.float32([1.0]), "noopt__y": np.float32([2.0]), "other": np.zeros(3)}
    (near,) = compare_outputs({"y": np.float32([2.00001])}, expected)
    assert near.ok and near.max_abs_err == pytest.approx(1e-5, rel=0.1)
    (far,) = compare_outputs({"y": np.float32([1.5])}, expected)
    assert not far.ok


def test_no_elements_are_equal():
    assert compare(np.zeros((0, 2), "f4"), np.zeros((0, 2), "f4")) == compare(np.zeros((0, 2), "f4"), np.zeros((0, 2), "f4"))
    assert compare(np.zeros((0, 2), "f4"), np.zeros((0, 2), "f4")).ok


@pytest.mark.parametrize(("expected", "detail"), [
    ({}, "y: missing"), ({"y": np.zeros(3, "f4")}, "y: float32[3], the model gives float32[2]"),
    ({"y": np.zeros(2, "i4")}, "y: int32[2], the model gives float32[2]")])
def test_expected_outputs_that_do_not_fit_are_named(expected, detail):
    with pytest.raises(EdgeccError) as caught:
        compare_outputs({"y": np.zeros(2, "f4")}, expected)
    assert caught.value.code == "E005" and detail in caught.value.details
