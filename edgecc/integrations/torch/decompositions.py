"""Operators that PyTorch's own modules call in inference and that have no form in ONNX, in parts that do: the fused layers of nn.Transformer.

Source of what they compute: aten/src/ATen/native/transformers/transformer.cpp and attention.cpp of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

KEY_PADDING = 1
"""The kind of a mask with one row for each sequence; kind 0 has one for each position, kind 2 all of them for each head."""


def encoder_layer(source: torch.Tensor, embed_dim: int, heads: int, qkv_weight: torch.Tensor, qkv_bias: torch.Tensor, out_weight: torch.Tensor,
                  out_bias: torch.Tensor, use_gelu: bool, norm_first: bool, eps: float, norm_weight_1: torch.Tensor, norm_bias_1: torch.Tensor,
                  norm_weight_2: torch.Tensor, norm_bias_2: torch.Tensor, weight_1: torch.Tensor, bias_1: torch.Tensor, weight_2: torch.Tensor,
                  bias_2: torch.Tensor, mask: torch.Tensor | None = None, mask_type: int | None = None) -> torch.Tensor:
    """aten::_transformer_encoder_layer_fwd on [batch, position, embed_dim]."""
    def attended(x: torch.Tensor) -> torch.Tensor:
        return _attention(x, x, x, heads, qkv_weight, qkv_bias, out_weight, out_bias, mask, mask_type)[0]

    def fed_forward(x: torch.Tensor) -> torch.Tensor:
        hidden = functional.linear(x, weight_1, bias_1)
        return functional.linear(functional.gelu(hidden) if use_gelu else functional.relu(hidden), weight_2, bias_2)

    def normalized(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, [embed_dim], weight, bias, eps)

    if norm_first:
        x = source + attended(normalized(source, norm_weight_1, norm_bias_1))
        return x + fed_forward(normalized(x, norm_weight_2, norm_bias_2))
    x = normalized(source + attended(source), norm_weight_1, norm_bias_1)
    return normalized(x + fed_forward(x), norm_weight_2, norm_bias_2)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, embed_dim: int, heads: int, qkv_weight: torch.Tensor,
              qkv_bias: torch.Tensor, out_weight: torch.Tensor, out_bias: torch.Tensor, mask: torch.Tensor | None = None, need_weights: bool = True,
              average_attn_weights: bool = True, mask_type: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """aten::_native_multi_head_attention on [batch, position, embed_dim]; the second result has no elements where it is not needed."""
    result, weights = _attention(query, key, value, heads, qkv_weight, qkv_bias, out_weight, out_bias, mask, mask_type)
    if not need_weights:
        return result, weights.new_empty(0)
    return result, weights.mean(1) if average_attn_weights else weights


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, qkv_weight: torch.Tensor, qkv_bias: torch.Tensor,
               out_weight: torch.Tensor, out_bias: torch.Tensor, mask: torch.Tensor | None, mask_type: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and the weights of each head: [batch, head, position of the query, position of the key]."""
    parts = zip((query, key, value), qkv_weight.chunk(3), qkv_bias.chunk(3), strict=True)
    q, k, v = (functional.linear(x, weight, bias).unflatten(2, (heads, -1)).transpose(1, 2) for x, weight, bias in parts)
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    if mask is not None:
        hidden = mask.to(torch.bool)  # of floats those that are not 0
        scores = scores.masked_fill(hidden[:, None, None, :] if mask_type == KEY_PADDING else hidden, float("-inf"))
    weights = scores.softmax(3)
    return functional.linear((weights @ v).transpose(1, 2).flatten(2), out_weight, out_bias), weights


def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """The functions by the operator that each stands for."""
    return {torch.ops.aten._transformer_encoder_layer_fwd.default: encoder_layer, torch.ops.aten._native_multi_head_attention.default: attention}
