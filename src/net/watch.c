/* Watching descriptors; see net/watch.h. */
#include "net/watch.h"

#include "core/check.h"

#include <errno.h>
#include <unistd.h>

void watch_set_open(struct watch_set *set) {
    set->fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(set->fd >= 0);
    set->count = set->next = 0;
}

void watch_set_close(struct watch_set *set) {
    (void)close(set->fd);
}

int watch_set_wait(struct watch_set *set, int timeout_ms) {
    int count = epoll_wait(set->fd, set->ready, WATCH_BATCH, timeout_ms);
    CHECK(count >= 0 || errno == EINTR);
    set->count = count;
    for (set->next = 0; set->next < set->count;) {
        const struct epoll_event *event = &set->ready[set->next++];
        struct watch *watch = event->data.ptr;
        if (watch == NULL) continue; /* left the set in this batch */
        uint32_t events = event->events & (watch->events | EPOLLERR | EPOLLHUP);
        if (events != 0) watch->run(watch, events);
    }
    set->count = 0;
    return count;
}

void watch_init(struct watch *watch, struct watch_set *set, int fd,
                void (*run)(struct watch *watch, uint32_t events)) {
    *watch = (struct watch){.set = set, .fd = fd, .run = run};
}

static void forget_events(struct watch *watch) {
    struct watch_set *set = watch->set;
    for (int i = set->next; i < set->count; i++) {
        if (set->ready[i].data.ptr == watch) set->ready[i].data.ptr = NULL;
    }
}

void watch_want(struct watch *watch, uint32_t events) {
    if (watch->events == events) return;
    int change = watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (events == 0) {
        change = EPOLL_CTL_DEL;
        forget_events(watch);
    }
    struct epoll_event event = {.events = events, .data.ptr = watch};
    watch->events = events;
    CHECK(epoll_ctl(watch->set->fd, change, watch->fd, &event) == 0);
}
