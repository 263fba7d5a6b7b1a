/*
 * Pins: things in a session that cannot follow its client, so that the client keeps its server
 * for as long as they are there. Traits tell that a statement may make or end one; the server is
 * asked, when the transaction has ended, what there really is.
 */
#ifndef WEIR_SESSION_PINS_H
#define WEIR_SESSION_PINS_H

#include "core/buf.h"
#include "core/check.h"
#include "pool/pool.h"

enum pin {
    PIN_TEMPORARY, /* a temporary table, view, sequence or function */
    PIN_LOCK,      /* a session's advisory lock */
    PIN_CURSOR,    /* a cursor WITH HOLD */
    PIN_LISTEN,
    PIN_PREPARED, /* by SQL's PREPARE, in a way that cannot be repeated elsewhere */
    PIN_MEMORY,   /* LOAD, currval and the like, about which nobody can be asked */
    PIN_PROGRAM,  /* what a program has set, by names that nobody knows */
    PIN_COUNT
};

_Static_assert(PIN_COUNT <= POOL_PINS_MAX, "a pool counts them all");

/* All statements' traits that have to do with pins. */
extern const uint32_t pins_flags;

/* Which pins, as a set of bits, statements with these traits make by themselves. */
unsigned pins_made(uint32_t flags);

/* Those to ask about after statements with these traits, while `pinned` were there. */
unsigned pins_to_ask(uint32_t flags, unsigned pinned);

/* Appends a SELECT with one row of two columns for each that is there, of the `asked`: its mark,
 * which is no parameter's name, and a text; of LISTEN one for each channel with its name. `asked`
 * is not empty. */
void pins_append_question(struct buf *query, unsigned asked);

/* The pin of such a mark; PIN_COUNT if it is none. */
enum pin pin_of_mark(struct bytes mark);

/* In words: "a temporary object". */
const char *pin_text(enum pin pin);

/* The first of a set in words; NULL if it is empty. */
const char *pins_text(unsigned set);

#endif
