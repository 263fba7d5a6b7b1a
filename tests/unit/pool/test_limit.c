/* Shared limits: one object for a name, and wants in order of their waiters' arrival. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "pool/limit.h"

#include <stdio.h>

#define THREADS 4

static void a_name_is_one_limit(void **unused) {
    (void)unused;
    struct limits *limits = limits_new();
    struct limit *one = limit_get(limits, LIMIT_DATABASE_SERVERS, bytes_of_text("app"));
    struct limit *again = limit_get(limits, LIMIT_DATABASE_SERVERS, bytes_of_text("app"));
    struct limit *other = limit_get(limits, LIMIT_DATABASE_SERVERS, bytes_of_text("ap"));
    struct limit *kind = limit_get(limits, LIMIT_USER_SERVERS, bytes_of_text("app"));
    assert_ptr_equal(one, again);
    assert_ptr_not_equal(one, other);
    assert_ptr_not_equal(one, kind);
    assert_int_equal(one->node.key.at[0], '\0');
    limit_put(limits, &again);
    assert_null(again);
    assert_true(permit_take(&one->permit));
    again = limit_get(limits, LIMIT_DATABASE_SERVERS, bytes_of_text("app"));
    assert_int_equal(atomic_load(&again->permit.used), 1);
    permit_release(&one->permit);
    struct limit **all[] = {&one, &again, &other, &kind};
    for (size_t i = 0; i < COUNT(all); i++) limit_put(limits, all[i]);
    limits_free(&limits); /* checks that nothing is left */
}

static void full_or_not(void **unused) {
    (void)unused;
    static const struct {
        int used, max;
        bool is_full;
    } rows[] = {{0, 0, false}, {9, 0, false}, {0, 1, false}, {1, 1, true}, {2, 1, true}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct limit limit = {.permit = {.used = rows[i].used, .limit = rows[i].max}};
        assert_int_equal(limit_is_full(&limit), rows[i].is_full);
    }
}

/* Steps: the want of pool a, b or c at a time, 0 to withdraw; then the first, and whether the step
 * was news. */
static const struct {
    char pool;
    uint64_t since_us;
    bool is_news;
    char first; /* '-': none */
} steps[] = {
    {'a', 0, false, '-'},  {'b', 20, true, 'b'}, {'a', 30, true, 'b'}, {'c', 10, true, 'c'},
    {'c', 10, false, 'c'}, {'c', 40, true, 'b'}, {'b', 0, true, 'a'},  {'a', 50, true, 'c'},
    {'b', 40, true, 'c'}, /* the same moment: who came first stays in front */
    {'c', 0, true, 'b'},   {'b', 0, true, 'a'},  {'b', 0, false, 'a'}, {'a', 0, true, '-'},
};

static void wants_stand_in_order(void **unused) {
    (void)unused;
    struct limits *limits = limits_new();
    struct limit *limit = limit_get(limits, LIMIT_USER_SERVERS, bytes_of_text("app"));
    struct limit_want wants[3];
    for (unsigned i = 0; i < 3; i++)
        wants[i] = (struct limit_want){.worker = i, .pool = bytes_of(&"abc"[i], 1)};
    for (size_t i = 0; i < COUNT(steps); i++) {
        struct limit_want *want = &wants[steps[i].pool - 'a'];
        unsigned worker = 9;
        struct buf key = {0};
        assert_int_equal(limit_set_want(limit, want, steps[i].since_us), steps[i].is_news);
        bool has_first = limit_first_want(limit, &worker, &key);
        char first = has_first ? buf_content(&key).at[0] : '-';
        if (first != steps[i].first) fail_msg("step %zu: %c is first", i, first);
        if (has_first) assert_int_equal(worker, first - 'a');
        assert_int_equal(atomic_load(&limit->wanted_us), has_first ? wants[worker].since_us : 0);
        buf_release(&key);
    }
    limit_put(limits, &limit);
    limits_free(&limits);
}

struct contest {
    struct limits *limits;
    _Atomic unsigned next;
};

/* Limits come and go, and wants in them, under everybody's hands. */
static void *want_and_withdraw(void *argument) {
    struct contest *contest = argument;
    unsigned number = atomic_fetch_add(&contest->next, 1);
    struct limit_want want = {.worker = number, .pool = bytes_of_text("pool")};
    for (unsigned i = 0; i < 3000; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "app%u", i / 7 % 3);
        struct limit *limit =
            limit_get(contest->limits, LIMIT_DATABASE_SERVERS, bytes_of_text(name));
        CHECK(permit_take(&limit->permit));
        CHECK(limit_set_want(limit, &want, i + 1));
        struct buf key = {0};
        unsigned worker;
        CHECK(limit_first_want(limit, &worker, &key) && worker < THREADS);
        CHECK(bytes_equal_text(buf_content(&key), "pool"));
        buf_release(&key);
        CHECK(limit_set_want(limit, &want, 0));
        permit_release(&limit->permit);
        limit_put(contest->limits, &limit);
    }
    return NULL;
}

static void threads_share_them(void **unused) {
    (void)unused;
    struct contest contest = {.limits = limits_new()};
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, want_and_withdraw, &contest), 0);
    for (unsigned i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    limits_free(&contest.limits); /* checks that nothing is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_one_limit),
        cmocka_unit_test(full_or_not),
        cmocka_unit_test(wants_stand_in_order),
        cmocka_unit_test(threads_share_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
