"""edgecc as a code generator of TVM: what its patterns take runs in kernels of edgecc, with TVM's results."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

import tvm
from tvm import relax

from edgecc.integrations import tvm as edgecc_tvm
from edgecc.integrations.tvm.importing import import_function, obstacle
from edgecc.pipeline import compile_graph
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target

GENERATOR = np.random.default_rng(5)


def constant(*dims):
    return relax.const(GENERATOR.standard_normal(dims).astype(np.float32))


def module_of(build, *types):
    """A module whose main computes what `build` binds, and its inputs."""
    builder = relax.BlockBuilder()
    parameters = [relax.Var(f"x{i}", relax.TensorType(dims, dtype)) for i, (dims, dtype) in enumerate(types)]
    with builder.function("main", parameters):
        with builder.dataflow():
            result = builder.emit_output(build(builder, *parameters))
        builder.emit_func_output(result)
    return builder.get()


def built(module):
    executable = relax.build(module, target=tvm.target.Target({"kind": "llvm", "opt-level": 0}))
    return relax.VirtualMachine(executable, tvm.cpu())


def run(module, *arrays):
    return call(built(module), *arrays)


def call(machine, *arrays):
    result = machine["main"](*(tvm.runtime.tensor(array) for array in arrays))
    return [each.numpy() for each in ([result] if hasattr(result, "numpy") else result)]


def block(builder, x, second):
    """A depthwise-separable block with a residual, a pool and a classifier, around an operator that edgecc does not take."""
    o, nn, emit = relax.op, relax.op.nn, builder.emit
    stem = emit(nn.relu(emit(o.add(emit(nn.conv2d(x, constant(8, 3, 3, 3), strides=2, padding=(1, 1, 1, 1))), constant(1, 8, 1, 1)))))
    deep = emit(o.clip(emit(nn.conv2d(stem, constant(8, 1, 3, 3), padding=(1, 1, 1, 1), groups=8)), 0.0, 6.0))
    point = emit(o.add(emit(nn.conv2d(deep, constant(8, 8, 1, 1))), stem))
    joined = emit(o.concat([point, second], axis=1))
    odd = emit(o.cumsum(joined, axis=1))
    pooled = emit(nn.avg_pool2d(emit(nn.leakyrelu(odd, 0.1)), pool_size=2, strides=2))
    flat = emit(o.reshape(emit(o.permute_dims(pooled, [0, 2, 3, 1])), (1, 3 * 3 * 10)))
    return nn.softmax(emit(o.add(emit(o.matmul(flat, constant(90, 7))), constant(7))))


def inputs():
    return [GENERATOR.standard_normal(dims).astype(np.float32) for dims in ((1, 3, 13, 13), (1, 2, 7, 7))]


@pytest.fixture(scope="module")
def network():
    return module_of(block, ((1, 3, 13, 13), "float32"), ((1, 2, 7, 7), "float32"))


def test_regions_are_as_large_as_they_can_be(network):
    share = edgecc_tvm.multiply_adds(edgecc_tvm.partition(network))
    assert share.regions == 2
    assert share.edgecc == share.total == 7 * 7 * 8 * (27 + 9 + 8) + 90 * 7


@pytest.fixture(scope="module")
def machine(network):
    return built(edgecc_tvm.offload(network))


def test_results_are_those_of_tvm(network, machine):
    arrays = inputs()
    (got,), (want,) = call(machine, *arrays), run(network, *arrays)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_region_computes_in_the_reference_what_it_computes_in_tvm(network):
    region = next(f for f in edgecc_tvm.partition(network).functions.values() if "Codegen" in (f.attrs or {}) and len(f.params) == 2)
    graph = import_function(region, "region")
    arrays = dict(zip(graph.input_names, inputs(), strict=True))
    assert {node.op.name for node in graph.nodes} == {"conv", "elementwise", "concat"}
    assert execute(graph, arrays)["out0"].shape == (1, 10, 7, 7)


def test_a_tensor_of_another_shape_is_refused(machine):
    with pytest.raises(Exception, match=r"(?i)shape|match"):
        call(machine, *(array[..., :5].copy() for array in inputs()))


@pytest.mark.parametrize("build, what", [
    (lambda b, x: relax.op.nn.conv2d(x, constant(4, 3, 3, 13), data_layout="NHWC", kernel_layout="OHWI"), "has not the channels first"),
    (lambda b, x: relax.op.cumsum(x, axis=1), "is not known"),
    (lambda b, x: relax.op.strided_slice(x, [1], [2], [0], [-1]), "backwards"),
    (lambda b, x: relax.op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], "circular"), "circular"),
])
def test_what_edgecc_does_not_take_stays_with_tvm(build, what):
    module = module_of(build, ((1, 3, 13, 13), "float32"))
    (found,) = [binding.value for block in module["main"].body.blocks for binding in block.bindings if isinstance(binding.value, relax.Call)]
    assert what in obstacle(found)
    assert edgecc_tvm.multiply_adds(edgecc_tvm.partition(module)).regions == 0


def test_a_product_that_is_needed_twice_keeps_its_sum_apart():
    def build(builder, x):
        product = builder.emit(relax.op.nn.conv2d(x, constant(4, 4, 1, 1)))
        branch = builder.emit(relax.op.tanh(builder.emit(relax.op.cumsum(product, axis=1))))
        return relax.op.add(product, branch)  # as if the branch were a bias

    module, x = module_of(build, ((1, 4, 5, 5), "float32")), GENERATOR.standard_normal((1, 4, 5, 5)).astype(np.float32)
    parts = edgecc_tvm.partition(module)
    share = edgecc_tvm.multiply_adds(parts)
    assert share.edgecc == share.total == 400
    for got, want in zip(run(edgecc_tvm.compile_regions(parts), x), run(module, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_layer_of_a_transformer_is_one_region():
    def build(builder, x):
        emit, nn = builder.emit, relax.op.nn
        normal = emit(nn.layer_norm(x, constant(8), constant(8), axes=[-1], epsilon=1e-5))
        hidden = emit(nn.gelu(emit(relax.op.add(emit(relax.op.matmul(normal, constant(8, 16))), constant(16)))))
        return nn.gelu_tanh(emit(relax.op.add(x, emit(relax.op.matmul(hidden, constant(16, 8))))))

    module, x = module_of(build, ((2, 5, 8), "float32")), GENERATOR.standard_normal((2, 5, 8)).astype(np.float32)
    parts = edgecc_tvm.partition(module)
    assert edgecc_tvm.multiply_adds(parts).regions == 1
    for got, want in zip(run(edgecc_tvm.compile_regions(parts), x), run(module, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_loops_that_importers_write_for_one_operator_are_recognized():
    def build(builder, x):
        low, high = relax.const(np.float32(0.0)), relax.const(np.float32(6.0))
        deep = builder.emit(relax.op.nn.conv2d(x, constant(4, 3, 1, 1)))
        return builder.emit_te(tvm.topi.minimum, builder.emit_te(tvm.topi.maximum, deep, low), high)

    module = module_of(build, ((1, 3, 5, 5), "float32"))
    share = edgecc_tvm.multiply_adds(edgecc_tvm.partition(module))
    assert (share.regions, share.edgecc) == (1, 300)
    x = 9 * GENERATOR.standard_normal((1, 3, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(run(edgecc_tvm.offload(module), x)[0], run(module, x)[0], rtol=1e-5, atol=1e-6)


def test_quantized_regions_compute_on_integers():
    weights = GENERATOR.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    scales = np.abs(GENERATOR.standard_normal(8)).astype(np.float32) / 64

    def build(builder, x):
        def stored(value, scale, zero):
            scale, zero = relax.const(np.float32(scale)), relax.const(np.int8(zero))
            return builder.emit(relax.op.dequantize(builder.emit(relax.op.quantize(value, scale, zero, axis=1, out_dtype="int8")), scale, zero, axis=1))

        kernel = builder.emit(relax.op.dequantize(relax.const(weights), relax.const(scales), relax.const(np.zeros(8, np.int8)), axis=0))
        deep = builder.emit(relax.op.nn.conv2d(stored(x, 0.03, 5), kernel, padding=(1, 1, 1, 1)))
        return stored(builder.emit(relax.op.nn.relu(deep)), 0.11, -128)

    module = module_of(build, ((1, 3, 13, 13), "float32"))
    parts = edgecc_tvm.partition(module)
    assert edgecc_tvm.multiply_adds(parts) == edgecc_tvm.Share(8 * 27 * 169, 8 * 27 * 169, 1)
    region = import_function(next(f for f in parts.functions.values() if "Codegen" in (f.attrs or {})), "region")
    compiled = compile_graph(region, load_target("host"), name="region").graph
    assert [node.inputs[0].type.dtype.is_float for node in compiled.nodes if node.op.name == "conv"] == [False]
    x = GENERATOR.standard_normal((1, 3, 13, 13)).astype(np.float32)
    np.testing.assert_array_equal(run(edgecc_tvm.compile_regions(parts), x)[0], execute(compiled, {"in0": x})["out0"])


def test_other_loops_are_left_alone():
    def build(builder, x):
        row = builder.emit(relax.op.reshape(x, (6, 1)))
        moved = builder.emit_te(lambda a: tvm.te.compute((6, 6), lambda i, j: tvm.te.max(a[j, 0], a[i, 0])), row)
        return builder.emit_te(lambda a: tvm.te.compute((6, 6), lambda i, j: a[i, j] + a[j, i]), moved)

    module = module_of(build, ((6,), "float32"))
    x = GENERATOR.standard_normal(6).astype(np.float32)
    want = np.maximum(x[None, :], x[:, None])
    np.testing.assert_array_equal(run(edgecc_tvm.offload(module), x)[0], want + want.T)


def test_several_results_and_integers():
    def build(builder, x):
        o, emit = relax.op, builder.emit
        low = emit(o.multiply(x, relax.const(3, "int32")))
        tail = emit(o.cumsum(low, axis=0))
        return relax.Tuple([emit(o.maximum(low, relax.const(0, "int32"))), tail])

    module = module_of(build, ((6,), "int32"))
    x = np.arange(-3, 3, dtype=np.int32)
    for got, want in zip(run(edgecc_tvm.offload(module), x), (np.maximum(3 * x, 0), np.cumsum(3 * x)), strict=True):
        np.testing.assert_array_equal(got, want)
