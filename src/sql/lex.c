/*
 * The lexer; include/sql/lex.h says what a shape is, and src/sql/shape.h how it is written.
 *
 * It is a loop over bytes that looks each one up in a table of classes and calls the function of
 * that class, which takes one token. Every function looks at each byte at most once, or at a
 * bounded number of bytes ahead, so that the time is in proportion to the text. Nothing recurses:
 * depth is a counter.
 */
#include "sql/lex.h"

#include "core/check.h"
#include "shape.h"

enum lex_class {
    CLASS_OTHER, /* no part of SQL outside quotes */
    CLASS_SPACE,
    CLASS_WORD,
    CLASS_DIGIT,
    CLASS_QUOTE,
    CLASS_DOUBLE_QUOTE,
    CLASS_DOLLAR,
    CLASS_DOT,
    CLASS_OPEN,
    CLASS_CLOSE,
    CLASS_BRACKET_OPEN,
    CLASS_BRACKET_CLOSE,
    CLASS_COMMA,
    CLASS_SEMICOLON,
    CLASS_COLON,
    CLASS_OPERATOR,
    CLASS_OPERATOR_ENDING /* part of an operator, which may then end in + or - */
};

/* One letter for each class, so that the table reads as 32 characters a line. */
enum {
    X = CLASS_OTHER,
    S = CLASS_SPACE,
    W = CLASS_WORD,
    D = CLASS_DIGIT,
    Q = CLASS_QUOTE,
    N = CLASS_DOUBLE_QUOTE,
    L = CLASS_DOLLAR,
    T = CLASS_DOT,
    P = CLASS_OPEN,
    R = CLASS_CLOSE,
    B = CLASS_BRACKET_OPEN,
    K = CLASS_BRACKET_CLOSE,
    C = CLASS_COMMA,
    M = CLASS_SEMICOLON,
    I = CLASS_COLON,
    O = CLASS_OPERATOR,
    E = CLASS_OPERATOR_ENDING
};

/* clang-format off */
static const unsigned char classes[256] = {
    X, X, X, X, X, X, X, X, X, S, S, X, S, S, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    S, E, N, E, L, E, E, Q, P, R, O, O, C, O, T, O, D, D, D, D, D, D, D, D, D, D, I, M, O, O, O, E,
    E, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, B, X, K, E, W,
    E, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, X, E, X, E, X,
    /* From 128 on: parts of letters in every encoding that is lexed. */
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W};
/* clang-format on */

struct lexer {
    const char *at;
    const char *end;
    bool is_unicode; /* the last constant was U&'' */
    struct shape shape;
    struct lex_result *result;
};

static inline unsigned char class_at(const struct lexer *lexer, const char *p) {
    return p < lexer->end ? classes[(unsigned char)*p] : (unsigned char)CLASS_OTHER;
}

static inline char byte_at(const struct lexer *lexer, const char *p) {
    return p < lexer->end ? *p : '\0';
}

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void refuse(struct lexer *lexer, const char *why) {
    if (lexer->result->refused == NULL) lexer->result->refused = why;
    lexer->at = lexer->end;
}

/* A token that is written as it stands and after which no constant is live. */
static void take_plain(struct lexer *lexer, enum token token, size_t len) {
    struct shape *shape = &lexer->shape;
    shape_begin(shape, token);
    *shape->out++ = *lexer->at++;
    if (len > 1) shape_put(shape, lexer->at, len - 1);
    lexer->at += len - 1;
    shape->live = NULL;
}

/* Likewise, but a constant before it stays live. */
static void take_transparent(struct lexer *lexer, enum token token, size_t len) {
    shape_begin(&lexer->shape, token);
    shape_put(&lexer->shape, lexer->at, len);
    lexer->at += len;
}

/* ---- Comments and blanks ---- */

static void note_hint(struct lexer *lexer, const char *at, const char *end) {
    while (at < end && classes[(unsigned char)*at] == CLASS_SPACE) at++;
    while (at < end && classes[(unsigned char)end[-1]] == CLASS_SPACE) end--;
    shape_hint(&lexer->shape, bytes_of(at, (size_t)(end - at)));
}

/* From `--` to before the line's end. */
static void skip_line_comment(struct lexer *lexer) {
    const char *p = lexer->at + 2;
    while (p < lexer->end && *p != '\n' && *p != '\r') p++;
    note_hint(lexer, lexer->at + 2, p);
    lexer->at = p;
}

static void skip_block_comment(struct lexer *lexer) {
    const char *p = lexer->at + 2;
    size_t depth = 1;
    while (depth > 0 && p + 1 < lexer->end) {
        if (p[0] == '*' && p[1] == '/') {
            depth--;
            p += 2;
        } else if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else {
            p++;
        }
    }
    if (depth > 0) {
        refuse(lexer, "unterminated comment");
        return;
    }
    note_hint(lexer, lexer->at + 2, p - 2);
    lexer->at = p;
}

/* ---- Constants ---- */

static void take_constant(struct lexer *lexer, struct bytes raw, const char *folded) {
    lexer->is_unicode = false;
    shape_constant(&lexer->shape, raw, folded);
}

/* Behind a closing quote: skips blanks and line comments. True if the string goes on, which is
 * so if the next thing is a quote and a line end came before it. Over a comment PostgreSQL goes
 * on and libpg_query does not, so that such a text is refused. */
static bool string_continues(struct lexer *lexer) {
    bool has_line_end = false;
    bool has_comment = false;
    while (class_at(lexer, lexer->at) == CLASS_SPACE ||
           (byte_at(lexer, lexer->at) == '-' && byte_at(lexer, lexer->at + 1) == '-')) {
        if (*lexer->at == '-') {
            skip_line_comment(lexer);
            has_comment = true;
            continue;
        }
        if (*lexer->at == '\n' || *lexer->at == '\r') has_line_end = true;
        lexer->at++;
    }
    bool continues = has_line_end && byte_at(lexer, lexer->at) == '\'';
    if (continues && has_comment) refuse(lexer, "a comment within a string");
    return continues && !has_comment;
}

enum string_style {
    STRING_PLAIN,   /* a quote is doubled */
    STRING_ESCAPED, /* or stands behind a backslash */
    STRING_BITS     /* there is no way to write one */
};

/* The place behind a string's closing quote, from behind its opening one; NULL if there is none.
 * *is_judged becomes true if it has an escape that the parser looks into. */
static const char *string_end(const struct lexer *lexer, const char *p, enum string_style style,
                              bool *is_judged) {
    while (p < lexer->end) {
        if (style != STRING_ESCAPED) p = memchr(p, '\'', (size_t)(lexer->end - p));
        if (p == NULL) return NULL;
        if (*p == '\'') {
            if (style == STRING_BITS || byte_at(lexer, p + 1) != '\'') return p + 1;
            p += 2;
        } else if (*p == '\\') {
            char escaped = byte_at(lexer, p + 1);
            bool is_code = escaped == 'u' || escaped == 'U' || escaped == 'x' || is_digit(escaped);
            if (is_code || (unsigned char)escaped >= 128) *is_judged = true;
            p += 2;
        } else {
            p++;
        }
    }
    return NULL;
}

/* A string of which the first quote stands `prefix` bytes ahead. */
static void take_string(struct lexer *lexer, size_t prefix, enum string_style style,
                        const char *folded) {
    const char *start = lexer->at;
    const char *end;
    bool is_judged = false;
    lexer->at += prefix;
    do {
        end = string_end(lexer, lexer->at + 1, style, &is_judged);
        if (end == NULL) {
            refuse(lexer, "unterminated string");
            return;
        }
        lexer->at = end;
    } while (string_continues(lexer));
    take_constant(lexer, bytes_of(start, (size_t)(end - start)), is_judged ? NULL : folded);
}

/* $tag$ ... $tag$ */
static void take_dollar_string(struct lexer *lexer) {
    const char *start = lexer->at;
    const char *p = start + 1;
    while (class_at(lexer, p) == CLASS_WORD || class_at(lexer, p) == CLASS_DIGIT) p++;
    if (byte_at(lexer, p) != '$') {
        refuse(lexer, "a dollar sign that opens nothing");
        return;
    }
    size_t tag = (size_t)(p + 1 - start);
    for (p++; (size_t)(lexer->end - p) >= tag; p++) {
        p = memchr(p, '$', (size_t)(lexer->end - p));
        if (p == NULL || (size_t)(lexer->end - p) < tag) break;
        if (memcmp(p, start, tag) != 0) continue;
        lexer->at = p + tag;
        take_constant(lexer, bytes_of(start, (size_t)(lexer->at - start)), "''");
        return;
    }
    refuse(lexer, "unterminated dollar-quoted string");
}

static void take_dollar(struct lexer *lexer) {
    const char *p = lexer->at + 1;
    if (!is_digit(byte_at(lexer, p))) {
        take_dollar_string(lexer);
        return;
    }
    while (is_digit(byte_at(lexer, p))) p++;
    if (class_at(lexer, p) == CLASS_WORD || byte_at(lexer, p) == '$') {
        refuse(lexer, "a letter behind a parameter's number");
        return;
    }
    struct bytes raw = bytes_of(lexer->at, (size_t)(p - lexer->at));
    lexer->at = p;
    take_constant(lexer, raw, "$1");
}

/* Whether digits make a number that the grammar takes for an integer. */
static bool fits_integer(const char *at, const char *end) {
    while (at < end && *at == '0') at++;
    size_t len = (size_t)(end - at);
    return len < 10 || (len == 10 && memcmp(at, "2147483647", 10) <= 0);
}

static const char *skip_digits(const struct lexer *lexer, const char *p) {
    while (p < lexer->end && is_digit(*p)) p++;
    return p;
}

static void take_number(struct lexer *lexer) {
    const char *start = lexer->at;
    const char *p = skip_digits(lexer, start);
    bool is_integer = true;
    if (byte_at(lexer, p) == '.' && byte_at(lexer, p + 1) != '.') {
        is_integer = false;
        p = skip_digits(lexer, p + 1);
    }
    if (char_lower(byte_at(lexer, p)) == 'e') {
        const char *exponent = p + 1;
        if (byte_at(lexer, exponent) == '+' || byte_at(lexer, exponent) == '-') exponent++;
        if (is_digit(byte_at(lexer, exponent))) {
            is_integer = false;
            p = skip_digits(lexer, exponent);
        }
    }
    if (class_at(lexer, p) == CLASS_WORD || byte_at(lexer, p) == '$') {
        refuse(lexer, "a letter behind a number");
        return;
    }
    lexer->at = p;
    is_integer = is_integer && fits_integer(start, p);
    take_constant(lexer, bytes_of(start, (size_t)(p - start)), is_integer ? "0" : "0.");
}

/* ---- Names ---- */

static void take_quoted_name(struct lexer *lexer) {
    const char *p = lexer->at + 1;
    for (;;) {
        p = p < lexer->end ? memchr(p, '"', (size_t)(lexer->end - p)) : NULL;
        if (p == NULL) {
            refuse(lexer, "unterminated quoted name");
            return;
        }
        if (byte_at(lexer, p + 1) != '"') break;
        p += 2;
    }
    size_t len = (size_t)(p + 1 - lexer->at);
    if (len == 2) {
        refuse(lexer, "a quoted name of no length");
        return;
    }
    take_transparent(lexer, TOKEN_QUOTED, len);
    lexer->shape.word = lexer->shape.out - len + 1;
    lexer->shape.word_len = len - 2;
}

/* A single letter before a quote makes a string of its own kind. True if it was one. */
static bool take_prefixed(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (next != '\'' && next != '&') return false;
    char letter = char_lower(*lexer->at);
    if (next == '&') {
        char quote = byte_at(lexer, lexer->at + 2);
        if (letter != 'u' || (quote != '\'' && quote != '"')) return false;
        if (quote == '"') {
            refuse(lexer, "a U& name");
        } else {
            take_string(lexer, 2, STRING_PLAIN, NULL);
            lexer->is_unicode = true;
        }
        return true;
    }
    switch (letter) {
    case 'e':
        take_string(lexer, 1, STRING_ESCAPED, "''");
        return true;
    case 'b':
        take_string(lexer, 1, STRING_BITS, "b''");
        return true;
    case 'x':
        take_string(lexer, 1, STRING_BITS, "x''");
        return true;
    case 'n':
        take_string(lexer, 1, STRING_PLAIN, "n''");
        return true;
    default:
        return false;
    }
}

/* Whether the word at `p` is NULL, TRUE or FALSE. */
static bool is_literal(const struct lexer *lexer, const char *p) {
    size_t len = 0;
    while (class_at(lexer, p + len) >= CLASS_WORD && class_at(lexer, p + len) <= CLASS_DIGIT) len++;
    struct bytes word = bytes_of(p, len);
    return bytes_equal_nocase(word, "null") || bytes_equal_nocase(word, "true") ||
           bytes_equal_nocase(word, "false");
}

static void take_word(struct lexer *lexer) {
    struct shape *shape = &lexer->shape;
    if (take_prefixed(lexer)) return;
    bool is_in_list = shape->list.state != LIST_NONE;
    bool is_unicode = lexer->is_unicode && shape->last == TOKEN_CONSTANT;
    shape_begin(shape, is_in_list && is_literal(lexer, lexer->at) ? TOKEN_LITERAL : TOKEN_WORD);
    const char *p = lexer->at;
    const char *end = lexer->end;
    char *out = shape->out;
    for (; p < end; p++) {
        unsigned char class = classes[(unsigned char)*p];
        if (class != CLASS_WORD && class != CLASS_DIGIT && class != CLASS_DOLLAR) break;
        *out++ = char_lower(*p);
    }
    size_t len = (size_t)(out - shape->out);
    shape->out = out;
    lexer->at = p;
    shape_word(shape, len);
    if (is_unicode && shape_word_is(shape, "uescape")) refuse(lexer, "UESCAPE");
}

/* ---- Punctuation and operators ---- */

static void take_open(struct lexer *lexer, enum token token) {
    enum token before = lexer->shape.last;
    take_plain(lexer, token, 1);
    shape_opened(&lexer->shape, before);
    if (lexer->shape.depth > LEX_DEPTH_MAX) refuse(lexer, "nested too deeply");
}

static void take_close(struct lexer *lexer, enum token token) {
    take_transparent(lexer, token, 1);
    shape_closed(&lexer->shape);
}

static void take_semicolon(struct lexer *lexer) {
    if (lexer->shape.depth > 0) {
        take_plain(lexer, TOKEN_OTHER, 1);
        return;
    }
    lexer->at++;
    shape_end_statement(&lexer->shape);
}

static void take_dot(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (is_digit(next)) {
        take_number(lexer);
    } else if (next == '.') {
        take_plain(lexer, TOKEN_OTHER, 2);
    } else {
        take_transparent(lexer, TOKEN_DOT, 1);
    }
}

static void take_colon(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (next == ':') {
        take_transparent(lexer, TOKEN_CAST, 2);
    } else {
        take_plain(lexer, TOKEN_OTHER, next == '=' ? 2 : 1);
    }
}

/* PostgreSQL's own bound, NAMEDATALEN. */
#define OPERATOR_BYTES_MAX 64

/* The longest run of operator characters, up to a comment; + and - end an operator of several
 * characters only if it has one of ~ ! @ # ^ & | ` ? % (the manual's section 4.1.3). */
static size_t operator_length(const struct lexer *lexer) {
    const char *p = lexer->at;
    unsigned char class;
    bool may_end_in_sign = false;
    for (; (class = class_at(lexer, p)) >= CLASS_OPERATOR; p++) {
        char next = byte_at(lexer, p + 1);
        if ((*p == '-' && next == '-') || (*p == '/' && next == '*')) break;
        if (p - lexer->at >= OPERATOR_BYTES_MAX) return OPERATOR_BYTES_MAX;
        if (class == CLASS_OPERATOR_ENDING) may_end_in_sign = true;
    }
    while (!may_end_in_sign && p > lexer->at + 1 && (p[-1] == '+' || p[-1] == '-')) p--;
    return (size_t)(p - lexer->at);
}

static void take_operator(struct lexer *lexer) {
    char c = *lexer->at;
    char next = byte_at(lexer, lexer->at + 1);
    if (c == '-' && next == '-') {
        skip_line_comment(lexer);
        return;
    }
    if (c == '/' && next == '*') {
        skip_block_comment(lexer);
        return;
    }
    size_t len = class_at(lexer, lexer->at + 1) >= CLASS_OPERATOR ? operator_length(lexer) : 1;
    if (len == OPERATOR_BYTES_MAX) {
        refuse(lexer, "an operator that is too long");
        return;
    }
    take_plain(lexer, len == 1 && (c == '+' || c == '-') ? TOKEN_SIGN : TOKEN_OPERATOR, len);
}

static void take_token(struct lexer *lexer) {
    switch ((enum lex_class)classes[(unsigned char)*lexer->at]) {
    case CLASS_SPACE:
        lexer->at++;
        return;
    case CLASS_WORD:
        take_word(lexer);
        return;
    case CLASS_DIGIT:
        take_number(lexer);
        return;
    case CLASS_QUOTE:
        take_string(lexer, 0, STRING_PLAIN, "''");
        return;
    case CLASS_DOUBLE_QUOTE:
        take_quoted_name(lexer);
        return;
    case CLASS_DOLLAR:
        take_dollar(lexer);
        return;
    case CLASS_DOT:
        take_dot(lexer);
        return;
    case CLASS_OPEN:
        take_open(lexer, TOKEN_OPEN);
        return;
    case CLASS_CLOSE:
        take_close(lexer, TOKEN_CLOSE);
        return;
    case CLASS_BRACKET_OPEN:
        take_open(lexer, TOKEN_BRACKET_OPEN);
        return;
    case CLASS_BRACKET_CLOSE:
        take_close(lexer, TOKEN_BRACKET_CLOSE);
        return;
    case CLASS_COMMA:
        take_plain(lexer, TOKEN_COMMA, 1);
        return;
    case CLASS_SEMICOLON:
        take_semicolon(lexer);
        return;
    case CLASS_COLON:
        take_colon(lexer);
        return;
    case CLASS_OPERATOR:
    case CLASS_OPERATOR_ENDING:
        take_operator(lexer);
        return;
    case CLASS_OTHER:
        refuse(lexer, "a character that is no part of SQL");
        return;
    }
}

static bool is_beyond_bounds(const struct lexer *lexer) {
    const struct lex_result *result = lexer->result;
    if (result->tokens > LEX_LISTED_TOKENS_MAX) return true;
    return result->shape_tokens > LEX_TOKENS_MAX && lexer->shape.list.state == LIST_NONE;
}

bool lex_text(struct bytes text, char *memory, struct lex_result *result) {
    *result = (struct lex_result){0};
    const char *at = text.len == 0 ? "" : text.at;
    struct lexer lexer = {.at = at, .end = at + text.len, .result = result};
    shape_init(&lexer.shape, memory, result);
    if (text.len > LEX_TEXT_BYTES_MAX) {
        refuse(&lexer, "too long");
    } else if (text.len > 0 && memchr(text.at, '\0', text.len) != NULL) {
        refuse(&lexer, "a zero byte");
    }
    while (lexer.at < lexer.end) {
        take_token(&lexer);
        if (is_beyond_bounds(&lexer)) refuse(&lexer, "too many tokens");
    }
    shape_end_statement(&lexer.shape);
    if (is_beyond_bounds(&lexer)) refuse(&lexer, "too many tokens");
    result->shape = bytes_of(memory, (size_t)(lexer.shape.out - memory));
    CHECK(result->shape.len <= LEX_SHAPE_BYTES(text.len));
    return result->refused == NULL;
}
