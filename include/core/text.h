/*
 * Interned texts: equal texts are one object, so that comparing is comparing pointers. A set of
 * texts belongs to one thread. Thousands of clients with the same TimeZone share one text.
 */
#ifndef WEIR_CORE_TEXT_H
#define WEIR_CORE_TEXT_H

#include "core/map.h"

struct text {
    struct map_node node;
    unsigned references;
    size_t len;
    char at[]; /* NUL-terminated */
};

struct texts {
    struct map map;
};

/* The text with one reference for the caller. */
struct text *text_get(struct texts *texts, struct bytes value);

/* One more reference; NULL is legal. */
struct text *text_ref(struct text *text);

/* Gives a reference back and sets the pointer to NULL; NULL is legal. */
void text_unref(struct texts *texts, struct text **text);

/* Frees the table; every text must have been given back. */
void texts_release(struct texts *texts);

#endif
