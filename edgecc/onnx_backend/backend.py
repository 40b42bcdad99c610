"""The entry points that onnx.backend.base.Backend defines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx.backend.base import Backend, Device, DeviceType

from edgecc.api import ModelSource, Options
from edgecc.errors import EdgeccError, printable
from edgecc.frontend import import_model
from edgecc.frontend.limits import DEFAULT_LIMITS
from edgecc.frontend.load import load_model
from edgecc.onnx_backend.given import model_of_node
from edgecc.onnx_backend.rep import Build, EdgeccRep

_OF_THE_SUITE = ("rtol", "atol")
"""What the test runner of the onnx package passes to `prepare` besides options of the backend."""


class EdgeccBackend(Backend):
    """Compiles models to C, builds them with the machine's C compiler and calls them.

    Keyword arguments of `prepare`, `run_model` and `run_node` are `target`, `cc`, `isolated` and `flags` (see
    `edgecc.load`) and the fields of `edgecc.Options`. Every error is an EdgeccError.
    """

    @classmethod
    def is_compatible(cls, model: ModelSource, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` would take the model, as far as that is known before its inputs are: every operator is there."""
        try:
            import_model(_proto(model))
        except EdgeccError as error:
            return error.code == "E104" and cls.supports_device(device)  # sizes are those of the run
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelSource, device: str = "CPU", **kwargs: Any) -> EdgeccRep:
        """A model (a ModelProto, its bytes, or a file) ready to run.

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
        rep = EdgeccRep(_proto(model), build, options)
        rep.compile_ahead()
        return rep

    @classmethod
    def run_model(cls, model: ModelSource, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compiles and runs a model once; see `EdgeccRep.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU",
                 outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        """Runs a single node.

        Args:
            node: the node.
            inputs: one array for each operand that is present, in order, or a mapping by name.
            device: "CPU".
            outputs_info: element types and shapes of the results, which are not needed.
            kwargs: as for `prepare`; `opset_version` is the version of the node's domain, by default the newest.
        """
        version = kwargs.pop("opset_version", None)
        model, named = model_of_node(node, inputs, version)
        return cls.run_model(model, named, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device`, such as "CPU" or "CPU:0", or a `Device`, is the CPU."""
        try:
            return bool((device if isinstance(device, Device) else Device(device)).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False



def _proto(model: ModelSource) -> onnx.ModelProto:
    """A model as a ModelProto. Raises: EdgeccError E100 for what is none, else what `load_model` raises."""
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, str | Path | bytes):
        raise EdgeccError("E100", f"a model is a ModelProto, bytes, or the path of a file, not {type(model).__name__}")
    return load_model(model, DEFAULT_LIMITS).proto
