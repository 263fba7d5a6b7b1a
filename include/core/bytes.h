/*
 * struct bytes: a borrowed view of memory, valid only as long as what it points to. It owns
 * nothing and need not end in a NUL. Integers on PostgreSQL's wire are big-endian; the readers
 * and writers for them stand here too.
 */
#ifndef WEIR_CORE_BYTES_H
#define WEIR_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const char *at;
    size_t len;
};

static inline struct bytes bytes_of(const char *at, size_t len) {
    return (struct bytes){at, len};
}

/* A view of a NUL-terminated text; NULL gives an empty view. */
static inline struct bytes bytes_of_text(const char *text) {
    return (struct bytes){text, text == NULL ? 0 : strlen(text)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool bytes_starts_with(struct bytes a, const char *text) {
    size_t len = strlen(text);
    return a.len >= len && memcmp(a.at, text, len) == 0;
}

static inline bool bytes_equal_text(struct bytes a, const char *text) {
    return bytes_equal(a, bytes_of_text(text));
}

/* The small letter of an ASCII capital; any other byte as it is. */
static inline char char_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* What PostgreSQL's scanner takes for a blank. */
static inline bool char_is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* As bytes_equal_text, but ASCII letters match in any case. */
bool bytes_equal_nocase(struct bytes a, const char *text);

static inline uint16_t bytes_get_u16(const char *at) {
    const unsigned char *u = (const unsigned char *)at;
    return (uint16_t)((u[0] << 8) | u[1]);
}

static inline uint32_t bytes_get_u32(const char *at) {
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap32(v);
}

static inline void bytes_put_u16(char *at, uint16_t v) {
    at[0] = (char)(v >> 8);
    at[1] = (char)v;
}

static inline void bytes_put_u32(char *at, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof v);
}

/* A well mixed 64-bit hash, seeded at random for each process (xxHash). */
uint64_t bytes_hash(struct bytes b);

#endif
