/*
 * The lexer: one pass over a text with PostgreSQL's lexical rules (its manual, section 4.1),
 * which writes the text's shape: the same tokens, words in lower case, one way of spacing, no
 * comments, and constants replaced by one constant of their kind.
 *
 *      SELECT a FROM t WHERE b = 17 AND c IN ('x', 'y')  -- why
 *      select a from t where b = 0 and c in(0,0)
 *
 * Two texts of one shape do the same, so a shape is what traits are kept under. A shape is
 * itself a text that PostgreSQL's grammar accepts wherever it accepts the original, and the
 * shape of a shape is the shape. How constants fold:
 *
 *      integers that fit 32 bits  0        numbers beyond, or with a point  0.
 *      strings, however quoted    ''       bit strings  b'' x''    parameters  $1
 *
 * and which do not: all in a statement whose first word is not SELECT, WITH, VALUES, TABLE,
 * INSERT, UPDATE, DELETE or MERGE; those within the call of a function whose arguments decide
 * what it does; those that are cast to a reg type; strings whose escapes the parser must judge.
 * Two or more constants in an IN list or in ARRAY[...] become two, and so do two or more rows of
 * a VALUES list if all are constants and equally many. A comment that is a hint, and nothing but
 * that, stays.
 *
 * Some texts are not lexed at all, since versions or settings of PostgreSQL read them in
 * different ways: a number with a letter behind it, U& with UESCAPE, U&"names", bytes that are
 * no part of SQL. No text takes longer than about half a millisecond.
 */
#ifndef WEIR_SQL_LEX_H
#define WEIR_SQL_LEX_H

#include "core/bytes.h"

#define LEX_TEXT_BYTES_MAX (128u * 1024)
#define LEX_TOKENS_MAX     8000u /* of the shape */
#define LEX_DEPTH_MAX      500u
/* Of the text, where most are elements of lists that collapse. */
#define LEX_LISTED_TOKENS_MAX 20000u

/* Memory that the shape of a text of `len` bytes fits into. */
#define LEX_SHAPE_BYTES(len) (2 * (size_t)(len) + 64)

struct lex_result {
    struct bytes shape;    /* in the caller's memory */
    const char *refused;   /* why the text was not lexed, a constant text; NULL if it was */
    unsigned tokens;       /* of the text, without `;` that separate or end statements */
    unsigned shape_tokens; /* of the shape */
    unsigned depth;        /* the deepest nesting of parentheses and brackets */
    unsigned statements;   /* that have a token */
    bool hint_primary, hint_replica;
};

/* Lexes `text` and writes its shape to `memory`, which has LEX_SHAPE_BYTES(text.len) bytes.
 * False if the text is refused: result->refused says why and the rest of it means nothing. */
bool lex_text(struct bytes text, char *memory, struct lex_result *result);

#endif
