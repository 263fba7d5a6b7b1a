/* Words and reports of the HBA and the ident file; see auth/rules.h. */
#include "auth/rules.h"

static void append_line(struct buf *text, const struct rules_place *place, const char *format,
                        va_list list) {
    buf_append_format(text, "could not parse %s config line %u (%s:%u): ", place->what, place->line,
                      place->file, place->line);
    buf_append_format_list(text, format, list);
    buf_append_u8(text, '\n');
}

void rules_error(const struct rules_place *place, const char *format, ...) {
    if (place->report->errors_count++ >= RULES_ERRORS_MAX) return;
    va_list list;
    va_start(list, format);
    append_line(&place->report->errors, place, format, list);
    va_end(list);
}

void rules_warning(const struct rules_place *place, const char *format, ...) {
    struct buf *text = &place->report->warnings;
    if (buf_length(text) > RULES_ERRORS_MAX * 200) return;
    va_list list;
    va_start(list, format);
    buf_append_format(text, "%s config line %u (%s:%u): ", place->what, place->line, place->file,
                      place->line);
    buf_append_format_list(text, format, list);
    buf_append_u8(text, '\n');
    va_end(list);
}

void rules_report_release(struct rules_report *report) {
    buf_release(&report->errors);
    buf_release(&report->warnings);
    *report = (struct rules_report){0};
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What ends a word though it is no blank. */
static bool is_mark(char c) {
    return c == ',' || c == '"' || c == '#';
}

static void skip_blanks(struct bytes *line) {
    while (line->len > 0 && is_blank(line->at[0])) *line = bytes_of(line->at + 1, line->len - 1);
}

/* Takes one character. */
static char take(struct bytes *line) {
    char c = line->at[0];
    *line = bytes_of(line->at + 1, line->len - 1);
    return c;
}

/* What follows an opening quote, up to the closing one. */
static enum rules_token take_quoted(struct bytes *line, struct buf *word) {
    while (line->len > 0) {
        char c = take(line);
        if (c == '"') {
            if (line->len == 0 || line->at[0] != '"') return RULES_QUOTED;
            (void)take(line);
        }
        if (c == '\0') return RULES_BROKEN;
        buf_append_u8(word, (unsigned char)c);
    }
    return RULES_BROKEN;
}

enum rules_token rules_next(struct bytes *line, struct buf *word) {
    buf_clear(word);
    skip_blanks(line);
    if (line->len == 0 || line->at[0] == '#') return RULES_END;
    if (rules_take_comma(line)) return RULES_COMMA;
    if (line->at[0] == '"') {
        (void)take(line);
        return take_quoted(line, word);
    }
    while (line->len > 0 && !is_blank(line->at[0]) && !is_mark(line->at[0])) {
        if (line->at[0] == '\0') return RULES_BROKEN;
        buf_append_u8(word, (unsigned char)take(line));
    }
    return RULES_WORD;
}

bool rules_take_comma(struct bytes *line) {
    skip_blanks(line);
    if (line->len == 0 || line->at[0] != ',') return false;
    (void)take(line);
    return true;
}

bool rules_next_line(struct bytes *text, struct bytes *line) {
    if (text->len == 0) return false;
    const char *end = memchr(text->at, '\n', text->len);
    size_t len = end == NULL ? text->len : (size_t)(end - text->at);
    size_t taken = end == NULL ? len : len + 1;
    *line = bytes_of(text->at, len);
    *text = bytes_of(text->at + taken, text->len - taken);
    return true;
}
