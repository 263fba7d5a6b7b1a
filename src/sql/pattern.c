/* Patterns; see pattern.h. */
#include "pattern.h"

#include "core/memory.h"

#include <endian.h>

#define HOLE_DIGITS_MAX 9u /* always fits 32 bits */

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Bytes behind which digits are a token of their own, or part of a string or comment. */
static const bool apart[256] = {
    [' '] = true, ['\t'] = true, ['\n'] = true, ['='] = true, ['('] = true, [')'] = true,
    [','] = true, ['<'] = true,  ['>'] = true,  ['+'] = true, ['-'] = true, ['*'] = true,
    ['/'] = true, ['%'] = true,  ['\''] = true, ['['] = true, [']'] = true};

static inline bool stands_apart(char c) {
    return apart[(unsigned char)c];
}

/* And before this one. */
static bool ends_apart(char c) {
    return stands_apart(c) || c == ':' || c == ';';
}

#define WORD sizeof(uint64_t)

/* A set high bit in each byte that is a digit. */
static uint64_t mark_digits(uint64_t word) {
    const uint64_t ones = 0x0101010101010101u;
    uint64_t value = word ^ (ones * '0'); /* 0 to 9 where it was a digit */
    uint64_t sum = (value & (ones * 0x7f)) + ones * (0x80 - 10);
    return ~(sum | value) & (ones * 0x80);
}

static uint64_t mix(uint64_t key, uint64_t word) {
    key = (key ^ word) * 0x9e3779b97f4a7c15u;
    return key ^ key >> 32;
}

/* The next eight bytes, the first one lowest; zeros behind the end. */
static uint64_t load(const char *at, size_t left) {
    uint64_t word = 0;
    if (left >= sizeof word) {
        memcpy(&word, at, sizeof word);
        return le64toh(word);
    }
    while (left-- > 0) word = word << 8 | (unsigned char)at[left];
    return word;
}

/* Of all that stands before the first place which may be a hole. */
uint32_t pattern_key(struct bytes text) {
    uint64_t key = 0;
    for (size_t from = 0; from < text.len; from += sizeof key) {
        uint64_t word = load(text.at + from, text.len - from);
        for (uint64_t marks = mark_digits(word); marks != 0; marks &= marks - 1) {
            unsigned place = (unsigned)__builtin_ctzll(marks) / 8;
            if (from + place > 0 && !stands_apart(text.at[from + place - 1])) continue;
            return (uint32_t)mix(key, word & (((uint64_t)1 << 8 * place) - 1));
        }
        key = mix(key, word);
    }
    return (uint32_t)key;
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
        bool is_apart = from > 0 && stands_apart(text.at[from - 1]) &&
                        (i == text.len || ends_apart(text.at[i]));
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
