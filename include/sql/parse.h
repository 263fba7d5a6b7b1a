/*
 * What a text does, found by parsing it with PostgreSQL's own grammar.
 *
 * The parser needs stack for each level of nesting and a few microseconds for each token. The
 * caller has lexed the text and knows from its number of tokens that both suffice: a level takes
 * a token, and never more than 4 kB of stack.
 */
#ifndef WEIR_SQL_PARSE_H
#define WEIR_SQL_PARSE_H

#include "sql/findings.h"

#define PARSE_STACK_BYTES_PER_TOKEN 4096u

/* Parses `text` and adds what it does to `findings`, whose `names` must be set. A text that is
 * not understood, for whatever reason, comes back with TRAITS_ANYTHING. Any thread may call it,
 * several at the same time. */
void parse_text(const char *text, struct findings *findings);

#endif
