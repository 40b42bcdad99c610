"""The table of a folder of models in several engines, as Markdown.

    python -m benches.peers FOLDER|MODEL ... [--against onnxruntime,openvino,ncnn,mnn] [--python /other/bin/python]
        [--threads 1] [--rounds 8] [--limit 60] [--shape batch=1] [-o table.md]

Each cell is the quickest run in milliseconds and the share of the multiply-add peak it reaches, measured as `edgecc
bench` does. Inputs are random, or those of an .npz file of the model's name beside it. A model that an engine cannot
run, or computes wrongly, is shown as such.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benches.machine import headline
from edgecc.api import Options
from edgecc.bench.session import Comparison, Request, Row, compare
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.errors import EdgeccError
from edgecc.targets.schema import load_target

OWN = "edgecc"
DISTURBED = "† Other processes disturbed every turn of this engine."


@dataclass(frozen=True)
class Line:
    """One model: its name, and what was found or why nothing was."""

    model: str
    found: Comparison | None
    error: str = ""


def main() -> None:
    """Measures every model named on the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER|MODEL")
    parser.add_argument("--against", default="onnxruntime")
    parser.add_argument("--python", help="the interpreter that has the other engines")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--turn", type=float, default=0.25)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--tolerance", type=float, default=1e-2)
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    parser.add_argument("-o", "--output", type=Path, help="the file to write; standard output by default")
    options = parser.parse_args()
    peers = tuple(name for name in options.against.split(",") if name)
    shapes = parse_shapes(options.shape)
    lines = []
    for path in models_of(options.models):
        beside = path.with_suffix(".npz")
        inputs = read_arrays(beside, "inputs") if beside.exists() else None
        request = Request(path, load_target("host"), Options(shapes=shapes, inputs=inputs, threads=options.threads), peers,
                          options.python, False, options.rounds, options.turn, options.limit, None, options.tolerance)
        try:
            lines.append(Line(path.stem, compare(request)))
        except EdgeccError as error:
            if not path.exists() or error.code == "E400":
                raise
            lines.append(Line(path.stem, None, str(error).splitlines()[0]))
        print(row_text(lines[-1], (OWN, *peers)), file=sys.stderr, flush=True)
    text = table_text(lines, (OWN, *peers))
    if options.output is None:
        print(text)
    else:
        options.output.write_text(f"{text}\n", encoding="utf-8")


def models_of(paths: Sequence[Path]) -> list[Path]:
    """The models named, those of a folder in the order of their names."""
    return [model for path in paths for model in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]


def table_text(lines: Sequence[Line], engines: Sequence[str]) -> str:
    """The table with what it was measured on above it."""
    done = [line.found for line in lines if line.found is not None]
    if not done:
        return "\n".join([headline(), "", *(f"{line.model}: {line.error}" for line in lines)])
    versions = {row.engine: row.version for found in done for row in found.rows}
    first = done[0]
    titles = [f"{name} {versions[name]}" for name in engines]
    return "\n".join([
        f"{headline()}; {first.machine.peak_flops * 1e-9:.0f} GFLOP/s multiply-add peak of one core; {first.threads} "
        f"thread{'s' if first.threads > 1 else ''}; {first.compiler}",
        "",
        f"| model (M multiply-adds) | {' | '.join(titles)} | edgecc / best other |",
        f"|---|{'---|' * (len(engines) + 1)}",
        *(row_text(line, engines) for line in lines),
        *(["", DISTURBED] if any(not row.error and not row.quiet_turns for found in done for row in found.rows) else []),
    ])


def row_text(line: Line, engines: Sequence[str]) -> str:
    """The row of one model: quickest runs in ms, the share of the peak behind them, the quickest engine in bold."""
    found = line.found
    if found is None:
        return f"| {line.model} | {line.error} |{' |' * len(engines)}"
    rows = {row.engine: row for row in found.rows}
    valid = {name: rows[name].minimum for name in engines if not rows[name].error and not rows[name].wrong}
    best = min(valid, key=lambda name: valid[name], default=None)
    others = [value for name, value in valid.items() if name != OWN]
    ratio = f"{valid[OWN] / min(others):.2f}" if OWN in valid and others else "-"
    work = found.multiply_adds or 0
    cells = [_cell(rows[name], work, found.machine.peak_flops * found.threads, bold=name == best) for name in engines]
    return f"| {line.model} ({_millions(work)}) | {' | '.join(cells)} | {ratio} |"


def _millions(count: int) -> str:
    """A count in millions, to three digits or a whole number."""
    return f"{count / 1e6:.0f}" if count >= 100e6 else f"{count / 1e6:.3g}"


def _cell(row: Row, work: int, peak: float, *, bold: bool) -> str:
    if row.error:
        return "failed"
    if row.wrong:
        return f"wrong ({row.difference:.0e})"
    time = f"{row.minimum * 1e3:.3g}"
    disturbed = "" if row.quiet_turns else "†"
    return f"{f'**{time}**' if bold else time}{disturbed} ({2 * work / row.minimum / peak:.0%})"


if __name__ == "__main__":
    main()
