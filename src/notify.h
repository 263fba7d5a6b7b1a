/*
 * What the service manager is told, and what it gives; see sd_notify(3) and sd_listen_fds(3).
 * Without one nothing happens. One thread only.
 */
#ifndef WEIR_NOTIFY_H
#define WEIR_NOTIFY_H

#include <stdbool.h>

/* Clients are served, by this process. */
void notify_ready(void);
void notify_reloading(void); /* until notify_ready */
void notify_stopping(void);

/* A line for `systemctl status`. */
void notify_status(const char *text);

/* How many listening sockets were passed to this process; their numbers begin at the first. */
#define NOTIFY_FIRST_DESCRIPTOR 3
int notify_sockets(void);
/* Whether a descriptor is a stream socket that listens. */
bool notify_is_listening(int fd);

#endif
