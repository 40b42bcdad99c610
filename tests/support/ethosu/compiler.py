"""Vela in this process, and LiteRT's reference kernels: what the tests compare."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ethosu
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ethosu.vela.vela import main

from edgecc.backends.ethosu.backend import SYSTEMS

Array = np.ndarray[Any, Any]


def compile_network(model: bytes, accelerator: str, *options: str) -> bytes:
    """The TFLite model that Vela makes of one; `options` are further ones of its command line."""
    system, memory = SYSTEMS[accelerator.rpartition("-")[0]]
    config = Path(ethosu.__path__[0]) / "config_files" / "Arm" / "vela.ini"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source = Path(folder) / "network.tflite"
        source.write_bytes(model)
        status = main([str(source), "--accelerator-config", accelerator, "--config", str(config), "--system-config", system,
                       "--memory-mode", memory, "--output-dir", folder, *options])
        assert status == 0
        return (Path(folder) / "network_vela.tflite").read_bytes()


def reference(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a model by LiteRT's reference kernels."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
