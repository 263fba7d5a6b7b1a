/*
 * The test's side of the network that stands in for net/endpoint.c: what becomes of an attempt to
 * connect, some turns later.
 */
#ifndef WEIR_TESTS_SESSION_FAKE_ENDPOINT_H
#define WEIR_TESTS_SESSION_FAKE_ENDPOINT_H

#include "dice.h"

enum network_mood { NETWORK_UP, NETWORK_REFUSES, NETWORK_HANGS };

struct network {
    enum network_mood mood;
    struct dice *dice;
    /* Somebody has connected to this port: returns the descriptor of a new wire. */
    int (*on_connected)(void *owner, unsigned port);
    void *owner;
};

/* Where dials go from now on. */
void fake_network_set(struct network *network);

#endif
