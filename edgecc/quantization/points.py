"""Which values of a network are quantized, and which share their parameters.

An operator that computes on integers (`ARITHMETIC`) wants its operands and its result quantized. An activation
right behind it belongs to it: what lies between the two never exists as integers. Operators that only move
elements (`MOVEMENT`) keep the parameters of what they move, so their operands and results form a group. A group
is quantized if an arithmetic operator wants a value of it; everything else stays in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
import onnx

from edgecc.quantization.network import Network, attribute

WEIGHTED: Mapping[str, tuple[int, int | None]] = {"Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (1, None)}
"""Operators with weights: the operand that holds them, and the one that holds the bias."""

ARITHMETIC = frozenset({
    *WEIGHTED, "Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool", "ReduceMean", "Resize", "Softmax",
    "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Elu", "Gelu", "Mish", "Softplus", "Softsign", "Relu", "Clip"})
"""Operators that integers are computed by; those of one operand and no neighbours become tables."""

LIMITS: Mapping[str, tuple[float, float]] = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""The range of operators whose results fill one that is known, if they do (edgecc/quantization/headroom.py)."""

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""What an operator in front of it does on the way, by limiting its result."""

TAKES_ACTIVATION = frozenset({*WEIGHTED, "Add", "Sub", "Mul"})

MOVEMENT = frozenset({"MaxPool", "Reshape", "Transpose", "Slice", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Split", "Expand",
                      "Concat", "Pad", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool", "ReduceMax", "ReduceMin"})
"""Operators whose results are elements of what they read."""


@dataclass(frozen=True)
class Group:
    """Values that share a scale and a zero point.

    Attributes:
        values: names, in the order of the network; constants among them too.
        limits: the range the operator's own meaning gives, as of Softmax; None where data decides.
        wide: whether it is quantized to 16 bits.
    """

    values: tuple[str, ...]
    limits: tuple[float, float] | None = None
    wide: bool = False


@dataclass(frozen=True)
class Weights:
    """The weights of a node, quantized for themselves. `bias` is the name of its bias, if it has one."""

    node: onnx.NodeProto = field(compare=False)
    name: str
    axis: int
    bias: str | None


@dataclass(frozen=True)
class Points:
    """What to quantize. `inner` are values that exist only within an operator (in front of an activation that belongs to it)."""

    groups: tuple[Group, ...]
    weights: tuple[Weights, ...]
    inner: frozenset[str]

    @property
    def activations(self) -> tuple[str, ...]:
        """All quantized values but the weights."""
        return tuple(name for group in self.groups for name in group.values)


def find_points(network: Network, exclude: Iterable[str] = (), wide: Iterable[str] = (), apart: Iterable[str] = ()) -> Points:
    """The values to quantize.

    Args:
        exclude: names of nodes that stay in float.
        wide: names of nodes whose results, and of inputs of the network, that are quantized to 16 bits.
        apart: names of concatenations whose operands keep scales of their own (edgecc/quantization/uneven.py). What they join stays in float, and so does
            what is moved of it, up to the next operator that computes.
    """
    excluded, widened = frozenset(exclude), frozenset(wide)
    wanted: dict[str, None] = {}
    weights: list[Weights] = []
    inner: set[str] = set()
    sharing: nx.Graph[str] = nx.Graph()
    limits: dict[str, tuple[float, float]] = {}
    wide_values = {*(widened & set(network.inputs)), *(name for node in network.nodes if node.name in widened for name in node.output)}
    separated, mixed = frozenset(apart), set[str]()
    for node in network.nodes:
        result = node.output[0]
        if node.op_type in MOVEMENT:
            moved = [name for name in moved_operands(node) if network.is_float(name)]
            if node.name in separated or not mixed.isdisjoint(moved):
                mixed.update(node.output)
                continue
            nx.add_path(sharing, [*moved, *(name for name in node.output if network.is_float(name))])
            continue
        if node.op_type not in ARITHMETIC or node.name in excluded or not network.is_float(result):
            continue
        own = _weights_of(network, node)
        if own is not None:
            weights.append(own)
        behind = _activation_behind(network, node)
        bias = _bias_behind(network, node)
        for operand in _operands(network, node, own):
            wanted[operand] = None
        if bias is not None and bias.name not in excluded:
            inner.add(result)  # its constant stays in float, and is added to the sums
        elif behind is not None and behind.name not in excluded:
            inner.add(result)
        else:
            wanted[result] = None
        if node.op_type in LIMITS:
            limits[result] = LIMITS[node.op_type]
    for name in inner:
        wanted.pop(name, None)
    return Points(_groups(network, wanted, sharing, limits, frozenset(wide_values)), tuple(weights), frozenset(inner))


def moved_operands(node: onnx.NodeProto) -> Sequence[str]:
    """The operands whose elements a movement carries into its results."""
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


def _weights_of(network: Network, node: onnx.NodeProto) -> Weights | None:
    if node.op_type not in WEIGHTED:
        return None
    position, bias_position = WEIGHTED[node.op_type]
    name = node.input[position]
    if name not in network.constants:
        return None
    rank = network.constants[name].ndim
    if node.op_type == "Conv":
        axis = 0
    elif node.op_type == "ConvTranspose":
        axis = 1
    elif node.op_type == "Gemm":
        axis = 0 if attribute(node, "transB", 0) else 1
    else:
        axis = rank - 1
    bias = node.input[bias_position] if bias_position is not None and len(node.input) > bias_position else ""
    array = network.constants.get(bias)
    is_row = array is not None and (array.ndim < 2 or array.size == array.shape[-1])  # a Gemm may add a matrix, which stays in float
    return Weights(node, name, axis, bias if is_row else None)


def _operands(network: Network, node: onnx.NodeProto, weights: Weights | None) -> list[str]:
    """The operands of a node that are values like any other: not its weights, its bias, limits, shapes."""
    count = {"Clip": 1, "Resize": 1, "ReduceMean": 1}.get(node.op_type, len(node.input))
    skipped = set() if weights is None else {weights.name, weights.bias}
    if node.op_type in WEIGHTED:
        count = 2  # a bias that is computed stays in float
    behind_product = _is_bias(network, node)
    names = [name for name in list(node.input)[:count] if name and name not in skipped and network.is_float(name)]
    return [] if behind_product else names


def _activation_behind(network: Network, node: onnx.NodeProto) -> onnx.NodeProto | None:
    reader = network.only_reader(node.output[0]) if node.op_type in TAKES_ACTIVATION else None
    return reader if reader is not None and reader.op_type in ACTIVATIONS and reader.input[0] == node.output[0] else None


def _bias_behind(network: Network, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The addition of a constant vector right behind a matrix product with constant weights: its bias."""
    reader = network.only_reader(node.output[0]) if node.op_type == "MatMul" else None
    return reader if reader is not None and _is_bias(network, reader) else None


def _is_bias(network: Network, node: onnx.NodeProto) -> bool:
    if node.op_type != "Add":
        return False
    for product, constant in (node.input, reversed(node.input)):
        producer = network.producers.get(product)
        if (producer is not None and producer.op_type == "MatMul" and network.only_reader(product) is node
                and producer.input[1] in network.constants and constant in network.constants
                and network.constants[constant].ndim <= 1):
            return True
    return False


def _groups(network: Network, wanted: Mapping[str, None], sharing: nx.Graph[str], limits: Mapping[str, tuple[float, float]],
            wide: frozenset[str]) -> tuple[Group, ...]:
    order = {name: position for position, name in enumerate(
        [*network.inputs, *network.constants, *(name for node in network.nodes for name in node.output)])}
    sharing.add_nodes_from(wanted)
    found = []
    for component in nx.connected_components(sharing):
        if not component & wanted.keys():
            continue
        names = tuple(sorted(component, key=order.__getitem__))
        known = [limits[name] for name in names if name in limits]
        # A range that is known holds only where nothing else flows into the group than what has the same one.
        sources = [name for name in names if network.producers.get(name) is None
                   or network.producers[name].op_type not in MOVEMENT]
        fixed = known[0] if len(known) == len(sources) and len(set(known)) == 1 else None
        found.append(Group(names, fixed, bool(wide & component)))
    return tuple(sorted(found, key=lambda group: order[group.values[0]]))
