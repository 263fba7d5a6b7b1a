/*
 * Scripts; see sql/script.h. One pass over the bytes: what stands in quotes or comments is stepped
 * over as a whole, words are looked at for those few that matter.
 */
#include "sql/script.h"

#define WORDS_MAX 4u /* CREATE OR REPLACE FUNCTION */

/* A statement while it is being read. */
struct reading {
    struct bytes text;
    size_t pos;
    bool has_begun;                /* a token was seen, */
    size_t first;                  /* the first one there */
    struct bytes words[WORDS_MAX]; /* its first words */
    unsigned words_count;
    struct bytes last; /* the last word */
    unsigned parentheses;
    unsigned blocks; /* BEGIN and CASE that are open in the body of a routine */
    bool copies;     /* FROM STDIN was seen */
};

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool begins_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_word(char c) {
    return begins_word(c) || (c >= '0' && c <= '9') || c == '$';
}

static char at(const struct reading *reading, size_t pos) {
    return pos < reading->text.len ? reading->text.at[pos] : '\0';
}

/* ---- what is stepped over; each returns the place behind it */

static size_t skip_line(const struct reading *reading, size_t pos) {
    while (pos < reading->text.len && at(reading, pos) != '\n') pos++;
    return pos;
}

static size_t skip_comment(const struct reading *reading, size_t pos) {
    unsigned depth = 0;
    do {
        bool begins = at(reading, pos) == '/' && at(reading, pos + 1) == '*';
        bool ends = at(reading, pos) == '*' && at(reading, pos + 1) == '/';
        if (begins) depth++;
        if (ends) depth--;
        pos += begins || ends ? 2 : 1;
    } while (depth > 0 && pos < reading->text.len);
    return pos;
}

/* Two quotes within are one, which as two strings is the same here. */
static size_t skip_quoted(const struct reading *reading, size_t pos, bool has_escapes) {
    char quote = at(reading, pos);
    for (pos++; pos < reading->text.len && at(reading, pos) != quote; pos++)
        if (has_escapes && at(reading, pos) == '\\') pos++;
    return pos + 1;
}

/* $$...$$ or $tag$...$tag$; the place itself if it is no such quote. */
static size_t skip_dollars(const struct reading *reading, size_t pos) {
    size_t end = pos + 1;
    if (begins_word(at(reading, end)))
        while (is_word(at(reading, end)) && at(reading, end) != '$') end++;
    if (at(reading, end) != '$') return pos;
    size_t len = end + 1 - pos;
    for (size_t i = end + 1; i + len <= reading->text.len; i++)
        if (memcmp(reading->text.at + i, reading->text.at + pos, len) == 0) return i + len;
    return reading->text.len;
}

/* ---- words */

static bool is_routine(const struct reading *reading) {
    if (reading->words_count < 2 || !bytes_equal_nocase(reading->words[0], "create")) return false;
    for (unsigned i = 1; i < reading->words_count; i++) {
        if (bytes_equal_nocase(reading->words[i], "function")) return true;
        if (bytes_equal_nocase(reading->words[i], "procedure")) return true;
    }
    return false;
}

static void take_word(struct reading *reading, struct bytes word) {
    if (reading->words_count < WORDS_MAX) reading->words[reading->words_count++] = word;
    bool is_copy = bytes_equal_nocase(reading->words[0], "copy");
    bool is_stdin = bytes_equal_nocase(word, "stdin");
    if (is_copy && is_stdin && bytes_equal_nocase(reading->last, "from")) reading->copies = true;
    reading->last = word;
    if (reading->parentheses > 0 || !is_routine(reading)) return;
    if (bytes_equal_nocase(word, "begin")) reading->blocks++;
    if (bytes_equal_nocase(word, "case") && reading->blocks > 0) reading->blocks++;
    if (bytes_equal_nocase(word, "end") && reading->blocks > 0) reading->blocks--;
}

static size_t read_word(struct reading *reading, size_t pos) {
    size_t end = pos;
    while (is_word(at(reading, end)) && end < reading->text.len) end++;
    struct bytes word = bytes_of(reading->text.at + pos, end - pos);
    bool is_escaped = at(reading, end) == '\'' && bytes_equal_nocase(word, "e");
    if (is_escaped) return skip_quoted(reading, end, true);
    take_word(reading, word);
    return end;
}

/* ---- one statement */

/* Steps over blanks and comments. */
static size_t skip_blank(const struct reading *reading, size_t pos) {
    for (;;) {
        char c = at(reading, pos), next = at(reading, pos + 1);
        if (pos < reading->text.len && is_space(c)) {
            pos++;
        } else if (c == '-' && next == '-') {
            pos = skip_line(reading, pos);
        } else if (c == '/' && next == '*') {
            pos = skip_comment(reading, pos);
        } else {
            return pos;
        }
    }
}

static size_t read_token(struct reading *reading, size_t pos) {
    char c = at(reading, pos);
    if (begins_word(c)) return read_word(reading, pos);
    if (c == '\'' || c == '"') return skip_quoted(reading, pos, false);
    if (c == '$') {
        size_t end = skip_dollars(reading, pos);
        return end > pos ? end : pos + 1;
    }
    if (c >= '0' && c <= '9') { /* 1$$ is no quote */
        while (is_word(at(reading, pos)) && pos < reading->text.len) pos++;
        return pos;
    }
    if (c == '(') reading->parentheses++;
    if (c == ')' && reading->parentheses > 0) reading->parentheses--;
    return pos + 1;
}

/* Reads up to the end of a statement, or up to a line for psql. */
static void read_statement(struct reading *reading) {
    size_t pos = 0;
    while ((pos = skip_blank(reading, pos)) < reading->text.len) {
        char c = at(reading, pos);
        bool is_end = c == ';' && reading->parentheses == 0 && reading->blocks == 0;
        if (is_end || c == '\\') break;
        if (!reading->has_begun) reading->first = pos;
        reading->has_begun = true;
        pos = read_token(reading, pos);
    }
    reading->pos = pos < reading->text.len ? pos : reading->text.len;
}

/* ---- parts */

/* Takes `len` bytes out of the rest. */
static struct bytes take(struct script *script, size_t len) {
    if (len > script->rest.len) len = script->rest.len;
    struct bytes taken = bytes_of(script->rest.at, len);
    for (size_t i = 0; i < len; i++)
        if (taken.at[i] == '\n') script->line++;
    script->rest.at += len;
    script->rest.len -= len;
    return taken;
}

/* Behind the line break after COPY ...; up to behind the line of a backslash and a dot. */
static size_t data_length(struct bytes rest) {
    size_t pos = 0;
    while (pos < rest.len) {
        const char *line = rest.at + pos;
        const char *end = memchr(line, '\n', rest.len - pos);
        size_t len = end == NULL ? rest.len - pos : (size_t)(end - line);
        pos += len + (end == NULL ? 0 : 1);
        if (len > 0 && line[len - 1] == '\r') len--;
        if (len == 2 && line[0] == '\\' && line[1] == '.') break;
    }
    return pos;
}

static unsigned lines_of(struct bytes text) {
    unsigned count = 0;
    for (size_t i = 0; i < text.len; i++) count += text.at[i] == '\n';
    return count;
}

void script_begin(struct script *script, struct bytes text) {
    *script = (struct script){.rest = text, .line = 1};
}

static enum script_part take_data(struct script *script, struct bytes *text, unsigned *line) {
    struct reading reading = {.text = script->rest};
    size_t end = skip_line(&reading, 0);
    script->is_data_next = false;
    (void)take(script, end + 1);
    *line = script->line;
    *text = take(script, data_length(script->rest));
    return SCRIPT_DATA;
}

enum script_part script_next(struct script *script, struct bytes *text, unsigned *line) {
    if (script->is_data_next) return take_data(script, text, line);
    struct reading reading = {.text = script->rest};
    for (;;) {
        reading = (struct reading){.text = script->rest};
        read_statement(&reading);
        if (reading.has_begun) break;
        bool is_command = at(&reading, reading.pos) == '\\' && reading.pos < script->rest.len;
        if (is_command) {
            (void)take(script, reading.pos);
            reading.text = script->rest;
            *line = script->line;
            *text = take(script, skip_line(&reading, 0));
            return SCRIPT_COMMAND;
        }
        if (reading.pos >= script->rest.len) return SCRIPT_END;
        (void)take(script, reading.pos + 1); /* a semicolon with nothing before it */
    }
    *line = script->line + lines_of(bytes_of(script->rest.at, reading.first));
    *text = take(script, reading.pos);
    if (script->rest.len > 0 && script->rest.at[0] == ';') (void)take(script, 1);
    script->is_data_next = reading.copies;
    return SCRIPT_STATEMENT;
}
