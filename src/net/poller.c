/* A readable descriptor of a library; see net/poller.h. */
#include "net/poller.h"

#include "core/memory.h"
#include "net/loop.h"
#include "net/watch.h"

struct poller {
    struct watch watch;
    void (*on_readable)(void *owner);
    void *owner;
};

static void on_watch(struct watch *watch, uint32_t events) {
    struct poller *poller = (struct poller *)(void *)watch;
    (void)events; /* after an error whoever reads finds out from the descriptor */
    poller->on_readable(poller->owner);
}

struct poller *poller_open(struct loop *loop, int fd, void (*on_readable)(void *owner),
                           void *owner) {
    struct poller *poller = memory_new(sizeof *poller);
    watch_init(&poller->watch, loop_watches(loop), fd, on_watch);
    watch_want(&poller->watch, EPOLLIN);
    poller->on_readable = on_readable;
    poller->owner = owner;
    return poller;
}

void poller_close(struct poller **poller_at) {
    struct poller *poller = *poller_at;
    if (poller == NULL) return;
    *poller_at = NULL;
    watch_want(&poller->watch, 0);
    memory_free(poller);
}
