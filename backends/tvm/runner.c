/* Runs a network that TVM compiled, without Python:
 *
 *     runner LIBRARY RESULTS [FILE CODE BITS DIM,DIM,...] ...
 *
 * Each input is a file of raw elements with type (DLPack's code and bits) and shape; result n is written to RESULTSn.
 * Uses the C interface of apache-tvm-ffi 0.1 and the virtual machine of apache-tvm 0.27. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

enum { MAX_INPUTS = 64, MAX_RANK = 16, ARGUMENTS_OF_AN_INPUT = 4 };

typedef struct {
  DLManagedTensor managed;
  int64_t shape[MAX_RANK];
} input;

static void fail(const char *what) {
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static TVMFFIAny call(TVMFFIObjectHandle function, TVMFFIAny *arguments, int count, const char *what) {
  TVMFFIAny result = {.type_index = kTVMFFINone};
  if (TVMFFIFunctionCall(function, arguments, count, &result) != 0) {
    TVMFFIObjectHandle error = NULL;
    TVMFFIErrorMoveFromRaised(&error);
    if (error != NULL) {
      const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((const char *)error + sizeof(TVMFFIObject));
      fprintf(stderr, "%.*s\n", (int)cell->message.size, cell->message.data);
    }
    fail(what);
  }
  return result;
}

static TVMFFIObjectHandle global(const char *name) {
  const TVMFFIByteArray bytes = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionGetGlobal(&bytes, &function) != 0 || function == NULL) fail(name);
  return function;
}

static TVMFFIAny text(const char *characters) {
  return (TVMFFIAny){.type_index = kTVMFFIRawStr, .v_c_str = characters};
}

static TVMFFIAny integer(int64_t value) { return (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = value}; }

/* The function `name` of a module. */
static TVMFFIObjectHandle method(TVMFFIAny module, const char *name) {
  TVMFFIAny arguments[3] = {module, text(name), {.type_index = kTVMFFIBool, .v_int64 = 1}};
  const TVMFFIAny found = call(global("ffi.ModuleGetFunction"), arguments, 3, name);
  if (found.type_index != kTVMFFIFunction) fail(name);
  return found.v_obj;
}

static TVMFFIAny read_input(input *in, char **arguments) {
  DLTensor *const t = &in->managed.dl_tensor;
  size_t bytes;
  FILE *file;
  t->device = (DLDevice){kDLCPU, 0};
  t->dtype = (DLDataType){(uint8_t)atoi(arguments[1]), (uint8_t)atoi(arguments[2]), 1};
  bytes = (size_t)(t->dtype.bits + 7) / 8;
  for (char *dim = strtok(arguments[3], ","); dim != NULL && t->ndim < MAX_RANK; dim = strtok(NULL, ",")) {
    in->shape[t->ndim++] = atoll(dim);
    bytes *= (size_t)atoll(dim);
  }
  t->shape = in->shape;
  t->data = aligned_alloc(64, (bytes + 63) / 64 * 64);
  file = fopen(arguments[0], "rb");
  if (t->data == NULL || file == NULL || fread(t->data, 1, bytes, file) != bytes) fail(arguments[0]);
  fclose(file);
  TVMFFIObjectHandle tensor = NULL;
  if (TVMFFITensorFromDLPack(&in->managed, 0, 0, &tensor) != 0) fail("an input");
  return (TVMFFIAny){.type_index = kTVMFFITensor, .v_obj = tensor};
}

static void write_result(TVMFFIAny value, const char *prefix, int number) {
  char path[4096];
  const DLTensor *const t = (const DLTensor *)((const char *)value.v_obj + sizeof(TVMFFIObject));
  size_t bytes = (size_t)(t->dtype.bits + 7) / 8;
  FILE *file;
  for (int axis = 0; axis < t->ndim; ++axis) bytes *= (size_t)t->shape[axis];
  snprintf(path, sizeof path, "%s%d", prefix, number);
  file = fopen(path, "wb");
  if (file == NULL || fwrite((const char *)t->data + t->byte_offset, 1, bytes, file) != bytes) fail(path);
  fclose(file);
}

int main(int count, char **given) {
  static input inputs[MAX_INPUTS];
  TVMFFIAny arguments[MAX_INPUTS], path, device[3] = {integer(kDLCPU), integer(0), integer(2 /* a pool of memory */)};
  const int n = (count - 3) / ARGUMENTS_OF_AN_INPUT;
  if (count < 3 || n > MAX_INPUTS) fail("the command line");
  path = text(given[1]);
  const TVMFFIAny library = call(global("ffi.ModuleLoadFromFile"), &path, 1, "loading the library");
  const TVMFFIAny machine = call(method(library, "vm_load_executable"), NULL, 0, "loading the network");
  call(method(machine, "vm_initialization"), device, 3, "starting the machine");
  for (int i = 0; i < n; ++i) arguments[i] = read_input(&inputs[i], &given[3 + i * ARGUMENTS_OF_AN_INPUT]);
  const TVMFFIAny result = call(method(machine, "main"), arguments, n, "the run");
  if (result.type_index == kTVMFFITensor) {
    write_result(result, given[2], 0);
    return 0;
  }
  TVMFFIAny size = result;
  const int64_t results = call(global("ffi.ArraySize"), &size, 1, "the results").v_int64;
  for (int64_t i = 0; i < results; ++i) {
    TVMFFIAny place[2] = {result, integer(i)};
    write_result(call(global("ffi.ArrayGetItem"), place, 2, "a result"), given[2], (int)i);
  }
  return 0;
}
