/* Heap memory that never fails; see core/memory.h. */
#include "core/memory.h"

#include "core/check.h"

#include <stdlib.h>
#include <string.h>

void *memory_new(size_t size) {
    void *memory = calloc(1, size == 0 ? 1 : size);
    CHECK(memory != NULL);
    return memory;
}

void *memory_resize(void *old, size_t size) {
    void *memory = realloc(old, size == 0 ? 1 : size);
    CHECK(memory != NULL);
    return memory;
}

void memory_free(void *memory) {
    free(memory);
}

char *memory_copy(const char *at, size_t len) {
    char *copy = memory_resize(NULL, len + 1);
    if (len > 0) memcpy(copy, at, len);
    copy[len] = '\0';
    return copy;
}

char *memory_copy_text(const char *text) {
    return text == NULL ? NULL : memory_copy(text, strlen(text));
}

void memory_wipe(void *memory, size_t size) {
    if (size > 0) explicit_bzero(memory, size);
}

void memory_free_secret(char *secret) {
    if (secret == NULL) return;
    memory_wipe(secret, strlen(secret));
    free(secret);
}
