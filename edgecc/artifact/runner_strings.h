/* Strings through pipes, for runner.c and batch_runner.c: u64 bytes, then the strings, each ended by a NUL.
 *
 * The array of a tensor of strings (dtype 8) holds pointers.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRING_TYPE = 8 };

/* Elements of a tensor of the shape `dims`, or without it of the largest one. */
static size_t string_count(const edgecc_tensor *t, const int64_t *dims) {
  size_t count = 1;
  for (int32_t axis = 0; axis < t->rank; axis++) count *= (size_t)(dims != NULL ? dims : t->dims)[axis];
  return count;
}

/* Reads `count` strings and points to them; `*text` is their memory, what it was before is freed. */
static int get_strings(size_t count, const char **array, char **text) {
  uint64_t size = 0;
  free(*text);
  *text = NULL;
  if (fread(&size, sizeof size, 1, stdin) != 1 || size >= SIZE_MAX) return 0;
  *text = malloc((size_t)size + 1);
  if (*text == NULL || (size != 0 && fread(*text, 1, (size_t)size, stdin) != size)) return 0;
  (*text)[size] = '\0';
  const char *next = *text, *const end = *text + size;
  for (size_t i = 0; i < count; i++) {
    if (next >= end) return 0;
    array[i] = next;
    next += strlen(next) + 1;
  }
  return next == end || count == 0;
}

static int put_strings(size_t count, const char *const *array) {
  uint64_t size = 0;
  for (size_t i = 0; i < count; i++) size += strlen(array[i]) + 1;
  int ok = fwrite(&size, sizeof size, 1, stdout) == 1;
  for (size_t i = 0; ok && i < count; i++) ok = fwrite(array[i], strlen(array[i]) + 1, 1, stdout) == 1;
  return ok;
}
