"""Strings in C: the table of a run's strings, and a function for each operator on them.

A string is a pointer to UTF-8 that a NUL ends. Those of inputs stay where the caller has them, those of the model are
literals, and what a run makes is written into the arena. `text[h]` is the string with handle h. A hash table finds
the handle of a string that is known already, so that equal strings have equal handles. A handle that is none (of memory
that nothing wrote) counts as that of the empty string.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgecc.backends.c.address import Symbols, argument_text
from edgecc.backends.c.names import comment_text, string_literal
from edgecc.backends.c.sizes import dim_text
from edgecc.backends.c.string_case import case_definitions
from edgecc.backends.c.string_divide import divide_call, divide_definitions
from edgecc.backends.c.string_match import match_call, match_definitions
from edgecc.backends.c.string_numbers import number_definitions
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module, StringCall, StringPool
from edgecc.ops.string_handles import OnHandles, ReadStrings, WriteStrings
from edgecc.ops.strings import (
    DividingOp,
    IntegersToStrings,
    RegexFullMatch,
    StringCase,
    StringConcat,
    StringsToNumbers,
    StringTokens,
)

STRINGS_STATUS = 8
"""What `run` gives where a run makes strings that need more memory than it has."""

NO_NUMBER_STATUS = 9
"""What `run` gives where a string that is to be a number is none."""


def reads_numbers(call: StringCall) -> bool:
    """Whether a step may end the run because a string is no number."""
    return isinstance(call.op, OnHandles) and isinstance(call.op.op, StringsToNumbers)


def string_definitions(module: Module) -> str:
    """The types, tables and functions that the strings of a module need; "" where it has none."""
    pool = module.strings
    if pool is None:
        return ""
    calls = [item.op for item in module.all_items if isinstance(item, StringCall)]
    ops = [call.op for call in calls if isinstance(call, OnHandles)]
    parts = [_constants(pool), _table(pool)]
    if any(isinstance(call, ReadStrings) for call in calls):
        parts.append(_READ)
    if any(isinstance(call, WriteStrings | OnHandles) for call in calls):
        parts.append(_TEXT_OF)
    if any(isinstance(call, WriteStrings) for call in calls):
        parts.append(_WRITE)
    if pool.made_bytes:
        parts.append(_MAKE)
    if any(isinstance(op, StringConcat) for op in ops):
        parts.append(_CONCAT)
    parts += case_definitions({op.upper for op in ops if isinstance(op, StringCase)})
    parts += match_definitions([op.pattern for op in ops if isinstance(op, RegexFullMatch)], [op.pattern for op in ops if isinstance(op, StringTokens)])
    parts += number_definitions(ops)
    parts += divide_definitions([op for op in ops if isinstance(op, DividingOp)])
    return "\n".join(parts)


def begin_lines(pool: StringPool) -> list[str]:
    """The statements that make the table of strings, at the beginning of a run."""
    return [f"  edgecc_strings *const strings = (edgecc_strings *)(void *)(a + {pool.offset});", "  edgecc_strings_begin(strings);"]


def string_call_lines(call: StringCall, symbols: Symbols, sizes: Mapping[str, str]) -> list[str]:
    """A step on strings with its comment; `sizes` are the C names of those that the run decides."""
    count = str(call.count) if isinstance(call.count, int) else f"(size_t)({dim_text(call.count, sizes)})"
    operands = [argument_text(argument, symbols, writes=False) for argument in call.operands]
    arguments = ", ".join(["strings", *operands, *(argument_text(argument, symbols, writes=True) for argument in call.results), count])
    match call.op:
        case ReadStrings():
            statement = f"if (!edgecc_strings_read({arguments})) return 2;"
        case WriteStrings():
            statement = f"edgecc_strings_write({arguments});"
        case OnHandles(op=StringConcat()):
            statement = f"if (!edgecc_strings_concat({arguments})) return {STRINGS_STATUS};"
        case OnHandles(op=StringCase(upper=upper)):
            statement = f"if (!edgecc_strings_{'upper' if upper else 'lower'}({arguments})) return {STRINGS_STATUS};"
        case OnHandles(op=IntegersToStrings()):
            statement = f"if (!edgecc_strings_decimal({arguments})) return {STRINGS_STATUS};"
        case OnHandles(op=StringsToNumbers(dtype=dtype)):
            statement = f"if (!edgecc_strings_to_{dtype.value}({arguments})) return {NO_NUMBER_STATUS};"
        case OnHandles(op=DividingOp() as op):
            statement = f"if (!{divide_call(op, arguments)}) return {STRINGS_STATUS};"
        case OnHandles(op=RegexFullMatch(pattern=pattern)):
            statement = f"{match_call(pattern, arguments)};"
        case _:
            raise EdgeccError("E900", f"C back end: no function for {call.op.name}")
    return [*([f"  /* {comment_text(', '.join(call.loc))} */"] if call.loc else []), f"  {statement}"]


def _constants(pool: StringPool) -> str:
    entries = "".join(f"  {string_literal(text)},\n" for text in pool.constants)
    return f"/* The strings of the model; their handles are 0, 1, ... */\nstatic const char *const edgecc_constant_strings[] = {{\n{entries}}};\n"


def _table(pool: StringPool) -> str:
    made = f"  char made[{pool.made_bytes}]; /* strings that the run makes */\n" if pool.made_bytes else ""
    return f"""/* The strings of a run, each different one once. */
typedef struct {{
  const char *text[{pool.capacity}]; /* by handle */
  uint32_t slot[{pool.slots}]; /* by hash, or in the next free place: handle + 1; 0 = free */
  uint32_t count;
  uint32_t used; /* bytes of `made` */
{made}}} edgecc_strings;

_Static_assert(sizeof(edgecc_strings) <= {pool.size_bytes}, "the arena has room for the strings");

/* The handle of `text`, which must stay where it is; UINT32_MAX where the table is full. */
static uint32_t edgecc_strings_handle(edgecc_strings *s, const char *text) {{
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (const char *c = text; *c != '\\0'; ++c) hash = (hash ^ (unsigned char)*c) * 16777619u;
  uint32_t place = (hash ^ hash >> 15) & {pool.slots - 1}u;
  for (; s->slot[place] != 0; place = (place + 1) & {pool.slots - 1}u)
    if (strcmp(s->text[s->slot[place] - 1], text) == 0) return s->slot[place] - 1;
  if (s->count == {pool.capacity}u) return UINT32_MAX;
  s->text[s->count] = text;
  s->slot[place] = s->count + 1;
  return s->count++;
}}

static void edgecc_strings_begin(edgecc_strings *s) {{
  memset(s->slot, 0, sizeof s->slot);
  s->count = 0;
  s->used = 0;
  for (uint32_t i = 0; i < {len(pool.constants)}; ++i) edgecc_strings_handle(s, edgecc_constant_strings[i]);
}}
"""


_READ = """/* The handles of `count` strings; 0 if one of them is NULL. */
static int edgecc_strings_read(edgecc_strings *s, const void *strings, void *handles, size_t count) {
  const char *const *const x = (const char *const *)strings;
  uint32_t *const y = (uint32_t *)handles;
  for (size_t i = 0; i < count; ++i) {
    if (x[i] == NULL) return 0;
    y[i] = edgecc_strings_handle(s, x[i]);
  }
  return 1;
}
"""

_TEXT_OF = """static const char *edgecc_strings_text(const edgecc_strings *s, uint32_t handle) {
  return s->text[handle < s->count ? handle : 0];
}
"""

_WRITE = """static void edgecc_strings_write(const edgecc_strings *s, const void *handles, void *strings, size_t count) {
  const uint32_t *const x = (const uint32_t *)handles;
  const char **const y = (const char **)strings;
  for (size_t i = 0; i < count; ++i) y[i] = edgecc_strings_text(s, x[i]);
}
"""

_MAKE = """/* Appends bytes to the string that is being made, which has `*length` by now; 0 if there is no room for them and a NUL. */
static int edgecc_strings_put(edgecc_strings *s, size_t *length, const char *bytes, size_t count) {
  const size_t room = sizeof s->made - s->used;
  if (*length >= room || count > room - 1 - *length) return 0;
  memcpy(&s->made[s->used + *length], bytes, count);
  *length += count;
  return 1;
}

/* Ends the string that is being made, which has room for the NUL, and gives its handle; 0 where the table is full. */
static int edgecc_strings_made(edgecc_strings *s, size_t length, uint32_t *handle) {
  char *const text = &s->made[s->used];
  text[length] = '\\0';
  const uint32_t known = s->count;
  *handle = edgecc_strings_handle(s, text);
  if (s->count > known) s->used += (uint32_t)(length + 1); /* else there was this string already */
  return *handle != UINT32_MAX;
}
"""

_CONCAT = """static int edgecc_strings_concat(edgecc_strings *s, const void *left, const void *right, void *handles, size_t count) {
  const uint32_t *const x = (const uint32_t *)left, *const y = (const uint32_t *)right;
  uint32_t *const z = (uint32_t *)handles;
  for (size_t i = 0; i < count; ++i) {
    const char *const a = edgecc_strings_text(s, x[i]), *const b = edgecc_strings_text(s, y[i]);
    size_t length = 0;
    if (!edgecc_strings_put(s, &length, a, strlen(a)) || !edgecc_strings_put(s, &length, b, strlen(b))) return 0;
    if (!edgecc_strings_made(s, length, &z[i])) return 0;
  }
  return 1;
}
"""
