"""What the converted operators of the domain com.microsoft take: their schemas are not in the onnx package.

The table lists what the converters understand. An operand, an attribute or a value of one that is not listed would be ignored by
them, so the node is refused.

Source of the signatures: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported
from edgecc.ir.graph import Value
from edgecc.ir.types import DType

_KINDS = onnx.AttributeProto
_CONVOLUTION = "auto_pad:string dilations:ints group:int kernel_shape:ints pads:ints strides:ints"

_TABLE = f"""
Attention | input/3 weights/2 bias?/1 mask_index?/1234 past?/5 attention_bias?/4 | 2 | num_heads!:int do_rotary:int mask_filter_value:float past_present_share_buffer:int qkv_hidden_sizes:ints rotary_embedding_dim:int scale:float unidirectional:int
BiasAdd | input bias/1 skip | 1 |
BiasDropout | data bias/1 residual? ratio?/01 training_mode?/01 | 2 | seed:int
BiasGelu | input bias/1 | 1 |
BiasSoftmax | data bias | 1 | axis:int is_inner_broadcast:int
BiasSplitGelu | input/123456 bias/1 | 1 |
CausalConvWithState | input/3 weight/3 bias?/1 past_state?/3 | 2 | activation:string channels_last:int=0 dilation:int=1 input_channel_offset:int=0 input_channels:int=0 ndim:int=1 state_channels_last:int=-1 state_length:int=0 state_update_capacity:int=0 state_window:int=0
CDist | a/2 b/2 | 1 | metric:string
ComplexMul | a b | 1 |
ComplexMulConj | a b | 1 |
ConvTransposeWithDynamicPads | x/345 w/345 pads?/1 b?/1 | 1 | auto_pad:string=NOTSET dilations:ints group:int kernel_shape:ints output_padding:ints strides:ints
CropAndResize | x/4 rois/2 batch_indices/1 crop_size/1 | 1 | extrapolation_value:float mode:string
DecoderMaskedMultiHeadAttention | query/35 key?/345 value?/34 mask_index?/1234 attention_bias?/4 past_key?/4 past_value?/4 past_sequence_length? beam_width? cache_indirection? bias?/1 | 4 | num_heads!:int mask_filter_value:float output_qk:int=0 past_present_share_buffer:int scale:float
DequantizeLinear | x x_scale/01 x_zero_point?/01 | 1 | axis:int
DynamicQuantizeLSTM | x/3 w/3 r/3 b?/2 sequence_lens?/1 initial_h?/3 initial_c?/3 p?/2 w_scale/12 w_zero_point/12 r_scale/12 r_zero_point/12 | 3 | activation_alpha:floats activation_beta:floats activations:strings clip:float direction:string hidden_size:int input_forget:int
DynamicQuantizeMatMul | a/123456 b/23456 b_scale b_zero_point? bias?/01 | 1 |
EmbedLayerNormalization | input_ids/2 segment_ids?/2 word_embedding/2 position_embedding/2 segment_embedding?/2 gamma/1 beta/1 mask?/2 position_ids?/12 | 3 | epsilon:float mask_index_type:int
ExpandDims | x axis/01 | 1 |
FastGelu | input bias?/1 | 1 |
FusedConv | x/345 w/345 b?/1 z?/345 | 1 | activation:string activation_params:floats {_CONVOLUTION}
FusedGemm | a/2 b/2 c?/012 | 1 | activation:string activation_alpha:float activation_beta:float alpha:float beta:float transA:int transB:int
FusedMatMul | a b | 1 | alpha:float transA:int transB:int transBatchA:int transBatchB:int
FusedMatMulActivation | a b | 1 | activation!:string activation_alpha:float activation_axis:int activation_beta:float activation_gamma:float alpha:float transA:int transB:int transBatchA:int transBatchB:int
GatedAdd | x y gate | 1 |
GatedRMSNorm | x scale/1 gate | 1 | activation:string epsilon:float
GatherBlockQuantized | data indices scales zero_points? | 1 | bits:int block_size:int gather_axis:int quantize_axis:int
GatherND | data indices | 1 |
Gelu | input | 1 |
GemmFastGelu | input w bias?/1 | 1 |
GridSample | x/45 grid/45 | 1 | align_corners:int mode:string padding_mode:string
GroupNorm | input/345 gamma/1 beta/1 | 1 | activation:int channels_last:int epsilon:float groups!:int
GroupQueryAttention | query/3 key?/3 value?/3 past_key?/4 past_value?/4 seqlens_k/12 total_sequence_length/01 cos_cache?/2 sin_cache?/2 position_ids?/2 attention_bias?/4 head_sink? k_scale? v_scale? q_norm_weight?/1 k_norm_weight?/1 | 4 | num_heads!:int kv_num_heads!:int causal:int=1 do_rotary:int k_norm_epsilon:float k_quant_type:string=NONE kv_cache_bit_width:int=0 local_window_size:int q_norm_epsilon:float qk_norm_epsilon:float qk_output:int rotary_interleaved:int scale:float sliding_window_cache:int=0 smooth_softmax:int softcap:float v_quant_type:string=NONE
Inverse | x | 1 |
IsAllFinite | inputs* | 1 | isinf_only:int isnan_only:int
LinearAttention | query/3 key/3 value/3 past_state?/4 decay?/3 beta?/3 | 2 | chunk_size:int kv_num_heads!:int q_num_heads!:int scale:float state_window:int=0 update_rule:string
LinearAttentionGate | a dt_bias/1 decay_scale/1 b? | 2 |
MatMulBnb4 | a/123456 b absmax | 1 | K!:int N!:int block_size!:int quant_type!:int training_mode:int=0 transB:int
MatMulInteger16 | a b | 1 |
MatMulIntegerToFloat | a/123456 b/23456 a_scale b_scale a_zero_point? b_zero_point? bias?/01 | 1 |
MatMulNBits | a/123456 b scales zero_points? g_idx? bias?/1 | 1 | K!:int N!:int accuracy_level:int bits:int block_size!:int weight_prepacked:int=0
MoE | input/23 router_probs/2 fc1_experts_weights/3 fc1_experts_bias?/2 fc2_experts_weights/3 fc2_experts_bias?/2 fc3_experts_weights?/3 fc3_experts_bias?/2 | 1 | activation_alpha:float activation_beta:float activation_type:string k:int normalize_routing_weights:int swiglu_fusion:int swiglu_limit:float swiglu_limit_after_activation:int=0 use_sparse_mixer:int
MRotaryEmbedding | input/34 position_ids/3 cos_cache/2 sin_cache/2 | 1 | interleaved:int is_packed_batching:int mrope_layout:int mrope_section!:ints num_heads:int rotary_embedding_dim:int scale:float=1.0
MulInteger | a a_zero_point?/01 b b_zero_point?/01 | 1 |
MultiHeadAttention | query/35 key?/345 value?/34 bias?/1 key_padding_mask?/123 attention_bias?/4 past_key?/4 past_value?/4 past_sequence_length? cache_indirection? | 4 | num_heads!:int mask_filter_value:float scale:float unidirectional:int
NhwcConv | x/345 w/345 b?/1 | 1 | {_CONVOLUTION}
NhwcFusedConv | x/345 w/345 b?/1 z?/345 | 1 | activation:string activation_params:floats {_CONVOLUTION}
NhwcMaxPool | x/345 | 1 | auto_pad:string ceil_mode:int dilations:ints kernel_shape!:ints pads:ints strides:ints
Pad | data pads/1 value? | 1 | mode:string
QAttention | input/3 weight/2 bias/1 input_scale/01 weight_scale/01 mask_index?/1234 input_zero_point?/01 weight_zero_point?/01 past?/5 | 2 | num_heads!:int do_rotary:int mask_filter_value:float past_present_share_buffer:int scale:float unidirectional:int
QEmbedLayerNormalization | input_ids/2 segment_ids?/2 word_embedding/2 position_embedding/2 segment_embedding?/2 gamma/1 beta/1 mask?/2 word_scale/01 position_scale/01 segment_scale?/01 gamma_scale/01 beta_scale/01 word_zero/01 position_zero/01 segment_zero?/01 gamma_zero/01 beta_zero/01 | 2 | epsilon:float
QGemm | a/2 a_scale/01 a_zero_point/01 b/2 b_scale/01 b_zero_point/01 c?/12 y_scale?/01 y_zero_point?/01 | 1 | alpha:float transA:int transB:int
QLinearAdd | a a_scale/01 a_zero_point?/01 b b_scale/01 b_zero_point?/01 c_scale/01 c_zero_point?/01 | 1 |
QLinearAveragePool | x/345 x_scale/01 x_zero_point?/01 y_scale/01 y_zero_point?/01 | 1 | auto_pad:string ceil_mode:int channels_last:int count_include_pad:int kernel_shape!:ints pads:ints strides:ints
QLinearConcat | y_scale/01 y_zero_point/01 inputs* | 1 | axis!:int
QLinearConv | x/345 x_scale/01 x_zero_point/01 w/345 w_scale/01 w_zero_point/01 y_scale/01 y_zero_point/01 b?/1 | 1 | channels_last:int {_CONVOLUTION}
QLinearGlobalAveragePool | x/345 x_scale/01 x_zero_point/01 y_scale/01 y_zero_point/01 | 1 | channels_last:int
QLinearLeakyRelu | x x_scale/01 x_zero_point?/01 y_scale/01 y_zero_point?/01 | 1 | alpha:float
QLinearMul | a a_scale/01 a_zero_point?/01 b b_scale/01 b_zero_point?/01 c_scale/01 c_zero_point?/01 | 1 |
QLinearReduceMean | data data_scale/01 data_zero_point?/01 reduced_scale/01 reduced_zero_point?/01 | 1 | axes!:ints keepdims!:int
QLinearSigmoid | x x_scale/01 x_zero_point?/01 y_scale/01 y_zero_point?/01 | 1 |
QLinearSoftmax | x x_scale/01 x_zero_point?/01 y_scale/01 y_zero_point/01 | 1 | axis:int opset:int
QLinearWhere | condition x x_scale/01 x_zero_point/01 y y_scale/01 y_zero_point/01 z_scale/01 z_zero_point/01 | 1 |
QMoE | input/23 router_probs/2 fc1_experts_weights/3 fc1_scales/23 fc1_experts_bias?/2 fc2_experts_weights/3 fc2_scales/23 fc2_experts_bias?/2 fc3_experts_weights?/3 fc3_scales?/23 fc3_experts_bias?/2 fc1_zero_points?/23 fc2_zero_points?/23 fc3_zero_points?/23 router_weights? | 1 | accuracy_level:int activation_alpha:float activation_beta:float activation_type:string block_size:int expert_weight_bits:int fc1_expert_weight_bits:int=0 fc2_expert_weight_bits:int=0 fc3_expert_weight_bits:int=0 k:int normalize_routing_weights:int quant_type:string swiglu_fusion:int swiglu_limit:float swiglu_limit_after_activation:int=0 use_sparse_mixer:int weights_prepacked:int=0
QuantizeLinear | x y_scale/01 y_zero_point?/01 | 1 | axis:int
QuickGelu | input | 1 | alpha:float
Range | start/01 limit/01 delta?/01 | 1 |
ReduceSumInteger | data | 1 | axes!:ints keepdims!:int
RelativePositionBias | bias_table/2 query_length/01 key_length/01 | 1 | is_bidirectional:int max_distance!:int
RotaryEmbedding | input/34 position_ids/12 cos_cache/2 sin_cache/2 | 1 | interleaved:int is_packed_batching:int num_heads:int rotary_embedding_dim:int scale:float=1.0
ScaledSiLU | x scale? | 1 | alpha:float
SimplifiedLayerNormalization | x scale | 2 | axis:int epsilon:float stash_type:int
SkipGroupNorm | input/345 gamma/1 beta/1 skip bias?/1 | 2 | activation:int channels_last:int epsilon:float groups!:int
SkipLayerNormalization | input/23 skip/23 gamma/1 beta?/1 bias?/1 | 4 | epsilon:float
SkipSimplifiedLayerNormalization | input/23 skip/23 gamma/1 bias?/1 | 4 | epsilon:float
SwiGLU | gate up? | 1 | activation_alpha:float activation_beta:float limit:float round_activation:int=0
TorchEmbedding | weight indices padding_idx? scale_grad_by_freq? | 1 |
TransposeMatMul | a b | 1 | alpha:float transA:int transB:int
Trilu | x k?/01 | 1 | upper:int
UnfoldTensor | input | 1 | dim:int size!:int step:int
Unique | x/1 | 3 |
"""
"""operator | operands | largest number of results | attributes.

Operands: `name`, `?` where it may be absent, `*` where there are one or more of them, `/` and the ranks it may have.
Attributes: `name`, `!` where it is required, `:` and its type, `=` and the only value that is understood.
"""


@dataclass(frozen=True)
class Operand:
    """One operand: whether it may be absent, and the ranks it may have (none: any)."""

    name: str
    optional: bool
    ranks: frozenset[int]


@dataclass(frozen=True)
class Attribute:
    """One attribute: its type as in `onnx.AttributeProto`, whether it must be given, and the only value understood, or None."""

    kind: int
    required: bool
    only: str | None


@dataclass(frozen=True)
class Signature:
    """What an operator takes. `variadic`: the last operand may be there several times."""

    operands: tuple[Operand, ...]
    variadic: bool
    results: int
    attributes: Mapping[str, Attribute]


def _parsed(row: str) -> tuple[str, Signature]:
    name, operands, results, attributes = (part.strip() for part in row.split("|"))
    taken = []
    for text in operands.split():
        label, _, ranks = text.partition("/")
        taken.append(Operand(label.rstrip("?*"), label.endswith("?"), frozenset(map(int, ranks))))
    known = {}
    for text in attributes.split():
        declared, _, only = text.partition("=")
        label, _, kind = declared.partition(":")
        known[label.rstrip("!")] = Attribute(_KINDS.AttributeType.Value(kind.upper()), label.endswith("!"), only or None)
    return name, Signature(tuple(taken), "*" in operands, int(results), known)


SIGNATURES: Mapping[str, Signature] = dict(_parsed(row) for row in _TABLE.strip().splitlines())


def check_signature(node: onnx.NodeProto, inputs: Sequence[Item | None], attributes: Mapping[str, onnx.AttributeProto]) -> None:
    """Compares a node with the signature of its operator, where there is one.

    Raises: EdgeccError E102 (operands, results or attributes that the operator does not have, or lacks), E110 (ranks, strings);
        Unsupported for values of attributes that are not understood.
    """
    signature = SIGNATURES.get(node.op_type)
    if signature is None:
        return
    _check_operands(signature, inputs)
    if len(node.output) > signature.results:
        raise EdgeccError("E102", f"{len(node.output)} results are named, the operator has {signature.results}")
    for name, declared in signature.attributes.items():
        if declared.required and name not in attributes:
            raise EdgeccError("E102", f"attribute {name} is missing")
    for name, given in attributes.items():
        attribute = signature.attributes.get(name)
        if attribute is None:
            raise EdgeccError("E102", f"attribute {printable(name)} is not known; the operator has {', '.join(signature.attributes) or 'none'}")
        if given.type not in (attribute.kind, _KINDS.UNDEFINED):
            raise EdgeccError("E102", f"attribute {name} has the wrong type; wanted {_KINDS.AttributeType.Name(attribute.kind)}")
        if attribute.only is not None and _text(given) != attribute.only:
            raise Unsupported(f"attribute {name} is {printable(_text(given), 40)}; only {attribute.only} is understood")


def _check_operands(signature: Signature, inputs: Sequence[Item | None]) -> None:
    operands = signature.operands
    if len(inputs) > len(operands) and not signature.variadic:
        raise EdgeccError("E102", f"{len(inputs)} operands are given, the operator has {len(operands)}")
    for index, operand in enumerate(operands):
        if not operand.optional and (index >= len(inputs) or inputs[index] is None):
            raise EdgeccError("E102", f"operand {index} ({operand.name}) is missing")
    for index, value in enumerate(inputs):
        operand = operands[min(index, len(operands) - 1)]
        if not isinstance(value, Value):
            continue
        if value.type.dtype is DType.STRING:
            raise EdgeccError("E110", f"operand {index} ({operand.name}) is {value.type}; strings are not taken")
        if operand.ranks and value.type.rank not in operand.ranks:
            ranks = " or ".join(map(str, sorted(operand.ranks)))
            raise EdgeccError("E110", f"operand {index} ({operand.name}) is {value.type}; wanted rank {ranks}")


def _text(attribute: onnx.AttributeProto) -> str:
    match attribute.type:
        case _KINDS.STRING:
            return bytes(attribute.s).decode("utf-8", "backslashreplace")
        case _KINDS.FLOAT:
            return str(float(attribute.f))
    return str(attribute.i)
