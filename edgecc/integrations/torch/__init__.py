"""edgecc as a back end of torch.compile: graphs of PyTorch run in networks that edgecc compiles for this machine.

    model = torch.compile(model.eval(), backend="edgecc")
    with torch.inference_mode():
        outputs = model(inputs)

PyTorch finds the back end by its entry point (`torch_dynamo_backends`). docs/torch.md tells more. Needs the extra `torch`.
"""

from edgecc.integrations.torch.backend import backend
from edgecc.integrations.torch.exporting import to_onnx
from edgecc.integrations.torch.network import Network
from edgecc.integrations.torch.settings import Settings

__all__ = ["Network", "Settings", "backend", "to_onnx"]
