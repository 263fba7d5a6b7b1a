/* The HTTP pages of a process: opened once, closed at the end. Worker 0 only. */
#ifndef WEIR_ADMIN_HTTP_H
#define WEIR_ADMIN_HTTP_H

#include "admin_state.h"

/* Listens on HOST:PORT or [IPV6]:PORT. NULL with a sentence in `error`. */
struct http *http_open(struct admin *admin, const char *address, struct buf *error);

/* Ends all connections; *http becomes NULL. NULL is legal. */
void http_close(struct http **http);

#endif
