/*
 * What stands behind AS in a PREPARE.
 */
#ifndef WEIR_SQL_PREPARED_TEXT_H
#define WEIR_SQL_PREPARED_TEXT_H

#include "core/bytes.h"

/* Finds the statement that `PREPARE name [(types)] AS statement` prepares in a text, which may hold
 * others beside it, and gives a view of it. `name` is as the server knows it. False if it is not
 * there, is there twice, or where only the server can tell: a backslash, about which settings
 * decide, or a name that is not ASCII. */
bool prepared_text(struct bytes text, struct bytes name, struct bytes *statement);

#endif
