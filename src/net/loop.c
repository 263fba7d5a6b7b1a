/*
 * The event loop; see net/loop.h.
 *
 * Connections, listeners and timers are watches of the loop's own set (net/watch.h): through
 * libuv's handles each event would cost twice the work, and each connection six system calls
 * instead of two. libuv does the rest (threads' work, signals, wake-ups, probes); its set is a
 * watch among the others, and it is run when that has news or libuv itself says that it is due.
 *
 * All work that must not happen inside a callback (freeing, serving waiters, reading again) hangs
 * on hooks, which run just before the thread sleeps. The same place puts out the log and forgets
 * the clock reading, so that the next callback reads the clock anew.
 *
 * Timers hang in one list behind one timer descriptor, not on libuv's: with one of those active
 * every wait has a timeout, and arming the clock for each sleep costs more than everything else
 * here. Starting one needs neither memory nor a descriptor, so it cannot fail.
 *
 * The mailbox is a stack of messages with one atomic head: posting is one exchange and one wake,
 * the receiver takes the whole stack and reverses it.
 */
#include "net/loop.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/watch.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define HOOK_ROUNDS_MAX 1000u
#define SIGNALS_MAX     8u

struct loop_signal {
    uv_signal_t handle;
    void (*run)(void *context, int signal);
};

struct loop {
    uv_loop_t uv;
    struct watch_set watches;
    struct watch uv_watch; /* libuv's own set */
    bool is_uv_due;
    bool is_stopped;
    uv_async_t wake;
    struct watch timer_watch;
    int timer_fd;
    struct list timers; /* the one due first in front */
    _Atomic(struct loop_mail *) mail;
    void *context;
    struct resolver *resolver;
    uint64_t now_us; /* 0: not read in this turn */
    struct list hooks;
    struct loop_signal signals[SIGNALS_MAX];
    unsigned signals_count;
    char read_buffer[LOOP_READ_BYTES];
};

static void run_hooks(struct loop *loop) {
    for (unsigned round = 0; round < HOOK_ROUNDS_MAX && loop->hooks.count > 0; round++) {
        size_t left = loop->hooks.count;
        while (left-- > 0) {
            struct link *l = list_pop(&loop->hooks);
            if (l == NULL) break;
            struct loop_hook *hook = LIST_OWNER(l, struct loop_hook, link);
            hook->run(hook);
        }
    }
    CHECK(loop->hooks.count == 0);
}

static void end_turn(struct loop *loop) {
    run_hooks(loop);
    log_flush();
    loop->now_us = 0;
}

void loop_run_mail(struct loop *loop) {
    struct loop_mail *newest = atomic_exchange_explicit(&loop->mail, NULL, memory_order_acquire);
    struct loop_mail *oldest = NULL;
    while (newest != NULL) {
        struct loop_mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct loop_mail *mail = oldest;
        oldest = mail->next;
        mail->next = NULL;
        mail->run(mail, loop->context);
    }
}

static void on_wake(uv_async_t *wake) {
    loop_run_mail(wake->data);
}

/* ---- timers */

/* Arms the descriptor for the timer that is due first. */
static void arm_timer(struct loop *loop) {
    struct link *first = list_first(&loop->timers);
    struct itimerspec times = {0};
    if (first != NULL) {
        uint64_t due_us = LIST_OWNER(first, struct loop_timer, link)->due_us;
        times.it_value.tv_sec = (time_t)(due_us / US_PER_S);
        times.it_value.tv_nsec = (long)(due_us % US_PER_S) * 1000;
    }
    CHECK(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &times, NULL) == 0);
}

static void insert_timer(struct loop *loop, struct loop_timer *timer) {
    struct link *place = loop->timers.head.prev;
    while (place != &loop->timers.head &&
           LIST_OWNER(place, struct loop_timer, link)->due_us > timer->due_us)
        place = place->prev;
    list_insert_before(&loop->timers, place->next, &timer->link);
}

static void on_timers(struct watch *watch, uint32_t events) {
    struct loop *loop = LIST_OWNER(watch, struct loop, timer_watch);
    uint64_t count;
    (void)events;
    (void)!read(loop->timer_fd, &count, sizeof count);
    uint64_t now_us = clock_monotonic_us();
    struct link *first;
    while ((first = list_first(&loop->timers)) != NULL) {
        struct loop_timer *timer = LIST_OWNER(first, struct loop_timer, link);
        if (timer->due_us > now_us) break;
        list_remove(&loop->timers, &timer->link);
        timer->handle = NULL;
        if (timer->repeat_us > 0) {
            timer->due_us = now_us + timer->repeat_us;
            timer->handle = loop;
            insert_timer(loop, timer);
        }
        timer->run(timer); /* may stop and free it */
    }
    arm_timer(loop);
}

static void open_timers(struct loop *loop) {
    list_init(&loop->timers);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    CHECK(loop->timer_fd >= 0);
    watch_init(&loop->timer_watch, &loop->watches, loop->timer_fd, on_timers);
    watch_want(&loop->timer_watch, EPOLLIN);
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t first_ms,
                      uint64_t repeat_ms) {
    loop_timer_stop(timer);
    timer->handle = loop;
    timer->due_us = clock_monotonic_us() + first_ms * US_PER_MS;
    timer->repeat_us = repeat_ms * US_PER_MS;
    insert_timer(loop, timer);
    if (list_first(&loop->timers) == &timer->link) arm_timer(loop);
}

void loop_timer_stop(struct loop_timer *timer) {
    struct loop *loop = timer->handle;
    if (loop == NULL) return;
    timer->handle = NULL;
    list_remove(&loop->timers, &timer->link); /* a wake that finds nothing due does no harm */
}

/* ---- life */

static void on_uv(struct watch *watch, uint32_t events) {
    (void)events;
    LIST_OWNER(watch, struct loop, uv_watch)->is_uv_due = true;
}

struct loop *loop_new(void) {
    struct loop *loop = memory_new(sizeof *loop);
    list_init(&loop->hooks);
    CHECK(uv_loop_init(&loop->uv) == 0);
    loop->uv.data = loop;
    loop->wake.data = loop;
    CHECK(uv_async_init(&loop->uv, &loop->wake, on_wake) == 0);
    watch_set_open(&loop->watches);
    watch_init(&loop->uv_watch, &loop->watches, uv_backend_fd(&loop->uv), on_uv);
    watch_want(&loop->uv_watch, EPOLLIN);
    open_timers(loop);
    return loop;
}

static void close_handle(uv_handle_t *handle, void *context) {
    (void)context;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

void loop_free(struct loop **loop_at) {
    struct loop *loop = *loop_at;
    if (loop == NULL) return;
    *loop_at = NULL;
    run_hooks(loop);
    uv_walk(&loop->uv, close_handle, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) continue;
    CHECK(uv_loop_close(&loop->uv) == 0);
    (void)close(loop->timer_fd);
    watch_set_close(&loop->watches);
    memory_free(loop);
}

void loop_run(struct loop *loop) {
    for (;;) {
        end_turn(loop);
        if (loop->is_stopped) break; /* by a hook, or before */
        int timeout_ms = uv_backend_timeout(&loop->uv);
        loop->is_uv_due = timeout_ms == 0;
        if (watch_set_wait(&loop->watches, timeout_ms) == 0) loop->is_uv_due = true;
        if (loop->is_uv_due) (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
    loop->is_stopped = false;
}

void loop_stop(struct loop *loop) {
    loop->is_stopped = true;
}

struct uv_loop_s *loop_uv(struct loop *loop) {
    return &loop->uv;
}

struct watch_set *loop_watches(struct loop *loop) {
    return &loop->watches;
}

void loop_set_resolver(struct loop *loop, struct resolver *resolver) {
    loop->resolver = resolver;
}

struct resolver *loop_resolver(const struct loop *loop) {
    return loop->resolver;
}

uint64_t loop_now_us(struct loop *loop) {
    if (loop->now_us == 0) loop->now_us = clock_monotonic_us();
    return loop->now_us;
}

char *loop_read_buffer(struct loop *loop) {
    return loop->read_buffer;
}

void loop_at_end(struct loop *loop, struct loop_hook *hook) {
    if (!link_is_listed(&hook->link)) list_append(&loop->hooks, &hook->link);
}

void loop_not_at_end(struct loop *loop, struct loop_hook *hook) {
    if (link_is_listed(&hook->link)) list_remove(&loop->hooks, &hook->link);
}

void loop_post(struct loop *loop, struct loop_mail *mail) {
    struct loop_mail *head = atomic_load_explicit(&loop->mail, memory_order_relaxed);
    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->mail, &head, mail, memory_order_release,
                                                    memory_order_relaxed));
    (void)uv_async_send(&loop->wake);
}

void loop_set_context(struct loop *loop, void *context) {
    loop->context = context;
}

static void on_signal(uv_signal_t *handle, int number) {
    struct loop_signal *entry = (struct loop_signal *)(void *)handle;
    struct loop *loop = handle->data;
    entry->run(loop->context, number);
}

void loop_on_signal(struct loop *loop, int signal_number, void (*run)(void *context, int signal)) {
    CHECK(loop->signals_count < SIGNALS_MAX);
    struct loop_signal *entry = &loop->signals[loop->signals_count++];
    entry->run = run;
    CHECK(uv_signal_init(&loop->uv, &entry->handle) == 0);
    entry->handle.data = loop;
    CHECK(uv_signal_start(&entry->handle, on_signal, signal_number) == 0);
}
