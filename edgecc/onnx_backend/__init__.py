"""edgecc as a backend of the onnx package (`onnx.backend.base`): models run through generated C.

    import edgecc.onnx_backend as backend
    rep = backend.prepare(onnx.load("model.onnx"))
    (y,) = rep.run([x])

The module itself takes the place of a backend class where one is wanted: `BackendTest(edgecc.onnx_backend, __name__)`.
"""

from edgecc.onnx_backend.backend import EdgeccBackend
from edgecc.onnx_backend.rep import EdgeccRep

__all__ = ["EdgeccBackend", "EdgeccRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]

is_compatible = EdgeccBackend.is_compatible
prepare = EdgeccBackend.prepare
run_model = EdgeccBackend.run_model
run_node = EdgeccBackend.run_node
supports_device = EdgeccBackend.supports_device
