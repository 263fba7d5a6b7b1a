/*
 * Writing a shape, token by token; the inner half of the lexer (sql/lex.h says what a shape is).
 *
 * The lexer cuts the text into tokens and hands each one over in the order
 *
 *      shape_begin(kind)   -> the token's own bytes by shape_put -> shape_word, shape_opened, ...
 *
 * Between two tokens stands a blank only where they would otherwise become one. A blank for each
 * token is the most that is added, so twice the text's length is always enough memory.
 */
#ifndef WEIR_SQL_SHAPE_H
#define WEIR_SQL_SHAPE_H

#include "sql/lex.h"

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
struct shape_list {
    enum list_state state;
    enum token closes;  /* what ends it, or a row of it */
    bool has_rows;      /* VALUES */
    char *out;          /* the output just behind its opening bracket */
    unsigned tokens;    /* shape_tokens at that place */
    unsigned items;     /* in this row so far */
    unsigned row_items; /* in each row, known after the first */
    unsigned rows;
};

struct shape {
    char *out; /* where the next byte goes */
    enum token last;
    const char *word; /* the last word or quoted name in the output, without its quotes */
    size_t word_len;
    bool has_token;   /* this statement has one */
    bool is_started;  /* this statement's first word was seen */
    bool is_verbatim; /* no constant of this statement folds */
    bool owes_semicolon;
    unsigned depth;
    unsigned call_depth; /* of the call whose arguments matter; 0: none */
    char *live;          /* a folded constant in the output that may have to come back, or NULL */
    size_t live_len;
    struct bytes live_raw;
    struct shape_list list;
    struct lex_result *result;
};

void shape_init(struct shape *shape, char *memory, struct lex_result *result);

/* Tells the list at hand of the next token, before that is written. */
void shape_feed_list(struct shape *shape, enum token token);

static inline void shape_put(struct shape *shape, const char *at, size_t len) {
    memcpy(shape->out, at, len);
    shape->out += len;
}

static inline bool shape_needs_blank(enum token last, enum token next) {
    if (last < TOKEN_WORD || next < TOKEN_WORD) return false;
    if (next == TOKEN_CAST && last == TOKEN_CONSTANT) return false;
    if (next == TOKEN_DOT || next == TOKEN_CAST) return last > TOKEN_QUOTED;
    if (last == TOKEN_DOT || last == TOKEN_CAST) return next > TOKEN_QUOTED;
    return true;
}

/* Everything that precedes a token's own bytes. */
static inline void shape_begin(struct shape *shape, enum token token) {
    if (shape->list.state != LIST_NONE) shape_feed_list(shape, token);
    if (token == TOKEN_LITERAL) token = TOKEN_WORD;
    if (shape->owes_semicolon) {
        shape_put(shape, ";", 1);
        shape->owes_semicolon = false;
        shape->last = TOKEN_START;
    }
    if (!shape->has_token) {
        shape->has_token = true;
        shape->result->statements++;
    }
    if (shape_needs_blank(shape->last, token)) *shape->out++ = ' ';
    shape->result->tokens++;
    shape->result->shape_tokens++;
    shape->last = token;
}

/* A whole constant whose text is `raw`; `folded` stands for its kind, NULL if it may not fold. */
void shape_constant(struct shape *shape, struct bytes raw, const char *folded);

/* The bytes of a TOKEN_WORD have been written, as the last `len` of the output. */
void shape_word(struct shape *shape, size_t len);

/* An opening bracket has been written, with `before` as the token before it; a closing one. */
void shape_opened(struct shape *shape, enum token before);
void shape_closed(struct shape *shape);

/* The statement has ended: at a semicolon that is not within brackets, or with the text. */
void shape_end_statement(struct shape *shape);

/* Writes and notes a comment's text, if that is a hint and nothing else. */
void shape_hint(struct shape *shape, struct bytes text);

static inline bool shape_word_is(const struct shape *shape, const char *text) {
    return shape->word_len == strlen(text) && memcmp(shape->word, text, shape->word_len) == 0;
}

#endif
