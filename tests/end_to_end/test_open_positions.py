"""One artifact for images, regions, signals and matrices of any size: at the corners of their bounds, against the operators' meaning."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import edgecc
from edgecc.api import Options, compile_model
from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")

OPEN = """<ir_version: 10, opset_import: ["" : 20]>
positions (float[n,c,h,w] x, float[n,p,q,2] grid, float[k,4] regions, int64[k] images, float[n,t,2] signal, int8[p,t] a, int8[t,q] b, int8 a_zero)
    => (float[n,c,p,q] mirrored, float[n,c,p,q] moved, float[n,c,p,q] cubic, float[k,c,2,3] average, float[k,c,1,1] largest, float[n,t,2] spectrum,
        float[n,u,1] real, float[n,v,2] half, int32[p,q] product) {
  mirrored = GridSample <mode = "linear", padding_mode = "reflection", align_corners = 1> (x, grid)
  moved = GridSample <mode = "nearest", padding_mode = "zeros"> (x, grid)
  cubic = GridSample <mode = "cubic", padding_mode = "border"> (x, grid)
  average = RoiAlign <mode = "avg", output_height = 2, output_width = 3, spatial_scale = 0.5> (x, regions, images)
  largest = RoiAlign <mode = "max", sampling_ratio = 2, coordinate_transformation_mode = "output_half_pixel"> (x, regions, images)
  spectrum = DFT <inverse = 1> (signal)
  real = DFT <inverse = 1, onesided = 1> (signal)
  one = Constant <value = int64[1] {1}> ()
  zero = Constant <value = int64[1] {0}> ()
  last = Constant <value = int64[1] {2}> ()
  first = Slice (signal, zero, one, last)
  half = DFT <onesided = 1> (first)
  product = MatMulInteger (a, b, a_zero)
}"""


def test_positions_and_products_of_any_size() -> None:
    bounds = {"n": 2, "c": 3, "h": 5, "w": 7, "p": 4, "q": 9, "k": 3, "t": 12}
    opened = {name: edgecc.Range(2 if name == "t" else 1, size) for name, size in bounds.items()}
    dims = {"x": "nchw", "grid": "npq2", "regions": "k4", "images": "k", "signal": "nt2", "a": "pt", "b": "tq", "a_zero": ""}
    compiled = compile_model(onnx.parser.parse_model(OPEN), load_target("host"), Options(
        shapes={name: tuple(opened[d] if d in opened else int(d) for d in axes) for name, axes in dims.items()}))
    generator = np.random.default_rng(0)
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as built:
        corners = [dict.fromkeys(bounds, 2), bounds, *({**bounds, name: opened[name].lower} for name in bounds),
                   *({**{n: r.lower for n, r in opened.items()}, name: bounds[name]} for name in bounds)]
        for size in corners:
            shape = {name: tuple(size[d] if d in size else int(d) for d in axes) for name, axes in dims.items()}
            inputs = {name: generator.standard_normal(shape[name]).astype(np.float32) for name in ("x", "grid", "signal")}
            inputs["grid"][0, 0, 0] = generator.choice([np.nan, np.inf, -3.0], 2)
            inputs["regions"] = generator.uniform(-2, 15, shape["regions"]).astype(np.float32)
            inputs["images"] = generator.integers(-size["n"], size["n"], shape["images"])
            inputs |= {name: generator.integers(-128, 128, shape[name]).astype(np.int8) for name in ("a", "b", "a_zero")}
            got, wanted = built.run(inputs), execute(compiled.graph, inputs)
            for name, array in wanted.items():
                np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=2e-5, err_msg=f"{name} of {size}")
            c = inputs["signal"][..., 0] + 1j * inputs["signal"][..., 1]
            np.testing.assert_allclose(got["spectrum"], np.stack([np.fft.ifft(c).real, np.fft.ifft(c).imag], -1), atol=1e-5)
            np.testing.assert_allclose(got["real"][..., 0], np.fft.irfft(c), atol=1e-5)
            forward = np.fft.rfft(inputs["signal"][..., 0])
            np.testing.assert_allclose(got["half"], np.stack([forward.real, forward.imag], -1), atol=1e-5)


@pytest.mark.parametrize("line", ["GridSample (x, g)", "RoiAlign (x, r, i)"])
def test_images_that_may_be_empty_are_refused(line: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    empty (float[1,2,h,3] x, float[1,4,4,2] g, float[2,4] r, int64[2] i) => (float[a,b,c,d] y) {{ y = {line} }}"""
    with pytest.raises(EdgeccError, match=r"(?s)E112.*may be empty"):
        edgecc.compile(onnx.parser.parse_model(text), "generic-c", shapes={"x": (1, 2, edgecc.Range(0, 4), 3)})
