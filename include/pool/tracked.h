/*
 * The names in pool_set->tracked: all parameters that PostgreSQL reports and lets a session set,
 * and those of track_extra_parameters that are not among them.
 */
#ifndef WEIR_POOL_TRACKED_H
#define WEIR_POOL_TRACKED_H

#include "pool/pool_set.h"

/* Fills in names and their count; extra ones beyond SERVER_PARAMETERS_MAX in all are left out. */
void tracked_init(struct pool_set *set, const struct setting_list *extra);
void tracked_release(struct pool_set *set);

#endif
