/*
 * How the log names the two ends of a connection to a server or a peer.
 */
#ifndef WEIR_POOL_PLACE_H
#define WEIR_POOL_PLACE_H

#include "net/endpoint.h"
#include "net/stream.h"

/* Where it leads: "127.0.0.1:5432", "unix(PID):5432", or while it has no address, or has lost it,
 * the host as the configuration names it, "pg1:5432". */
void place_text(const struct stream *stream, const char *host, unsigned port,
                char text[ENDPOINT_TEXT_SIZE]);

/* Where it comes from, as it stands behind "new connection to server": " (from 127.0.0.1:4711)", ""
 * for a Unix socket. */
void place_origin_text(const struct stream *stream, char text[ENDPOINT_TEXT_SIZE]);

#endif
