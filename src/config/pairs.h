/*
 * The right side of an entry: `key=value key = 'va''lue' ...`, pairs divided by blanks, a value
 * with blanks in single quotes. This file is pure.
 */
#ifndef WEIR_CONFIG_PAIRS_H
#define WEIR_CONFIG_PAIRS_H

#include "core/buf.h"
#include "core/bytes.h"

enum pairs_found { PAIRS_FOUND_PAIR, PAIRS_FOUND_END, PAIRS_FOUND_BROKEN };

/* Takes the next pair off `rest`: `key` is a view of it, `value` receives the value without its
 * quotes. A broken one gives what is wrong with it in `why`, a constant text that quotes nothing,
 * since a password may be what is broken. */
enum pairs_found pairs_next(struct bytes *rest, struct bytes *key, struct buf *value,
                            const char **why);

/* Takes a text in single quotes, with '' for one inside, off `rest` into `value`. False if it
 * does not begin with a quote or has no closing one. */
bool pairs_quoted(struct bytes *rest, struct buf *value);

/* Drops the blanks at the front. */
void pairs_skip_blanks(struct bytes *rest);

#endif
