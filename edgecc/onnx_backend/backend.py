"""The entry points that onnx.backend.base.Backend defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, Device, DeviceType

from edgecc.api import Options
from edgecc.errors import EdgeccError, printable
from edgecc.onnx_backend.rep import Build, EdgeccRep

_OF_THE_SUITE = ("rtol", "atol")
"""What the test runner of the onnx package passes to `prepare` besides options of the backend."""


class EdgeccBackend(Backend):
    """Compiles models to C, builds them with the machine's C compiler and calls them.

    Keyword arguments of `prepare`, `run_model` and `run_node` are `target`, `cc`, `isolated` and `flags` (see
    `edgecc.load`) and the fields of `edgecc.Options`. Every error is an EdgeccError.
    """

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> EdgeccRep:
        """A model ready to run.

        It is compiled here if all its dimensions are numbers and no input has to be known for that; else at the first
        run, for the shapes of its inputs.
        Raises: EdgeccError E001 for another device than the CPU, else what `edgecc.compile` raises.
        """
        if not cls.supports_device(device):
            raise EdgeccError("E001", f"device {printable(str(device))!r}: models run on the CPU")
        options = {name: value for name, value in kwargs.items() if name not in _OF_THE_SUITE}
        build = Build(target=options.pop("target", "host"), cc=options.pop("cc", None),
                      isolated=options.pop("isolated", False), flags=tuple(options.pop("flags", ())))
        unknown = sorted(set(options) - set(Options.__dataclass_fields__))
        if unknown:
            raise EdgeccError("E001", f"unknown option {printable(unknown[0])!r}")
        rep = EdgeccRep(model, build, options)
        rep.compile_ahead()
        return rep

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compiles and runs a model once; see `EdgeccRep.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU",
                 outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        """Runs a single node.

        Args:
            node: the node.
            inputs: one array for each operand that is present, in order.
            device: "CPU".
            outputs_info: element types and shapes of the results, which are not needed.
            kwargs: as for `prepare`; `opset_version` is the version of the node's domain, by default the newest.
        """
        version = kwargs.pop("opset_version", None)
        return cls.run_model(_model_of(node, inputs, version), inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device`, such as "CPU" or "CPU:0", is the CPU."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False


def _model_of(node: onnx.NodeProto, inputs: Sequence[Any], version: int | None) -> onnx.ModelProto:
    """A model of one node, whose inputs have the types of the given arrays."""
    names = list(dict.fromkeys(name for name in node.input if name))
    if len(names) != len(inputs):
        raise EdgeccError("E005", f"the node has {len(names)} operands; {len(inputs)} arrays are given")
    values = []
    for name, array in zip(names, map(np.asarray, inputs), strict=True):
        code = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        values.append(onnx.helper.make_tensor_value_info(name, code, array.shape))
    results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", values, results)
    opsets = {"": onnx.defs.onnx_opset_version()}
    domain = "" if node.domain == "ai.onnx" else node.domain
    if version is not None or domain:
        opsets[domain] = version or 1
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(*item) for item in opsets.items()],
                                  ir_version=onnx.IR_VERSION)
