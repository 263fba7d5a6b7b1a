/*
 * Prometheus' text format, version 0.0.4: one family after the other, each with its head.
 *
 *      # HELP weir_queries_total Queries that ended.
 *      # TYPE weir_queries_total counter
 *      weir_queries_total{database="app",user="joe"} 17
 */
#ifndef WEIR_ADMIN_METRIC_H
#define WEIR_ADMIN_METRIC_H

#include "core/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

/* The head of a family; `help` is a literal without line ends and backslashes. */
void metric_head(struct buf *out, const char *name, enum metric_type type, const char *help);

/* A label; its value is escaped. */
struct metric_label {
    const char *name;
    const char *value;
};

/* One sample: a whole number, or microseconds as seconds. */
void metric_number(struct buf *out, const char *name, const struct metric_label *labels,
                   size_t count, uint64_t value);
void metric_seconds(struct buf *out, const char *name, const struct metric_label *labels,
                    size_t count, uint64_t value_us);

/* The name of a counter as it is exported: "weir_" before it, and seconds where the counter has
 * microseconds. True if it has. */
#define METRIC_NAME_SIZE 64
bool metric_counter_name(char name[METRIC_NAME_SIZE], const char *prefix, const char *counter);

#endif
