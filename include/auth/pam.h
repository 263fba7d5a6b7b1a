/* Passwords that PAM judges, under the service name PAM_SERVICE_NAME (/etc/pam.d/pgbouncer). */
#ifndef WEIR_AUTH_PAM_H
#define WEIR_AUTH_PAM_H

#include "auth/blocking.h"

/* PgBouncer's, so that its file serves. */
#define PAM_SERVICE_NAME "pgbouncer"

/* The `check` of a job: authentication and the account's state. Blocks. */
bool pam_check(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]);

#endif
