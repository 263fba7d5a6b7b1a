/*
 * Databases that somebody wants to have without sessions: DROP DATABASE and its kind.
 */
#ifndef WEIR_POOL_VACATE_H
#define WEIR_POOL_VACATE_H

#include "pool/pool_set.h"

/* Closes all idle servers of this worker that are in a database, by PostgreSQL's name for it, on a
 * host and port. */
void vacate_close_idle(struct pool_set *set, const char *host, unsigned port, const char *database);

#endif
