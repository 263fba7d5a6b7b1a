/* Tokens, and what is found between them; see sql/cut.h. */
#include "sql/cut.h"

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || (unsigned char)c >= 0x80;
}

/* A text and a place in it. */
struct cursor {
    struct bytes text;
    size_t pos;
};

static bool is_at_end(const struct cursor *cursor) {
    return cursor->pos >= cursor->text.len;
}

static char at(const struct cursor *cursor, size_t ahead) {
    size_t pos = cursor->pos + ahead;
    return pos < cursor->text.len ? cursor->text.at[pos] : '\0';
}

static void skip_comment(struct cursor *cursor) {
    unsigned depth = 0;
    do {
        bool begins = at(cursor, 0) == '/' && at(cursor, 1) == '*';
        bool ends = at(cursor, 0) == '*' && at(cursor, 1) == '/';
        if (begins) depth++;
        if (ends) depth--;
        cursor->pos += begins || ends ? 2 : 1;
    } while (depth > 0 && !is_at_end(cursor));
}

static void skip_blank(struct cursor *cursor) {
    while (!is_at_end(cursor)) {
        if (is_space(at(cursor, 0))) {
            cursor->pos++;
        } else if (at(cursor, 0) == '-' && at(cursor, 1) == '-') {
            while (!is_at_end(cursor) && at(cursor, 0) != '\n' && at(cursor, 0) != '\r')
                cursor->pos++;
        } else if (at(cursor, 0) == '/' && at(cursor, 1) == '*') {
            skip_comment(cursor);
        } else {
            return;
        }
    }
}

/* Behind the quote at hand up to behind the next one of its kind; two of them are two strings,
 * which changes no end. */
static void skip_quoted(struct cursor *cursor) {
    char quote = at(cursor, 0);
    cursor->pos++;
    while (!is_at_end(cursor) && at(cursor, 0) != quote) cursor->pos++;
    cursor->pos++;
}

/* $tag$ ... $tag$; false if no tag begins here. */
static bool skip_dollars(struct cursor *cursor) {
    size_t len = 1;
    while (is_word(at(cursor, len)) && at(cursor, len) != '$') len++;
    if (at(cursor, len) != '$') return false;
    len++;
    struct bytes tag = bytes_of(cursor->text.at + cursor->pos, len);
    cursor->pos += len;
    while (cursor->pos + len <= cursor->text.len) {
        if (bytes_equal(bytes_of(cursor->text.at + cursor->pos, len), tag)) {
            cursor->pos += len;
            return true;
        }
        cursor->pos++;
    }
    cursor->pos = cursor->text.len;
    return true;
}

/* Takes one token, of any kind; blanks ahead of it have been skipped. */
static struct bytes take_token(struct cursor *cursor) {
    size_t from = cursor->pos;
    char first = at(cursor, 0);
    if (first == '\'' || first == '"') {
        skip_quoted(cursor);
    } else if (first == '$' && skip_dollars(cursor)) {
        /* taken */
    } else if (is_word(first)) {
        while (!is_at_end(cursor) && is_word(at(cursor, 0))) cursor->pos++;
    } else {
        cursor->pos++;
    }
    if (cursor->pos > cursor->text.len) cursor->pos = cursor->text.len;
    return bytes_of(cursor->text.at + from, cursor->pos - from);
}

static struct bytes next_token(struct cursor *cursor) {
    skip_blank(cursor);
    return is_at_end(cursor) ? bytes_of(cursor->text.at, 0) : take_token(cursor);
}

/* Whether an identifier, as written, is that name. Quotes within quotes are nobody's name. */
static bool is_name(struct bytes token, struct bytes name) {
    if (token.len > 2 && token.at[0] == '"')
        return bytes_equal(bytes_of(token.at + 1, token.len - 2), name);
    if (token.len != name.len) return false;
    for (size_t i = 0; i < token.len; i++) {
        if (char_lower(token.at[i]) != name.at[i]) return false;
    }
    return token.len > 0;
}

/* Behind `PREPARE name`: passes over the types up to behind AS. */
static bool skip_to_statement(struct cursor *cursor) {
    struct bytes token = next_token(cursor);
    if (bytes_equal_text(token, "(")) {
        unsigned depth = 1;
        while (depth > 0) {
            token = next_token(cursor);
            if (token.len == 0) return false;
            if (bytes_equal_text(token, "(")) depth++;
            if (bytes_equal_text(token, ")")) depth--;
        }
        token = next_token(cursor);
    }
    return bytes_equal_nocase(token, "as");
}

/* Takes the rest of a statement: all up to its `;`, without blanks around it. */
static struct bytes take_statement(struct cursor *cursor) {
    skip_blank(cursor);
    size_t from = cursor->pos, to = from;
    for (;;) {
        struct bytes token = next_token(cursor);
        if (token.len == 0 || bytes_equal_text(token, ";")) break;
        to = cursor->pos;
    }
    return bytes_of(cursor->text.at + from, to - from);
}

bool cut_prepared(struct bytes text, struct bytes name, struct bytes *statement) {
    struct cursor cursor = {.text = text};
    unsigned found = 0;
    if (memchr(text.at, '\\', text.len) != NULL) return false;
    for (size_t i = 0; i < name.len; i++) {
        if ((unsigned char)name.at[i] >= 0x80) return false;
    }
    while (!is_at_end(&cursor)) {
        struct cursor ahead = cursor;
        bool is_it = bytes_equal_nocase(next_token(&ahead), "prepare") &&
                     is_name(next_token(&ahead), name) && skip_to_statement(&ahead);
        if (is_it) cursor = ahead;
        struct bytes rest = take_statement(&cursor);
        if (!is_it) continue;
        *statement = rest;
        found++;
    }
    return found == 1 && statement->len > 0;
}

/* Without the quotes, or the tags; a constant that has no end goes to that of the text. */
static struct bytes between_quotes(struct bytes token) {
    size_t ahead = 1;
    if (token.at[0] == '$') {
        while (token.at[ahead] != '$') ahead++;
        ahead++;
    }
    bool is_closed =
        token.len >= 2 * ahead && memcmp(token.at, token.at + token.len - ahead, ahead) == 0;
    return bytes_of(token.at + ahead, token.len - (is_closed ? 2 : 1) * ahead);
}

/* A parameter has one `$` only. */
static bool is_constant(struct bytes token) {
    if (token.at[0] == '\'') return true;
    return token.at[0] == '$' && memchr(token.at + 1, '$', token.len - 1) != NULL;
}

bool cut_next_constant(struct bytes *rest, struct bytes *constant) {
    struct cursor cursor = {.text = *rest};
    struct bytes token = next_token(&cursor);
    while (token.len > 0 && !is_constant(token)) token = next_token(&cursor);
    *rest = bytes_of(rest->at + cursor.pos, rest->len - cursor.pos);
    if (token.len == 0) return false;
    *constant = between_quotes(token);
    return true;
}
