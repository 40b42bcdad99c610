"""The C function by which TVM calls a network of edgecc: packed arguments in, an inference, a status out."""

from __future__ import annotations

from string import Template

from edgecc.artifact.folder import Artifact
from edgecc.ir.types import DType

FILE = "tvm_entry.c"

# The declarations stand here so that no header of TVM is needed to compile: struct TVMFFIAny and TVMFFIObject of tvm/ffi/c_api.h
# of apache-tvm-ffi 0.1, DLTensor of dlpack.h. A tensor argument is a DLTensor* (type 7) or an object with one behind its header.
_TEXT = Template('''\
/* Calls $name from TVM. */

#include <stdint.h>

#include "$name.h"

typedef struct { int32_t type; uint32_t padding; union { int64_t integer; void *pointer; } value; } tvm_any;
typedef struct { uint64_t counts; int32_t type; uint32_t padding; void (*deleter)(void *, int); } tvm_object;
typedef struct { int32_t type, id; } dl_device;
typedef struct { uint8_t code, bits; uint16_t lanes; } dl_type;
typedef struct {
  void *data;
  dl_device device;
  int32_t rank;
  dl_type type;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} dl_tensor;

enum { DL_CPU = 1, TVM_TENSOR_POINTER = 7 };

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);

static _Thread_local _Alignas($align) unsigned char arena[$arena];

/* The elements of an argument, which are dense, on the CPU and of the type and number that are expected; else NULL. */
static void *elements(const tvm_any *any, uint8_t code, uint8_t bits, int64_t count) {
  const dl_tensor *tensor = any->type == TVM_TENSOR_POINTER ? (const dl_tensor *)any->value.pointer
                                                            : (const dl_tensor *)((const char *)any->value.pointer + sizeof(tvm_object));
  int64_t size = 1;
  int axis;
  if (any->type < TVM_TENSOR_POINTER || tensor->device.type != DL_CPU || tensor->type.code != code || tensor->type.bits != bits) return 0;
  for (axis = tensor->rank; axis-- > 0;) {
    if (tensor->strides && tensor->shape[axis] != 1 && tensor->strides[axis] != size) return 0;
    size *= tensor->shape[axis];
  }
  return size == count ? (char *)tensor->data + tensor->byte_offset : 0;
}

EDGECC_EXPORT int __tvm_ffi_$symbol(void *self, const tvm_any *args, int32_t count, tvm_any *result) {
  ${name}_inputs in;
  ${name}_outputs out;
  int status;
  (void)self;
  (void)result;
  if (count != $count) {
    TVMFFIErrorSetRaisedFromCStr("TypeError", "$name: $count tensors are expected");
    return -1;
  }
$fields  status = ${name}_run(&in, &out, arena);
  if (status) {
    TVMFFIErrorSetRaisedFromCStr("ValueError", "$name: a tensor is not as it was compiled for");
    return -1;
  }
  return 0;
}
''')

_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""The codes of DLPack for numpy's kinds of types."""


def entry(artifact: Artifact, symbol: str) -> bytes:
    """The source file. `symbol` is what TVM calls the function: a C identifier."""
    manifest = artifact.manifest
    fields = []
    ports = [*(("in", port) for port in manifest.inputs), *(("out", port) for port in manifest.outputs)]
    for index, (side, port) in enumerate(ports):
        dtype: DType = port.type.dtype
        kind = dtype.numpy.kind
        fields.append(f"  {side}.{port.name} = elements(&args[{index}], {_CODES[kind]}, {dtype.size * 8}, {port.type.elements});\n")
    return _TEXT.substitute(name=artifact.name, symbol=symbol, arena=max(artifact.arena_bytes, 1), align=max(manifest.arena_align, 1),
                            count=len(ports), fields="".join(fields)).encode("ascii")
