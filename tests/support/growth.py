"""Sound random models, grown node by node: a node stays where onnxruntime can run it on what there is.

`Growth` holds the values that there are, each with its arrays at two sets of sizes of the open dimensions; a dimension is open where
these differ. Recipes (tests/support/recipes.py) add nodes that fit. In contrast to `fuzz.Generator` nearly every model is one
that people could have made, so that nearly every one is compiled, run and compared.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.against_onnxruntime import run_session, session_of

Array = np.ndarray[Any, Any]

SYMBOLS = {"n": (1, 4), "m": (2, 9)}
"""The open dimensions, each with its bounds."""
PROBES = ({"n": 3, "m": 7}, {"n": 2, "m": 5})
"""The sizes at which values are known while a model grows."""
LARGEST, MOST_ELEMENTS = 1e3, 3000


@dataclass(frozen=True)
class Drawn:
    """How an input is filled: "quarters", "positive" ones, "bits", "indices" below `limit`, "counts", "words"; its type and dims."""

    kind: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...]
    limit: int = 1

    def draw(self, generator: np.random.Generator, sizes: Mapping[str, int], *, wild: bool = False) -> Array:
        """An array; with `wild` indices are any numbers."""
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in self.dims)
        match self.kind:
            case "bits":
                drawn = generator.integers(0, 2, shape)
            case "indices" if wild:
                drawn = generator.choice([0, -1, self.limit, -self.limit - 1, 2**31 - 1, -(2**31), 10**6], shape)
            case "indices":
                drawn = generator.integers(-self.limit, self.limit, shape)
            case "counts":
                drawn = generator.integers(0, self.limit + 1, shape)
            case "words":
                return np.asarray(generator.choice(["", "a", "1", "Ab c", "\u00e9b"], shape), dtype=object)
            case "positive":
                drawn = generator.integers(1, 9, shape) / 4
            case _ if self.dtype.kind in "iu":
                limits = np.iinfo(self.dtype)
                return np.asarray(np.clip(generator.integers(-6, 7, shape), limits.min, limits.max)).astype(self.dtype)
            case _:
                drawn = generator.integers(-8, 9, shape) / 4
        return np.asarray(drawn).astype(self.dtype)


@dataclass(frozen=True)
class Known:
    """A value: its arrays at the probes, and whether they are exact, so that rounding them decides nothing."""

    name: str
    arrays: tuple[Array, ...]
    exact: bool
    constant: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"

    @property
    def rank(self) -> int:
        return self.arrays[0].ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes at the first probe."""
        return self.arrays[0].shape

    @property
    def fixed(self) -> tuple[int | None, ...]:
        """The sizes; None where one is open."""
        return tuple(a if all(a == b for b in rest) else None for a, *rest in zip(*(a.shape for a in self.arrays), strict=True))

    @property
    def is_fixed(self) -> bool:
        return None not in self.fixed


@dataclass
class Growth:
    """A graph, or the body of a branch or loop inside of `outer`, that grows."""

    source: random.Random
    opset: int
    probes: tuple[dict[str, int], ...]
    outer: Growth | None = None
    known: list[Known] = field(default_factory=list)
    inputs: dict[str, Drawn] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    number: list[int] = field(default_factory=lambda: [0])

    # -- choices ------------------------------------------------------------------------------

    def one_of(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.source.randrange(len(options))]

    def chance(self, one_in: int) -> bool:
        """True once in so many times."""
        return self.source.randrange(one_in) == 0

    def pick(self, *, kinds: str = "f", ranks: Sequence[int] = range(7), exact: bool = False, fixed: bool = False) -> Known | None:
        """A value of one of these kinds of types and ranks, newer ones more often; None where there is none."""
        found = [v for v in self.visible() if v.dtype.kind in kinds and v.rank in ranks and (v.exact or not exact) and (v.is_fixed or not fixed)]
        if not found:
            return None
        return found[-1 - min(self.source.randrange(len(found)), self.source.randrange(len(found)))]

    def visible(self) -> list[Known]:
        """What a node may read: values of this graph and of those around it."""
        return [*(self.outer.visible() if self.outer is not None else []), *self.known]

    def fresh(self, stem: str = "t") -> str:
        """A name that nothing has."""
        self.number[0] += 1
        return f"{stem}{self.number[0]}"

    # -- values -------------------------------------------------------------------------------

    def add_input(self, drawn: Drawn) -> Known:
        """An input of the model (also where this is a body: it is an input of the outermost graph)."""
        if self.outer is not None:
            return self.outer.add_input(drawn)
        name = self.fresh("x")
        self.inputs[name] = drawn
        generator = np.random.default_rng(self.source.randrange(2**32))
        self.known.append(Known(name, tuple(drawn.draw(generator, sizes) for sizes in self.probes), True))
        return self.known[-1]

    def constant(self, array: Any, dtype: Any = None) -> str:
        """An initializer."""
        name = self.fresh("c")
        self.constants[name] = np.asarray(array, dtype)
        return name

    def quarters(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        """Small numbers that are exact in every type of floats."""
        generator = np.random.default_rng(self.source.randrange(2**32))
        return np.asarray(generator.integers(-6, 7, tuple(shape)) / 4).astype(dtype)

    # -- nodes --------------------------------------------------------------------------------

    def add(self, op_type: str, operands: Sequence[Known | str], *, results: int = 1, exact: bool = False, domain: str = "",
            **attributes: Any) -> list[Known] | None:
        """A node, and its results; None, and nothing is added, where onnxruntime does not take it or numbers become too large."""
        names = [o if isinstance(o, str) else o.name for o in operands]
        outputs = [self.fresh() for _ in range(results)]
        node = helper.make_node(op_type, names, outputs, name=self.fresh("n"), domain=domain, **attributes)
        return self.add_nodes([node], outputs, exact=exact)

    def add_nodes(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], *, exact: bool = False) -> list[Known] | None:
        """Several nodes that make sense together only."""
        found = self.evaluate(nodes, outputs)
        windows = any("Pool" in node.op_type or "Conv" in node.op_type for node in nodes)
        if found is None or (windows and not all(a.size for arrays in found for a in arrays)):
            return None  # windows that are larger than the image give nothing there, are refused here, and what reads it may crash onnxruntime
        results = []
        for name, arrays in zip(outputs, found, strict=True):
            if any(a.size > MOST_ELEMENTS or (a.dtype.kind == "f" and a.size and not np.nanmax(np.abs(a)) < LARGEST) for a in arrays):
                return None
            results.append(Known(name, arrays, arrays[0].dtype.kind != "f" or (exact and all(_is_exact(a) for a in arrays))))
        self.nodes += nodes
        self.known += results
        return results

    def evaluate(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[tuple[Array, ...]] | None:
        """What onnxruntime makes of nodes at the probes; None where it does not take them."""
        used = read_names(nodes)
        constants = self.all_constants()
        values = [v for v in self.visible() if v.name in used]
        graph = helper.make_graph(list(nodes), "probe", [_port(v.name, v.dtype, [None] * v.rank) for v in values],
                                  [helper.make_empty_tensor_value_info(o) for o in outputs], [_tensor(n, a) for n, a in constants.items() if n in used])
        session = session_of(as_model(graph, self.opset))
        if session is None:
            return None
        found = []
        for probe in range(len(self.probes)):
            results = run_session(session, {v.name: v.arrays[probe] for v in values})
            if results is None or not all(isinstance(r, np.ndarray) for r in results):
                return None
            found.append(results)
        columns = [tuple(column) for column in zip(*found, strict=True)]
        return None if any(len({a.ndim for a in column}) > 1 for column in columns) else columns

    def all_constants(self) -> dict[str, Array]:
        """Initializers of this graph and of those around it."""
        return {**(self.outer.all_constants() if self.outer is not None else {}), **self.constants}

    def body(self) -> Growth:
        """A graph inside of this one."""
        return Growth(self.source, self.opset, self.probes, self, number=self.number)

    def model(self, kept: int = 3) -> onnx.ModelProto:
        """The model; its outputs are what nothing reads, and a few of what is read too."""
        used = read_names(self.nodes)
        made = [v for v in self.known if v.name not in self.inputs]
        outputs = [v for v in made if v.name not in used] or made[-1:]
        outputs += [v for v in made if v not in outputs][:self.source.randrange(kept)]
        graph = helper.make_graph(self.nodes, "grown", [_port(n, d.dtype, d.dims) for n, d in self.inputs.items()],
                                  [helper.make_empty_tensor_value_info(v.name) for v in outputs],
                                  [_tensor(n, a) for n, a in self.constants.items() if n in used])
        return as_model(graph, self.opset)

    def body_graph(self, inputs: Sequence[onnx.ValueInfoProto], results: Sequence[Known]) -> onnx.GraphProto:
        """This body as the attribute of a node; its constants lie in it."""
        used = {*read_names(self.nodes), *(r.name for r in results)}
        return helper.make_graph(self.nodes, "body", list(inputs), [_port(r.name, r.dtype, [None] * r.rank) for r in results],
                                 [_tensor(n, a) for n, a in self.constants.items() if n in used])


def as_model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model of one opset and of the operators of onnxruntime."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10)


def read_names(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Every name that nodes, and what is within them, read."""
    found = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                found |= read_names(graph.node) | {o.name for o in graph.output}
    return found


def _is_exact(array: Array) -> bool:
    with np.errstate(all="ignore"):
        scaled = array.astype(np.float64) * 16
    return bool(np.all(np.isfinite(scaled)) and np.all(np.abs(scaled) < 2**10) and np.all(scaled == np.round(scaled)))


def _port(name: str, dtype: np.dtype[Any], dims: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), dims)


def _tensor(name: str, array: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)
