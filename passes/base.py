"""What a pass is, how it is found by name, and how it says why it did nothing.

A pass is one file in passes/graph: a class with a name, a tolerance, options as dataclass fields and
one method. Defining the class registers it; importing `edgecc.passes.graph` imports every file of
that folder, so a new pass touches no other file. docs/writing-a-pass.md walks through one.
"""

from __future__ import annotations

import importlib
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node
from edgecc.ir.text import format_node
from edgecc.options import construct, nearest, spelled, split_names
from edgecc.plugins import plugins

MAX_ROUNDS = 10  # sweeps of a NodePass over the graph before it is taken not to terminate
ENTRY_POINTS = "edgecc.passes"  # group of installed packages that bring passes

_TABLE: dict[str, type[Pass]] = {}
PASSES: Mapping[str, type[Pass]] = types.MappingProxyType(_TABLE)
"""Every pass defined so far, by name. `load_passes` fills it."""


@dataclass(frozen=True)
class Pass(ABC):  # noqa: B024 - what a pass runs on differs by kind; each kind declares its own abstract method
    """The base of all passes. The fields of a subclass are its options, the docstring its contract.

    Class variables:
        name: the name in pipelines and on the command line: a verb and its object, "fuse-conv-bn".
            A class that sets none is an abstract base or a variant and is not registered.
        requires: names of passes that must stand earlier in the pipeline.
        place: where the default pipeline runs the pass if its own list does not name it:
            "after NAME" or "before NAME", or "" to run only when asked for.
    """

    name: ClassVar[str] = ""
    requires: ClassVar[tuple[str, ...]] = ()
    place: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name", "")
        if not name:
            return
        other = _TABLE.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"two passes are called {name!r}: {other.__qualname__} in {other.__module__} "
                            f"and {cls.__qualname__} in {cls.__module__}")
        _TABLE[name] = cls

    def decline(self, node: Node, reason: str) -> Literal[False]:
        """Records why the pass leaves `node` alone, for `collect_declines`. Always returns False."""
        found = _DECLINES.get()
        if found is not None:
            found.setdefault(Decline(self.name, node.op.name, node.loc, node.outputs[0].name, reason))
        return False

    def __str__(self) -> str:
        """The pass as `parse_passes` reads it; options that have their default value are left out."""
        return spelled(self.name, self)


@dataclass(frozen=True)
class GraphPass(Pass):
    """A pass over the Graph IR: takes a valid graph, leaves a valid graph with the same interface.

    Class variables:
        tolerance: how far results may move, in units of roundoff times magnitude
            (edgecc/reference/compare.py): 0 where results stay the same bit for bit. State a measured
            number with its source.
        rounds_anew: whether quantized numbers may move by one step where they lie at a tie, to `tolerance` roundings of
            float32: then values are compared one by one (edgecc/passes/ties.py).
    """

    tolerance: ClassVar[float] = 0.0
    rounds_anew: ClassVar[bool] = False

    def run_all(self, graph: Graph) -> bool:
        """Runs the pass over the graph and over the regions of its nodes. Returns whether anything changed."""
        changed = False
        for inner in graph.all_graphs():
            changed |= self.run(inner)
        return changed

    @abstractmethod
    def run(self, graph: Graph) -> bool:
        """Edits the graph in place; regions of nodes are visited by `run_all`. Returns whether anything changed, which the pipeline checks."""


@dataclass(frozen=True)
class NodePass(GraphPass):
    """A pass made of one local rewrite, tried on every node until nothing changes.

    `rewrite` is called in the order of the graph ("forward") or against it ("backward"); nodes that a
    rewrite adds are visited in the next sweep. A rewrite that looks at producers should go forward:
    one sweep then follows a chain of any length.
    """

    order: ClassVar[Literal["forward", "backward"]] = "forward"

    @abstractmethod
    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites around `node`; returns whether it changed anything. May erase any node."""

    def run(self, graph: Graph) -> bool:
        """Sweeps until nothing changes.

        Raises: EdgeccError E902 if it still changes after MAX_ROUNDS sweeps, E903 where a rewrite fails.
        """
        last = ""
        for sweep in range(MAX_ROUNDS + 1):
            changed = False
            nodes = graph.nodes if self.order == "forward" else graph.nodes[::-1]
            for node in nodes:
                if node in graph:
                    try:
                        if self.rewrite(graph, node):
                            changed, last = True, node.op.name
                    except EdgeccError as error:
                        if error.code != "E104":
                            raise failure(self, error, format_node(node)) from error
                        self.decline(node, error.message)  # what it asked for is known only at run time
                    except Exception as error:
                        raise failure(self, error, format_node(node)) from error
            if not changed:
                return sweep > 0
        raise EdgeccError("E902", f"still changes the graph after {MAX_ROUNDS} sweeps, last at a node {last}",
                          where=f"pass {self.name}")


def failure(graph_pass: Pass, error: Exception, node: str = "") -> EdgeccError:
    """The error that says which pass failed, at which node.

    It keeps the codes E900 and up, and E004 for an option that does not fit the graph; any other is E903, since a
    model that became a valid graph is not to blame.
    """
    where = f"pass {graph_pass.name}"
    details = [f"at {node}"] if node else []
    if isinstance(error, EdgeccError):
        if error.where.startswith(where):
            return error
        message = f"{error.where}: {error.message}" if error.where else error.message
        code = error.code if error.code >= "E900" or error.code == "E004" else "E903"
        return EdgeccError(code, message, where=where, hint=error.hint, details=[*details, *error.details])
    if isinstance(error, MemoryError):  # that is the model's doing, or the machine's
        return EdgeccError("E101", "the model needs more memory than there is", where=where, details=details)
    return EdgeccError("E903", f"{type(error).__name__}: {error}", where=where, details=details)


# -- declines -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decline:
    """Why a pass left a node alone: the pass, the node's operator, its source names, its first result, the reason."""

    pass_name: str
    op: str
    loc: tuple[str, ...]
    result: str
    reason: str

    def __str__(self) -> str:
        place = ", ".join(self.loc) or f"%{self.result}"
        return f"{self.pass_name}: {self.op} {place}: {self.reason}"


_DECLINES: ContextVar[dict[Decline, None] | None] = ContextVar("declines", default=None)


@contextmanager
def collect_declines() -> Iterator[Mapping[Decline, None]]:
    """Within this context, passes record why they did nothing; yields the records, each once, in order."""
    found: dict[Decline, None] = {}
    token = _DECLINES.set(found)
    try:
        yield found
    finally:
        _DECLINES.reset(token)


# -- the registry -------------------------------------------------------------------------------


def load_passes() -> Mapping[str, type[Pass]]:
    """Imports the built-in graph passes and those of installed packages; returns all passes by name.

    A package brings passes with an entry point of the group "edgecc.passes" whose value is a module.
    Raises: EdgeccError E404 naming the entry point that cannot be imported: without its passes results would differ.
    """
    importlib.import_module("edgecc.passes.graph")
    for plugin in plugins(ENTRY_POINTS):
        plugin.load()
    return PASSES


def create_pass(name: str, options: Mapping[str, str] | None = None) -> GraphPass:
    """Builds a graph pass from its name and its options as text.

    Raises: EdgeccError E004 for an unknown name or option or an ill-typed value, with the nearest name.
    """
    cls = PASSES.get(name) or load_passes().get(name)
    if cls is None or not issubclass(cls, GraphPass):
        known = [n for n, c in PASSES.items() if issubclass(c, GraphPass)]
        raise EdgeccError("E004", f"there is no graph pass {name!r}", hint=nearest(name, known) or "see `edgecc passes`")
    return construct(cls, options or {}, f"pass {name}", "E004")


def parse_passes(spec: str) -> tuple[GraphPass, ...]:
    """Reads a pipeline such as `eliminate,fold-constants{limit=1024} fuse-conv-bn`.

    Names are separated by commas or spaces; options stand in braces, `name=value` separated by commas.
    Raises: EdgeccError E004.
    """
    return tuple(create_pass(name, options) for name, options in split_names(spec, "pass", "E004"))


def check_requirements(passes: Sequence[Pass]) -> None:
    """Checks that what each pass requires stands before it. Raises: EdgeccError E004."""
    seen: set[str] = set()
    for one in passes:
        missing = [name for name in one.requires if name not in seen]
        if missing:
            raise EdgeccError("E004", f"pass {one.name} needs {', '.join(missing)} before it in the pipeline")
        seen.add(one.name)

