/*
 * Dialling without a kernel; see fake_endpoint.h and net/endpoint.h. Names and listeners are
 * not part of these tests: clients come through client_accept.
 */
#include "fake_endpoint.h"

#include "core/check.h"
#include "core/memory.h"
#include "fake_loop.h"
#include "net/endpoint.h"
#include "net/resolve.h"

#include <stdio.h>

#define DIAL_TURNS_MAX 3u

struct endpoint_dial {
    struct loop_timer timer;
    unsigned port;
    void (*done)(void *owner, int fd, const char *error);
    void *owner;
};

static struct network *network;

void fake_network_set(struct network *new) {
    network = new;
}

static void on_timer(struct loop_timer *timer) {
    struct endpoint_dial *dial = LIST_OWNER(timer, struct endpoint_dial, timer);
    if (network->mood == NETWORK_HANGS) return;
    struct endpoint_dial ended = *dial;
    loop_timer_stop(timer);
    memory_free(dial);
    if (network->mood == NETWORK_REFUSES) {
        ended.done(ended.owner, -1, "connect failed");
    } else {
        ended.done(ended.owner, network->on_connected(network->owner, ended.port), NULL);
    }
}

struct endpoint_dial *endpoint_dial(struct loop *loop, const struct endpoint_target *target,
                                    void (*done)(void *owner, int fd, const char *error),
                                    void *owner) {
    struct endpoint_dial *dial = memory_new(sizeof *dial);
    *dial = (struct endpoint_dial){
        .timer = {.run = on_timer}, .port = target->port, .done = done, .owner = owner};
    loop_timer_start(loop, &dial->timer, 1 + dice_roll(network->dice, DIAL_TURNS_MAX), 0);
    return dial;
}

void endpoint_dial_close(struct endpoint_dial **dial_at) {
    struct endpoint_dial *dial = *dial_at;
    if (dial == NULL) return;
    *dial_at = NULL;
    loop_timer_stop(&dial->timer);
    memory_free(dial);
}

void endpoint_apply_options(int fd, const struct endpoint_options *options) {
    (void)fd;
    (void)options;
}

void endpoint_describe(int fd, bool is_peer, char address[ENDPOINT_TEXT_SIZE], unsigned *port) {
    (void)is_peer;
    (void)snprintf(address, ENDPOINT_TEXT_SIZE, "wire");
    *port = (unsigned)fd;
}

struct endpoint_end endpoint_end_of(int fd, bool is_peer) {
    (void)is_peer;
    return (struct endpoint_end){.size = 4, .port = (uint16_t)fd};
}

void endpoint_end_text(const struct endpoint_end *end, char text[ENDPOINT_TEXT_SIZE]) {
    (void)snprintf(text, ENDPOINT_TEXT_SIZE, "wire:%u", end->port);
}

void endpoint_unix_text(int fd, unsigned port, char text[ENDPOINT_TEXT_SIZE]) {
    (void)fd;
    (void)snprintf(text, ENDPOINT_TEXT_SIZE, "wire:%u", port);
}

unsigned endpoint_peer_address(int fd, unsigned char address[16]) {
    (void)fd;
    (void)address;
    return 0;
}

bool endpoint_is_unix(int fd, unsigned *peer_uid, int *peer_pid) {
    (void)fd;
    *peer_uid = 0;
    *peer_pid = 0;
    return false;
}

/* ---- the prober's, which does not run here */

struct resolve *resolve_begin(struct loop *loop, const char *host, bool takes_turns,
                              void (*done)(void *owner, const char *address, const char *error),
                              void *owner) {
    (void)loop;
    (void)host;
    (void)takes_turns;
    (void)done;
    (void)owner;
    check_failed("nobody looks names up here", __FILE__, __LINE__);
    return NULL;
}

void resolve_close(struct resolve **resolve) {
    CHECK(*resolve == NULL);
}
