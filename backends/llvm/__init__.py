"""The LLVM back end: the same loop programs as LLVM IR, and through it objects, assembly and code in this process.

No C compiler is needed. `machine.py` says what a target is to LLVM, `kernel.py` and what it uses print functions,
`run.py` and `model.py` the run and the generic ABI, `engine.py` is the only file that knows llvmlite.
"""
