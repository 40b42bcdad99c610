"""Small networks to quantize, built node by node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecc.quantization.network import Network


def network(nodes, inputs, outputs, constants) -> Network:
    """A network; inputs and outputs are name -> shape, constants name -> array."""
    def value(name, dims):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    graph = helper.make_graph(nodes, "n", [value(*item) for item in inputs.items()], [value(*item) for item in outputs.items()],
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return Network(model)


def convolutions(*, activation: str = "Relu", seed: int = 0) -> Network:
    """conv -> activation -> depthwise conv -> activation -> pointwise conv, and a sum with what came before."""
    rng = np.random.default_rng(seed)

    def weights(*dims):
        # Channels of very different ranges, as after folding batch normalisations.
        spread = np.exp(rng.uniform(-2, 2, dims[0])).reshape(-1, *[1] * (len(dims) - 1))
        return (rng.standard_normal(dims) * spread / np.sqrt(np.prod(dims[1:]))).astype(np.float32)

    constants = {"w1": weights(8, 3, 3, 3), "b1": rng.standard_normal(8).astype(np.float32), "w2": weights(8, 1, 3, 3),
                 "b2": rng.standard_normal(8).astype(np.float32), "w3": weights(8, 8, 1, 1), "six": np.float32(6), "zero": np.float32(0)}
    limits = ["zero", "six"] if activation == "Clip" else []
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1] * 4),
             helper.make_node(activation, ["c1", *limits], ["r1"], "act1"),
             helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", pads=[1] * 4, group=8),
             helper.make_node(activation, ["c2", *limits], ["r2"], "act2"),
             helper.make_node("Conv", ["r2", "w3"], ["c3"], "third"),
             helper.make_node("Add", ["c3", "r1"], ["y"], "sum")]
    if activation != "Clip":
        del constants["six"], constants["zero"]
    return network(nodes, {"x": [1, 3, 9, 7]}, {"y": [1, 8, 9, 7]}, constants)


def samples(count: int, dims=(1, 3, 9, 7), name: str = "x", seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    return [{name: rng.standard_normal(dims).astype(np.float32)} for _ in range(count)]


