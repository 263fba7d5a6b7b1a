/* The whole of the admin's state, on worker 0's thread; for the files of this folder. */
#ifndef WEIR_ADMIN_ADMIN_STATE_H
#define WEIR_ADMIN_ADMIN_STATE_H

#include "admin/admin.h"
#include "admin/alert.h"
#include "admin/average.h"

struct http;

/* An alert and what it is about: a database, or all of them. */
struct scoped_alert {
    struct map_node node;
    struct alert alert;
    bool is_seen; /* in the round under way */
    char scope[]; /* a database's name; "" is the whole process */
};

struct admin {
    const struct admin_worker *workers;
    unsigned workers_count;
    struct databases *databases;
    struct config *config; /* one reference */
    struct admin_ops ops;
    struct list gathers;
    struct list walks; /* SHOWs of connections under way */
    struct list consoles;
    struct stats_values console_stats; /* of the database pgbouncer */
    struct averages averages;
    bool is_averaging; /* the reading at the end of a period is under way */
    struct map alerts;
    struct traits_cache *traits; /* for SHOW ROUTE */
    struct http *http;           /* NULL: off */
    bool is_started;
};

/* In monitor.c: judges all alerts anew; logs what starts and ends. */
void monitor_alerts(struct admin *admin);
void monitor_release(struct admin *admin);

/* The scope as people read it. */
const char *alert_scope_text(const struct scoped_alert *alert);

/* All alerts, by scope, the whole process first. The array is the caller's to free. */
struct scoped_alert **monitor_list(const struct admin *admin, size_t *count);

/* The databases in use, by name. The array is the caller's to free. */
struct database **database_list(struct databases *databases, size_t *count);

#endif
