/* Permits: never more than the limit, over all threads; and no waiter that everybody overlooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/memory.h"
#include "pool/permit.h"
#include "unit/dies.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define THREADS 4

/* ---- one thread */

/* Steps: + a permit is had, ! it is refused, - one is given back, and a digit sets the limit. */
static const char *const scripts[] = {
    "1+!-+!-",           "3+++!-+!---", "0+++++-----", /* no limit */
    "3+++1!-!-!-+!-",    /* a smaller one is reached as permits come back */
    "1+!3++!---",        /* a greater one counts at once */
    "2++0+++-----2++!--" /* none, and one again */
};

static void limits_are_exact(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        struct permit permit = {0};
        int used = 0;
        for (const char *step = scripts[i]; *step != '\0'; step++) {
            if (*step == '+' || *step == '!') {
                bool is_had = permit_take(&permit);
                if (is_had != (*step == '+')) fail_msg("%s at %s", scripts[i], step);
                if (!is_had) assert_true(permit_is_full(&permit));
                used += is_had;
            } else if (*step == '-') {
                permit_release(&permit);
                used--;
                int limit = atomic_load(&permit.limit);
                assert_int_equal(permit_is_full(&permit), limit > 0 && used >= limit);
            } else {
                atomic_store(&permit.limit, *step - '0');
            }
            assert_int_equal(atomic_load(&permit.used), used);
        }
        assert_int_equal(used, 0);
    }
}

static void release_what_nobody_has(void) {
    struct permit permit = {0};
    permit_release(&permit);
}

static void free_what_is_held(void) {
    struct permits *permits = permits_new(1);
    (void)permits_get(permits, bytes_of_text("held"));
    permits_free(&permits);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    assert_true(dies(release_what_nobody_has));
    assert_true(dies(free_what_is_held));
}

static void a_key_is_one_pool(void **unused) {
    (void)unused;
    static const struct {
        const char *at;
        size_t len;
    } keys[] = {{"", 0}, {"app", 3}, {"app\0joe", 7}, {"app\0ann", 7}, {"APP", 3}};
    struct permits *permits = permits_new(2);
    struct pool_shared *shared[COUNT(keys)];
    for (size_t i = 0; i < COUNT(keys); i++) {
        shared[i] = permits_get(permits, bytes_of(keys[i].at, keys[i].len));
        for (size_t j = 0; j < i; j++) assert_ptr_not_equal(shared[i], shared[j]);
        struct pool_shared *again = permits_get(permits, bytes_of(keys[i].at, keys[i].len));
        assert_ptr_equal(again, shared[i]);
        permits_put(permits, &again);
        assert_null(again);
    }
    assert_true(permit_take(&shared[0]->permits[0]));
    for (size_t i = 0; i < COUNT(keys); i++) permits_put(permits, &shared[i]);
    shared[0] = permits_get(permits, bytes_of("", 0)); /* made anew */
    assert_int_equal(atomic_load(&shared[0]->permits[0].used), 0);
    permits_put(permits, &shared[0]);
    permits_free(&permits);
    assert_null(permits);
    permits_free(&permits);
}

/* ---- the heads of the lines */

enum { WORKERS = 3 };

static const struct {
    uint64_t heads[WORKERS]; /* 0: nobody waits */
    int idle[WORKERS];
    unsigned worker; /* who asks */
    uint64_t since;
    int older;
    int holder;
} views[] = {
    {{0, 0, 0}, {0, 0, 0}, 0, 0, -1, -1},
    {{9, 0, 0}, {1, 0, 0}, 0, 0, -1, -1}, /* his own do not count */
    {{9, 0, 0}, {1, 0, 0}, 1, 0, 0, 0},
    {{9, 8, 0}, {0, 2, 1}, 2, 0, 1, 1}, /* the oldest of all */
    {{8, 9, 0}, {0, 0, 1}, 2, 0, 0, -1},
    {{0, 9, 7}, {0, 0, 1}, 0, 8, 2, 2},
    {{0, 9, 7}, {0, 1, 1}, 0, 7, -1, 1}, /* equally old is not older */
    {{0, 9, 7}, {0, 1, 1}, 0, 6, -1, 1},
    {{0, 9, 7}, {0, 0, 0}, 0, 10, 2, -1},
    {{0, UINT64_MAX - 1, 0}, {0, 0, 0}, 0, 0, 1, -1},
    {{5, 5, 5}, {0, 0, 0}, 1, 6, 0, -1},
};

static void everybody_sees_the_heads(void **unused) {
    (void)unused;
    struct permits *permits = permits_new(WORKERS);
    for (size_t i = 0; i < COUNT(views) * POOL_LINE_COUNT; i++) {
        size_t row = i / POOL_LINE_COUNT;
        enum pool_line line = i % POOL_LINE_COUNT;
        enum pool_line other = (line + 1) % POOL_LINE_COUNT;
        struct pool_shared *shared = permits_get(permits, bytes_of_text("app"));
        for (unsigned w = 0; w < WORKERS; w++) {
            pool_shared_publish(shared, w, line, views[row].heads[w]);
            atomic_store(&shared->idle[w], views[row].idle[w]);
        }
        unsigned worker = views[row].worker;
        int older = pool_shared_older(shared, permits, worker, line, views[row].since);
        int holder = pool_shared_idle_holder(shared, permits, worker);
        if (older != views[row].older || holder != views[row].holder)
            fail_msg("row %zu: older %d, holder %d", row, older, holder);
        assert_int_equal(pool_shared_older(shared, permits, worker, other, 0), -1);
        permits_put(permits, &shared);
    }
    permits_free(&permits);
}

/* ---- greetings */

static void the_first_greeting_stays(void **unused) {
    (void)unused;
    struct permits *permits = permits_new(1);
    struct pool_shared *shared = permits_get(permits, bytes_of_text("app"));
    char messages[] = "S\0one";
    assert_null(pool_shared_greeting(shared));
    pool_shared_greet(shared, bytes_of(messages, 5), 0);
    memset(messages, 0, sizeof messages); /* it was copied */
    pool_shared_greet(shared, bytes_of_text("another"), 0);
    const struct greeting *greeting = pool_shared_greeting(shared);
    assert_int_equal(greeting->len, 5);
    assert_memory_equal(greeting->messages, "S\0one", 5);
    permits_put(permits, &shared);
    permits_free(&permits);
}

static void a_reconnect_brings_another_greeting(void **unused) {
    (void)unused;
    static const struct {
        uint32_t epoch;
        const char *given;
        const char *in_force;
        uint32_t its_epoch;
    } rows[] = {
        {UINT32_MAX, "one", "one", UINT32_MAX},
        {0, "two", "two", 0},          /* the count has wrapped around */
        {UINT32_MAX, "one", "two", 0}, /* late */
        {1, "two", "two", 1},          /* the same again */
        {1, "one", "two", 1},
        {2, "one", "one", 2},
        {3, "three", "three", 3},
    };
    struct permits *permits = permits_new(1);
    struct pool_shared *shared = permits_get(permits, bytes_of_text("app"));
    for (size_t i = 0; i < COUNT(rows); i++) {
        pool_shared_greet(shared, bytes_of_text(rows[i].given), rows[i].epoch);
        const struct greeting *greeting = pool_shared_greeting(shared);
        assert_true(
            bytes_equal_text(bytes_of(greeting->messages, greeting->len), rows[i].in_force));
        assert_int_equal(atomic_load(&greeting->epoch), rows[i].its_epoch);
    }
    unsigned count = 0;
    for (struct greeting *g = atomic_load(&shared->greetings); g != NULL; g = g->older) count++;
    assert_int_equal(count, 3);
    permits_put(permits, &shared);
    permits_free(&permits);
}

/* ---- many threads */

struct contest {
    struct permits *permits;
    struct pool_shared *shared;
    pthread_barrier_t start;
    _Atomic int inside;
    _Atomic int inside_max;
    _Atomic int failures;
    _Atomic unsigned next;
    _Atomic uint64_t clock;
    _Atomic bool is_woken[THREADS];
};

static void run_threads(struct contest *contest, void *(*body)(void *)) {
    pthread_t threads[THREADS];
    assert_int_equal(pthread_barrier_init(&contest->start, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, contest), 0);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&contest->start), 0);
    assert_int_equal(atomic_load(&contest->failures), 0);
}

static void expect(struct contest *contest, bool is_true) {
    if (!is_true) atomic_fetch_add(&contest->failures, 1);
}

static void *take_and_release(void *argument) {
    struct contest *contest = argument;
    struct permit *permit = &contest->shared->permits[3];
    (void)pthread_barrier_wait(&contest->start);
    for (int taken = 0; taken < 20000;) {
        if (!permit_take(permit)) {
            (void)sched_yield();
            continue;
        }
        taken++;
        int inside = atomic_fetch_add(&contest->inside, 1) + 1;
        int most = atomic_load(&contest->inside_max);
        while (inside > most) {
            if (atomic_compare_exchange_weak(&contest->inside_max, &most, inside)) break;
        }
        if (taken % 16 == 0) (void)sched_yield(); /* others come in meanwhile */
        atomic_fetch_sub(&contest->inside, 1);
        permit_release(permit);
    }
    return NULL;
}

static void threads_never_exceed_the_limit(void **unused) {
    (void)unused;
    for (int limit = 1; limit < THREADS; limit++) {
        struct contest contest = {.permits = permits_new(THREADS)};
        contest.shared = permits_get(contest.permits, bytes_of_text("app"));
        atomic_store(&contest.shared->permits[3].limit, limit);
        run_threads(&contest, take_and_release);
        assert_true(atomic_load(&contest.inside_max) <= limit);
        assert_true(atomic_load(&contest.inside_max) >= 1);
        assert_int_equal(atomic_load(&contest.shared->permits[3].used), 0);
        permits_put(contest.permits, &contest.shared);
        permits_free(&contest.permits);
    }
}

/* The shared part comes and goes under everybody's hands; a permit of it is exact meanwhile. */
static void *get_and_put(void *argument) {
    struct contest *contest = argument;
    unsigned number = atomic_fetch_add(&contest->next, 1);
    (void)pthread_barrier_wait(&contest->start);
    for (unsigned i = 0; i < 3000; i++) {
        char key[16], greeting[16];
        (void)snprintf(key, sizeof key, "app%u", i / 7 % 3);
        (void)snprintf(greeting, sizeof greeting, "from %u", number);
        struct pool_shared *shared = permits_get(contest->permits, bytes_of_text(key));
        expect(contest, permit_take(&shared->permits[0]));
        pool_shared_greet(shared, bytes_of_text(greeting), 0);
        const struct greeting *seen = pool_shared_greeting(shared);
        expect(contest, seen != NULL && seen->len == 6);
        expect(contest, seen == pool_shared_greeting(shared));
        permit_release(&shared->permits[0]);
        permits_put(contest->permits, &shared);
    }
    return NULL;
}

static void pools_come_and_go(void **unused) {
    (void)unused;
    struct contest contest = {.permits = permits_new(THREADS)};
    run_threads(&contest, get_and_put);
    permits_free(&contest.permits); /* checks that nothing is left */
}

/*
 * The protocol of permit.h, played by threads that sleep like workers: a waiter publishes its
 * head, then tries for the permit, then sleeps until it is woken; whoever gives the permit back
 * looks at the heads and wakes the oldest. With one permit, a waiter that is overlooked would
 * sleep for ever, and so would everybody else: the bound on naps tells.
 */
#define ROUNDS   400
#define NAPS_MAX 20000000u

static bool sleep_until_woken(struct contest *contest, unsigned worker) {
    for (unsigned nap = 0; nap < NAPS_MAX; nap++) {
        if (atomic_exchange(&contest->is_woken[worker], false)) return true;
        if (atomic_load(&contest->failures) > 0) return false;
        (void)sched_yield();
    }
    return false;
}

static void wake_the_oldest(struct contest *contest, unsigned worker) {
    int older = pool_shared_older(contest->shared, contest->permits, worker, POOL_LINE_PRIMARY, 0);
    if (older >= 0) atomic_store(&contest->is_woken[older], true);
}

static void *wait_in_line(void *argument) {
    struct contest *contest = argument;
    struct permit *permit = &contest->shared->permits[0];
    unsigned worker = atomic_fetch_add(&contest->next, 1);
    (void)pthread_barrier_wait(&contest->start);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t since = atomic_fetch_add(&contest->clock, 1) + 1;
        pool_shared_publish(contest->shared, worker, POOL_LINE_PRIMARY, since);
        while (!permit_take(permit)) {
            if (sleep_until_woken(contest, worker)) continue;
            expect(contest, false);
            return NULL;
        }
        pool_shared_publish(contest->shared, worker, POOL_LINE_PRIMARY, 0);
        expect(contest, atomic_fetch_add(&contest->inside, 1) == 0);
        atomic_fetch_sub(&contest->inside, 1);
        permit_release(permit);
        wake_the_oldest(contest, worker);
    }
    return NULL;
}

static void no_waiter_is_overlooked(void **unused) {
    (void)unused;
    struct contest contest = {.permits = permits_new(THREADS)};
    contest.shared = permits_get(contest.permits, bytes_of_text("app"));
    atomic_store(&contest.shared->permits[0].limit, 1);
    run_threads(&contest, wait_in_line);
    assert_int_equal(atomic_load(&contest.clock), THREADS * ROUNDS);
    permits_put(contest.permits, &contest.shared);
    permits_free(&contest.permits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_exact),
        cmocka_unit_test(misuse_ends_the_process),
        cmocka_unit_test(a_key_is_one_pool),
        cmocka_unit_test(everybody_sees_the_heads),
        cmocka_unit_test(the_first_greeting_stays),
        cmocka_unit_test(a_reconnect_brings_another_greeting),
        cmocka_unit_test(threads_never_exceed_the_limit),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(no_waiter_is_overlooked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
