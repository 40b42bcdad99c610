"""The command line: `edgecc COMMAND ...`.

Commands live in one file each and are imported only when they run, so `--help` is quick. Results go to
standard output (one JSON object with --json), everything else to standard error. Exit statuses are
those of edgecc/errors.py. A traceback is never shown; it goes to a report file.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import gc
import importlib
import io
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from edgecc.cli.output import messages, results, show, show_error
from edgecc.errors import EXIT_INTERNAL, EXIT_OK, EdgeccError, printable
from edgecc.version import VERSION

COMMANDS: Mapping[str, str] = {
    "compile": "compile a model for a target into a folder of C",
    "run": "run a compiled folder, or a model, on inputs from a file",
    "verify": "compile, run and compare with expected outputs or the reference",
    "bench": "measure the time of an inference on this machine, and that of other engines",
    "tune": "measure the ways to compute each kernel of a model, and keep which is quickest",
    "quantize": "turn a float model into an 8-bit one, by calibration data",
    "prune": "set the smallest weights to zero, or remove channels, and tell the effect",
    "check": "list everything that keeps a model from being compiled",
    "inspect": "show what is in a model",
    "opt": "run passes on a model and print the graph",
    "targets": "list targets, or show one",
    "passes": "list the passes with their options",
    "ops": "list the operators",
    "explain": "explain an error code",
    "install": "install a vendor's tool into an environment of its own",
    "doctor": "list the tools that were found, and how to get the missing ones",
}
"""Commands and what they do. The code of COMMAND is the Typer application `app` in edgecc/cli/COMMAND.py."""

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

RARELY = (50_000, 20, 20)
"""When cycles of objects are looked for: with Python's own thresholds that is a tenth of a compilation, which leaves few of them."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_streams()
    gc.set_threshold(*RARELY)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a path or a name may have what the terminal cannot show
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # numpy's, on NaN in a model; they show lines of our code
            status = _dispatch(args)
        sys.stdout.flush()
        return status
    except EdgeccError as error:
        show_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        messages().print("interrupted", style="red")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _abandon_output()  # whoever read it has seen enough
        return EXIT_OK
    except MemoryError:
        shortage = EdgeccError("E101", "it needs more memory than there is", where=printable(f"edgecc {' '.join(args)}"),
                            hint="--limits elements=NUMBER says early what is too large")
        show_error(shortage)
        return shortage.exit_status
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _abandon_output()
            full = EdgeccError("E006", f"cannot be written: {error.strerror}", where=printable(error.filename or "standard output or a temporary file"))
            show_error(full)
            return full.exit_status
        show_error(_internal(error, args))
        return EXIT_INTERNAL


def _open_closed_streams() -> None:
    """Gives standard streams that the caller closed to nowhere: files opened later would take their numbers, and what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (for the rest of the process)


def _abandon_output() -> None:
    """Lets what standard output still holds go nowhere: Python would write it again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["help"] and len(args) > 1:
        args = [args[1], "--help"]
    if not args or args[0] in ("--help", "-h", "help"):
        _show_help()
        return EXIT_OK
    if args[0] == "--version":
        results().print(f"edgecc {VERSION}")
        return EXIT_OK
    name = args[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        raise EdgeccError("E001", f"there is no command {printable(name)!r}",
                          hint=f"did you mean {close[0]!r}?" if close else "`edgecc --help` lists the commands")
    module = importlib.import_module(f"edgecc.cli.{name}")
    return _run_app(module.app, name, args[1:])


def _run_app(app: object, name: str, args: list[str]) -> int:
    """Parses the arguments of one command and runs it; a mistake in them is E001."""
    typer = importlib.import_module("typer")
    command = typer.main.get_command(app)
    try:
        status = command.main(args=args, prog_name=f"edgecc {name}", standalone_mode=False)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except Exception as error:
        # The class of usage errors moved between Typer's versions; what all of them have is this method.
        explain = getattr(error, "format_message", None)
        if explain is None or isinstance(error, EdgeccError):
            raise
        raise _usage_error(error, explain(), name) from None
    return status if isinstance(status, int) else EXIT_OK


def _usage_error(error: Exception, message: str, command: str) -> EdgeccError:
    close: Sequence[str] = getattr(error, "possibilities", None) or ()
    first = message.strip().splitlines()[0] if message.strip() else "bad command line"
    for separator in (" Did you mean", " (Possible"):  # the suggestion becomes the hint
        first = first.split(separator)[0]
    wanted = f"did you mean {close[0]}?" if close else f"`edgecc {command} --help` lists all flags"
    return EdgeccError("E001", printable(first[:1].lower() + first[1:]), where=f"edgecc {command}", hint=wanted)


def _show_help() -> None:
    console = results()
    console.print("edgecc compiles ONNX models to self-contained C for edge devices.\n\n"
                  "usage: edgecc COMMAND [OPTIONS]\n")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in COMMANDS.items():
        table.add_row(Text(f"  {name}", style="bold"), text)
    show(table)
    console.print("\n`edgecc COMMAND --help` shows the flags of a command, `edgecc --version` the version.")


def _internal(error: Exception, args: Sequence[str]) -> EdgeccError:
    """The error for a bug of ours; the traceback goes to a file."""
    text = f"edgecc {VERSION}, Python {sys.version}\narguments: {list(args)!r}\n\n{traceback.format_exc()}"
    where = ""
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="edgecc-report-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        where = f"; the details are in {path}"
    return EdgeccError("E999", f"{type(error).__name__}: {printable(str(error)) or 'no message'}",
                       hint=f"this is a bug in edgecc{where}")
