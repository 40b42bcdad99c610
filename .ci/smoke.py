"""Uses an installed edgecc from outside of its repository: modules, data files, the command line, a whole compilation.

Run by .ci/run in a scratch folder beside digits.onnx and digits_test.npz, with the environment's tools first in PATH.
"""

import importlib
import json
import pkgutil
import subprocess
from pathlib import Path

import numpy as np

import edgecc

HERE = Path(__file__).resolve().parent


def edgecc_command(*arguments: str) -> str:
    """Runs the installed command; returns what it prints."""
    done = subprocess.run(["edgecc", *arguments], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


assert Path(edgecc.__file__).resolve().is_relative_to(HERE / "venv"), edgecc.__file__
names = [m.name for m in pkgutil.walk_packages(edgecc.__path__, "edgecc.") if m.name != "edgecc.__main__"]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Each of these modules is about one package of somebody else's, which is optional and named like it.
        if not name.startswith(("edgecc.bench.engines.", "edgecc.integrations.")) or (error.name or "").startswith("edgecc"):
            raise
print(f"{len(names)} modules import from {Path(edgecc.__file__).parent}")

assert "cortex-a76" in edgecc_command("targets")
with np.load(HERE / "digits_test.npz") as data:
    image, probabilities = data["image"][:1].astype(np.float32) / 16, data["probabilities"][:1]
np.savez(HERE / "inputs.npz", image=image)
np.savez(HERE / "expected.npz", probabilities=probabilities)
for target in ("host", "generic-c", "cortex-a76"):
    result = json.loads(edgecc_command("verify", "digits.onnx", "--target", target, "--inputs", "inputs.npz",
                                       "--expected", "expected.npz", "--json"))
    assert result["ok"] and result["target"] == target, result
    print(f"{target}: agrees with onnxruntime")
