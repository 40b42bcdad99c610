"""GridSample, RoiAlign and DeformConv in the forms that opsets gave them."""

import numpy as np
import pytest

import edgecc
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.lowering import lower_graph
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.targets.schema import load_target


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("opset", "mode"), [(16, "bilinear"), (16, "bicubic"), (16, "nearest"), (20, "linear"), (20, "cubic")])
def test_grid_sample(check_node, random, opset, mode, padding, align):
    feeds = {"x": random(2, 3, 5, 6), "g": random(2, 4, 3, 2)}
    check_node("GridSample", feeds, opset=opset, by="ort", tolerance=1e-5, mode=mode,
               padding_mode=padding, align_corners=align)


def test_volumetric_grid_sample(check_node, random):
    check_node("GridSample", {"x": random(1, 2, 3, 4, 5), "g": random(1, 2, 3, 2, 3)}, opset=22, by="onnx", tolerance=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("attributes", [{}, {"sampling_ratio": 2}, {"coordinate_transformation_mode": "output_half_pixel"}])
def test_roi_align(check_node, random, mode, attributes):
    rois = np.array([[0, 0, 6, 8], [-2, 1, 3, 2.5], [4, 4, 4.2, 4.2], [1, 0, 30, 7]], np.float32)
    check_node("RoiAlign", {"x": random(2, 3, 8, 9), "r": rois, "b": np.array([0, 1, 1, 0])}, opset=16, by="ort", tolerance=1e-5, mode=mode,
               output_height=2, output_width=4, spatial_scale=0.5, **attributes)


def test_roi_align_of_opset_10(check_node, random):
    feeds = {"x": random(1, 2, 6, 6), "r": np.array([[0, 0, 6, 4]], np.float32), "b": np.array([0])}
    check_node("RoiAlign", feeds, opset=10, by="ort", tolerance=1e-5, output_height=2, output_width=2)


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"dilations": [1, 2], "pads": [1, 1, 1, 1]}])
@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_deform_conv(check_node, random, attributes, group, offset_group):
    strides, pads, dilations = (attributes.get(k, d) for k, d in (("strides", [1, 1]), ("pads", [0] * 4), ("dilations", [1, 1])))
    out = [(size + pads[a] + pads[2 + a] - 2 * dilations[a] - 1) // strides[a] + 1 for a, size in enumerate((6, 7))]
    feeds = {"x": random(2, 4, 6, 7), "o": random(2, offset_group * 18, *out)}
    constants = {"w": random(6, 4 // group, 3, 3), "b": random(6), "m": random(2, offset_group * 9, *out)}
    check_node("DeformConv", feeds, constants, order=["x", "w", "o", "b", "m"], by="onnx", tolerance=1e-5, group=group,
               offset_group=offset_group, **attributes)


def test_offsets_that_do_not_fit_are_refused(make, op):
    with pytest.raises(EdgeccError) as caught:
        import_model(make([op("DeformConv", "x w o", "y")], {"x": [1, 2, 5, 5], "w": [2, 2, 3, 3], "o": [1, 18, 4, 3]}))
    assert caught.value.code == "E110"


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("factors", [(0.6, 0.8), (0.3, 1.7), (2.0, 0.5), (1 / 7, 1.0)])
def test_antialiasing(check_node, random, mode, factors):
    scales = np.array([1, 1, *factors], np.float32)
    for attributes in ({}, {"exclude_outside": 1}, {"coordinate_transformation_mode": "align_corners"}):
        check_node("Resize", {"x": random(1, 2, 14, 10)}, {"s": scales}, order=["x", "", "s"], by="onnx", tolerance=1e-5, mode=mode,
                   antialias=1, **attributes)


@pytest.mark.parametrize(("mode", "rank"), [("cubic", 4), ("linear", 7)])
def test_many_axes_are_resampled_one_by_one(check_node, random, mode, rank):
    graph = check_node("Resize", {"x": random(*(2,) * rank)}, {"s": np.full(rank, 1.5, np.float32)}, order=["x", "", "s"], by="onnx", tolerance=1e-5,
                       mode=mode)
    assert len([node for node in graph.nodes if node.op.name == "resize"]) == rank


def test_antialiasing_over_many_elements_is_a_product(check_node, random):
    graph = check_node("Resize", {"x": random(1, 2, 100, 3)}, {"s": np.array([1, 2, 4, 5])}, order=["x", "", "", "s"], by="onnx",
                       tolerance=1e-5, mode="linear", antialias=1)
    assert {"matmul", "resize"} <= {n.op.name for n in graph.nodes}


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_aligned_corners_keep_the_unrounded_length(check_node, random, mode):
    check_node("Resize", {"x": random(1, 1, 4, 7)}, {"s": np.array([1, 1, 0.6, 0.8], np.float32)}, order=["x", "", "s"], by="onnx",
               mode=mode, coordinate_transformation_mode="align_corners")


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [1, 0, 1, 1]}, {"storage_order": 1, "strides": [2, 2]}, {"dilations": [2, 1]}])
def test_max_pool_with_indices(check_node, random, attributes):
    check_node("MaxPool", {"x": random(2, 3, 7, 6)}, outputs="y i", by="ort", kernel_shape=[3, 2], **attributes)


@pytest.mark.parametrize("shape", [None, (1, 2, 9, 8)])
def test_max_unpool(check_node, random, shape):
    feeds = {"x": random(1, 2, 4, 3), "i": np.random.default_rng(0).permutation(96)[:24].reshape(1, 2, 4, 3)}
    graph = check_node("MaxUnpool", feeds, {} if shape is None else {"s": np.array(shape)}, by="onnx", kernel_shape=[2, 2], strides=[2, 2])
    assert "scatter_elements" in {n.op.name for n in graph.nodes}


@pytest.mark.parametrize(("image", "kernel", "attributes"), [
    ((5, 6), (2, 3), {}), ((5, 5), (3, 3), {"strides": [2, 1], "pads": [1, 0, 1, 2]}), ((6, 7), (2, 2), {"dilations": [2, 3]}),
    ((3, 4, 5), (1, 2, 3), {"strides": [1, 2, 1]})])
def test_col2im(check_node, random, image, kernel, attributes):
    rank = len(image)
    strides, pads, dilations = (attributes.get(k, [d] * rank * n) for k, d, n in (("strides", 1, 1), ("pads", 0, 2), ("dilations", 1, 1)))
    count = np.prod([(s + pads[a] + pads[rank + a] - (k - 1) * dilations[a] - 1) // strides[a] + 1
                     for a, (s, k) in enumerate(zip(image, kernel, strict=True))])
    check_node("Col2Im", {"x": random(2, 3 * np.prod(kernel), count)}, {"i": np.array(image), "k": np.array(kernel)}, by="onnx", **attributes)


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}])
def test_cum_prod(check_node, random, attributes):
    check_node("CumProd", {"x": random(3, 5)}, {"a": np.array(-1)}, opset=26, by="onnx", **attributes)


def test_determinants(check_node, random):
    check_node("Det", {"x": random(2, 3, 5, 5)}, by="onnx", tolerance=1e-5)


def test_deform_conv_multiplies_samples_where_they_lie(make, op):
    """Channels last, the samples of a position are one row of the product: nothing is copied between."""
    model = make([op("DeformConv", "x w o", "y", pads=[1] * 4)], {"x": [1, 8, 6, 6], "o": [1, 18, 6, 6]}, constants={"w": np.ones((4, 8, 3, 3), np.float32)})
    graph = import_model(model)
    run_passes(graph, default_graph_passes())
    lowered = lower_graph(graph, load_target("cortex-a76"), name="m")
    assert [c.function.split("_")[0] for c in lowered.calls].count("matmul") == 1
    between = [c.function for c in lowered.calls][2:-1]
    assert [name.partition("_")[0] for name in between] == ["grid", "matmul"], between


@pytest.mark.parametrize(("shape", "pooled", "scale", "shift"), [
    ((1, 3, 8, 9), (2, 3), 1.0, 0.0), ((3, 2, 13, 5), (7, 7), 0.5, 0.5), ((2, 1, 1, 6), (1, 2), 0.0625, 0.0), ((2, 4, 7, 1), (5, 1), 1.3, 0.0)])
def test_largest_elements_of_bins_of_regions(check_node, random, shape, pooled, scale, shift):
    source = np.random.default_rng(3)
    corners = np.round(source.uniform(-5, 20 / scale, (6, 4))) + shift
    corners[::2, 2:] = corners[::2, :2] + np.abs(corners[::2, 2:])
    rois = np.concatenate([source.integers(0, shape[0], (6, 1)), corners], 1).astype(np.float32)
    check_node("MaxRoiPool", {"x": random(*shape), "r": rois}, opset=18, by="ort", tolerance=0, pooled_shape=list(pooled), spatial_scale=scale)


def test_an_image_that_is_not_there_ends_the_run(make, op, random):
    model = make([op("MaxRoiPool", "x r", "y", pooled_shape=[2, 2])], {"x": random(2, 1, 4, 4), "r": random(1, 5)})
    rois = np.array([[2, 0, 0, 3, 3]], np.float32)
    with edgecc.load(edgecc.compile(model, target="generic-c"), cc="gcc") as compiled, pytest.raises(EdgeccError) as caught:
        compiled.run({"x": random(2, 1, 4, 4), "r": rois})
    assert caught.value.code == "E403"
