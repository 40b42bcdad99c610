"""A divided network run as a whole: the CPU's parts as compiled code, the accelerator's in what its back end has for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import check_inputs, ports_of
from edgecc.backends.base import GraphBackend, LoopBackend
from edgecc.ir.types import Array
from edgecc.partition.artifact import part_artifacts, parts_table

Step = Callable[[Mapping[str, Array]], dict[str, Array]]


class PartitionedModel:
    """A divided network that can be run; as a context it ends the processes of the CPU's parts.

    Attributes:
        code_bytes: machine code of the CPU's parts, or None where that is not known.
    """

    def __init__(self, artifact: Artifact, npu: GraphBackend, cpu: LoopBackend, cc: str | None = None) -> None:
        self._manifest, self._table = artifact.manifest, parts_table(artifact)
        self._parts = part_artifacts(artifact)
        self._stack = ExitStack()
        self._steps: list[Step] = []
        sizes: list[int | None] = []
        with ExitStack() as stack:
            for description, part in self._parts:
                if description["side"] == "npu":
                    self._steps.append(_on_npu(npu, part))
                else:
                    loaded = stack.enter_context(cpu.load(part, cc))
                    self._steps.append(loaded.run)
                    sizes.append(loaded.code_bytes)
            self._stack = stack.pop_all()
        self.code_bytes = None if None in sizes else sum(size for size in sizes if size is not None)

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The outputs of one inference by name. Raises: EdgeccError E005 for inputs that do not fit; what parts raise."""
        given = check_inputs(ports_of(self._manifest.inputs), inputs)
        results = self._results(given)
        return {port.name: _array(source, given, results)
                for port, source in zip(self._manifest.outputs, self._table["outputs"], strict=True)}

    def run_parts(self, inputs: Mapping[str, npt.ArrayLike]) -> list[tuple[dict[str, Array], dict[str, Array]]]:
        """As `run`, but returns what each part was given and what it gave, by name."""
        given = check_inputs(ports_of(self._manifest.inputs), inputs)
        results = self._results(given)
        return [(_given(description, part, given, results), {port.name: array for port, array in zip(part.manifest.outputs, own, strict=True)})
                for (description, part), own in zip(self._parts, results, strict=True)]

    def _results(self, given: Sequence[Array]) -> list[list[Array]]:
        """The outputs of each part."""
        results: list[list[Array]] = []
        for (description, part), step in zip(self._parts, self._steps, strict=True):
            outcome = step(_given(description, part, given, results))
            results.append([outcome[port.name] for port in part.manifest.outputs])
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def _given(description: Mapping[str, Any], part: Artifact, given: Sequence[Array], results: Sequence[Sequence[Array]]) -> dict[str, Array]:
    return {port.name: _array(source, given, results) for port, source in zip(part.manifest.inputs, description["inputs"], strict=True)}


def _array(source: Mapping[str, Any], given: Sequence[Array], results: Sequence[Sequence[Array]]) -> Array:
    part, index = source["part"], source["index"]
    found: Array = given[index] if part is None else results[part][index]
    return found


def _on_npu(npu: GraphBackend, part: Artifact) -> Step:
    return lambda inputs: npu.run(part, inputs)
