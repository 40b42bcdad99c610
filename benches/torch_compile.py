"""torch.compile with edgecc beside PyTorch itself: the same results, and how long a call takes.

    python -m benches.torch_compile [--model mobilenet_v2 --model resnet18 ...] [--against inductor] [--seconds 8] [--cc CC]

Models have random weights and run on one thread; the engines take turns in this process, and the quickest call of each counts. Needs
torch, torchvision and transformers. Exit status 1 where a result is off or PyTorch ran a graph after all.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benches.machine import headline
from edgecc.integrations.torch import backend


def image(name: str) -> tuple[Any, tuple[Any, ...]]:
    """A network of torchvision."""
    import torchvision

    return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, 224, 224),)


def bert() -> tuple[Any, tuple[Any, ...]]:
    """A transformer of MiniLM's size, on 128 tokens."""
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=1000)
    return BertModel(config), (torch.randint(0, 1000, (1, 128)),)


class Recurrent(torch.nn.Module):
    """Two layers of LSTM and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 128, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(128, 12)

    def forward(self, x: Any) -> Any:
        sequence, _ = self.lstm(x)
        return self.head(sequence[:, -1])


MODELS: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "mobilenet_v2": lambda: image("mobilenet_v2"), "mobilenet_v3_small": lambda: image("mobilenet_v3_small"),
    "resnet18": lambda: image("resnet18"), "bert": bert, "lstm": lambda: (Recurrent(), (torch.randn(1, 50, 40),))}


def tensors(result: Any) -> list[Any]:
    """The tensors of a result."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [each for part in (result.values() if hasattr(result, "values") else result) for each in tensors(part)]


def measure(name: str, peers: list[str], seconds: float, options: dict[str, Any]) -> tuple[list[str], bool]:
    """A row of the table, and whether edgecc ran all of it and agreed."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model, inputs = MODELS[name]()
    model.eval()
    engines: dict[str, Any] = {"eager": model}
    engines |= {peer: torch.compile(model, backend=peer, dynamic=False) for peer in peers}
    engines["edgecc"] = torch.compile(model, backend=backend, options={"fallback": False, **options}, dynamic=False)
    results, first = {}, {}
    for engine, run in engines.items():
        start = time.perf_counter()
        results[engine] = tensors(run(*inputs))
        first[engine] = time.perf_counter() - start
    scale = max(float(each.abs().max()) for each in results["eager"])
    off = max(float((a - b).abs().max()) for a, b in zip(results["eager"], results["edgecc"], strict=True)) / scale
    best = dict.fromkeys(engines, float("inf"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for engine, run in engines.items():
            for _ in range(3):
                start = time.perf_counter()
                run(*inputs)
                best[engine] = min(best[engine], time.perf_counter() - start)
    return [name, *(f"{1e3 * best[engine]:.3g}" for engine in engines), f"{off:.1e}", f"{first['edgecc']:.0f}"], off < 1e-4


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--against", default="", help="other back ends of torch.compile, with commas between them")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cc")
    given = parser.parse_args()
    peers = [peer for peer in given.against.split(",") if peer]
    torch.set_num_threads(1)
    torch._dynamo.config.allow_rnn = True
    table = Table("network", "eager, ms", *(f"{peer}, ms" for peer in peers), "edgecc, ms", "largest difference, relative", "first call, s")
    ok = True
    print(headline(), f"PyTorch {torch.__version__}", file=sys.stderr)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in given.model or MODELS:
            row, fine = measure(name, peers, given.seconds, {"cc": given.cc} if given.cc else {})
            ok &= fine
            table.add_row(*row)
            print(" | ".join(row), file=sys.stderr, flush=True)
    Console(width=140).print(table)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
