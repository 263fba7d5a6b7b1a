/* Patterns; see pattern.h. */
#include "pattern.h"

#include "core/memory.h"

#define HOLE_DIGITS_MAX 9u /* always fits 32 bits */

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Whether digits beside this byte are a token of their own, or part of a string or comment. */
static bool stands_apart(char c, const char *more) {
    return c != '\0' && (strchr(" \t\n=(),<>+-*/%'[]", c) != NULL || strchr(more, c) != NULL);
}

uint32_t pattern_key(struct bytes text) {
    uint64_t key = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= '0' && c <= '9') continue;
        key = (key << 7 | key >> 57) ^ c;
    }
    return (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32);
}

struct pattern *pattern_new(struct bytes text) {
    struct pattern *pattern = memory_new(sizeof *pattern + text.len);
    pattern->len = (uint16_t)text.len;
    memcpy(pattern->text, text.at, text.len);
    for (size_t i = 0; i < text.len && pattern->holes_count < PATTERN_HOLES_MAX;) {
        if (!is_digit(text.at[i])) {
            i++;
            continue;
        }
        size_t from = i;
        while (i < text.len && is_digit(text.at[i])) i++;
        bool is_apart = from > 0 && stands_apart(text.at[from - 1], "") &&
                        (i == text.len || stands_apart(text.at[i], ":;"));
        if (!is_apart || i - from > HOLE_DIGITS_MAX) continue;
        pattern->holes[pattern->holes_count].at = (uint16_t)from;
        pattern->holes[pattern->holes_count].len = (uint16_t)(i - from);
        pattern->holes_count++;
    }
    return pattern;
}

struct bytes pattern_vary(const struct pattern *pattern, char *memory) {
    size_t from = 0;
    char *out = memory;
    for (size_t i = 0; i < pattern->holes_count; i++) {
        size_t at = pattern->holes[i].at;
        memcpy(out, pattern->text + from, at - from);
        out += at - from;
        *out++ = pattern->text[at] == '7' ? '8' : '7';
        from = at + pattern->holes[i].len;
    }
    memcpy(out, pattern->text + from, pattern->len - from);
    out += pattern->len - from;
    return bytes_of(memory, (size_t)(out - memory));
}

bool pattern_fits(const struct pattern *pattern, struct bytes text) {
    const char *at = text.at, *end = text.at + text.len;
    size_t from = 0;
    for (size_t i = 0; i < pattern->holes_count; i++) {
        size_t len = pattern->holes[i].at - from;
        if ((size_t)(end - at) <= len || memcmp(at, pattern->text + from, len) != 0) return false;
        at += len;
        const char *digits = at;
        while (at < end && is_digit(*at)) at++;
        if (at == digits || (size_t)(at - digits) > HOLE_DIGITS_MAX) return false;
        from = (size_t)pattern->holes[i].at + pattern->holes[i].len;
    }
    size_t left = pattern->len - from;
    return (size_t)(end - at) == left && memcmp(at, pattern->text + from, left) == 0;
}
