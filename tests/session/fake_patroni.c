/* Nobody asks Patroni here: no cluster of the driver is probed. */
#include "cluster/patroni.h"

#include "core/check.h"

struct patroni *patroni_new(struct loop *loop, const char *urls, unsigned interval_ms,
                            patroni_told told, void *owner) {
    (void)loop, (void)urls, (void)interval_ms, (void)told, (void)owner;
    CHECK(false);
    return NULL;
}

void patroni_hurry(struct patroni *patroni) {
    (void)patroni;
}

void patroni_free(struct patroni **patroni) {
    *patroni = NULL;
}
