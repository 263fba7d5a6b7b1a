/*
 * How connections are secured: the TLS contexts of both sides, and the snapshot that they were
 * made from.
 *
 * A transport never changes and is counted, as snapshots are; each worker holds the one that its
 * next connections take. It may be older than the snapshot in force, since TLS settings that are
 * SET one at a time pass through combinations that do not fit (a key without its certificate), and
 * the last one that did fit stays in use meanwhile. So what concerns TLS is always asked of
 * transport->config.
 */
#ifndef WEIR_POOL_TRANSPORT_H
#define WEIR_POOL_TRANSPORT_H

#include "config/config.h"
#include "net/pqconn.h"

#include <stdatomic.h>

struct tls_context;

struct transport {
    _Atomic unsigned references;
    struct config *config;
    struct tls_context *clients; /* NULL: client_tls_sslmode = disable */
    struct tls_context *servers; /* NULL: server_tls_sslmode = disable */
};

/* Reads the files that the settings name. One reference; NULL with a line in `error`, "TLS setup
 * failed: ...", which names file and setting. */
struct transport *transport_new(struct config *config, struct buf *error);

struct transport *transport_ref(struct transport *transport);
void transport_unref(struct transport **transport);

/* Whether servers that were reached by one would be reached otherwise by the other. */
bool transport_servers_differ(const struct transport *from, const struct transport *to);

/* The same for libpq, which asks the nodes; the texts live as long as the transport. */
struct pqconn_security transport_security(const struct transport *transport);

/* Whether a setting of [pgbouncer] is one of TLS. */
bool transport_is_setting(const char *name);

#endif
