"""edgecc as a code generator of TVM: parts of a Relax module run in kernels of edgecc.

    from edgecc.integrations import tvm as edgecc_tvm

    module = edgecc_tvm.offload(module, target="host")
    executable = tvm.relax.build(module, target=...)

docs/tvm.md tells more. Needs the extra `tvm`.
"""

from edgecc.integrations.tvm.codegen import EXTERNAL, register
from edgecc.integrations.tvm.partition import Share, compile_regions, multiply_adds, offload, partition

__all__ = ["EXTERNAL", "Share", "compile_regions", "multiply_adds", "offload", "partition", "register"]
