"""Numbers as strings and strings as numbers, in C.

Floats are read exactly: a decimal number is a quotient of two long integers, whose first 53 bits and rest say which float is
nearest (W. D. Clinger, "How to read floating point numbers accurately", 1990). There are no functions of the C
library for it that neither allocate memory nor depend on the locale.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.ir.types import DType
from edgecc.ops.strings import IntegersToStrings, StringOp, StringsToNumbers


def number_definitions(ops: Sequence[StringOp]) -> list[str]:
    """The functions that these operators need."""
    read = {op.dtype for op in ops if isinstance(op, StringsToNumbers)}
    parts = [_DECIMAL] if any(isinstance(op, IntegersToStrings) for op in ops) else []
    parts += [_BLANKS] if read else []
    parts += [_TO_I64] if DType.I64 in read else []
    return parts + ([_TO_F64] if DType.F64 in read else [])


_DECIMAL = """/* Integers in decimal. */
static int edgecc_strings_decimal(edgecc_strings *s, const void *numbers, void *handles, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const int64_t x = ((const int64_t *)numbers)[i];
    uint64_t rest = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    char text[20];
    size_t at = sizeof text, length = 0;
    do {
      text[--at] = (char)('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    if (x < 0) text[--at] = '-';
    if (!edgecc_strings_put(s, &length, text + at, sizeof text - at)) return 0;
    if (!edgecc_strings_made(s, length, &((uint32_t *)handles)[i])) return 0;
  }
  return 1;
}
"""

_BLANKS = """static const char *edgecc_behind_blanks(const char *c) {
  while (*c == ' ' || (*c >= '\\t' && *c <= '\\r')) ++c;
  return c;
}
"""

_TO_I64 = """/* Integers out of strings; 0 where one is none. */
static int edgecc_strings_to_i64(const edgecc_strings *s, const void *strings, void *numbers, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const char *c = edgecc_behind_blanks(edgecc_strings_text(s, ((const uint32_t *)strings)[i]));
    const int negative = *c == '-';
    c += *c == '-' || *c == '+';
    const uint64_t most = (uint64_t)INT64_MAX + (uint64_t)negative;
    uint64_t value = 0;
    if (*c < '0' || *c > '9') return 0;
    for (; *c >= '0' && *c <= '9'; ++c) {
      const uint64_t digit = (uint64_t)(*c - '0');
      if (value > (most - digit) / 10) return 0;
      value = 10 * value + digit;
    }
    if (*edgecc_behind_blanks(c) != '\\0') return 0;
    ((int64_t *)numbers)[i] = negative ? -(int64_t)(value - (value != 0)) - (value != 0) : (int64_t)value;
  }
  return 1;
}
"""

_TO_F64 = """/* Natural numbers of up to 3,840 bits: 800 digits, or 10 to the power of 1,150. */
enum { edgecc_long_words = 120, edgecc_long_digits = 800 };
typedef struct {
  uint32_t word[edgecc_long_words]; /* the lowest first */
} edgecc_long;

static void edgecc_long_scale(edgecc_long *x, uint32_t factor, uint32_t carry) {
  for (int i = 0; i < edgecc_long_words; ++i) {
    const uint64_t product = (uint64_t)x->word[i] * factor + carry;
    x->word[i] = (uint32_t)product;
    carry = (uint32_t)(product >> 32);
  }
}

static int edgecc_long_bits(const edgecc_long *x) {
  int bits = 32 * edgecc_long_words;
  while (bits > 0 && (x->word[(bits - 1) / 32] >> ((bits - 1) % 32) & 1u) == 0) --bits;
  return bits;
}

static void edgecc_long_shift(edgecc_long *x, int bits) {
  for (int i = edgecc_long_words - 1; i >= 0; --i) {
    const int from = i - bits / 32;
    const uint64_t low = from >= 1 ? x->word[from - 1] : 0, high = from >= 0 ? x->word[from] : 0;
    x->word[i] = (uint32_t)((high << 32 | low) << (bits % 32) >> 32);
  }
}

/* Subtracts where that leaves no negative number; whether it did. */
static int edgecc_long_take(edgecc_long *x, const edgecc_long *y) {
  int i = edgecc_long_words - 1;
  while (i > 0 && x->word[i] == y->word[i]) --i;
  if (x->word[i] < y->word[i]) return 0;
  uint64_t borrow = 0;
  for (i = 0; i < edgecc_long_words; ++i) {
    const uint64_t difference = (uint64_t)x->word[i] - y->word[i] - borrow;
    x->word[i] = (uint32_t)difference;
    borrow = difference >> 63;
  }
  return 1;
}

static double edgecc_float_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The float nearest to x / y, and to a little more with `rest`; x is not 0. */
static double edgecc_nearest(edgecc_long *x, edgecc_long *y, int rest) {
  int exponent = edgecc_long_bits(x) - edgecc_long_bits(y) - 1; /* of a unit: x / y lies between 1 and 4 of them */
  if (exponent < -1022) exponent = -1022;
  if (exponent > 1023) return edgecc_float_of(0x7FF0000000000000u);
  if (exponent > 0) edgecc_long_shift(y, exponent);
  else edgecc_long_shift(x, -exponent);
  uint64_t bits = 0;
  for (int i = 0; i < 53; ++i) { /* units, halves, quarters, ... */
    bits <<= 1;
    while (edgecc_long_take(x, y)) ++bits;
    edgecc_long_shift(x, 1);
  }
  const int half = edgecc_long_take(x, y);
  int more = rest || edgecc_long_bits(x) != 0, up = half;
  if (bits >> 53 != 0) { /* a bit too many */
    more |= half;
    up = (int)(bits & 1u);
    bits >>= 1;
    if (++exponent > 1023) return edgecc_float_of(0x7FF0000000000000u);
  }
  bits += (uint64_t)(up && (more || (bits & 1u)));
  if (bits >> 53 != 0) {
    bits >>= 1;
    if (++exponent > 1023) return edgecc_float_of(0x7FF0000000000000u);
  }
  const uint64_t encoded = bits < UINT64_C(1) << 52 ? bits : (uint64_t)(exponent + 1023) << 52 | (bits & ((UINT64_C(1) << 52) - 1));
  return edgecc_float_of(encoded);
}

/* Whether a word of lower case letters stands here in any case; what is behind it, or NULL. */
static const char *edgecc_behind_word(const char *c, const char *word) {
  for (; *word != '\\0'; ++c, ++word)
    if ((*c | 0x20) != *word) return NULL;
  return c;
}

/* Floats out of strings; 0 where one is none. */
static int edgecc_strings_to_f64(const edgecc_strings *s, const void *strings, void *numbers, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const char *c = edgecc_behind_blanks(edgecc_strings_text(s, ((const uint32_t *)strings)[i]));
    double value = 0.0;
    const int negative = *c == '-';
    c += *c == '-' || *c == '+';
    const char *const not_a_number = edgecc_behind_word(c, "nan"), *const infinite = edgecc_behind_word(c, "inf");
    if (not_a_number != NULL) {
      value = edgecc_float_of(0x7FF8000000000000u);
      c = not_a_number;
    } else if (infinite != NULL) {
      const char *const whole = edgecc_behind_word(infinite, "inity");
      value = edgecc_float_of(0x7FF0000000000000u);
      c = whole != NULL ? whole : infinite;
    } else {
      edgecc_long x = {{0}}, y = {{1}};
      int digits = 0, kept = 0, point = 0, rest = 0;
      long scale = 0, exponent = 0;
      for (;; ++c) {
        if (*c == '.' && !point) {
          point = 1;
        } else if (*c >= '0' && *c <= '9') {
          digits = 1;
          if (kept < edgecc_long_digits) {
            edgecc_long_scale(&x, 10, (uint32_t)(*c - '0'));
            kept += kept > 0 || *c != '0';
            scale -= point;
          } else {
            rest |= *c != '0';
            scale += !point;
          }
          if (scale < -1000000 || scale > 1000000) return 0;
        } else {
          break;
        }
      }
      if (!digits) return 0;
      if (*c == 'e' || *c == 'E') {
        const int down = c[1] == '-';
        c += 1 + (c[1] == '-' || c[1] == '+');
        if (*c < '0' || *c > '9') return 0;
        for (; *c >= '0' && *c <= '9'; ++c)
          if (exponent < 10000000) exponent = 10 * exponent + (*c - '0');
        scale += down ? -exponent : exponent;
      }
      if (kept == 0 || scale + kept < -330) scale = 0, kept = 0; /* less than half of the smallest float */
      else if (scale + kept > 310) value = edgecc_float_of(0x7FF0000000000000u);
      for (; kept > 0 && value == 0.0 && scale != 0; scale += scale < 0 ? 1 : -1) edgecc_long_scale(scale < 0 ? &y : &x, 10, 0);
      if (kept > 0 && value == 0.0) value = edgecc_nearest(&x, &y, rest);
    }
    if (*edgecc_behind_blanks(c) != '\\0') return 0;
    ((double *)numbers)[i] = negative ? -value : value;
  }
  return 1;
}
"""
