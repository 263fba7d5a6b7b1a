/*
 * Cutting a text at its tokens, with PostgreSQL's lexical rules (its manual, section 4.1): what
 * stands behind AS in a PREPARE, and the string constants, of which one is the program of a DO.
 */
#ifndef WEIR_SQL_CUT_H
#define WEIR_SQL_CUT_H

#include "core/bytes.h"

/* Finds the statement that `PREPARE name [(types)] AS statement` prepares in a text, which may hold
 * others beside it, and gives a view of it. `name` is as the server knows it. False if it is not
 * there, is there twice, or where only the server can tell: a backslash, about which settings
 * decide, or a name that is not ASCII. */
bool cut_prepared(struct bytes text, struct bytes name, struct bytes *statement);

/* Takes all up to the end of the next string constant out of `rest`, however it is quoted, and
 * gives what stands between its quotes, as written. False at the end. */
bool cut_next_constant(struct bytes *rest, struct bytes *constant);

#endif
