/*
 * Threads for checks that block; see auth/blocking.h.
 *
 * A thread that hangs in a library cannot be ended. So all are waited for at the end, for a while,
 * and joined only if none of them hangs.
 */
#include "auth/blocking.h"

#include "core/memory.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#define END_SECONDS 2

struct blocking {
    pthread_mutex_t lock;
    pthread_cond_t news;  /* for the threads: a job, or the end */
    pthread_cond_t ended; /* for blocking_free: a thread has ended */
    struct list queue;
    pthread_t threads[BLOCKING_THREADS_MAX]; /* none ends before is_ending */
    unsigned threads_count;                  /* that have not said that they leave */
    unsigned idle;
    bool is_ending;
};

void blocking_job_free(struct blocking_job **job_at) {
    struct blocking_job *job = *job_at;
    *job_at = NULL;
    if (job == NULL) return;
    memory_free_secret(job->password);
    memory_free_secret(job->options);
    memory_free(job->user);
    memory_free(job->address);
    memory_free(job);
}

static void run_done(struct loop_mail *mail, void *context) {
    struct blocking_job *job = (struct blocking_job *)(void *)mail;
    (void)context;
    if (job->is_abandoned) {
        blocking_job_free(&job);
    } else {
        job->done(job);
    }
}

/* The thread's way out, with the lock held. */
static void leave(struct blocking *blocking) {
    blocking->threads_count--;
    pthread_cond_signal(&blocking->ended);
    pthread_mutex_unlock(&blocking->lock);
}

static void *thread_main(void *argument) {
    struct blocking *blocking = argument;
    pthread_mutex_lock(&blocking->lock);
    for (;;) {
        blocking->idle++;
        while (blocking->queue.count == 0 && !blocking->is_ending)
            pthread_cond_wait(&blocking->news, &blocking->lock);
        blocking->idle--;
        if (blocking->is_ending) break;
        struct blocking_job *job =
            LIST_OWNER(list_pop(&blocking->queue), struct blocking_job, link);
        pthread_mutex_unlock(&blocking->lock);
        if (!job->is_abandoned) job->is_good = job->check(job, job->reason);
        pthread_mutex_lock(&blocking->lock);
        /* With the lock held, so that no loop is freed meanwhile. */
        if (blocking->is_ending) {
            blocking_job_free(&job);
            break;
        }
        loop_post(job->loop, &job->mail);
    }
    leave(blocking);
    return NULL;
}

struct blocking *blocking_new(void) {
    struct blocking *blocking = memory_new(sizeof *blocking);
    pthread_condattr_t attributes;
    list_init(&blocking->queue);
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&blocking->lock, NULL) == 0);
    CHECK(pthread_cond_init(&blocking->news, NULL) == 0);
    CHECK(pthread_cond_init(&blocking->ended, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes);
    return blocking;
}

bool blocking_free(struct blocking **blocking_at) {
    struct blocking *blocking = *blocking_at;
    struct timespec until;
    *blocking_at = NULL;
    if (blocking == NULL) return true;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_sec += END_SECONDS;
    pthread_mutex_lock(&blocking->lock);
    blocking->is_ending = true;
    pthread_cond_broadcast(&blocking->news);
    struct link *l;
    while ((l = list_pop(&blocking->queue)) != NULL) {
        struct blocking_job *job = LIST_OWNER(l, struct blocking_job, link);
        blocking_job_free(&job);
    }
    int result = 0;
    unsigned count = blocking->threads_count;
    while (blocking->threads_count > 0 && result == 0)
        result = pthread_cond_timedwait(&blocking->ended, &blocking->lock, &until);
    bool is_alone = blocking->threads_count == 0;
    pthread_mutex_unlock(&blocking->lock);
    if (!is_alone) return false; /* it stays for those that still hang, until the process ends */
    for (unsigned i = 0; i < count; i++) CHECK(pthread_join(blocking->threads[i], NULL) == 0);
    (void)pthread_cond_destroy(&blocking->ended);
    (void)pthread_cond_destroy(&blocking->news);
    (void)pthread_mutex_destroy(&blocking->lock);
    memory_free(blocking);
    return true;
}

/* One more thread, which takes no signals: they are the main thread's. */
static void start_thread(struct blocking *blocking) {
    pthread_t *thread = &blocking->threads[blocking->threads_count];
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    if (pthread_create(thread, NULL, thread_main, blocking) == 0) blocking->threads_count++;
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

bool blocking_post(struct blocking *blocking, struct blocking_job *job) {
    job->mail.run = run_done;
    pthread_mutex_lock(&blocking->lock);
    if (blocking->queue.count >= blocking->idle && blocking->threads_count < BLOCKING_THREADS_MAX)
        start_thread(blocking);
    bool is_taken = blocking->threads_count > 0 && blocking->queue.count < BLOCKING_QUEUE_MAX;
    if (is_taken) list_append(&blocking->queue, &job->link);
    pthread_cond_signal(&blocking->news);
    pthread_mutex_unlock(&blocking->lock);
    return is_taken;
}
