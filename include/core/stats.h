/*
 * Counters: one row each, which SHOW STATS and /metrics are made from.
 *
 * A struct stats has one writer, its worker; anyone may read it at any time. Columns: member,
 * Prometheus name without "weir_", and help. Times are in microseconds.
 */
#ifndef WEIR_CORE_STATS_H
#define WEIR_CORE_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Rows of one name differ in a label, the rest of the member's name behind its first `_`. */
#define RETRIES_HELP "Reads sent again on another node, unseen by the client, by reason."

#define STATS_COUNTERS(X)                                                                          \
    X(assignments, "server_assignments_total", "Times a server was lent to a client.")             \
    X(transactions, "transactions_total", "Transactions that ended.")                              \
    X(queries, "queries_total", "Queries that ended, each in one ReadyForQuery.")                  \
    X(bytes_received, "received_bytes_total", "Bytes received from clients.")                      \
    X(bytes_sent, "sent_bytes_total", "Bytes sent to clients.")                                    \
    X(transaction_us, "transaction_microseconds_total", "Time that transactions took.")            \
    X(query_us, "query_microseconds_total", "Time that queries took.")                             \
    X(wait_us, "wait_microseconds_total", "Time that clients waited for a server.")                \
    X(client_parses, "client_parses_total", "Named Parse messages from clients.")                  \
    X(server_parses, "server_parses_total", "Parse messages sent to servers.")                     \
    X(binds, "binds_total", "Bind messages of named statements.")                                  \
    X(client_logins, "client_logins_total", "Successful logins of clients.")                       \
    X(server_logins, "server_logins_total", "Server connections that logged in.")                  \
    X(server_failures, "server_failures_total", "Server connections that could not be made.")      \
    X(retries_refused, "retries_total", RETRIES_HELP)                                              \
    X(retries_missing, "retries_total", RETRIES_HELP)                                              \
    X(retries_conflict, "retries_total", RETRIES_HELP)                                             \
    X(retries_lost, "retries_total", RETRIES_HELP)                                                 \
    X(stale_reads, "stale_reads_total", "Reads sent to the primary for want of a fresh replica.")  \
    X(shadow_replica, "shadow_replica_total", "Decisions that shadow routing saw for a replica.")  \
    X(shadow_primary, "shadow_primary_total", "The same for the primary.")                         \
    X(shadow_stale, "shadow_stale_total", "Of those for a replica, with none fresh enough.")       \
    X(shadow_doubts, "shadow_doubts_total",                                                        \
      "Of those for the primary, since nobody knows better.")                                      \
    X(listen_gaps, "listen_gaps_total", "Times that nobody listened for clients that LISTEN.")

struct stats {
#define STATS_MEMBER(name, metric, help) _Atomic uint64_t name;
    STATS_COUNTERS(STATS_MEMBER)
#undef STATS_MEMBER
};

/* A plain copy, for sums and differences. */
struct stats_values {
#define STATS_MEMBER(name, metric, help) uint64_t name;
    STATS_COUNTERS(STATS_MEMBER)
#undef STATS_MEMBER
};

/* Only the owner of the counter may add. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Adds the present values of `from` to `sum`. */
static inline void stats_sum(struct stats_values *sum, const struct stats *from) {
#define STATS_MEMBER(name, metric, help)                                                           \
    sum->name += atomic_load_explicit(&from->name, memory_order_relaxed);
    STATS_COUNTERS(STATS_MEMBER)
#undef STATS_MEMBER
}

#endif
