"""Libraries for other machines: TVM's runtime for these, a program in C that calls it, and the target's emulator."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecc.artifact.folder import Artifact
from edgecc.artifact.toolchain import BuildOptions, build_executable, find_compiler, find_emulator, trimmed
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array
from edgecc.targets.schema import Target

VARIABLE = "EDGECC_TVM_RUNTIME"
"""The environment variable that names a folder with the content of the wheels apache-tvm and apache-tvm-ffi for the target."""

RUNNER = Path(__file__).parent / "runner.c"
LIBRARIES = ("tvm/lib/libtvm_runtime.so", "tvm_ffi/lib/libtvm_ffi.so")
INCLUDE = "tvm_ffi/include"
TIMEOUT_SECONDS = 600.0
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""The codes of DLPack for numpy's kinds of types."""


def run_emulated(artifact: Artifact, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a library, in order, for dense inputs.

    Raises: EdgeccError E405 where there is no runtime for the target, E400 where compiler or emulator are missing, E401 where they fail.
    """
    manifest = artifact.manifest
    runtime = runtime_folder(manifest.target)
    emulator, compiler = find_emulator(manifest.target), find_compiler(manifest.target)
    libraries = [runtime / name for name in LIBRARIES]
    # What the libraries need in turn is found when the program starts.
    link = ("-Wl,--no-as-needed", *map(str, libraries), "-Wl,--allow-shlib-undefined", f"-Wl,-rpath-link,{libraries[1].parent}")
    root = Path(f"/usr/{manifest.target.toolchain.gcc_triple}")
    with tempfile.TemporaryDirectory(prefix="edgecc-tvm-") as name:
        folder = Path(name)
        build_executable(compiler, folder, (), folder / "runner", BuildOptions(include=(runtime / INCLUDE,), link=link), main=(RUNNER,))
        (folder / "library.so").write_bytes(artifact.files[manifest.main])
        arguments = [str(folder / "library.so"), str(folder / "result")]
        for number, array in enumerate(inputs):
            (folder / f"input{number}").write_bytes(array.tobytes())
            arguments += [str(folder / f"input{number}"), str(_CODES[array.dtype.kind]), str(8 * array.itemsize), ",".join(map(str, array.shape))]
        places = os.pathsep.join(str(place) for place in (*(library.parent for library in libraries), root / "lib"))
        try:
            done = subprocess.run([*emulator, *(["-L", str(root)] if root.is_dir() else []), "-E", f"LD_LIBRARY_PATH={places}", str(folder / "runner"), *arguments],
                                  capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            raise EdgeccError("E401", f"the run under {printable(emulator[0])} did not end within {TIMEOUT_SECONDS:g} s") from None
        if done.returncode != 0:
            raise EdgeccError("E401", f"the run under {printable(emulator[0])} failed (exit status {done.returncode})", details=trimmed(done.stderr))
        return [np.fromfile(folder / f"result{number}", port.type.dtype.numpy).reshape(port.type.dims) for number, port in enumerate(manifest.outputs)]


def runtime_folder(target: Target) -> Path:
    """The folder with TVM's runtime for a target. Raises: EdgeccError E405 where none is named, or it is not there."""
    named = os.environ.get(VARIABLE)
    if named and all((Path(named) / name).is_file() for name in LIBRARIES):
        return Path(named).resolve()
    raise EdgeccError("E405", f"{VARIABLE} names no folder with TVM's runtime for {target.name}" if named else
                      f"TVM runs libraries for this machine, not for {target.name}, unless there is a runtime for it",
                      hint=f"`pip download --no-deps --only-binary=:all: --platform manylinux_2_28_{target.architecture} apache-tvm apache-tvm-ffi`, "
                      f"unpack both wheels into one folder and name it in {VARIABLE}; or --target host")
