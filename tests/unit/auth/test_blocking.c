/* Checks on threads of their own: answers come back, abandoned ones do not, the end is orderly. */
#include "auth/blocking.h"

#include "core/check.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define JOBS 100u

static struct loop *loop;
static unsigned done_good;
static unsigned done_bad;
static unsigned wanted;

static bool check(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]) {
    const struct timespec moment = {.tv_nsec = 1000000};
    (void)nanosleep(&moment, NULL);
    (void)snprintf(reason, BLOCKING_REASON_BYTES, "not %s", job->user);
    return strcmp(job->password, "good") == 0;
}

static void on_done(struct blocking_job *job) {
    assert_string_equal(job->reason, "not somebody");
    if (job->is_good) done_good++;
    if (!job->is_good) done_bad++;
    blocking_job_free(&job);
    if (done_good + done_bad == wanted) loop_stop(loop);
}

static struct blocking_job *job_new(const char *password) {
    struct blocking_job *job = memory_new(sizeof *job);
    job->loop = loop;
    job->check = check;
    job->done = on_done;
    job->user = memory_copy_text("somebody");
    job->password = memory_copy_text(password);
    return job;
}

static void test_answers(void **state) {
    (void)state;
    struct blocking *blocking = blocking_new();
    loop = loop_new();
    done_good = done_bad = 0;
    wanted = JOBS - JOBS / 4;
    for (unsigned i = 0; i < JOBS; i++) {
        struct blocking_job *job = job_new(i % 2 == 0 ? "good" : "bad");
        job->is_abandoned = i % 4 == 0;
        assert_true(blocking_post(blocking, job));
    }
    loop_run(loop);
    assert_int_equal(done_good, JOBS / 4);
    assert_int_equal(done_bad, JOBS / 2);
    assert_true(blocking_free(&blocking));
    loop_run_mail(loop);
    loop_free(&loop);
}

/* What waits at the end is dropped; a queue without end there is not. */
static void test_end(void **state) {
    (void)state;
    struct blocking *blocking = blocking_new();
    loop = loop_new();
    wanted = 0;
    unsigned taken = 0;
    for (unsigned i = 0; i < BLOCKING_QUEUE_MAX * 2; i++) {
        struct blocking_job *job = job_new("good");
        bool is_taken = blocking_post(blocking, job);
        if (is_taken) taken++;
        if (!is_taken) blocking_job_free(&job);
    }
    assert_in_range(taken, BLOCKING_QUEUE_MAX, BLOCKING_QUEUE_MAX * 2 - 1);
    assert_true(blocking_free(&blocking));
    assert_null(blocking);
    loop_run_mail(loop);
    loop_free(&loop);
    assert_true(blocking_free(&blocking));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
