"""Drives RKNN-Toolkit2; runs in its environment, without edgecc (edgecc/backends/tools/call.py).

Request: {"platform", "optimization", "run"}, and network.onnx; to run also inputs.npz, whose arrays are in the order of the network's
inputs. Leaves network.rknn, and outputs.npz if it shall run. The toolkit prints what it knows of layers and memory.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

from edgecc.backends.tools.protocol import serve

TORCH = ("torch", "torch.nn", "torch.nn.functional", "torch.autograd", "torch.optim", "torch.utils", "torch.utils.data")


def main() -> None:
    """Answers the request in the working folder."""
    serve(work)


def work(request: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Builds a network, and runs it in the simulator if that is asked for."""
    if importlib.util.find_spec("torch") is None:
        stand_in_for_torch()
    give_writable_arrays()
    toolkit = importlib.import_module("rknn.api").RKNN(verbose=True)
    keep_symmetric_scales()
    toolkit.config(target_platform=request["platform"], optimization_level=request["optimization"])
    check("load_onnx", toolkit.load_onnx("network.onnx"))
    check("build", toolkit.build(do_quantization=False))
    check("export_rknn", toolkit.export_rknn(str(results / "network.rknn")))
    if request["run"]:
        check("init_runtime", toolkit.init_runtime())
        with np.load("inputs.npz", allow_pickle=False) as stored:
            arrays = [stored[name] for name in stored.files]
        outputs = toolkit.inference(inputs=arrays, data_format=["nchw"] * len(arrays))
        if outputs is None:
            sys.exit("inference failed")
        np.savez(results / "outputs.npz", *outputs)
    toolkit.release()
    return {}


def check(step: str, status: int) -> None:
    """Ends the process where a step of the toolkit failed."""
    if status != 0:
        sys.exit(f"{step} ended with {status}")


def give_writable_arrays() -> None:
    """Has onnx give arrays that can be written to: the toolkit writes to them where it fuses a Pad, and onnx 1.18 forbids that."""
    helper: Any = importlib.import_module("onnx.numpy_helper")
    read = helper.to_array

    def to_array(*arguments: Any, **options: Any) -> Any:
        return np.array(read(*arguments, **options))

    helper.to_array = to_array


def keep_symmetric_scales() -> None:
    """Has the toolkit take symmetric quantization as it stands in the model.

    What has a zero point of 0 it takes to be symmetric, of values -127 to 127. But it computes the limits that the scale is then
    derived from as those of -128 to 127: scales become larger by 128/127, and weights are rounded a second time. Told that it is
    symmetric, its function computes the right limits.
    """
    original: Any = importlib.import_module("rknn.api.quant_utils").get_min_max_from_scale_zp

    def limits(scale: Any, zero: Any, dtype: Any, qtype: Any = None) -> Any:
        return original(scale, zero, dtype, qtype if np.any(zero) else "sym")

    for name, module in list(sys.modules.items()):
        if name.startswith("rknn.") and getattr(module, "get_min_max_from_scale_zp", None) is original:
            module.get_min_max_from_scale_zp = limits  # type: ignore[attr-defined]


def stand_in_for_torch() -> None:
    """Puts empty modules in the place of PyTorch, which the toolkit imports, but needs for PyTorch models only."""
    stands: dict[str, Any] = {name: MagicMock(name=name, __path__=[], __spec__=None) for name in TORCH}
    stands["torch"].nn = stands["torch.nn"]
    stands["torch.nn"].Module = types.new_class("Module")
    sys.modules.update(stands)


if __name__ == "__main__":
    main()
