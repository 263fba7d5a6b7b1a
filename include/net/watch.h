/*
 * Descriptors that a loop watches: an epoll set, and what is called when one has news.
 *
 *      owner -- watch_want(events) --> [in the set]  -- run(events) -->  owner
 *            -- watch_want(0)      --> [out of it]
 *
 * A watch is a member of its owner. It costs one system call when its events change, and none
 * between; out of the set it may be freed at once.
 */
#ifndef WEIR_NET_WATCH_H
#define WEIR_NET_WATCH_H

#include <stdint.h>
#include <sys/epoll.h>

#define WATCH_BATCH 256

struct watch_set {
    int fd;
    int count; /* events of this batch */
    int next;  /* of these, the first that is not handled */
    struct epoll_event ready[WATCH_BATCH];
};

struct watch {
    struct watch_set *set;
    int fd;
    uint32_t events; /* that are wanted; 0: out of the set */
    /* Wanted events that have come, EPOLLERR and EPOLLHUP. Never called from within another. */
    void (*run)(struct watch *watch, uint32_t events);
};

void watch_set_open(struct watch_set *set);
void watch_set_close(struct watch_set *set);

/* Waits for events, at most so long (-1: for ever), and handles them. Returns how many came. */
int watch_set_wait(struct watch_set *set, int timeout_ms);

/* A watch for `fd`, which stays the caller's and must be open while it is in the set. */
void watch_init(struct watch *watch, struct watch_set *set, int fd,
                void (*run)(struct watch *watch, uint32_t events));

/* Wants these events from now on, of EPOLLIN, EPOLLOUT and EPOLLRDHUP; 0 is none, not even an
 * error that was found already. */
void watch_want(struct watch *watch, uint32_t events);

#endif
