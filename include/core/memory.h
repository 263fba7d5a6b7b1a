/*
 * Heap memory. The only file that calls malloc; running out of memory stops the process, since
 * every buffer, queue and cache has a configured bound that keeps peers from getting there.
 */
#ifndef WEIR_CORE_MEMORY_H
#define WEIR_CORE_MEMORY_H

#include <stddef.h>

/* `size` zeroed bytes; the caller frees them with memory_free. A size of 0 is legal. */
void *memory_new(size_t size);

/* Changes the size of `old` (NULL: new memory). Bytes beyond the old size are not zeroed. */
void *memory_resize(void *old, size_t size);

/* Frees memory; NULL is legal. */
void memory_free(void *memory);

/* A copy of `len` bytes with a NUL behind them; the caller frees it with memory_free. */
char *memory_copy(const char *at, size_t len);

/* A copy of a NUL-terminated text; NULL gives NULL. The caller frees it with memory_free. */
char *memory_copy_text(const char *text);

/* Overwrites a secret so that no optimiser drops the writes. */
void memory_wipe(void *memory, size_t size);

/* Wipes a NUL-terminated secret and frees it; NULL is legal. */
void memory_free_secret(char *secret);

#endif
