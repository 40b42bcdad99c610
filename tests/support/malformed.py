"""Models of one node that are wrong in one way, made from one sound model of each operator.

`operators.txt` holds the sound models, a graph a line in the text form of the onnx package, below the domain and its version. `variants` damages one: operands that are left
out, empty, doubled, of other types, ranks and sizes; attributes that are left out, of other types, empty, far too large; results
too many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.limits import subgraphs
from edgecc.pipeline import default_graph_passes, run_passes

SOUND = Path(__file__).parents[1] / "security" / "operators.txt"
TYPES = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT4,
         TensorProto.FLOAT8E4M3FN, TensorProto.COMPLEX64, TensorProto.UNDEFINED, 9999)
INTEGERS = (0, -1, -7, 2, 9, 2**31, 2**62, -(2**63))
FLOATS = (0.0, -1.0, 1e30, math.inf, math.nan)
TEXTS = (b"", b"bogus", b"*/", b"\xff")

Change = Callable[[GraphProto], None]

_UNCLEAR = re.compile(
    r"cannot be understood|out of range for|index out of range|NoneType|object (is|has|of)|Traceback|unpack |not subscriptable|unexpected keyword"
    r"|broadcast together|could not be broadcast|cannot reshape array|math domain|positional argument|unsupported operand|ufunc|<class|zip\(\)"
    r"|operands could not|zero-size array|cannot convert|invalid literal|dictionary|KeyError|list index|must be real number|numpy\.")
"""What Python and numpy say; it explains nothing to somebody who has a model."""


@dataclass(frozen=True)
class Sound:
    """The sound model of an operator."""

    domain: str
    version: int
    operator: str
    graph: GraphProto


def sound_models() -> list[Sound]:
    """The models of `operators.txt`."""
    found, domain, version = [], "", 0
    for line in SOUND.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            domain, number = line[1:].split()
            version = int(number)
        elif line:
            graph = onnx.parser.parse_graph(line)
            graph.node[0].domain, graph.node[0].name = "" if domain == "ai.onnx" else domain, "the_node"
            found.append(Sound(domain, version, graph.node[0].op_type, graph))
    return found


def model_of(sound: Sound, graph: GraphProto) -> ModelProto:
    """A graph, of the same operator, as a model."""
    versions = {"ai.onnx": onnx.defs.onnx_opset_version(), sound.domain: sound.version}
    opsets = [helper.make_opsetid("" if domain == "ai.onnx" else domain, version) for domain, version in versions.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def variants(sound: Sound) -> Iterator[tuple[str, ModelProto]]:
    """Damaged models with a word on what is wrong, always the same ones."""
    for what, change in _changes(sound.graph):
        graph = GraphProto()
        graph.CopyFrom(sound.graph)
        for value in graph.output:  # what the sound model says of them is not what the damaged one gives
            value.ClearField("type")
        change(graph)
        yield f"{sound.operator}: {what}", model_of(sound, graph)


def _changes(graph: GraphProto) -> Iterator[tuple[str, Change]]:
    node = graph.node[0]
    stored = {tensor.name for tensor in graph.initializer}
    for count in range(len(node.input)):
        yield f"{count} operands", lambda g, n=count: _cut(g.node[0].input, n)
    yield "one operand more", lambda g: g.node[0].input.append(g.node[0].input[0] if g.node[0].input else "")
    yield "twenty operands more", lambda g: g.node[0].input.extend([g.node[0].input[0] if g.node[0].input else ""] * 20)
    for index, name in enumerate(node.input):
        if not name:
            continue
        yield f"operand {index} is empty", lambda g, i=index: g.node[0].input.__setitem__(i, "")
        for code in TYPES:
            yield f"operand {index} is of type {code}", lambda g, n=name, c=code: _retype(g, n, c)
        for what, reshape in _SHAPES.items():
            yield f"operand {index} has {what}", lambda g, n=name, r=reshape: _reshape(g, n, r)
        dims = _dims(graph, name)
        for axis in range(len(dims)):
            for size in (0, 1, dims[axis] + 1):
                yield f"dimension {axis} of operand {index} is {size}", lambda g, n=name, a=axis, s=size: _reshape(
                    g, n, lambda d, a=a, s=s: [*d[:a], s, *d[a + 1:]])
        if name in stored:
            yield f"operand {index} is no constant", lambda g, n=name: _unstore(g, n)
            for number in INTEGERS:
                yield f"operand {index} holds {number}", lambda g, n=name, v=number: _fill(g, n, v)
    for index, attribute in enumerate(node.attribute):
        yield f"no attribute {attribute.name}", lambda g, i=index: g.node[0].attribute.__delitem__(i)
        yield f"attribute {attribute.name} twice", lambda g, i=index: g.node[0].attribute.append(g.node[0].attribute[i])
        for value in (0, 1.5, b"x", [1, 2], [1.5], [b"x"], []):
            yield f"{attribute.name} is {value!r}", lambda g, i=index, v=value: _set(g.node[0].attribute[i], v)
        for number in INTEGERS:
            if attribute.type == AttributeProto.INT:
                yield f"{attribute.name} is {number}", lambda g, i=index, v=number: _set(g.node[0].attribute[i], v)
            if attribute.type == AttributeProto.INTS:
                yield f"{attribute.name} is all {number}", lambda g, i=index, v=number: _set(
                    g.node[0].attribute[i], [v] * len(g.node[0].attribute[i].ints))
        if attribute.type == AttributeProto.INTS:
            yield f"{attribute.name} is longer", lambda g, i=index: g.node[0].attribute[i].ints.append(1)
            yield f"{attribute.name} is shorter", lambda g, i=index: g.node[0].attribute[i].ints.pop()
        for fraction in FLOATS if attribute.type == AttributeProto.FLOAT else ():
            yield f"{attribute.name} is {fraction}", lambda g, i=index, v=fraction: _set(g.node[0].attribute[i], v)
        for text in TEXTS if attribute.type == AttributeProto.STRING else ():
            yield f"{attribute.name} is {text!r}", lambda g, i=index, v=text: _set(g.node[0].attribute[i], v)
    yield "an attribute that is not known", lambda g: g.node[0].attribute.append(helper.make_attribute("not_known", 1))
    yield "one result more", lambda g: g.node[0].output.append("more")
    yield "thirty results more", lambda g: g.node[0].output.extend(f"more{i}" for i in range(30))
    yield "a result without a name", lambda g: _cut(g.node[0].output, 1)


_SHAPES: dict[str, Callable[[list[int]], list[int]]] = {
    "rank 0": lambda dims: [], "a dimension less": lambda dims: dims[1:], "a dimension more": lambda dims: [1, *dims],
    "rank 7": lambda dims: ([2] * 7 + dims)[-7:], "no elements": lambda dims: [0] * len(dims), "rank 1": lambda dims: [math.prod(dims)],
    "ones": lambda dims: [1] * len(dims),
}


def _cut(names: object, count: int) -> None:
    del names[count:]  # type: ignore[attr-defined]


def _tensor(graph: GraphProto, name: str) -> TensorProto | None:
    return next((tensor for tensor in graph.initializer if tensor.name == name), None)


def _input(graph: GraphProto, name: str) -> onnx.TypeProto.Tensor | None:
    return next((value.type.tensor_type for value in graph.input if value.name == name and value.type.HasField("tensor_type")), None)


def _dims(graph: GraphProto, name: str) -> list[int]:
    tensor, value = _tensor(graph, name), _input(graph, name)
    return list(tensor.dims) if tensor is not None else [d.dim_value for d in value.shape.dim] if value is not None else []


def _retype(graph: GraphProto, name: str, code: int) -> None:
    tensor, value = _tensor(graph, name), _input(graph, name)
    if value is not None:
        value.elem_type = code
    elif tensor is not None:
        _replace(tensor, code, list(tensor.dims))


def _replace(tensor: TensorProto, code: int, dims: list[int], value: int | None = None) -> None:
    """Data of another type or shape: ones, or `value`."""
    count = math.prod(dims)
    made = TensorProto(name=tensor.name, data_type=code, dims=dims)
    if code in (TensorProto.STRING,):
        made.string_data.extend([b"1"] * count)
    elif code in (TensorProto.UNDEFINED, 9999):
        made.raw_data = bytes(4 * count)
    else:
        made = helper.make_tensor(tensor.name, code, dims, [1 if value is None else value] * count)
    tensor.CopyFrom(made)


def _reshape(graph: GraphProto, name: str, change: Callable[[list[int]], list[int]]) -> None:
    tensor, value = _tensor(graph, name), _input(graph, name)
    dims = change(_dims(graph, name))
    if tensor is not None:
        _replace(tensor, tensor.data_type, dims)
    elif value is not None:
        value.shape.Clear()
        for size in dims:
            value.shape.dim.add().dim_value = size
        value.shape.SetInParent()


def _unstore(graph: GraphProto, name: str) -> None:
    for tensor in list(graph.initializer):
        if tensor.name == name:
            graph.initializer.remove(tensor)
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))


_RANGES = {TensorProto.INT64: (-(2**63), 2**63 - 1), TensorProto.INT32: (-(2**31), 2**31 - 1), TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127),
           TensorProto.BOOL: (0, 1), TensorProto.UINT64: (0, 2**64 - 1)}


def _fill(graph: GraphProto, name: str, number: int) -> None:
    tensor = _tensor(graph, name)
    assert tensor is not None
    low, high = _RANGES.get(tensor.data_type, (-(2**63), 2**63))
    if tensor.data_type != TensorProto.STRING:
        _replace(tensor, tensor.data_type, list(tensor.dims), min(max(number, low), high))


def _set(attribute: AttributeProto, value: int | float | bytes | list[int] | list[float] | list[bytes]) -> None:
    made = AttributeProto(name=attribute.name)
    match value:
        case int():
            made.type, made.i = AttributeProto.INT, min(value, 2**63 - 1)
        case float():
            made.type, made.f = AttributeProto.FLOAT, value
        case bytes():
            made.type, made.s = AttributeProto.STRING, value
        case [bytes(), *_]:
            made.type = AttributeProto.STRINGS
            made.strings.extend(value)
        case [float(), *_]:
            made.type = AttributeProto.FLOATS
            made.floats.extend(value)
        case _:
            made.type = AttributeProto.INTS
            made.ints.extend(value)
    attribute.CopyFrom(made)


@dataclass(frozen=True)
class Judgement:
    """What became of a model, "ok" or the code of the error, and what is wrong with that, or ""."""

    outcome: str
    complaint: str = ""


def judged(sound: Sound, model: ModelProto) -> Judgement:
    """Imports a model and runs the passes: it has to be accepted, or refused in words that help."""
    try:
        run_passes(import_model(model), default_graph_passes())
    except EdgeccError as error:
        return Judgement(error.code, _wrong_with(error, sound))
    except Exception as error:  # whatever else escapes is a finding
        return Judgement(type(error).__name__, f"{type(error).__name__}: {error}")
    return Judgement("ok")


def _wrong_with(error: EdgeccError, sound: Sound) -> str:
    text = str(error)
    if error.exit_status != 3:
        return f"exit status {error.exit_status}: {text}"
    if _UNCLEAR.search(text):
        return f"not clear: {text}"
    place = text.split("hint:")[0]
    operators = {sound.operator} | {node.op_type for graph in subgraphs(sound.graph.node[0]) for node in graph.node}
    if not any(operator in place for operator in operators) and not re.search(r"'\w+'|input \w+|initializer|tensor", place):
        return f"names neither an operator nor a value: {text}"
    return ""
