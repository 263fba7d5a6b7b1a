/*
 * The lexer; include/sql/lex.h says what a shape is.
 *
 * It is a loop over bytes that looks each one up in a table of classes and calls the function of
 * that class, which takes one token and writes it out. Between two tokens there is a blank only
 * where they would otherwise become one. A blank for each token is the most that is added, so
 * twice the text's length is always enough memory.
 *
 * Folding that depends on what comes later is done by going back in the output:
 *
 *   - A list is written in full while it may still collapse. When its end shows that it was one
 *     of constants only, the output is cut back to where the list began.
 *
 *          none --in( array[ values(--> ITEM <--> AFTER_SIGN
 *                                        | ^ ,
 *                                        v |
 *                                   AFTER_ITEM --) ]--> collapse (IN, ARRAY)
 *                                        | )
 *                                        v    ,              (
 *                                  BETWEEN_ROWS --> NEXT_ROW --> ITEM      (VALUES)
 *                                        | anything else: collapse
 *
 *     A token that fits no arrow leaves the list as it was written.
 *   - A folded constant stays "live" while only casts, names and closing parentheses follow; if
 *     one of these is a reg type, the constant is put back into its place.
 *
 * Recursion is not needed: depth is a counter.
 */
#include "sql/lex.h"

#include "core/check.h"

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
    CLASS_OPERATOR
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
    O = CLASS_OPERATOR
};

/* clang-format off */
static const unsigned char classes[256] = {
    X, X, X, X, X, X, X, X, X, S, S, X, S, S, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    S, O, N, O, L, O, O, Q, P, R, O, O, C, O, T, O, D, D, D, D, D, D, D, D, D, D, I, M, O, O, O, O,
    O, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, B, X, K, O, W,
    O, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, X, O, X, O, X,
    /* From 128 on: parts of letters in every encoding that is lexed. */
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W};
/* clang-format on */

enum token {
    TOKEN_START,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_BRACKET_OPEN,
    TOKEN_BRACKET_CLOSE,
    TOKEN_COMMA,
    /* From here on two neighbours need a blank between them, */
    TOKEN_WORD,
    TOKEN_QUOTED, /* except a name and a dot or cast */
    TOKEN_DOT,
    TOKEN_CAST,
    TOKEN_CONSTANT,
    TOKEN_SIGN, /* + or - alone */
    TOKEN_OPERATOR,
    TOKEN_OTHER,
    TOKEN_LITERAL /* the words NULL, TRUE and FALSE in a list */
};

enum list_state {
    LIST_NONE,
    LIST_ITEM,
    LIST_AFTER_SIGN,
    LIST_AFTER_ITEM,
    LIST_BETWEEN_ROWS,
    LIST_NEXT_ROW
};

/* A list that may collapse. */
struct lex_list {
    enum list_state state;
    enum token closes;  /* what ends it, or a row of it */
    bool has_rows;      /* VALUES */
    char *out;          /* the output just behind its opening bracket */
    unsigned tokens;    /* shape_tokens at that place */
    unsigned items;     /* in this row so far */
    unsigned row_items; /* in each row, known after the first */
    unsigned rows;
};

struct lexer {
    const char *at;
    const char *end;
    char *out;
    enum token last;
    const char *word; /* the last word or quoted name in the output, without its quotes */
    size_t word_len;
    bool is_started;  /* the statement's first word was seen */
    bool is_verbatim; /* no constant of this statement folds */
    bool owes_semicolon;
    bool has_token;  /* this statement has one */
    bool is_unicode; /* the last constant was U&'' */
    unsigned depth;
    unsigned call_depth; /* of the call whose arguments matter; 0: none */
    char *live;          /* a folded constant in the output that may have to come back, or NULL */
    size_t live_len;
    struct bytes live_raw;
    struct lex_list list;
    struct lex_result *result;
};

#define WORD_IS(lexer, text)                                                                       \
    ((lexer)->word_len == sizeof(text) - 1 && memcmp((lexer)->word, text, sizeof(text) - 1) == 0)

static inline unsigned char class_at(const struct lexer *lexer, const char *p) {
    return p < lexer->end ? classes[(unsigned char)*p] : (unsigned char)CLASS_OTHER;
}

static inline char byte_at(const struct lexer *lexer, const char *p) {
    return p < lexer->end ? *p : '\0';
}

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static inline char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static void refuse(struct lexer *lexer, const char *why) {
    if (lexer->result->refused == NULL) lexer->result->refused = why;
    lexer->at = lexer->end;
}

static void put(struct lexer *lexer, const char *at, size_t len) {
    memcpy(lexer->out, at, len);
    lexer->out += len;
}

/* clang-format off */
/* Functions with arguments that decide what the call does, and FLOAT, whose grammar judges the
 * number. Sorted by their first letters. */
static const char *const argument_matters[] = {
    "current_setting", "currval", "cursor_to_xml", "cursor_to_xmlschema", "database_to_xml",
    "database_to_xml_and_xmlschema", "dblink", "dblink_connect", "dblink_connect_u", "dblink_exec",
    "dblink_open", "dblink_send_query", "float", "lo_open", "nextval", "pg_get_serial_sequence",
    "pg_notify", "query_to_xml", "query_to_xml_and_xmlschema", "query_to_xmlschema",
    "schema_to_xml", "schema_to_xml_and_xmlschema", "set_config", "setval", "table_to_xml",
    "table_to_xml_and_xmlschema", "to_regclass", "to_regcollation", "to_regnamespace", "to_regoper",
    "to_regoperator", "to_regproc", "to_regprocedure", "to_regrole", "to_regtype", "ts_rewrite",
    "ts_stat"};
/* clang-format on */

static bool arguments_matter(const struct lexer *lexer) {
    if (lexer->word_len < 5) return false;
    for (size_t i = 0; i < COUNT(argument_matters); i++) {
        const char *name = argument_matters[i];
        if (name[0] != lexer->word[0] || name[1] != lexer->word[1]) continue;
        if (strncmp(name, lexer->word, lexer->word_len) == 0 && name[lexer->word_len] == '\0')
            return true;
    }
    return false;
}

/* ---- Lists ---- */

static void list_collapse(struct lexer *lexer) {
    struct lex_list *list = &lexer->list;
    unsigned items = list->has_rows ? list->row_items : 2;
    unsigned rows = list->has_rows ? 2 : 1;
    lexer->out = list->out;
    for (unsigned row = 0; row < rows; row++) {
        if (row > 0) put(lexer, ",(", 2);
        put(lexer, "0", 1);
        for (unsigned i = 1; i < items; i++) put(lexer, ",0", 2);
        if (list->has_rows) put(lexer, ")", 1);
    }
    lexer->result->shape_tokens = list->tokens + rows * (2 * items - 1) + (list->has_rows ? 4 : 0);
    lexer->last = list->has_rows ? TOKEN_CLOSE : TOKEN_CONSTANT;
    lexer->live = NULL;
}

static enum list_state list_close(struct lexer *lexer) {
    struct lex_list *list = &lexer->list;
    if (!list->has_rows) {
        if (list->items > 1) list_collapse(lexer);
        return LIST_NONE;
    }
    if (list->rows++ == 0) list->row_items = list->items;
    return list->items == list->row_items ? LIST_BETWEEN_ROWS : LIST_NONE;
}

/* Tells the list at hand of the next token, before that is written. */
static void list_feed(struct lexer *lexer, enum token token) {
    struct lex_list *list = &lexer->list;
    enum list_state next = LIST_NONE;
    switch (list->state) {
    case LIST_NONE:
        break;
    case LIST_ITEM:
        if (token == TOKEN_SIGN) next = LIST_AFTER_SIGN;
        /* fall through */
    case LIST_AFTER_SIGN:
        if (token == TOKEN_CONSTANT || token == TOKEN_LITERAL) next = LIST_AFTER_ITEM;
        break;
    case LIST_AFTER_ITEM:
        if (token == TOKEN_COMMA) {
            list->items++;
            next = LIST_ITEM;
        } else if (token == list->closes) {
            next = list_close(lexer);
        }
        break;
    case LIST_BETWEEN_ROWS:
        if (token == TOKEN_COMMA)
            next = LIST_NEXT_ROW;
        else if (list->rows > 1)
            list_collapse(lexer);
        break;
    case LIST_NEXT_ROW:
        if (token == TOKEN_OPEN) next = LIST_ITEM;
        list->items = 1;
        break;
    }
    list->state = next;
}

/* Called with an opening bracket just written behind a word. */
static void list_begin(struct lexer *lexer, enum token closes, bool has_rows) {
    lexer->list = (struct lex_list){.state = LIST_ITEM,
                                    .closes = closes,
                                    .has_rows = has_rows,
                                    .out = lexer->out,
                                    .tokens = lexer->result->shape_tokens,
                                    .items = 1};
}

/* ---- Writing tokens ---- */

static inline bool needs_blank(enum token last, enum token next) {
    if (last < TOKEN_WORD || next < TOKEN_WORD) return false;
    if (next == TOKEN_CAST && last == TOKEN_CONSTANT) return false;
    if (next == TOKEN_DOT || next == TOKEN_CAST) return last > TOKEN_QUOTED;
    if (last == TOKEN_DOT || last == TOKEN_CAST) return next > TOKEN_QUOTED;
    return true;
}

/* Everything that precedes a token's own bytes. */
static inline void token_begin(struct lexer *lexer, enum token token) {
    if (lexer->list.state != LIST_NONE) list_feed(lexer, token);
    if (token == TOKEN_LITERAL) token = TOKEN_WORD;
    if (lexer->owes_semicolon) {
        put(lexer, ";", 1);
        lexer->owes_semicolon = false;
        lexer->last = TOKEN_START;
    }
    if (!lexer->has_token) {
        lexer->has_token = true;
        lexer->result->statements++;
    }
    if (needs_blank(lexer->last, token)) *lexer->out++ = ' ';
    lexer->result->tokens++;
    lexer->result->shape_tokens++;
    lexer->last = token;
}

/* A token that is written as it stands and after which no constant is live. */
static void take_plain(struct lexer *lexer, enum token token, size_t len) {
    token_begin(lexer, token);
    put(lexer, lexer->at, len);
    lexer->at += len;
    lexer->live = NULL;
}

static bool last_word_is_reg(const struct lexer *lexer) {
    return lexer->last == TOKEN_WORD && lexer->word_len > 3 && memcmp(lexer->word, "reg", 3) == 0;
}

/* A constant whose text is `raw`; `folded` is what stands for its kind, NULL if it may not fold. */
static void take_constant(struct lexer *lexer, struct bytes raw, const char *folded) {
    bool is_verbatim =
        lexer->is_verbatim || lexer->call_depth != 0 || folded == NULL || last_word_is_reg(lexer);
    token_begin(lexer, is_verbatim ? TOKEN_OTHER : TOKEN_CONSTANT);
    lexer->last = TOKEN_CONSTANT;
    lexer->is_unicode = false;
    lexer->live = NULL;
    if (is_verbatim) {
        put(lexer, raw.at, raw.len);
        return;
    }
    lexer->live = lexer->out;
    lexer->live_len = strlen(folded);
    lexer->live_raw = raw;
    put(lexer, folded, lexer->live_len);
}

/* A reg type follows the live constant: what stands behind that moves up to make room for it. */
static void restore_live(struct lexer *lexer) {
    char *behind = lexer->live + lexer->live_len;
    size_t shift = lexer->live_raw.len - lexer->live_len;
    memmove(behind + shift, behind, (size_t)(lexer->out - behind));
    memcpy(lexer->live, lexer->live_raw.at, lexer->live_raw.len);
    lexer->out += shift;
    lexer->word += shift;
    lexer->live = NULL;
}

/* ---- Comments and blanks ---- */

static void note_hint(struct lexer *lexer, const char *at, const char *end) {
    while (at < end && classes[(unsigned char)*at] == CLASS_SPACE) at++;
    while (at < end && classes[(unsigned char)end[-1]] == CLASS_SPACE) end--;
    struct bytes text = bytes_of(at, (size_t)(end - at));
    if (bytes_equal_text(text, "weir:primary")) {
        lexer->result->hint_primary = true;
        put(lexer, "/*weir:primary*/", 16);
    } else if (bytes_equal_text(text, "weir:replica")) {
        lexer->result->hint_replica = true;
        put(lexer, "/*weir:replica*/", 16);
    } else {
        return;
    }
    lexer->list.state = LIST_NONE;
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

/* Behind a closing quote: skips blanks and line comments. True if the string goes on, which is
 * so if the next thing is a quote and a line end came before it. */
static bool string_continues(struct lexer *lexer) {
    bool has_line_end = false;
    while (class_at(lexer, lexer->at) == CLASS_SPACE ||
           (byte_at(lexer, lexer->at) == '-' && byte_at(lexer, lexer->at + 1) == '-')) {
        if (*lexer->at == '-') {
            skip_line_comment(lexer);
            continue;
        }
        if (*lexer->at == '\n' || *lexer->at == '\r') has_line_end = true;
        lexer->at++;
    }
    return has_line_end && byte_at(lexer, lexer->at) == '\'';
}

/* The place behind a string's closing quote, from behind its opening one; NULL if there is none.
 * With `has_escapes` backslashes count; *is_judged becomes true if the parser looks into one. */
static const char *string_end(const struct lexer *lexer, const char *p, bool has_escapes,
                              bool *is_judged) {
    while (p < lexer->end) {
        if (!has_escapes) p = memchr(p, '\'', (size_t)(lexer->end - p));
        if (p == NULL) return NULL;
        if (*p == '\'') {
            if (byte_at(lexer, p + 1) != '\'') return p + 1;
            p += 2;
        } else if (*p == '\\') {
            char escaped = byte_at(lexer, p + 1);
            if (escaped == 'u' || escaped == 'U' || escaped == 'x' || is_digit(escaped))
                *is_judged = true;
            p += 2;
        } else {
            p++;
        }
    }
    return NULL;
}

/* A string of which the first quote stands `prefix` bytes ahead. */
static void take_string(struct lexer *lexer, size_t prefix, bool has_escapes, const char *folded) {
    const char *start = lexer->at;
    const char *end;
    bool is_judged = false;
    lexer->at += prefix;
    do {
        end = string_end(lexer, lexer->at + 1, has_escapes, &is_judged);
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
    if (lower(byte_at(lexer, p)) == 'e') {
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
    token_begin(lexer, TOKEN_QUOTED);
    lexer->word = lexer->out + 1;
    lexer->word_len = len - 2;
    put(lexer, lexer->at, len);
    lexer->at = p + 1;
}

/* A single letter before a quote makes a string of its own kind. True if it was one. */
static bool take_prefixed(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (next != '\'' && next != '&') return false;
    char letter = lower(*lexer->at);
    if (next == '&') {
        char quote = byte_at(lexer, lexer->at + 2);
        if (letter != 'u' || (quote != '\'' && quote != '"')) return false;
        if (quote == '"') {
            refuse(lexer, "a U& name");
        } else {
            take_string(lexer, 2, false, NULL);
            lexer->is_unicode = true;
        }
        return true;
    }
    switch (letter) {
    case 'e':
        take_string(lexer, 1, true, "''");
        return true;
    case 'b':
        take_string(lexer, 1, false, "b''");
        return true;
    case 'x':
        take_string(lexer, 1, false, "x''");
        return true;
    case 'n':
        take_string(lexer, 1, false, "n''");
        return true;
    default:
        return false;
    }
}

/* The first word of a statement decides whether its constants fold. */
static void judge_first_word(struct lexer *lexer) {
    static const char *const folding[] = {"select", "with",   "values", "table",
                                          "insert", "update", "delete", "merge"};
    lexer->is_started = true;
    for (size_t i = 0; i < COUNT(folding); i++) {
        if (strlen(folding[i]) == lexer->word_len &&
            memcmp(folding[i], lexer->word, lexer->word_len) == 0)
            lexer->is_verbatim = false;
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
    if (take_prefixed(lexer)) return;
    bool is_in_list = lexer->list.state != LIST_NONE;
    bool is_unicode = lexer->is_unicode && lexer->last == TOKEN_CONSTANT;
    token_begin(lexer, is_in_list && is_literal(lexer, lexer->at) ? TOKEN_LITERAL : TOKEN_WORD);
    const char *p = lexer->at;
    const char *end = lexer->end;
    char *out = lexer->out;
    lexer->word = out;
    for (; p < end; p++) {
        unsigned char class = classes[(unsigned char)*p];
        if (class != CLASS_WORD && class != CLASS_DIGIT && class != CLASS_DOLLAR) break;
        *out++ = lower(*p);
    }
    lexer->word_len = (size_t)(out - lexer->out);
    lexer->out = out;
    lexer->at = p;
    if (!lexer->is_started) judge_first_word(lexer);
    if (lexer->live != NULL && last_word_is_reg(lexer)) restore_live(lexer);
    if (is_unicode && WORD_IS(lexer, "uescape")) refuse(lexer, "UESCAPE");
}

/* ---- Punctuation and operators ---- */

static void take_open(struct lexer *lexer, enum token token) {
    enum token before = lexer->last;
    take_plain(lexer, token, 1);
    if (++lexer->depth > lexer->result->depth) lexer->result->depth = lexer->depth;
    if (lexer->depth > LEX_DEPTH_MAX) {
        refuse(lexer, "nested too deeply");
        return;
    }
    if ((before != TOKEN_WORD && before != TOKEN_QUOTED) || lexer->is_verbatim ||
        lexer->call_depth != 0)
        return;
    if (token == TOKEN_OPEN && arguments_matter(lexer)) {
        lexer->call_depth = lexer->depth;
    } else if (token == TOKEN_OPEN && before == TOKEN_WORD) {
        if (WORD_IS(lexer, "in")) list_begin(lexer, TOKEN_CLOSE, false);
        if (WORD_IS(lexer, "values")) list_begin(lexer, TOKEN_CLOSE, true);
    } else if (before == TOKEN_WORD && WORD_IS(lexer, "array")) {
        list_begin(lexer, TOKEN_BRACKET_CLOSE, false);
    }
}

static void take_close(struct lexer *lexer, enum token token) {
    char bracket = *lexer->at++;
    token_begin(lexer, token);
    put(lexer, &bracket, 1);
    if (lexer->depth > 0) lexer->depth--;
    if (lexer->depth < lexer->call_depth) lexer->call_depth = 0;
}

static void take_semicolon(struct lexer *lexer) {
    if (lexer->depth > 0) {
        take_plain(lexer, TOKEN_OTHER, 1);
        return;
    }
    lexer->at++;
    list_feed(lexer, TOKEN_OTHER);
    if (lexer->has_token) lexer->owes_semicolon = true;
    lexer->has_token = lexer->is_started = false;
    lexer->is_verbatim = true;
    lexer->live = NULL;
}

static void take_dot(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (is_digit(next)) {
        take_number(lexer);
    } else if (next == '.') {
        take_plain(lexer, TOKEN_OTHER, 2);
    } else {
        token_begin(lexer, TOKEN_DOT);
        put(lexer, ".", 1);
        lexer->at++;
    }
}

static void take_colon(struct lexer *lexer) {
    char next = byte_at(lexer, lexer->at + 1);
    if (next == ':') {
        token_begin(lexer, TOKEN_CAST);
        put(lexer, "::", 2);
        lexer->at += 2;
    } else {
        take_plain(lexer, TOKEN_OTHER, next == '=' ? 2 : 1);
    }
}

/* The longest run of operator characters, up to a comment; + and - end an operator of several
 * characters only if it has one of ~ ! @ # ^ & | ` ? % (the manual's section 4.1.3). */
static size_t operator_length(const struct lexer *lexer) {
    const char *p = lexer->at;
    bool may_end_in_sign = false;
    for (; class_at(lexer, p) == CLASS_OPERATOR; p++) {
        char next = byte_at(lexer, p + 1);
        if ((*p == '-' && next == '-') || (*p == '/' && next == '*')) break;
        if (strchr("~!@#^&|`?%", *p) != NULL) may_end_in_sign = true;
    }
    while (!may_end_in_sign && p > lexer->at + 1 && (p[-1] == '+' || p[-1] == '-')) p--;
    return (size_t)(p - lexer->at);
}

static void take_operator(struct lexer *lexer) {
    char c = *lexer->at;
    char next = byte_at(lexer, lexer->at + 1);
    if (c == '-' && next == '-') {
        skip_line_comment(lexer);
    } else if (c == '/' && next == '*') {
        skip_block_comment(lexer);
    } else {
        size_t len = class_at(lexer, lexer->at + 1) == CLASS_OPERATOR ? operator_length(lexer) : 1;
        bool is_sign = len == 1 && (c == '+' || c == '-');
        take_plain(lexer, is_sign ? TOKEN_SIGN : TOKEN_OPERATOR, len);
    }
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
        take_string(lexer, 0, false, "''");
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
        take_operator(lexer);
        return;
    case CLASS_OTHER:
        refuse(lexer, "a character that is no part of SQL");
        return;
    }
}

bool lex_text(struct bytes text, char *memory, struct lex_result *result) {
    *result = (struct lex_result){0};
    struct lexer lexer = {.at = text.at,
                          .end = text.at + text.len,
                          .out = memory,
                          .last = TOKEN_START,
                          .is_verbatim = true,
                          .result = result};
    if (text.len > LEX_TEXT_BYTES_MAX) {
        refuse(&lexer, "too long");
    } else if (text.len > 0 && memchr(text.at, '\0', text.len) != NULL) {
        refuse(&lexer, "a zero byte");
    }
    while (lexer.at < lexer.end) {
        take_token(&lexer);
        if (result->shape_tokens > LEX_TOKENS_MAX && lexer.list.state == LIST_NONE)
            refuse(&lexer, "too many tokens");
    }
    list_feed(&lexer, TOKEN_OTHER);
    if (result->refused == NULL && result->shape_tokens > LEX_TOKENS_MAX)
        refuse(&lexer, "too many tokens");
    result->shape = bytes_of(memory, (size_t)(lexer.out - memory));
    CHECK(result->shape.len <= LEX_SHAPE_BYTES(text.len));
    return result->refused == NULL;
}
