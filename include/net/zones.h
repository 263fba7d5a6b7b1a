/*
 * Watches the zones of the host names in the cache: every so often each is asked for its SOA
 * record, one after the other, and where the serial has grown its names are asked for again.
 */
#ifndef WEIR_NET_ZONES_H
#define WEIR_NET_ZONES_H

#include <stdint.h>

struct loop;
struct zones;

/* On a loop that has a resolver; nothing is asked until there is a period. */
struct zones *zones_new(struct loop *loop);

/* How long to rest between two rounds; 0 = for ever. */
void zones_set_period(struct zones *zones, uint64_t period_us);

/* *zones becomes NULL. To be called when the loop runs no more, and before it is freed. */
void zones_free(struct zones **zones);

#endif
