"""Real models with inputs and outputs, kept beside the repository or where EDGECC_SHARED points."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ASSETS = Path(os.environ.get("EDGECC_SHARED", Path(__file__).parents[3] / "shared")) / "assets"

FLOAT_MODELS = ("mobilenet_v2_fp32", "ultraface_rfb320", "fastestdet", "kws_dscnn_fp32", "silero_vad_16k", "silero_vad_16k_static",
                "gtcrn_stream_simple", "minilm_l6_fp16w", "stories260k_prefill", "stories260k_decode", "stories260k_static")


def asset(*parts: str) -> Path:
    """A file of the assets; skips the test where it is absent."""
    path = ASSETS.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared models are not at {ASSETS}")
    return path


def arrays(*parts: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an .npz file of the assets."""
    with np.load(asset(*parts)) as archive:
        return dict(archive)


def fixture(name: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A model with its reference inputs and outputs."""
    return asset("models", f"{name}.onnx"), arrays("fixtures", f"{name}.in.npz"), arrays("fixtures", f"{name}.out.npz")
