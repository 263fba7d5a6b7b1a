/*
 * A loop without a kernel; see fake_loop.h. Timers, hooks and mail are lists, and time stands
 * still while a turn runs. Nothing that needs libuv's own loop is part of these tests.
 */
#include "fake_loop.h"

#include "core/check.h"
#include "core/memory.h"

#include <string.h>

#define HOOK_ROUNDS_MAX 1000u
#define START_US        UINT64_C(1000000000)

struct loop {
    uint64_t now_us;
    struct list hooks;
    struct list timers;
    struct loop_mail *oldest;
    struct loop_mail *newest;
    void *context;
    size_t filled;
    char read_buffer[LOOP_READ_BYTES];
};

struct fake_timer {
    struct link link;
    struct loop *loop;
    struct loop_timer *timer;
    uint64_t due_us; /* UINT64_MAX: it has run and does not repeat */
    uint64_t repeat_us;
};

struct loop *loop_new(void) {
    struct loop *loop = memory_new(sizeof *loop);
    list_init(&loop->hooks);
    list_init(&loop->timers);
    loop->now_us = START_US;
    return loop;
}

void loop_free(struct loop **loop_at) {
    struct loop *loop = *loop_at;
    *loop_at = NULL;
    fake_loop_end(loop);
    CHECK(loop->timers.count == 0 && loop->oldest == NULL);
    memory_free(loop);
}

struct uv_loop_s *loop_uv(struct loop *loop) {
    (void)loop;
    check_failed("there is no libuv below this loop", __FILE__, __LINE__);
    return NULL;
}

uint64_t loop_now_us(struct loop *loop) {
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

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t first_ms,
                      uint64_t repeat_ms) {
    struct fake_timer *fake = timer->handle;
    if (fake == NULL) {
        fake = memory_new(sizeof *fake);
        fake->loop = loop;
        fake->timer = timer;
        list_append(&loop->timers, &fake->link);
        timer->handle = fake;
    }
    fake->due_us = loop->now_us + first_ms * 1000;
    fake->repeat_us = repeat_ms * 1000;
}

void loop_timer_stop(struct loop_timer *timer) {
    struct fake_timer *fake = timer->handle;
    if (fake == NULL) return;
    timer->handle = NULL;
    list_remove(&fake->loop->timers, &fake->link);
    memory_free(fake);
}

void loop_post(struct loop *loop, struct loop_mail *mail) {
    mail->next = NULL;
    if (loop->newest == NULL) {
        loop->oldest = mail;
    } else {
        loop->newest->next = mail;
    }
    loop->newest = mail;
}

void loop_set_context(struct loop *loop, void *context) {
    loop->context = context;
}

static void run_mail(struct loop *loop) {
    struct loop_mail *mail = loop->oldest;
    loop->oldest = loop->newest = NULL;
    while (mail != NULL) {
        struct loop_mail *next = mail->next;
        mail->next = NULL;
        mail->run(mail, loop->context);
        mail = next;
    }
}

/* ---- the test's side */

static struct fake_timer *due_timer(const struct loop *loop) {
    LIST_EACH (&loop->timers, l) {
        struct fake_timer *fake = LIST_OWNER(l, struct fake_timer, link);
        if (fake->due_us <= loop->now_us) return fake;
    }
    return NULL;
}

void fake_loop_begin(struct loop *loop) {
    struct fake_timer *fake;
    run_mail(loop);
    while ((fake = due_timer(loop)) != NULL) {
        struct loop_timer *timer = fake->timer;
        fake->due_us = fake->repeat_us == 0 ? UINT64_MAX : loop->now_us + fake->repeat_us;
        timer->run(timer); /* may stop and free it */
    }
}

void fake_loop_end(struct loop *loop) {
    for (unsigned round = 0; round < HOOK_ROUNDS_MAX && loop->hooks.count > 0; round++) {
        for (size_t left = loop->hooks.count; left > 0; left--) {
            struct link *l = list_pop(&loop->hooks);
            if (l == NULL) break;
            struct loop_hook *hook = LIST_OWNER(l, struct loop_hook, link);
            hook->run(hook);
        }
    }
    CHECK(loop->hooks.count == 0);
    memset(loop->read_buffer, 0xee, loop->filled);
    loop->filled = 0;
}

void fake_loop_advance(struct loop *loop, uint64_t us) {
    loop->now_us += us;
}

void fake_loop_filled(struct loop *loop, size_t len) {
    if (len > loop->filled) loop->filled = len;
}
