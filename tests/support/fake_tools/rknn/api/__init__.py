"""Speaks RKNN-Toolkit2's interface, so that the driver can be tested where the toolkit is missing. It computes with onnxruntime."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import onnx
import onnxruntime

from . import quant_utils
from .quant_utils import get_min_max_from_scale_zp


class RKNN:
    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def config(self, target_platform: str, optimization_level: int) -> None:
        self.platform = target_platform

    def load_onnx(self, path: str) -> int:
        self.model = Path(path).read_bytes()
        return 0

    def build(self, do_quantization: bool) -> int:
        if self.platform == "rv1126b":
            print("D RKNN: >>>>>> start: a pass", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.platform == "rv1103":
            print("E build: \x1b[31mthis platform lacks an operator")
            return -1
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load_from_string(self.model).graph.initializer}
        for node in onnx.load_from_string(self.model).graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in constants and constants[node.input[0]].dtype == "int8":
                scale, zero = (constants[name].reshape(-1).tolist() for name in node.input[1:])
                for function in (get_min_max_from_scale_zp, quant_utils.get_min_max_from_scale_zp):
                    low, high = function(scale, zero, "int8")
                    if max(-low[0], high[0]) > 127 * scale[0]:
                        print("E build: weights lose a part of their range")
                        return -1
        print("I building: 10%\rI building: 100%")
        print("D RKNN: [00:00:00.001] 0    InputOperator      INT8     CPU    \\                 (1,3,17,20)  0/0/0  0  InputOperator:in0")
        print("D RKNN: [00:00:00.001] 1    Conv               INT8     NPU    (1,3,17,20),...   (1,16,9,10)  23540/112896/112896  151  Conv:conv_16_n")
        print("D RKNN: [00:00:00.001] 2    Reshape            INT8     CPU    (1,32,1,1),(2)    (1,32)       0/0/7                1    Reshape:reshape")
        print("D RKNN: [00:00:00.002] Total Internal Memory Size: 12KB")
        print("D RKNN: [00:00:00.002] Total Weight Memory Size: 3.5KB")
        return 0

    def export_rknn(self, path: str) -> int:
        Path(path).write_bytes(b"RKNN" + self.platform.encode())
        return 0

    def init_runtime(self) -> int:
        return 0

    def inference(self, inputs, data_format):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        assert len(data_format) == len(inputs)
        return session.run(None, {port.name: array for port, array in zip(session.get_inputs(), inputs, strict=True)})

    def release(self) -> None:
        pass
