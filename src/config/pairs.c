/* Splitting the pairs of an entry; see pairs.h. */
#include "pairs.h"

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

static void skip(struct bytes *rest, size_t len) {
    rest->at += len;
    rest->len -= len;
}

void pairs_skip_blanks(struct bytes *rest) {
    while (rest->len > 0 && is_blank(rest->at[0])) skip(rest, 1);
}

bool pairs_quoted(struct bytes *rest, struct buf *value) {
    if (rest->len == 0 || rest->at[0] != '\'') return false;
    skip(rest, 1);
    while (rest->len > 0) {
        bool is_quote = rest->at[0] == '\'';
        bool is_double = is_quote && rest->len > 1 && rest->at[1] == '\'';
        if (is_quote && !is_double) {
            skip(rest, 1);
            return true;
        }
        buf_append(value, rest->at, 1);
        skip(rest, is_double ? 2 : 1);
    }
    return false;
}

enum pairs_found pairs_next(struct bytes *rest, struct bytes *key, struct buf *value,
                            const char **why) {
    pairs_skip_blanks(rest);
    if (rest->len == 0) return PAIRS_FOUND_END;
    size_t len = 0;
    while (len < rest->len && rest->at[len] != '=' && !is_blank(rest->at[len])) len++;
    *key = bytes_of(rest->at, len);
    skip(rest, len);
    pairs_skip_blanks(rest);
    *why = "a word has no '=' behind it; a value with blanks stands in '...'";
    if (len == 0 || rest->len == 0 || rest->at[0] != '=') return PAIRS_FOUND_BROKEN;
    skip(rest, 1);
    pairs_skip_blanks(rest);
    *why = "a value is empty; leave the key out instead";
    if (rest->len == 0) return PAIRS_FOUND_BROKEN;
    if (rest->at[0] == '\'') {
        *why = "a value has no closing quote; a quote inside is written ''";
        if (!pairs_quoted(rest, value)) return PAIRS_FOUND_BROKEN;
        *why = "text follows a closing quote without a blank; a quote inside is written ''";
        if (rest->len > 0 && !is_blank(rest->at[0])) return PAIRS_FOUND_BROKEN;
    } else {
        len = 0;
        while (len < rest->len && !is_blank(rest->at[len])) len++;
        buf_append(value, rest->at, len);
        skip(rest, len);
    }
    *why = "a value is empty; leave the key out instead";
    return buf_length(value) == 0 ? PAIRS_FOUND_BROKEN : PAIRS_FOUND_PAIR;
}
