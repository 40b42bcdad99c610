"""What a divided network computed inside: the integers of the accelerator's parts, and those that the CPU's parts gave."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgecc.backends.base import Trace
from edgecc.ir.graph import Value
from edgecc.ir.types import Array
from edgecc.partition.artifact import Partitioned, part_artifacts
from edgecc.partition.run import PartitionedModel
from edgecc.partition.split import split


def trace(made: Partitioned, model: PartitionedModel, inputs: Mapping[str, Array]) -> Trace | None:
    """The integers of a run, by values of `made.graph`; None where the accelerator's back end cannot tell.

    Raises: what parts raise.
    """
    integers: dict[Value, Array] = {}
    beyond: dict[Value, int] = {}
    pieces = split(made.graph, made.plan)
    for part, (_, nodes), (_, artifact), (given, results) in zip(pieces.parts, made.plan.parts, part_artifacts(made.artifact),
                                                                 model.run_parts(inputs), strict=True):
        # A part has copies of the nodes, in the same order.
        own = {copy: value for node, twin in zip(nodes, part.graph.nodes, strict=True)
               for value, copy in zip(node.outputs, twin.outputs, strict=True)}
        if part.on_npu:
            inner = made.npu.trace(part.graph, artifact, given)
            if inner is None:
                return None
            integers |= {own[value]: array for value, array in inner.integers.items()}
            beyond |= {own[value]: steps for value, steps in inner.beyond.items()}
        else:
            integers |= {own[value]: results[name] for name, value in zip(part.graph.output_names, part.graph.outputs, strict=True)
                         if value in own and value.type.dtype.is_integer and np.ndim(results[name])}
    return Trace(integers, beyond)
