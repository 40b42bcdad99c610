"""What lies beside a library: a script that runs it, and a page that says how."""

from __future__ import annotations

from string import Template

LOADER = "load.py"

_SCRIPT = Template('''\
"""Runs $library, a network compiled by TVM. Needs numpy and TVM's runtime: pip install apache-tvm."""

import json
import sys
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

FOLDER = Path(__file__).resolve().parent


class Network:
    """The network; its inputs and outputs are called as in the model."""

    def __init__(self) -> None:
        manifest = json.loads((FOLDER / "manifest.json").read_text())
        self.inputs, self.outputs = manifest["inputs"], manifest["outputs"]
        self.machine = relax.VirtualMachine(tvm.runtime.load_module(str(FOLDER / "$library")), tvm.cpu())

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for one set of inputs."""
        given = [tvm.runtime.tensor(np.ascontiguousarray(arrays[port["name"]], port["dtype"])) for port in self.inputs]
        results = self.machine["main"](*given)
        return {port["name"]: result.numpy() for port, result in zip(self.outputs, results)}


if __name__ == "__main__":
    network = Network()
    if len(sys.argv) > 1:
        arrays = dict(np.load(sys.argv[1]))
    else:
        generator = np.random.default_rng(0)
        arrays = {port["name"]: generator.standard_normal(port["shape"]).astype(port["dtype"]) for port in network.inputs}
    for name, array in network.run(arrays).items():
        print(ascii(name), array.dtype, array.shape, "mean", float(array.astype(np.float64).mean()))
''')

_PAGE = Template('''\
# $library

A network that edgecc wrote as a module of Relax and TVM compiled. The library needs TVM's runtime of the same version on the
target; `manifest.json` names version and target under "report", and the inputs and outputs.

    python load.py            # random inputs
    python load.py data.npz   # arrays called as the inputs are

From other programs load it with TVM: function "main" of the virtual machine takes a tensor for each input, in the order of
`manifest.json`, and returns a tuple of the outputs.
''')


def loader_files(name: str) -> dict[str, bytes]:
    """The files, for a library NAME.so; `name` is a C identifier."""
    return {LOADER: _SCRIPT.substitute(library=f"{name}.so").encode(), "README.md": _PAGE.substitute(library=f"{name}.so").encode()}
