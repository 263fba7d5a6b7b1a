/*
 * Where statements run, which replica serves a read, and when none does: settings of the whole and
 * of one database.
 */
#ifndef WEIR_CONFIG_CHOICE_H
#define WEIR_CONFIG_CHOICE_H

#include <stdint.h>

enum routing {
    ROUTING_UNSET,
    ROUTING_OFF,
    ROUTING_READ_WRITE,
    ROUTING_PRIMARY,
    ROUTING_REPLICA,
    ROUTING_SHADOW
};
enum replica_choice {
    REPLICA_CHOICE_UNSET,
    REPLICA_CHOICE_LEAST_BUSY,
    REPLICA_CHOICE_ROUND_ROBIN,
    REPLICA_CHOICE_LATENCY
};
enum replica_fallback { REPLICA_FALLBACK_UNSET, REPLICA_FALLBACK_OFF, REPLICA_FALLBACK_ON };

struct config_choice {
    enum replica_choice replica_choice;
    enum replica_fallback replica_fallback;
    int max_replica_lag;              /* bytes; 0: none, -1 in an entry: as global */
    uint64_t max_replica_lag_time_us; /* the same, in time */
};

/* What stands in [pgbouncer] only. */
struct config_fitness {
    int error_limit; /* 0: none */
    uint64_t error_window_us;
    uint64_t slow_start_us;
    char *zone; /* empty: none */
};

#endif
