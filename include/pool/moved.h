/*
 * Servers whose host's name stands for other addresses now. PgBouncer closes them when they are
 * released, so that new ones go where the name points to; so does this.
 */
#ifndef WEIR_POOL_MOVED_H
#define WEIR_POOL_MOVED_H

struct dns;
struct pool_set;

/* Replaces each connected server of a node that is not probed at an address that its host's name
 * has left (dns_has_left). */
void moved_replace(struct pool_set *set, struct dns *dns);

#endif
