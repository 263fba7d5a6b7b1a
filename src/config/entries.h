/*
 * Putting one `key = value` of a configuration where it belongs, with an error that names the
 * place where it was wrong.
 */
#ifndef WEIR_CONFIG_ENTRIES_H
#define WEIR_CONFIG_ENTRIES_H

#include "config/load.h"

/* What is being filled, where errors go, and the place to name in them. */
struct entries_place {
    struct config *config; /* unfinished */
    struct config_errors *errors;
    const char *where; /* "FILE:LINE" */
};

/* A setting of the pooler's scope. */
void entries_set(const struct entries_place *place, struct bytes key, struct bytes value);

/* An entry of another section: its name and its pairs. One with an error is not added. */
void entries_add(const struct entries_place *place, enum setting_scope scope, struct bytes name,
                 struct bytes pairs);

#endif
