/*
 * Words into messages; see speech.h and application.h for the words. One row for each message says
 * how its words become a body:
 *
 *      n  a name and its NUL       t  all that is left, and a NUL     k  the letter S or P
 *      v  a Bind's formats, with the next word, if there is one, as its value
 *      r  the next word, if there is one, as a count of rows          s  so many bytes of data
 */
#include "speech.h"

#include "core/check.h"

#include <stdlib.h>

static const struct {
    char type;
    const char *body;
    bool is_asking;
} forms[] = {
    {'Q', "t", true},   {'P', "nt", false}, {'B', "nnv", false}, {'D', "kn", false},
    {'E', "nr", false}, {'C', "kn", false}, {'S', "", true},     {'H', "", false},
    {'d', "s", false},  {'c', "", false},   {'f', "t", false},   {'X', "", false},
};

static struct bytes next_word(struct bytes *rest) {
    while (rest->len > 0 && rest->at[0] == ' ') *rest = bytes_of(rest->at + 1, rest->len - 1);
    const char *end = rest->len == 0 ? NULL : memchr(rest->at, ' ', rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->at);
    struct bytes word = bytes_of(rest->at, len);
    *rest = bytes_of(rest->at + len, rest->len - len);
    return word;
}

static unsigned number_of(struct bytes word) {
    char text[16] = "";
    CHECK(word.len < sizeof text);
    memcpy(text, word.at, word.len);
    return (unsigned)strtoul(text, NULL, 10);
}

/* Appends a word with each `$` replaced by a new token. */
static void append_word(struct speech *speech, struct bytes word, struct buf *out) {
    for (size_t i = 0; i < word.len; i++) {
        if (word.at[i] == '$') {
            buf_append_format(out, "@%c%u", speech->letter, ++*speech->tokens);
        } else {
            buf_append_u8(out, (unsigned char)word.at[i]);
        }
    }
}

static void append_value(struct speech *speech, struct bytes word, struct buf *body) {
    struct buf value = {0};
    append_word(speech, word, &value);
    buf_append_u16(body, 0);
    buf_append_u16(body, word.len > 0 ? 1 : 0);
    if (word.len > 0) {
        buf_append_u32(body, (uint32_t)buf_length(&value));
        buf_append_bytes(body, buf_content(&value));
    }
    buf_append_u16(body, 0);
    buf_release(&value);
}

static void append_part(struct speech *speech, char part, struct bytes *rest, struct buf *body) {
    struct bytes word = part == 't' ? bytes_of("", 0) : next_word(rest);
    switch (part) {
    case 'n':
        if (!bytes_equal_text(word, "-")) append_word(speech, word, body);
        buf_append_u8(body, 0);
        break;
    case 't':
        while (rest->len > 0 && rest->at[0] == ' ') *rest = bytes_of(rest->at + 1, rest->len - 1);
        append_word(speech, *rest, body);
        buf_append_u8(body, 0);
        break;
    case 'k':
        buf_append_bytes(body, word);
        break;
    case 'v':
        append_value(speech, word, body);
        break;
    case 'r':
        buf_append_u32(body, number_of(word));
        break;
    default: {
        size_t size = number_of(word);
        memset(buf_room(body, size), 'x', size);
        buf_grown(body, size);
        break;
    }
    }
}

static void write_message(struct speech *speech, struct bytes words, struct buf *out) {
    struct bytes word = next_word(&words);
    struct buf body = {0};
    CHECK(word.len == 1);
    for (size_t i = 0; i < COUNT(forms); i++) {
        if (forms[i].type != word.at[0]) continue;
        for (const char *part = forms[i].body; *part != '\0'; part++)
            append_part(speech, *part, &words, &body);
        /* Parse ends in the count of its types. */
        if (word.at[0] == 'P') buf_append_u16(&body, 0);
        if (word.at[0] == 'X') speech->has_quit = true;
        if (forms[i].is_asking) speech->asked++;
        buf_append_u8(out, (unsigned char)word.at[0]);
        buf_append_u32(out, (uint32_t)(4 + buf_length(&body)));
        buf_append_bytes(out, buf_content(&body));
        buf_release(&body);
        return;
    }
    check_failed("a script says what is no message", __FILE__, __LINE__);
}

void speech_write(struct speech *speech, const char *words, struct buf *out) {
    struct bytes rest = bytes_of_text(words);
    while (rest.len > 0) {
        const char *end = memchr(rest.at, '|', rest.len);
        size_t len = end == NULL ? rest.len : (size_t)(end - rest.at);
        struct bytes one = bytes_of(rest.at, len);
        unsigned times = 1;
        while (one.len > 0 && one.at[one.len - 1] == ' ') one.len--;
        while (one.len > 0 && one.at[0] == ' ') one = bytes_of(one.at + 1, one.len - 1);
        if (one.at[0] == '*') {
            one = bytes_of(one.at + 1, one.len - 1);
            times = number_of(next_word(&one));
        }
        while (times-- > 0) write_message(speech, one, out);
        rest = end == NULL ? bytes_of("", 0) : bytes_of(end + 1, rest.len - len - 1);
    }
}
