/*
 * Walks: views with a row for each connection, of which there may be thousands. The rows are made
 * in slices, so that nobody else has to wait long for his own turn, and each slice is sent before
 * the next one is made: a console that does not read is waited for.
 */
#ifndef WEIR_ADMIN_WALK_H
#define WEIR_ADMIN_WALK_H

#include "console.h"
#include "views.h"

/* Answers the console with all rows of a view of the kind VIEW_WALK. */
void walk_start(struct console *console, const struct view *view);

/* Goes on with walks whose consoles have read what they were sent. */
void walk_tick(struct admin *admin);

/* Frees what never came back, when the threads have ended. */
void walk_free_all(struct admin *admin);

#endif
