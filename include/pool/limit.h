/*
 * Limits that several pools share: the connections of one database or of one user, over all
 * workers, users and nodes. A server takes the permits of its node, its database and its user, in
 * this order, all or none (pool/room.h); a client takes those of its database and of its name
 * (client/quota.h). Each limit is one object, found by kind and name and kept while somebody
 * counts in it.
 *
 * Where a limit is full, the pools whose first waiter lacks the permit stand in its list of wants,
 * oldest first. It is read and changed under the limit's own lock, and only there: as long as a
 * limit is not full nobody takes the lock, and whoever has a server to give looks at one atomic.
 */
#ifndef WEIR_POOL_LIMIT_H
#define WEIR_POOL_LIMIT_H

#include "core/buf.h"
#include "core/list.h"
#include "pool/permit.h"

#include <pthread.h>

enum limit_kind {
    LIMIT_DATABASE_SERVERS, /* max_db_connections */
    LIMIT_USER_SERVERS,     /* max_user_connections */
    LIMIT_SERVER_KINDS,     /* those above count servers */
    LIMIT_DATABASE_CLIENTS = LIMIT_SERVER_KINDS,
    LIMIT_USER_CLIENTS,
    LIMIT_KINDS
};

struct limit {
    struct map_node node;
    unsigned references; /* under the registry's lock */
    struct permit permit;
    pthread_mutex_t lock;
    struct list wants;          /* oldest first */
    _Atomic uint64_t wanted_us; /* arrival of the first one's waiter; 0: there is none */
    char key[];                 /* NUL, the kind as a digit, the name; no pool's key begins so */
};

/* One pool of one worker, in the list of a limit that its first waiter lacks. */
struct limit_want {
    struct link link;
    uint64_t since_us; /* arrival of that waiter */
    unsigned worker;
    struct bytes pool; /* its key; lives as long as the want is listed */
};

struct limits;
struct limits *limits_new(void);
void limits_free(struct limits **limits);

/* The limit of that kind and name, with a reference. Any thread. */
struct limit *limit_get(struct limits *limits, enum limit_kind kind, struct bytes name);
void limit_put(struct limits *limits, struct limit **limit);

bool limit_is_full(const struct limit *limit);

/* Puts the want into its place in the list, moves it there, or with `since_us` 0 takes it out.
 * True if the limit did not know of it before as it is now. */
bool limit_set_want(struct limit *limit, struct limit_want *want, uint64_t since_us);

/* The first want: its worker, and its pool's key appended to `pool`. False if there is none. */
bool limit_first_want(struct limit *limit, unsigned *worker, struct buf *pool);

#endif
