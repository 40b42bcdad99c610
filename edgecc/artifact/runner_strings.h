/* Strings through pipes, for runner.c and batch_runner.c: u64 bytes, then the strings, each ended by a NUL.
 *
 * The array of a tensor of strings (dtype 8) holds pointers.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRING_TYPE = 8 };

static size_t string_count(const edgecc_tensor *t) { return t->bytes / sizeof(const char *); }

/* Reads the strings of one tensor and points to them; `*text` is their memory, what it was before is freed. */
static int get_strings(const edgecc_tensor *t, const char **array, char **text) {
  uint64_t size = 0;
  const size_t count = string_count(t);
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

static int put_strings(const edgecc_tensor *t, const char *const *array) {
  uint64_t size = 0;
  const size_t count = string_count(t);
  for (size_t i = 0; i < count; i++) size += strlen(array[i]) + 1;
  int ok = fwrite(&size, sizeof size, 1, stdout) == 1;
  for (size_t i = 0; ok && i < count; i++) ok = fwrite(array[i], strlen(array[i]) + 1, 1, stdout) == 1;
  return ok;
}
