/*
 * Checks of passwords that block: PAM and LDAP. They run on threads of their own, at most
 * BLOCKING_THREADS_MAX, which start when they are needed, so that neither a slow directory nor a
 * module that sleeps after a wrong password holds up anybody but those who asked.
 *
 *      worker                         thread
 *      blocking_post   --queue-->     check, which may take seconds
 *      job->done       <--message--   (not called for a job that was abandoned)
 */
#ifndef WEIR_AUTH_BLOCKING_H
#define WEIR_AUTH_BLOCKING_H

#include "core/list.h"
#include "net/loop.h"

#include <stdatomic.h>

#define BLOCKING_THREADS_MAX  8u
#define BLOCKING_QUEUE_MAX    256u
#define BLOCKING_REASON_BYTES 256u

struct blocking;

/* One question. Whoever makes it owns it until it is posted; then it belongs to the threads until
 * `done`, which is called on the thread of `loop` and owns it again. All texts are the job's own.
 */
struct blocking_job {
    struct loop_mail mail;
    struct link link;
    struct loop *loop;
    /* Whether the password is the user's; a reason for the log where it is not. Runs on a thread of
     * its own; one of the rows of auth/blocking.c's callers (pam_check, ldap_check). */
    bool (*check)(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]);
    void (*done)(struct blocking_job *job);
    void *owner;
    _Atomic bool is_abandoned; /* the owner has gone: nobody wants to know any more */
    char *user;
    char *password;
    char *address; /* of the client, "unix" over a Unix socket */
    char *options; /* of LDAP; NULL for PAM */
    bool is_good;
    char reason[BLOCKING_REASON_BYTES];
};

struct blocking *blocking_new(void);

/* Jobs that wait are dropped; threads at work are given a moment to end, and left alone where they
 * do not: false then, and the process must end by _exit, since exit tidies up libraries which such
 * a thread still uses. No loop gets a message after this. *blocking becomes NULL. */
bool blocking_free(struct blocking **blocking);

/* Hands a job over; false, with the job still the caller's, if too many wait already. */
bool blocking_post(struct blocking *blocking, struct blocking_job *job);

/* Frees a job that nobody else has, and wipes its secrets; *job becomes NULL, which is legal. */
void blocking_job_free(struct blocking_job **job);

#endif
