/*
 * One thread's event loop: an epoll set and libuv, with one clock reading for each turn, one coarse
 * tick for all timeouts, hooks for the end of a turn, and a mailbox for other threads.
 *
 *      poll -> callbacks of sockets, timers, mail -> end-of-turn hooks -> poll ...
 *
 * Only loop_post may be called from another thread.
 */
#ifndef WEIR_NET_LOOP_H
#define WEIR_NET_LOOP_H

#include "core/list.h"

#include <stdint.h>

struct loop;
struct uv_loop_s;

/* Bytes of the one buffer into which all sockets of a loop are read. */
#define LOOP_READ_BYTES (64u * 1024)

struct loop *loop_new(void);

/* Closes every handle that is left, runs their close callbacks, frees the loop. */
void loop_free(struct loop **loop);

/* Runs until loop_stop is called. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* libuv's loop, for files in net/ and for worker.c. */
struct uv_loop_s *loop_uv(struct loop *loop);

/* The set of descriptors that the loop watches (net/watch.h). */
struct watch_set *loop_watches(struct loop *loop);

/* What the loop's lookups ask (net/resolver.h); NULL, as at first, is none. */
struct resolver;
void loop_set_resolver(struct loop *loop, struct resolver *resolver);
struct resolver *loop_resolver(const struct loop *loop);

/* Monotonic microseconds, read once a turn. */
uint64_t loop_now_us(struct loop *loop);

/* The read buffer of LOOP_READ_BYTES, valid during one callback. */
char *loop_read_buffer(struct loop *loop);

/* Something to be called at the end of a turn. A hook that is scheduled again while it runs is
 * called in the same end of turn, so it must come to rest by itself. */
struct loop_hook {
    struct link link;
    void (*run)(struct loop_hook *hook);
};
void loop_at_end(struct loop *loop, struct loop_hook *hook); /* idempotent while scheduled */
void loop_not_at_end(struct loop *loop, struct loop_hook *hook);

/* A repeating or single timer with millisecond resolution; zeroed memory is a stopped one. The
 * memory must stay until loop_timer_stop, which is idempotent, or until a single one has run. */
struct loop_timer {
    void *handle; /* NULL: not running */
    void (*run)(struct loop_timer *timer);
    struct link link;
    uint64_t due_us;
    uint64_t repeat_us;
};
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t first_ms,
                      uint64_t repeat_ms);
void loop_timer_stop(struct loop_timer *timer);

/* A message to a loop's thread. `run` is called there, in order of posting by one thread, and
 * owns the message from then on. `context` is what loop_set_context gave. */
struct loop_mail {
    struct loop_mail *next;
    void (*run)(struct loop_mail *mail, void *context);
};
void loop_post(struct loop *loop, struct loop_mail *mail);
/* Runs what is in the mailbox now; for the end, when the loop runs no more. */
void loop_run_mail(struct loop *loop);
void loop_set_context(struct loop *loop, void *context);

/* Calls `run` on the loop's thread whenever the process gets the signal. */
void loop_on_signal(struct loop *loop, int signal_number, void (*run)(void *context, int signal));

#endif
