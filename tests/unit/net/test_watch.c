/* Watches over pipes: which events are told, to whom, and to whom no longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/watch.h"

#include <unistd.h>

struct end {
    struct watch watch;
    struct end *victim; /* is taken out of the set when this one has news */
    uint32_t told;
    unsigned calls;
};

static void on_news(struct watch *watch, uint32_t events) {
    struct end *end = (struct end *)(void *)watch;
    end->told = events;
    end->calls++;
    if (end->victim != NULL) watch_want(&end->victim->watch, 0);
}

static void make_pipe(struct watch_set *set, struct end ends[2]) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    for (int i = 0; i < 2; i++) {
        ends[i] = (struct end){0};
        watch_init(&ends[i].watch, set, fds[i], on_news);
    }
}

static void close_end(struct end *end) {
    watch_want(&end->watch, 0);
    assert_int_equal(close(end->watch.fd), 0);
}

static void wanted_events_are_told(void **unused) {
    (void)unused;
    struct watch_set set;
    struct end ends[2];
    watch_set_open(&set);
    make_pipe(&set, ends);
    watch_want(&ends[0].watch, EPOLLIN);
    assert_int_equal(watch_set_wait(&set, 0), 0);
    assert_int_equal(write(ends[1].watch.fd, "x", 1), 1);
    /* Again and again, until somebody reads. */
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(watch_set_wait(&set, 1000), 1);
        assert_int_equal(ends[0].told, EPOLLIN);
        assert_int_equal(ends[0].calls, i);
    }
    watch_want(&ends[0].watch, 0);
    assert_int_equal(watch_set_wait(&set, 0), 0);
    watch_want(&ends[1].watch, EPOLLOUT);
    assert_int_equal(watch_set_wait(&set, 1000), 1);
    assert_int_equal(ends[1].told, EPOLLOUT);
    close_end(&ends[1]);
    watch_want(&ends[0].watch, EPOLLIN);
    assert_int_equal(watch_set_wait(&set, 1000), 1);
    assert_int_equal(ends[0].told, EPOLLIN | EPOLLHUP);
    close_end(&ends[0]);
    watch_set_close(&set);
}

static void an_error_is_told_unasked(void **unused) {
    (void)unused;
    struct watch_set set;
    struct end ends[2];
    watch_set_open(&set);
    make_pipe(&set, ends);
    watch_want(&ends[1].watch, EPOLLRDHUP);
    assert_int_equal(watch_set_wait(&set, 0), 0);
    close_end(&ends[0]);
    assert_int_equal(watch_set_wait(&set, 1000), 1);
    assert_int_equal(ends[1].told, EPOLLERR);
    close_end(&ends[1]);
    assert_int_equal(watch_set_wait(&set, 0), 0);
    watch_set_close(&set);
}

/* Two have news in one batch; whoever is told first takes the other out, which may be freed then.
 */
static void who_has_left_is_told_nothing(void **unused) {
    (void)unused;
    struct watch_set set;
    struct end a[2], b[2];
    watch_set_open(&set);
    make_pipe(&set, a);
    make_pipe(&set, b);
    a[1].victim = &b[1];
    b[1].victim = &a[1];
    watch_want(&a[1].watch, EPOLLOUT);
    watch_want(&b[1].watch, EPOLLOUT);
    assert_int_equal(watch_set_wait(&set, 1000), 2);
    assert_int_equal(a[1].calls + b[1].calls, 1);
    /* It may come back, and is told what is new to it. */
    struct end *left = a[1].calls == 0 ? &a[1] : &b[1];
    a[1].victim = b[1].victim = NULL;
    watch_want(&left->watch, EPOLLOUT);
    (void)watch_set_wait(&set, 1000);
    assert_int_equal(left->calls, 1);
    for (int i = 0; i < 2; i++) {
        close_end(&a[i]);
        close_end(&b[i]);
    }
    watch_set_close(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wanted_events_are_told),
        cmocka_unit_test(an_error_is_told_unasked),
        cmocka_unit_test(who_has_left_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
