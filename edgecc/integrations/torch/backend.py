"""The function that torch.compile calls with each graph it has traced."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from edgecc.errors import EdgeccError
from edgecc.integrations.torch.exporting import unsupported
from edgecc.integrations.torch.network import Network
from edgecc.integrations.torch.settings import Settings


def backend(graph: torch.fx.GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None,
            mode: str | None = None) -> Callable[..., Any]:
    """The back end "edgecc" of torch.compile.

    Args:
        graph: what dynamo traced.
        example_inputs: the arguments of its first run.
        options: see `Settings`.
        mode: there are none.
    Returns: what runs in place of the graph. Networks are compiled when it is called.
    Raises: EdgeccError E001 for bad options; E105 for a graph that PyTorch has to differentiate, unless `fallback` is set.
    """
    settings = Settings.of(options)
    if mode is not None:
        raise EdgeccError("E001", f"torch.compile: edgecc has no mode {mode!r}", hint="leave mode out; options has what there is")
    if torch.is_grad_enabled() and any(isinstance(value, torch.Tensor) and value.requires_grad for value in example_inputs):
        error = unsupported("the graph may be differentiated, and edgecc computes no gradients; call the model within torch.inference_mode() "
                            "or torch.no_grad()")
        if not settings.fallback:
            raise error
        warnings.warn(f"edgecc leaves a graph of {len(graph.graph.nodes)} nodes to PyTorch: {error}", stacklevel=2)
        forward: Callable[..., Any] = graph.forward
        return forward
    return Network(graph, settings)
