/*
 * A readable descriptor under uv_poll_t; see net/poller.h. The handle is freed in its close
 * callback, as libuv wants it, so that the owner may be gone before.
 */
#include "net/poller.h"

#include "core/check.h"
#include "core/memory.h"
#include "net/loop.h"

#include <uv.h>

struct poller {
    uv_poll_t poll;
    void (*on_readable)(void *owner);
    void *owner;
};

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct poller *poller = (struct poller *)(void *)poll;
    /* After an error libuv has stopped the handle: whoever reads finds out from the descriptor. */
    (void)status;
    (void)events;
    poller->on_readable(poller->owner);
}

static void on_closed(uv_handle_t *handle) {
    memory_free(handle);
}

struct poller *poller_open(struct loop *loop, int fd, void (*on_readable)(void *owner),
                           void *owner) {
    struct poller *poller = memory_new(sizeof *poller);
    poller->on_readable = on_readable;
    poller->owner = owner;
    CHECK(uv_poll_init(loop_uv(loop), &poller->poll, fd) == 0);
    CHECK(uv_poll_start(&poller->poll, UV_READABLE, on_poll) == 0);
    return poller;
}

void poller_close(struct poller **poller_at) {
    struct poller *poller = *poller_at;
    if (poller == NULL) return;
    *poller_at = NULL;
    CHECK(uv_poll_stop(&poller->poll) == 0);
    uv_close((uv_handle_t *)&poller->poll, on_closed);
}
