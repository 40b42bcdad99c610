"""Speaks the QNN plugin's interface, so that the driver can be tested where the plugin is missing. It computes with onnxruntime.

A model of a context has the whole one in its node; the binary beside it tells the version of the processor.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
from onnx import helper

_Options, _Session = onnxruntime.SessionOptions, onnxruntime.InferenceSession


def get_library_path() -> str:
    return str(Path(__file__).with_name("libonnxruntime_providers_qnn.so"))


class Options:
    def __init__(self):
        self.entries, self.provider = {}, {}

    def add_session_config_entry(self, key, value):
        self.entries[key] = value

    def add_provider_for_devices(self, devices, options):
        assert len(devices) == 1
        self.provider = options


def context_of(model, left):
    """A model of one node, and of others that the processor does not run."""
    graph = model.graph
    nodes = [helper.make_node("EPContext", [v.name for v in graph.input], [v.name for v in graph.output], domain="com.microsoft",
                              ep_cache_context=model.SerializeToString()), *(helper.make_node(op, ["x"], ["y"]) for op in left)]
    return helper.make_model(helper.make_graph(nodes, "context", graph.input, graph.output))


def session(path, options):
    if options.provider["htp_arch"] == "69":
        raise RuntimeError("this processor lacks an operator")
    context = options.entries.get("ep.context_file_path")
    if context is not None:
        onnx.save(context_of(onnx.load(path), ["Exp"] if options.provider["htp_arch"] == "75" else []), context)
        Path(context).with_name(f"{Path(context).stem}_qnn.bin").write_bytes(b"context of v" + options.provider["htp_arch"].encode())
    else:
        assert Path(path).with_name(f"{Path(path).stem}_qnn.bin").read_bytes().startswith(b"context")
        (node,) = onnx.load(path).graph.node
        path = node.attribute[0].s
    plain = _Options()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _Session(path, plain, providers=["CPUExecutionProvider"])


onnxruntime.register_execution_provider_library = lambda name, path: None
onnxruntime.get_ep_devices = lambda: [SimpleNamespace(ep_name="CPUExecutionProvider"), SimpleNamespace(ep_name="QNNExecutionProvider")]
onnxruntime.SessionOptions, onnxruntime.InferenceSession = Options, session
