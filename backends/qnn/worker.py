"""Drives onnxruntime with the QNN plugin; runs in their environment, without edgecc (edgecc/backends/tools/call.py).

Request: {"name", "arch", "run"}. To build, network.onnx is compiled into NAME.onnx and NAME_qnn.bin, the context. To run, both are
there already, and inputs.npz, whose arrays are called as the model's inputs; outputs.npz is left, in the order of its outputs.

Inputs are quantized, and outputs dequantized, by onnxruntime on the CPU: the processor does that in numbers so short that inputs are
off by a step.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.backends.tools.protocol import serve

PROVIDER = "QNNExecutionProvider"


def main() -> None:
    """Answers the request in the working folder."""
    serve(work)


def work(request: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Compiles a network to a context, or runs a context in the emulation of the processor."""
    plugin: Any = importlib.import_module("onnxruntime_qnn")
    runtime: Any = importlib.import_module("onnxruntime")
    runtime.register_execution_provider_library(PROVIDER, plugin.get_library_path())
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        sys.exit("the plugin found no device")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if not request["run"]:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_file_path", str(results / f"{request['name']}.onnx"))
        options.add_session_config_entry("ep.context_embed_mode", "0")
    folder = Path(plugin.__file__).parent
    options.add_provider_for_devices(devices[:1], {"backend_path": str(folder / "libQnnHtp.so"), "htp_arch": request["arch"],
                                                   "offload_graph_io_quantization": "1"})
    session = runtime.InferenceSession(f"{request['name']}.onnx" if request["run"] else "network.onnx", options)
    if request["run"]:
        with np.load("inputs.npz", allow_pickle=False) as stored:
            outputs = session.run(None, dict(stored))
        np.savez(results / "outputs.npz", *outputs)
    else:
        check_context(results / f"{request['name']}.onnx")
    return {"runtime": str(runtime.__version__)}


def check_context(path: Path) -> None:
    """Ends the process where a model has more than one context, or operators that the CPU would run."""
    onnx: Any = importlib.import_module("onnx")
    kinds = [node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node]
    left = sorted(set(kinds) - {"EPContext", "QuantizeLinear", "DequantizeLinear"})
    if left or kinds.count("EPContext") != 1:
        sys.exit(f"the plugin made {kinds.count('EPContext')} contexts, and left to the CPU: {', '.join(left) or 'nothing'}")


if __name__ == "__main__":
    main()
