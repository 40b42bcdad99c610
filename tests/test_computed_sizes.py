"""Networks whose sizes follow from data: one artifact gives results of other shapes in each run, none and the most included."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from edgecc.frontend.limits import Limits
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support import onnxruntime_sessions

F = np.float32


def model(nodes, inputs, outputs, constants=None, subgraphs=()):
    """A model; nodes are (operator, operands, results, attributes), with names in one text, two spaces for an absent one."""
    made = [helper.make_node(op, ins.split(" ") if ins else [], outs.split(" "), **attributes) for op, ins, outs, attributes in nodes]
    declared = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), dims or a.shape)
                for n, (a, dims) in ((n, given if isinstance(given, tuple) else (given, None)) for n, given in inputs.items())]
    graph = helper.make_graph([*made, *subgraphs], "g", declared, [helper.make_empty_tensor_value_info(n) for n in outputs],
                              [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run_onnx(proto, inputs):
    """What onnxruntime computes without rewriting the model, or the onnx package's own evaluator where that is not installed."""
    try:
        return onnxruntime_sessions.run(proto, inputs)
    except ImportError:
        return [np.asarray(r) for r in onnx.reference.ReferenceEvaluator(proto).run(None, inputs)]


def agrees(proto, cases, *, target="host", shapes=None, limits=None, isolated=False, flags=(), **options):
    """Compiles once and compares every case with the reference and with onnxruntime; returns the results of all cases."""
    graph = import_model(proto, shapes=shapes, **({} if limits is None else {"limits": limits}))
    compiled = compile_graph(graph, load_target(target), name="net", options=LoweringOptions(**options))
    lower_graph(compiled.graph, load_target(target), name="net", options=LoweringOptions(verified=True))
    found = []
    with load(emit_c(compiled), cc="gcc" if target == "host" else None, isolated=isolated, flags=flags) as built:
        for inputs in cases:
            results = built.run(inputs)
            for (name, got), wanted in zip(results.items(), run_onnx(proto, inputs), strict=True):
                assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), name
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
            for name, wanted in execute(graph, inputs).items():
                assert results[name].shape == wanted.shape
                np.testing.assert_allclose(results[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name)
            found.append(results)
    return found


def sparse(shape, seed):
    """Arrays with no, few, most and only elements that are not 0."""
    generator = np.random.default_rng(seed)
    whole = generator.standard_normal(shape).astype(F)
    return [np.where(generator.random(shape) < share, whole, F(0)) for share in (-1.0, 0.1, 0.7, 2.0)]


MASKED = [("NonZero", "x", "nz", {}), ("Transpose", "nz", "at", {}), ("GatherND", "x at", "v", {}), ("Relu", "v", "r", {}),
          ("ReduceSum", "v", "total", {"keepdims": 0}), ("Shape", "v", "shape", {})]


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_masking(target):
    cases = [{"x": x} for x in sparse((5, 7), 0)]
    found = agrees(model(MASKED, {"x": cases[0]["x"]}, ["at", "r", "total", "shape"]), cases, target=target)
    assert [len(results["r"]) for results in found][::3] == [0, 35]


def test_unique():
    generator = np.random.default_rng(0)
    cases = [{"x": generator.integers(0, most, (13,)).astype(np.int64)} for most in (1, 2, 5, 1000)]
    nodes = [("Unique", "x", "y first inverse counts", {"sorted": 1}), ("Mul", "counts y", "weighted", {}), ("Gather", "y inverse", "again", {})]
    found = agrees(model(nodes, cases[0], ["y", "first", "inverse", "counts", "weighted", "again"]), cases)
    assert len(found[0]["y"]) == 1


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_chosen_rows(target):
    x, w = np.random.default_rng(0).standard_normal((11, 12)).astype(F), np.linspace(-1, 1, 12 * 9, dtype=F).reshape(12, 9)
    cases = [{"x": x, "c": np.random.default_rng(seed).random(11) < seed / 3} for seed in range(4)]
    nodes = [("Compress", "x c", "rows", {"axis": 0}), ("MatMul", "rows w", "p", {}), ("Softmax", "p", "s", {}), ("Concat", "s s", "y", {"axis": 0})]
    agrees(model(nodes, cases[0], ["rows", "y"], {"w": w}), cases, target=target)


def detector(classes=3, most=4):
    """A convolution gives boxes and scores of a grid, NonMaxSuppression chooses, and what was chosen is gathered.

    All numbers are whole or halves, so that every way to compute them gives the same.
    """
    generator = np.random.default_rng(7)
    cells, channels = 16, 4 + classes
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(1, cells, 2).astype(F) * 4
    nodes = [
        ("Conv", "image w", "map", {"strides": [4, 4]}), ("Reshape", "map flat", "rows", {}), ("Transpose", "rows", "head", {"perm": [0, 2, 1]}),
        ("Split", "head parts", "offsets scores", {"axis": 2}), ("Split", "offsets halves", "corner spread", {"axis": 2}),
        ("Abs", "spread", "extent", {}), ("Add", "corner grid", "low", {}), ("Add", "low extent", "high", {}),
        ("Concat", "low high", "boxes", {"axis": 2}), ("Transpose", "scores", "by_class", {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", "boxes by_class most iou least", "chosen", {}),
        ("Slice", "chosen one two last", "class", {}), ("Gather", "chosen column", "box", {"axis": 1}), ("Squeeze", "box last", "index", {}),
        ("Gather", "boxes index", "picked", {"axis": 1}), ("Squeeze", "picked front", "kept_boxes", {}),
        ("GatherND", "by_class chosen", "kept_scores", {}), ("Cast", "class", "kept_classes", {"to": TensorProto.INT32}),
        ("Shape", "kept_scores", "count", {}),
    ]
    constants = {
        "w": generator.integers(-1, 2, (channels, 3, 4, 4)).astype(F) / 2, "flat": np.array([1, channels, cells]), "grid": grid,
        "parts": np.array([4, classes]), "halves": np.array([2, 2]), "most": np.array([most]), "iou": np.array([0.5], F),
        "least": np.array([2.0], F), "one": np.array([1]), "two": np.array([2]), "last": np.array([1]), "column": np.array([2]),
        "front": np.array([0]),
    }
    return model(nodes, {"image": np.zeros((1, 3, 16, 16), F)}, ["kept_boxes", "kept_scores", "kept_classes", "count"], constants)


def pictures(count):
    generator = np.random.default_rng(3)
    return [{"image": generator.integers(-brightness, brightness + 1, (1, 3, 16, 16)).astype(F)} for brightness in range(count)]


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_detector(target):
    found = agrees(detector(), pictures(6), target=target)
    counts = [int(results["count"][0]) for results in found]
    assert counts[0] == 0 and max(counts) > 3


def test_sanitizers_find_nothing():
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    agrees(detector(most=100), pictures(4), isolated=True, flags=flags)
    agrees(model(MASKED, {"x": np.zeros((3, 5), F)}, ["at", "r", "total"]), [{"x": x} for x in sparse((3, 5), 1)], isolated=True, flags=flags)


def number(value):
    return np.array(value, np.int64)


def test_the_best_of_what_was_found():
    """As detectors end: the k best of the candidates above a threshold, k being at most what there is."""
    nodes = [("Greater", "x least", "above", {}), ("NonZero", "above", "nz", {}), ("Squeeze", "nz zero", "at", {}), ("Gather", "x at", "found", {}),
             ("Shape", "found", "n", {}), ("Concat", "n most", "both", {"axis": 0}), ("ReduceMin", "both", "k", {"keepdims": 1}),
             ("TopK", "found k", "best order", {}), ("Gather", "at order", "where", {}), ("CumSum", "best first", "sums", {}),
             ("ArgMin", "sums", "least_at", {"keepdims": 1})]
    constants = {"least": np.array(0.5, F), "zero": number([0]), "most": number([5]), "first": number(0)}
    x = np.random.default_rng(0).random(40).astype(F)
    cases = [{"x": x * scale} for scale in (0.53, 0.7, 1, 3)]
    found = agrees(model(nodes, cases[0], ["best", "where", "sums", "least_at"], constants), cases)
    assert len(found[0]["best"]) < 5 == len(found[-1]["best"])
    nothing = agrees(model(nodes[:-1], cases[0], ["best", "where", "sums"], constants), [{"x": x * 0}])
    assert nothing[0]["best"].shape == (0,)


@pytest.mark.parametrize("k", [3, 40])
def test_top_k_of_the_run(k):
    x = np.random.default_rng(0).integers(0, 9, (3, 40)).astype(F)
    nodes = [("Min", "k most", "few", {}), ("TopK", "x few", "v i", {"axis": 1, "largest": 0})]
    agrees(model(nodes, {"x": x, "k": number([k])}, ["v", "i"], {"most": number([k])}), [{"x": x, "k": number([n])} for n in (0, 1, 2, k // 2, k)])


def test_ranges_and_shapes_of_the_run():
    """Numbers of the run as lengths, ends, repeats and depths, bounded by the model itself."""
    nodes = [("Clip", "n low high", "m", {}), ("Squeeze", "m", "limit", {}), ("Range", "start limit step", "r", {}),
             ("Concat", "m three", "shape", {"axis": 0}), ("ConstantOfShape", "shape", "zeros", {}), ("Expand", "x shape", "wide", {}),
             ("Tile", "x shape", "tiled", {}), ("OneHot", "index limit values", "hot", {}), ("Add", "zeros wide", "sum", {})]
    constants = {"low": number(1), "high": number(9), "three": number([3]), "start": number(-2), "step": number(2), "values": np.array([2, 5], F),
                 "index": number([0, 3, -1])}
    x = np.arange(3, dtype=F).reshape(1, 3)
    cases = [{"n": number([n]), "x": x} for n in (-4, 1, 2, 5, 9, 100)]
    agrees(model(nodes, cases[0], ["r", "zeros", "wide", "tiled", "hot", "sum"], constants), cases)


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slices_of_the_run(step):
    nodes = [("Slice", "x a b axes steps", "y", {}), ("Slice", "x zero b axes one", "z", {}), ("Slice", "x zero front both", "plain", {})]
    constants = {"axes": number([1]), "steps": number([step]), "one": number([1]), "zero": number([0]), "front": number([2]), "both": number([0])}
    x = np.arange(33, dtype=F).reshape(3, 11)
    ends = [(0, 11), (2, 7), (-3, 99), (9, 1), (-99, -1), (10, -12), (5, 5), (11, -99)]
    cases = [{"x": x, "a": number([a]), "b": number([b])} for a, b in ends]
    agrees(model(nodes, cases[0], ["y", "z", "plain"], constants), cases)


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (3, 99), (-6, -4), (6, 2)])
def test_slices_of_an_open_axis_that_end_where_its_size_says(begin, end):
    x = np.arange(27, dtype=F).reshape(9, 3)
    proto = model([("Slice", "x a b", "y", {})], {"x": (x, ["n", 3])}, ["y"], {"a": number([begin]), "b": number([end])})
    agrees(proto, [{"x": x[:rows]} for rows in (2, 4, 5, 6, 9)], shapes={"n": (Range(2, 9),)})


def test_sizes_that_only_a_limit_bounds():
    """A run that computes a larger size than memory was planned for says so."""
    proto = model([("ConstantOfShape", "n", "y", {})], {"n": number([1, 1])}, ["y"])
    limits = Limits(computed_size=6)
    agrees(proto, [{"n": number(n)} for n in ([0, 0], [1, 6], [6, 6], [3, 0])], limits=limits)
    with load(emit_c(compile_graph(import_model(proto, limits=limits), load_target("host"), name="net")), cc="gcc") as built:
        for wrong in ([7, 1], [1, -1]):
            with pytest.raises(EdgeccError, match="E406"):
                built.run({"n": number(wrong)})
    clamped = emit_c(compile_graph(import_model(proto, limits=limits), load_target("host"), name="net", options=LoweringOptions(checks="clamp")))
    with load(clamped, cc="gcc") as built:
        assert built.run({"n": number([9, -3])})["y"].shape == (6, 0)


def loop_body(nodes, inputs, outputs):
    return helper.make_graph([helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes], "body",
                             [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
                             [helper.make_empty_tensor_value_info(name) for name in outputs])


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_loops_that_end_when_the_data_says(target):
    body = loop_body([("Add", "total x", "more", {}), ("ReduceSum", "more", "sum", {"keepdims": 0}), ("Less", "sum limit", "on", {}),
                      ("Mul", "more more", "square", {})],
                     {"i": (TensorProto.INT64, []), "going": (TensorProto.BOOL, []), "total": (TensorProto.FLOAT, [5])}, ["on", "more", "square"])
    loop = helper.make_node("Loop", ["trips", "", "x"], ["last", "all"], body=body)
    after = helper.make_node("ReduceSum", ["all", "front"], ["y"], keepdims=0)
    x = np.ones(5, F)
    proto = model([], {"x": x, "limit": np.array(0, F)}, ["last", "all", "y"], {"trips": number(7), "front": number([0])}, [loop, after])
    found = agrees(proto, [{"x": x, "limit": np.array(limit, F)} for limit in (0, 11, 26, 1000)], target=target)
    assert [len(results["all"]) for results in found] == [1, 2, 5, 7]


def test_regions_of_images():
    """The second stage of a detector: features of as many regions as were chosen, and an average of each."""
    generator = np.random.default_rng(0)
    corners = generator.random((9, 2)).astype(F) * 6
    constants = {"rois": np.concatenate([corners, corners + 1 + generator.random((9, 2)).astype(F) * 5], 1), "images": generator.integers(0, 2, 9)}
    nodes = [("Compress", "rois c", "kept", {"axis": 0}), ("Compress", "images c", "of", {"axis": 0}),
             ("RoiAlign", "x kept of", "features", {"output_height": 3, "output_width": 2, "sampling_ratio": 2}),
             ("GlobalAveragePool", "features", "pooled", {}), ("Flatten", "pooled", "y", {})]
    x = generator.standard_normal((2, 5, 12, 12)).astype(F)
    cases = [{"x": x, "c": generator.random(9) < share} for share in (-1, 0.2, 0.6, 2)]
    agrees(model(nodes, cases[0], ["features", "y"], constants), cases)


def pyramid():
    """A detector for pictures of any size: two maps, the coarse one enlarged and cut to the fine one, boxes of every cell."""
    generator = np.random.default_rng(5)

    def weights(*shape):
        return generator.integers(-1, 2, shape).astype(F) / 4

    nodes = [
        ("Conv", "image w0", "c0", {"strides": [2, 2], "pads": [1, 1, 1, 1]}), ("Relu", "c0", "fine", {}),
        ("Conv", "fine w1", "c1", {"pads": [1, 1, 1, 1], "group": 8}), ("MaxPool", "c1", "coarse", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Resize", "coarse  twice", "large", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ("Shape", "large", "all", {}), ("Slice", "all two four", "size", {}), ("Slice", "fine zeros size axes", "cut", {}),
        ("Concat", "cut large", "both", {"axis": 1}), ("Conv", "both w2", "map", {}),
        ("Reshape", "map flat", "rows", {}), ("Transpose", "rows", "head", {"perm": [0, 2, 1]}),
        ("Split", "head parts", "offsets scores", {"axis": 2}), ("Split", "offsets halves", "low spread", {"axis": 2}),
        ("Abs", "spread", "extent", {}), ("Add", "low extent", "high", {}), ("Concat", "low high", "boxes", {"axis": 2}),
        ("Transpose", "scores", "by_class", {"perm": [0, 2, 1]}), ("NonMaxSuppression", "boxes by_class most iou least", "chosen", {}),
        ("GatherND", "by_class chosen", "kept_scores", {}), ("Gather", "chosen last", "index", {"axis": 1}),
        ("Gather", "boxes index", "kept", {"axis": 1}), ("Squeeze", "kept front", "kept_boxes", {}), ("Shape", "kept_scores", "n", {}),
        ("Concat", "n top", "counts", {"axis": 0}), ("ReduceMin", "counts", "k", {"keepdims": 1}), ("TopK", "kept_scores k", "best where", {}),
        ("Gather", "kept_boxes where", "best_boxes", {"axis": 0}),
    ]
    constants = {
        "w0": weights(8, 3, 3, 3), "w1": weights(8, 1, 3, 3), "w2": weights(6, 16, 1, 1), "twice": np.array([1, 1, 2, 2], F), "two": number([2]),
        "four": number([4]), "zeros": number([0, 0]), "axes": number([2, 3]), "flat": number([0, 6, -1]), "parts": number([4, 2]), "halves": number([2, 2]),
        "most": number([20]), "iou": np.array([0.5], F), "least": np.array([0.25], F), "last": number(2), "front": number([0]), "top": number([7]),
    }
    return model(nodes, {"image": (np.zeros((1, 3, 4, 4), F), [1, 3, "h", "w"])}, ["kept_scores", "kept_boxes", "best", "best_boxes"], constants)


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_detector_of_pictures_of_any_size(target):
    generator = np.random.default_rng(2)
    cases = [{"image": generator.integers(-2, 3, (1, 3, h, w)).astype(F)} for h in (8, 21, 40) for w in (8, 19, 48)]
    cases.append({"image": np.zeros((1, 3, 40, 48), F)})
    found = agrees(pyramid(), cases, target=target, shapes={"h": (Range(8, 40),), "w": (Range(8, 48),)})
    assert len(found[-1]["best"]) == 0 and len(found[-2]["best"]) == 7


def test_reshape_to_numbers_of_the_run():
    x = np.arange(12, dtype=F).reshape(3, 4)
    nodes = [("Reshape", "x p", "r", {}), ("Relu", "r", "y", {}), ("ReduceSum", "r", "s", {"keepdims": 0})]
    proto = model(nodes, {"x": x, "p": np.array([2, 6])}, ["y", "s"])
    found = agrees(proto, [{"x": x, "p": np.array(p)} for p in ([2, 6], [6, 2], [-1, 3], [3, 0], [0, -1], [1, 12], [12, -1])])
    assert [results["y"].shape for results in found[:3]] == [(2, 6), (6, 2), (4, 3)]
    for wrong in ([5, 3], [-1, -1], [-3, -4], [2**40, 2**40], [12, 0]):
        with pytest.raises(EdgeccError) as raised:
            agrees(proto, [{"x": x, "p": np.array(wrong)}])
        assert raised.value.code == "E406"


def test_reshape_of_an_open_operand_to_numbers_of_the_run():
    x = np.arange(12, dtype=F).reshape(3, 4)
    proto = model([("Reshape", "x p", "y", {})], {"x": (x, ["n", 4]), "p": np.array([2, 6])}, ["y"])
    agrees(proto, [{"x": x[:rows], "p": np.array(p)} for rows, p in ((3, [2, 6]), (1, [4, 1]), (2, [-1, 4]))], shapes={"n": (Range(1, 3),)})


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_sizes_that_must_be_equal_are_compared_by_the_run(target):
    """Two masks, each with a count of its own."""
    x = np.arange(9, dtype=F) / 4
    nodes = [("Compress", "x p", "a", {"axis": 0}), ("Compress", "x q", "b", {"axis": 0}), ("Add", "a b", "sum", {}), ("MatMul", "a b", "product", {}),
             ("Unsqueeze", "a front", "a1", {}), ("Unsqueeze", "b front", "b1", {}), ("Concat", "a1 b1", "both", {"axis": 0}),
             ("Cast", "a", "places", {"to": TensorProto.INT64}), ("ScatterElements", "x places b", "spread", {}), ("Where", "q x x", "other", {}),
             ("Add", "sum a", "again", {})]
    p, q = x > 1.2, x < 0.6
    proto = model(nodes, {"x": x, "p": p, "q": q}, ["sum", "product", "both", "spread", "again", "other"], {"front": number([0])})
    masks = [(p, np.roll(p, 3)), (x > 9, x < -1), (x < 9, x > -1), (x == 1, x == 2)]
    agrees(proto, [{"x": x, "p": a, "q": b} for a, b in masks], target=target)
    with pytest.raises(EdgeccError, match="E406"):
        execute(import_model(proto), {"x": x, "p": p, "q": q})
    with load(emit_c(compile_graph(import_model(proto), load_target("host"), name="net")), cc="gcc") as built, pytest.raises(EdgeccError, match="E406"):
        built.run({"x": x, "p": p, "q": q})


def test_sizes_that_cannot_be_equal_are_refused():
    nodes = [("Compress", "x p", "a", {"axis": 0}), ("Add", "a five", "y", {})]
    with pytest.raises(EdgeccError, match="do not broadcast"):
        import_model(model(nodes, {"x": np.ones(9, F), "p": np.ones(9, bool)}, ["y"], {"five": np.ones(5, F)}))


@pytest.mark.parametrize(("step", "longest"), [(1, 3), (2, 2), (-1, None)])
def test_ranges_whose_ends_lie_close_together(step, longest):
    """From i to min(i + 3, 9), the 3 added to a float: rows that one iteration writes."""
    nodes = [("Cast", "i", "f", {"to": TensorProto.FLOAT}), ("Add", "f three", "g", {}), ("Cast", "g", "j", {"to": TensorProto.INT32}),
             ("Reshape", "j one", "end", {}), ("Add", "end two", "further", {}),
             ("Min", "further end nine", "limit", {}), ("Squeeze", "limit", "last", {}), ("Range", "i last step", "y", {})]
    inputs, constants = {"i": np.array(4, np.int32)}, {"three": F(3), "one": number([1]), "nine": np.array([9], np.int32),
                                                               "two": np.array([2], np.int32), "step": np.int32(step)}
    proto = model(nodes, inputs, ["y"], constants)
    if longest is None:
        with pytest.raises(EdgeccError, match="nothing says how large"):
            import_model(proto)
        return
    (size,) = import_model(proto).outputs[0].type.max_dims
    assert size == longest
    agrees(proto, [{"i": np.array(i, np.int32)} for i in (0, 4, 7, 8, 9, 30, -2)])


def test_detections_are_filled_up_to_a_number():
    """As exporters of TensorFlow write the end of a detector: what is missing to six rows is padded."""
    nodes = [("NonZero", "x", "nz", {}), ("Squeeze", "nz first", "at", {}), ("Gather", "x at", "v", {}), ("Shape", "v", "n", {}), ("Min", "n six", "k", {}),
             ("TopK", "v k", "best i", {}), ("Sub", "six k", "missing", {}), ("Concat", "zero missing", "pads", {"axis": 0}), ("Pad", "best pads fill", "y", {})]
    proto = model(nodes, {"x": sparse(9, 0)[0]}, ["y"], {"first": np.array([0]), "six": np.array([6]), "zero": np.array([0]), "fill": F(-1)})
    for result in agrees(proto, [{"x": x} for x in sparse(9, 0)]):
        assert result["y"].shape == (6,)


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_lists_of_boxes_that_get_shorter_from_step_to_step(target):
    """As exported detectors end: those above a threshold, of these the large ones, of these those that are kept, if any, the best ones."""
    keep = loop_body([("Unsqueeze", "large front", "boxes", {}), ("Unsqueeze", "best both", "scores", {}),
                      ("NonMaxSuppression", "boxes scores most iou", "chosen", {}), ("Gather", "chosen last", "kept", {"axis": 1})], {}, ["kept"])
    none = loop_body([("ConstantOfShape", "front", "kept", {"value": numpy_helper.from_array(np.zeros(1, np.int64))})], {}, ["kept"])
    nodes = [("Greater", "s threshold", "p", {}), ("NonZero", "p", "i2", {}), ("Squeeze", "i2 front", "i", {}), ("Gather", "b i", "b1", {"axis": 0}),
             ("Gather", "s i", "s1", {"axis": 0}), ("ReduceMax", "b1 one", "edge", {"keepdims": 0}), ("Greater", "edge size", "q", {}),
             ("NonZero", "q", "j2", {}), ("Squeeze", "j2 front", "j", {}), ("Gather", "b1 j", "large", {"axis": 0}), ("Gather", "s1 j", "best", {"axis": 0}),
             ("Size", "best", "found", {}), ("Equal", "found zero", "empty", {}), ("Slice", "keep0 front three", "keep", {}),
             ("Gather", "large keep", "y", {"axis": 0}), ("Gather", "best keep", "z", {"axis": 0})]
    chosen = helper.make_node("If", ["empty"], ["keep0"], then_branch=none, else_branch=keep)
    nodes = [helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes]
    nodes.insert(13, chosen)
    constants = {"threshold": np.array(0.3, F), "front": number([0]), "both": number([0, 1]), "one": number([1]), "size": np.array(0.8, F), "zero": number(0),
                 "three": number([3]), "most": number([9]), "iou": np.array([0.5], F), "last": number(2)}
    generator = np.random.default_rng(3)
    corners = generator.random((12, 2)).astype(F)
    boxes = np.concatenate([corners, corners + generator.random((12, 2)).astype(F) / 2], 1)
    cases = [{"b": boxes, "s": (generator.random(12) * share).astype(F)} for share in (0, 0.35, 0.5, 1)]
    found = agrees(model([], cases[0], ["y", "z", "keep0"], constants, nodes), cases, target=target)
    assert len(found[0]["y"]) == 0 and len(found[-1]["y"]) == 3 < len(found[-1]["keep0"])
