"""Every error a user can meet: a stable code, an exit status, and words that help.

An error is raised as `EdgeccError(code, message, where=..., hint=...)`. The catalogue below is the
one home of codes: `edgecc explain E110` prints the paragraph kept here. Exit statuses are part of
the command line's contract: 0 ok, 1 mismatch or budget not met, 2 bad usage, 3 bad or unsupported
model, 4 missing or failing tool, 70 internal error.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_MISMATCH = 1
EXIT_USAGE = 2
EXIT_MODEL = 3
EXIT_TOOL = 4
EXIT_INTERNAL = 70


@dataclass(frozen=True)
class ErrorKind:
    """One entry of the catalogue."""

    code: str
    title: str
    exit_status: int
    explanation: str


def _catalogue(*kinds: ErrorKind) -> dict[str, ErrorKind]:
    found = {kind.code: kind for kind in kinds}
    if len(found) != len(kinds):
        raise ValueError("two kinds of error have one code")
    return found


CATALOGUE: dict[str, ErrorKind] = _catalogue(
    # 0xx: usage
    ErrorKind("E001", "bad command line", EXIT_USAGE,
              "A flag, a value or a combination of flags is not understood. The message names it and, "
              "where one is close, the spelling that was probably meant. `edgecc COMMAND --help` lists all flags."),
    ErrorKind("E002", "unknown target", EXIT_USAGE,
              "The name given to --target is neither a built-in target nor a path to a TOML file. "
              "`edgecc targets` lists the built-in ones."),
    ErrorKind("E003", "bad target file", EXIT_USAGE,
              "A target TOML file has an unknown key, lacks one, or holds a value of the wrong type. "
              "The message names the file, the table and the key."),
    ErrorKind("E004", "unknown pass or bad pass option", EXIT_USAGE,
              "A name or option in --passes does not exist. `edgecc passes` lists passes with their options; "
              "the syntax is `name{option=value,option=value}`, separated by commas or spaces."),
    ErrorKind("E005", "inputs do not fit the model", EXIT_USAGE,
              "An array in the inputs file is missing, has another name, dtype or shape than the model's input. "
              "`edgecc inspect MODEL` prints what the model wants."),
    ErrorKind("E006", "output path cannot be written", EXIT_USAGE,
              "The folder given with -o exists and is not an edgecc artifact, or cannot be created; or there is no room "
              "for a file, for temporary ones, or behind standard output. No file was left half written."),
    ErrorKind("E007", "unreadable file", EXIT_USAGE,
              "A file named on the command line does not exist, is no file, or is not of the format the option takes."),
    ErrorKind("E008", "tuning of another target", EXIT_USAGE,
              "The tuning file was measured for another target, or for other instruction sets, than the model is compiled for. "
              "`edgecc tune` measures for a target."),
    ErrorKind("E009", "unknown back end or bad option of one", EXIT_USAGE,
              "A name or option in --backend does not exist. `edgecc doctor` lists the back ends; the syntax is "
              "`name{option=value,option=value}`."),
    # 1xx: the model
    ErrorKind("E100", "not an ONNX model", EXIT_MODEL,
              "The file cannot be parsed as an ONNX ModelProto: it is truncated, empty, or another format."),
    ErrorKind("E101", "model exceeds a limit", EXIT_MODEL,
              "Models are untrusted input, so bytes, nodes, nesting, rank and element counts are bounded before "
              "anything is allocated. The message names the limit; a flag or option raises it."),
    ErrorKind("E102", "invalid model", EXIT_MODEL,
              "The model breaks a rule of the ONNX specification: a missing opset, a name used before it is "
              "defined or defined twice, a bad attribute, a wrong number of inputs."),
    ErrorKind("E103", "external data refused", EXIT_MODEL,
              "Weights kept outside the model file must lie inside the model's folder, be plain files (no links) "
              "and hold at least as many bytes as the tensor needs."),
    ErrorKind("E104", "unbound dimension", EXIT_MODEL,
              "The model has a dynamic dimension and no size was given for it. Bind it with "
              "`--shape input=1x3x224x224`, or pass --inputs, whose arrays then decide. Or the dimension was left open between "
              "bounds, as in `--shape batch=1..8`, and something had to be decided that depends on its size: give it one size."),
    ErrorKind("E105", "unsupported operators", EXIT_MODEL,
              "The model uses operators, or attributes of operators, that edgecc does not compile. All of them are "
              "listed at once, each with its node, the reason, and what to change."),
    ErrorKind("E106", "unsupported opset", EXIT_MODEL,
              "The model's opset is 0 or newer than the installed onnx package knows. "
              "onnx.version_converter can convert it."),
    ErrorKind("E110", "shapes or types do not fit", EXIT_MODEL,
              "The inputs of an operator have shapes or element types that the operator does not accept. "
              "The message names the node and prints what it got and what it wants."),
    ErrorKind("E111", "malformed IR text", EXIT_USAGE,
              "A textual graph or loop program could not be parsed. The message gives line, column and what was expected."),
    ErrorKind("E112", "no kernel for an operator", EXIT_MODEL,
              "The operator is understood, but no kernel covers it with these types, shapes or attributes on this target."),
    ErrorKind("E113", "does not fit the target's memory", EXIT_MODEL,
              "A run needs more memory, or the weights take more, than the target's file says there is (`limit` of [[memory]]). "
              "`edgecc check` says how much; smaller inputs, `--precision fp16` or a quantized model need less."),
    ErrorKind("E114", "no form in a file format", EXIT_MODEL,
              "A back end that writes a format of other tools has no way to express an operator, or one of its attributes or "
              "types, in that format. All such nodes are listed."),
    ErrorKind("E115", "not supported by the back end", EXIT_MODEL,
              "The back end that was asked for cannot write some nodes of the model, or does not write for the target. All "
              "of them are listed with the reason. `edgecc ops --backend NAME` shows what it supports."),
    # 3xx: results
    ErrorKind("E300", "results disagree", EXIT_MISMATCH,
              "The compiled code and the reference differ by more than the tolerance. `edgecc opt --verify-each` "
              "names the pass that changed the meaning, if one did."),
    # 4xx: tools
    ErrorKind("E400", "tool not found", EXIT_TOOL,
              "A compiler or an emulator that the target needs is not installed. The message says how to get it; "
              "`edgecc doctor` lists every tool and where it was looked for."),
    ErrorKind("E401", "tool failed", EXIT_TOOL,
              "A compiler or emulator ended with an error or ran out of time. Its output follows the message."),
    ErrorKind("E402", "a loop left its bounds", EXIT_TOOL,
              "A loop of the model whose end depends on its inputs ran longer than its limit, or not as often as the shapes "
              "of its results say. The run ended with status 4 and its outputs are not to be used. "
              "`--limits trip_count=NUMBER` sets the limit."),
    ErrorKind("E403", "an index out of range", EXIT_TOOL,
              "An index that is computed at run time, such as the position a Gather reads, lies outside of its axis. The run "
              "ended with status 5 and its outputs are not to be used. With `--checks clamp` such indices are moved to the "
              "nearest end of the axis instead."),
    ErrorKind("E404", "a broken plug-in", EXIT_TOOL,
              "An installed package announces a back end, passes or targets for edgecc, and they cannot be used: the import "
              "fails, they were written for another version, or their name is taken. Everything else works as before; "
              "`edgecc doctor` lists what the packages bring."),
    ErrorKind("E405", "nothing runs the artifact", EXIT_TOOL,
              "The files were written for a machine or a tool that is not here, and the back end comes with no simulator. "
              "They can be compiled, but neither run nor verified on this machine."),
    ErrorKind("E406", "a size out of bounds", EXIT_TOOL,
              "A size that is computed at run time, such as the length of a Range or the k of a TopK, is larger than the memory "
              "that was planned for it, or negative. The run ended with status 7 and its outputs are not to be used. "
              "`--limits computed_size=NUMBER` bounds sizes that no shape of the model bounds."),
    ErrorKind("E407", "too many strings", EXIT_TOOL,
              "Strings that a model makes while it runs, by joining others, taking them apart or changing their case, lie in a part of the arena whose "
              "size is fixed when compiling. The run ended with status 8, as it needed more. Compile with a larger "
              "--limits string_bytes=NUMBER; a string that is divided into more than 256 parts needs --limits string_parts=NUMBER."),
    ErrorKind("E408", "no number", EXIT_TOOL,
              "The model reads numbers out of strings while it runs (Cast), and a string is no number of the wanted type. The run "
              "ended with status 9 and its outputs are not to be used."),
    # 9xx: us
    ErrorKind("E900", "verifier", EXIT_INTERNAL,
              "An IR invariant does not hold. A pass produced an invalid graph: this is a bug in edgecc or in a plug-in "
              "pass. The message names the pass and prints the node."),
    ErrorKind("E901", "a pass changed the meaning", EXIT_INTERNAL,
              "With --verify-each the graph is executed before and after each pass. The results differ by more than "
              "the tolerance that the pass states. The message names the pass and the output."),
    ErrorKind("E902", "a pass does not terminate", EXIT_INTERNAL,
              "A rewrite pass still changed the graph after the bound on rounds."),
    ErrorKind("E903", "a pass failed", EXIT_INTERNAL,
              "A pass raised an exception, or built a node whose operands do not fit: a bug in edgecc or in a plug-in pass. "
              "The message names the pass, the node it was at, and the passes before it."),
    ErrorKind("E904", "invalid loop program", EXIT_INTERNAL,
              "A loop program breaks a rule of the Loop IR, or reads or writes outside a buffer or reads what was never "
              "written while it is interpreted. A kernel or a loop pass is wrong: this is a bug in edgecc."),
    ErrorKind("E999", "internal error", EXIT_INTERNAL,
              "Something happened that edgecc did not foresee. The traceback was written to the report file that the "
              "message names; please attach it, and the model if you may, to a bug report."),
)


@dataclass(frozen=True)
class Problem:
    """One of several things that are wrong: the code it would have alone, where, why, and what to change ("" where nothing helps)."""

    code: str
    where: str
    why: str
    change: str = ""


MESSAGE_LIMIT = 1000
"""Characters of a message; what quotes a model may be of any length."""
DETAIL_LIMIT = 20_000
"""Characters of one detail, which may be all that a tool printed."""


def _shown(text: str, limit: int) -> str:
    """`text` without what a terminal would act upon; line ends and tabs stay. A last guard: whoever quotes uses `printable`."""
    safe = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape", "surrogatepass").decode("ascii")
                   for c in text[:limit])
    return safe if len(text) <= limit else safe + "…"


class EdgeccError(Exception):
    """An error for people: what is wrong, where, and what to do about it.

    Texts are made safe for terminals, and bounded in length, whatever they quote.

    Attributes:
        kind: the catalogue entry (code, exit status).
        message: what is wrong, one or more plain sentences.
        where: the place in the user's terms (file, node name and op), or "".
        hint: what to do about it, or "".
        details: further lines (one per node, tool output), printed indented.
        problems: everything that is wrong, where several things are known to be.
    """

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "",
                 details: Sequence[str] = (), problems: Sequence[Problem] = ()) -> None:
        self.kind = CATALOGUE[code]
        self.message = _shown(message, MESSAGE_LIMIT)
        self.where = _shown(where, MESSAGE_LIMIT)
        self.hint = _shown(hint, MESSAGE_LIMIT)
        self.details = tuple(_shown(detail, DETAIL_LIMIT) for detail in details)
        self.problems = tuple(problems)
        super().__init__(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        # Processes hand errors to each other; by default only the text would be given to the constructor.
        return (functools.partial(EdgeccError, where=self.where, hint=self.hint, details=self.details, problems=self.problems),
                (self.code, self.message))

    @property
    def code(self) -> str:
        """The stable code, such as "E110"."""
        return self.kind.code

    @property
    def exit_status(self) -> int:
        """The process exit status this error maps to."""
        return self.kind.exit_status

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        lines = [f"[{self.code}] {place}{self.message}"]
        lines += [f"  {detail}" for detail in self.details]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def printable(text: str, limit: int = 200) -> str:
    """Returns `text` from an untrusted file made safe for terminals and logs.

    Control characters (terminal escapes, newlines, bidirectional overrides) become `\\xNN` or
    `\\uNNNN`; anything longer than `limit` characters is cut and ends in an ellipsis.
    """
    safe = "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text[: limit + 1]
    )
    return safe if len(text) <= limit else safe[:limit] + "…"
