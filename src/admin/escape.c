/* Escaping for JSON and metrics; see admin/escape.h. */
#include "admin/escape.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* The length of the well-formed UTF-8 sequence at the beginning of a text, 0 if there is none:
 * the table of well-formed byte sequences in the Unicode Standard, section 3.9. */
static size_t sequence_length(const unsigned char *at) {
    static const struct {
        unsigned char first_min, first_max, second_min, second_max, length;
    } rows[] = {
        {0x01, 0x7F, 0x00, 0x00, 1}, {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (at[0] < rows[i].first_min || at[0] > rows[i].first_max) continue;
        if (rows[i].length == 1) return 1;
        if (at[1] < rows[i].second_min || at[1] > rows[i].second_max) return 0;
        for (size_t n = 2; n < rows[i].length; n++)
            if ((at[n] & 0xC0) != 0x80) return 0;
        return rows[i].length;
    }
    return 0;
}

/* Appends one character as it is; returns how many bytes of the text it took. */
static size_t append_character(struct buf *out, const unsigned char *at) {
    size_t len = sequence_length(at);
    if (len == 0) {
        buf_append_text(out, REPLACEMENT);
        return 1;
    }
    buf_append(out, (const char *)at, len);
    return len;
}

void escape_json(struct buf *out, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        if (*at == '"' || *at == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, *at++);
        } else if (*at < 0x20 || *at == 0x7F || *at == '<') {
            buf_append_format(out, "\\u%04x", (unsigned)*at++);
        } else {
            at += append_character(out, at);
        }
    }
}

void escape_label(struct buf *out, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        if (*at == '"' || *at == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, *at++);
        } else if (*at == '\n') {
            buf_append_text(out, "\\n");
            at++;
        } else {
            at += append_character(out, at);
        }
    }
}
