/*
 * Names of settings that a Bind gives: set_config($1, $2, false). Pure.
 */
#ifndef WEIR_SESSION_BIND_H
#define WEIR_SESSION_BIND_H

#include "core/buf.h"
#include "core/bytes.h"

/* What tells a statement's parameters. */
struct session_bind {
    bool is_later;       /* nothing runs yet: the Bind is still to come */
    struct bytes types;  /* of its Parse: a count of two bytes and OIDs of four */
    struct bytes values; /* its Bind behind the two names */
};

/* Appends the name that the Bind gives for a parameter ("$1") in lower case. False where it cannot
 * be told for certain, as always without a Bind (NULL). */
bool bind_name(const struct session_bind *bind, struct bytes parameter, struct buf *name);

#endif
