/*
 * What happens before the loops run: who the process is, whether another one runs already, and
 * whether it goes to the background. Each tells its reason in a FATAL line where it fails.
 */
#ifndef WEIR_START_H
#define WEIR_START_H

#include "config/config.h"

/* Becomes `user` with that user's groups, for good; empty: stays. False if that cannot be had, or
 * if the process would still be root's. */
bool start_become(const char *user);

/* Whether neither the Unix socket answers nor the pidfile names a living process; a stale pidfile
 * is removed. */
bool start_is_alone(const struct config *config);

/* Whether the running process can be reached over its Unix socket, to take over from it. */
bool start_may_reboot(const struct config *config);

/* Goes to the background, away from terminal and session, with standard input, output and error on
 * /dev/null. The caller goes on as the background process and gets a descriptor for
 * start_tell_ready; the original process waits for that and ends, with status 1 if the background
 * process ends before. Before any thread or loop exists. -1 if that failed. */
int start_daemon(void);
void start_tell_ready(int fd);

/* Makes the pidfile, which must not exist; an empty path: none. */
bool start_write_pidfile(const char *path);

/* Removes the pidfile if it still names this process. */
void start_remove_pidfile(const char *path);

#endif
