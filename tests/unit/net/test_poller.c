/* Watching a descriptor: it tells until everything is read, and is silent after its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "net/loop.h"
#include "net/poller.h"

#include <unistd.h>

struct watch {
    struct loop *loop;
    struct poller *poller;
    struct loop_timer end;
    int fd;
    unsigned calls;
    unsigned calls_wanted; /* closes itself then; 0: never */
};

static void on_readable(void *owner) {
    struct watch *watch = owner;
    char byte;
    assert_int_equal(read(watch->fd, &byte, 1), 1);
    if (++watch->calls == watch->calls_wanted) poller_close(&watch->poller);
}

static void on_end(struct loop_timer *timer) {
    loop_stop(LIST_OWNER(timer, struct watch, end)->loop);
}

/* Three bytes are there; returns how often somebody was told. */
static unsigned watch_three(unsigned calls_wanted) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    struct watch watch = {.loop = loop_new(), .fd = ends[0], .calls_wanted = calls_wanted};
    watch.end.run = on_end;
    watch.poller = poller_open(watch.loop, ends[0], on_readable, &watch);
    loop_timer_start(watch.loop, &watch.end, 50, 0);
    loop_run(watch.loop);
    loop_timer_stop(&watch.end);
    poller_close(&watch.poller);
    poller_close(&watch.poller);
    assert_null(watch.poller);
    loop_free(&watch.loop);
    assert_int_equal(close(ends[0]), 0); /* the descriptor stays ours */
    assert_int_equal(close(ends[1]), 0);
    return watch.calls;
}

static void it_tells_until_all_is_read(void **unused) {
    (void)unused;
    assert_int_equal(watch_three(0), 3);
}

static void it_may_be_closed_from_within(void **unused) {
    (void)unused;
    assert_int_equal(watch_three(2), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_until_all_is_read),
        cmocka_unit_test(it_may_be_closed_from_within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
