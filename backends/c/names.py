"""Text that reaches C: identifiers, string literals and comments made from names nobody can trust.

Node and tensor names come from the user's model and may hold anything. They appear in generated C
only through the functions here.
"""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm
typeof bool true false alignas alignof and and_eq bitand bitor catch class compl concept consteval constexpr
constinit const_cast co_await co_return co_yield decltype delete dynamic_cast explicit export friend mutable
namespace new noexcept not not_eq nullptr operator or or_eq private protected public reinterpret_cast requires
static_assert static_cast template this thread_local throw try typeid typename using virtual wchar_t xor xor_eq
linux unix main errno stdin stdout stderr NULL EOF NAN INFINITY I exp log erf tanh sin cos tan asin acos atan
sinh cosh asinh acosh atanh pow fmod floor ceil rint sqrt fabs fma copysign expf logf erff tanhf sinf cosf tanf
asinf acosf atanf sinhf coshf asinhf acoshf atanhf powf fmodf floorf ceilf rintf sqrtf fabsf fmaf copysignf
memcpy memset isnan isinf size_t ptrdiff_t intptr_t uintptr_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
"""
KEYWORDS = frozenset(_WORDS.split())
"""Words that are no identifiers in C or C++ (headers serve both), or that generated code uses as macros and functions."""

_COMMENT_LIMIT = 160


def identifier(name: str) -> str:
    """A C and C++ identifier that resembles `name`; "x" where nothing is left of it.

    Different names may give equal identifiers: use `unique`.
    """
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:60]
    text = re.sub("__+", "_", text) or "x"
    if not text[0].isalpha():
        text = f"x{text}"
    if text in KEYWORDS or text.startswith("edgecc"):
        text = f"{text}_"
    return text


def names_a_file(name: str) -> bool:
    """Whether NAME.c or NAME.h would hide a file that artifacts of all models have."""
    lower = name.lower()  # some file systems do not tell cases apart
    return lower.startswith("kernels") or lower in ("weights", "runtime", "selftest", "edgecc_abi")


def model_identifier(name: str) -> str:
    """A name for the code of a model: an identifier that can also be the name of its files."""
    text = identifier(name)
    return f"model_{text}" if names_a_file(text) else text


def unique(names: list[str]) -> list[str]:
    """`identifier` of each name, with numbers added so that all differ."""
    taken: set[str] = set()
    out = []
    for name in names:
        base = identifier(name)
        candidate, number = base, 2
        while candidate in taken:
            candidate, number = f"{base}_{number}", number + 1
        taken.add(candidate)
        out.append(candidate)
    return out


def is_identifier(name: str) -> bool:
    """Whether `name` may stand in C as it is."""
    return bool(_IDENTIFIER.fullmatch(name)) and name not in KEYWORDS and not name.startswith("_")


def string_literal(text: str) -> str:
    """A C string literal of the UTF-8 bytes of `text`.

    Everything but plain printable ASCII becomes a three-digit octal escape, which nothing after it can
    lengthen; so does `?`, because two of them could start a trigraph.
    """
    out = []
    for byte in text.encode("utf-8", "surrogatepass"):
        char = chr(byte)
        plain = 0x20 <= byte < 0x7F and char not in '"\\?'
        out.append(char if plain else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def comment_text(text: str) -> str:
    """`text` made harmless inside a comment of either kind, on one line.

    Only printable ASCII other than `\\` and `?` stays (no newline, no trigraph, no spliced line, no
    bidirectional control), `*/` and `/*` are broken up, and long text is cut.
    """
    safe = "".join(c if " " <= c <= "~" and c not in "\\?" else "." for c in text[: _COMMENT_LIMIT + 1])
    safe = safe.replace("*/", "* /").replace("/*", "/ *")
    return safe if len(text) <= _COMMENT_LIMIT else safe[:_COMMENT_LIMIT] + "..."
