"""Speaks the QNN plugin's interface, so that the driver can be tested where the plugin is missing. It computes with onnxruntime.

A context is the model itself; its binary tells the version of the processor.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import onnxruntime

_Options, _Session = onnxruntime.SessionOptions, onnxruntime.InferenceSession


def get_library_path() -> str:
    return str(Path(__file__).with_name("libonnxruntime_providers_qnn.so"))


class Options:
    def __init__(self):
        self.entries, self.provider = {}, {}

    def add_session_config_entry(self, key, value):
        self.entries[key] = value

    def add_provider_for_devices(self, devices, options):
        assert len(devices) == 1 and self.entries["session.disable_cpu_ep_fallback"] == "1"
        self.provider = options


def session(path, options):
    if options.provider["htp_arch"] == "69":
        raise RuntimeError("this processor lacks an operator")
    context = options.entries.get("ep.context_file_path")
    if context is not None:
        shutil.copy(path, context)
        Path(context).with_name(f"{Path(context).stem}_qnn.bin").write_bytes(b"context of v" + options.provider["htp_arch"].encode())
    else:
        assert Path(path).with_name(f"{Path(path).stem}_qnn.bin").read_bytes().startswith(b"context")
    plain = _Options()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _Session(path, plain, providers=["CPUExecutionProvider"])


onnxruntime.register_execution_provider_library = lambda name, path: None
onnxruntime.get_ep_devices = lambda: [SimpleNamespace(ep_name="CPUExecutionProvider"), SimpleNamespace(ep_name="QNNExecutionProvider")]
onnxruntime.SessionOptions, onnxruntime.InferenceSession = Options, session
