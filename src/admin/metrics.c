/*
 * /metrics: everything that is counted, in Prometheus' text format. Counters come from the table
 * in core/stats.h, by pool and by node; a family's samples stand together, as the format wants, so
 * each family walks the census once.
 */
#include "pages.h"

#include "admin/metric.h"
#include "cluster/fitness.h"
#include "cluster/report.h"
#include "core/clock.h"
#include "core/memory.h"
#include "session/pins.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK 200u

/* Counting descriptors means listing them where the kernel does not know their number; beyond so
 * many connections that would hold up the loop, and the metric is left out. */
#define DESCRIPTORS_LISTED_MAX 1000u

static const struct counter {
    const char *name;
    const char *help;
    size_t offset; /* in struct stats_values */
    const char *member;
} counters[] = {
#define ROW(name, metric, help) {metric, help, offsetof(struct stats_values, name), #name},
    STATS_COUNTERS(ROW)
#undef ROW
};

/* Those that are counted by node; the others belong to the pool as a whole. */
static const size_t node_counters[] = {
    offsetof(struct stats_values, assignments),     offsetof(struct stats_values, transactions),
    offsetof(struct stats_values, queries),         offsetof(struct stats_values, transaction_us),
    offsetof(struct stats_values, query_us),        offsetof(struct stats_values, wait_us),
    offsetof(struct stats_values, server_parses),   offsetof(struct stats_values, server_logins),
    offsetof(struct stats_values, server_failures),
};

static bool is_by_node(const struct counter *counter) {
    for (size_t i = 0; i < COUNT(node_counters); i++)
        if (node_counters[i] == counter->offset) return true;
    return false;
}

static uint64_t value_of(const struct stats_values *values, const struct counter *counter) {
    uint64_t value;
    memcpy(&value, (const char *)values + counter->offset, sizeof value);
    return value;
}

/* ---- pools */

#define POOL_LABELS(pool)                                                                          \
    {"database", (pool)->database_name}, {                                                         \
        "user", (pool)->user                                                                       \
    }
#define POOL_LABELS_COUNT 2
#define NODE_LABELS_COUNT 4

/* The labels of a pool on one node. */
static void node_labels(struct metric_label labels[NODE_LABELS_COUNT],
                        const struct census_pool *pool, size_t index) {
    const struct node *node = cluster_node_const(pool->cluster, index);
    labels[0] = (struct metric_label){"database", pool->database_name};
    labels[1] = (struct metric_label){"user", pool->user};
    labels[2] = (struct metric_label){"node", node->name};
    labels[3] = (struct metric_label){"role", node_role_text(node_role(node))};
}

/* What rows of one name differ in; NULL where a name has one row. */
static const char *reason_of(const struct counter *counter) {
    static const char prefix[] = "retries_";
    bool has_reason = strncmp(counter->member, prefix, sizeof prefix - 1) == 0;
    return has_reason ? counter->member + sizeof prefix - 1 : NULL;
}

static void write_counters(struct buf *out, const struct census *census) {
    char name[METRIC_NAME_SIZE];
    for (size_t c = 0; c < COUNT(counters); c++) {
        bool is_time = metric_counter_name(name, "", counters[c].name);
        const char *reason = reason_of(&counters[c]);
        bool is_first = c == 0 || strcmp(counters[c].name, counters[c - 1].name) != 0;
        if (is_first) metric_head(out, name, METRIC_COUNTER, counters[c].help);
        for (size_t i = 0; i < census->count; i++) {
            const struct census_pool *pool = census->pools[i];
            const struct metric_label labels[] = {POOL_LABELS(pool), {"reason", reason}};
            size_t count = POOL_LABELS_COUNT + (reason == NULL ? 0 : 1);
            (is_time ? metric_seconds : metric_number)(out, name, labels, count,
                                                       value_of(&pool->stats, &counters[c]));
        }
    }
}

static void write_node_counter(struct buf *out, const struct census *census,
                               const struct counter *counter) {
    char name[METRIC_NAME_SIZE];
    struct metric_label labels[NODE_LABELS_COUNT];
    bool is_time = metric_counter_name(name, "node_", counter->name);
    metric_head(out, name, METRIC_COUNTER, counter->help);
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        for (size_t n = 0; n < pool->nodes_count; n++) {
            node_labels(labels, pool, n);
            (is_time ? metric_seconds : metric_number)(out, name, labels, NODE_LABELS_COUNT,
                                                       value_of(&pool->nodes[n].stats, counter));
        }
    }
}

static void write_servers(struct buf *out, const struct census *census) {
    static const char name[] = "weir_pool_servers";
    struct metric_label labels[NODE_LABELS_COUNT + 1];
    metric_head(out, name, METRIC_GAUGE, "Server connections of a pool by node and state.");
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        for (size_t n = 0; n < pool->nodes_count * CENSUS_SERVER_COUNT; n++) {
            enum census_server kind = (enum census_server)(n % CENSUS_SERVER_COUNT);
            const struct census_node *node = &pool->nodes[n / CENSUS_SERVER_COUNT];
            node_labels(labels, pool, n / CENSUS_SERVER_COUNT);
            labels[NODE_LABELS_COUNT] = (struct metric_label){"state", census_server_text(kind)};
            metric_number(out, name, labels, NODE_LABELS_COUNT + 1, node->servers[kind]);
        }
    }
}

static void write_sizes(struct buf *out, const struct census *census) {
    static const char name[] = "weir_pool_size";
    struct metric_label labels[NODE_LABELS_COUNT];
    metric_head(out, name, METRIC_GAUGE,
                "Server connections that a pool may have on a node; 0 is no limit.");
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        /* Without routing one limit holds for all hosts together: it stands at the first. */
        size_t nodes = pool->database == NULL ? 0 : pool->nodes_count;
        if (nodes > 0 && !cluster_is_probed(pool->cluster)) nodes = 1;
        for (size_t n = 0; n < nodes; n++) {
            node_labels(labels, pool, n);
            metric_number(out, name, labels, NODE_LABELS_COUNT, pool->nodes[n].limit);
        }
    }
}

static void write_pool_clients(struct buf *out, const struct census *census) {
    static const char name[] = "weir_pool_clients";
    static const char *const states[] = {
        [CENSUS_CLIENT_ACTIVE] = "active",
        [CENSUS_CLIENT_IDLE] = "idle",
        [CENSUS_CLIENT_WAITING] = "waiting",
    };
    metric_head(out, name, METRIC_GAUGE, "Clients of a pool by state.");
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        for (size_t s = 0; s < COUNT(states); s++) {
            const struct metric_label labels[] = {POOL_LABELS(pool), {"state", states[s]}};
            metric_number(out, name, labels, COUNT(labels), pool->clients[s]);
        }
    }
}

static void write_pins(struct buf *out, const struct census *census) {
    static const char name[] = "weir_pool_pinned_clients";
    metric_head(out, name, METRIC_GAUGE, "Clients that keep their servers, by what for.");
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        for (unsigned pin = 0; pin < PIN_COUNT && pool->tracks_sessions; pin++) {
            const struct metric_label labels[] = {POOL_LABELS(pool),
                                                  {"reason", pin_text((enum pin)pin)}};
            metric_number(out, name, labels, COUNT(labels), pool->pinned[pin]);
        }
    }
}

static void write_waits(struct buf *out, const struct census *census) {
    static const char name[] = "weir_pool_longest_wait_seconds";
    metric_head(out, name, METRIC_GAUGE, "How long the client in front of the line has waited.");
    for (size_t i = 0; i < census->count; i++) {
        const struct census_pool *pool = census->pools[i];
        const struct metric_label labels[] = {POOL_LABELS(pool)};
        metric_seconds(out, name, labels, POOL_LABELS_COUNT, pool->wait_us);
    }
}

/* ---- nodes */

struct node_sample {
    const struct node_report *report;
    const struct node *node;
};

static bool write_up(struct buf *out, const char *name, const struct metric_label *labels,
                     const struct node_sample *sample) {
    metric_number(out, name, labels, 3, sample->report->state == NODE_UP);
    return true;
}

static bool write_active(struct buf *out, const char *name, const struct metric_label *labels,
                         const struct node_sample *sample) {
    metric_number(out, name, labels, 3, node_active(sample->node));
    return true;
}

static bool write_lag_bytes(struct buf *out, const char *name, const struct metric_label *labels,
                            const struct node_sample *sample) {
    if (sample->report->has_lag) metric_number(out, name, labels, 3, sample->report->lag_bytes);
    return sample->report->has_lag;
}

static bool write_lag_seconds(struct buf *out, const char *name, const struct metric_label *labels,
                              const struct node_sample *sample) {
    if (sample->report->has_lag)
        metric_seconds(out, name, labels, 3, sample->report->lag_ms * US_PER_MS);
    return sample->report->has_lag;
}

static bool write_latency(struct buf *out, const char *name, const struct metric_label *labels,
                          const struct node_sample *sample) {
    if (sample->report->latency_us > 0)
        metric_seconds(out, name, labels, 3, sample->report->latency_us);
    return sample->report->latency_us > 0;
}

static bool write_share(struct buf *out, const char *name, const struct metric_label *labels,
                        const struct node_sample *sample) {
    metric_number(out, name, labels, 3, sample->report->share * 100 / NODE_RAMP_FULL);
    return true;
}

static bool write_left_out(struct buf *out, const char *name, const struct metric_label *labels,
                           const struct node_sample *sample) {
    metric_number(out, name, labels, 3, sample->report->left_out != NULL);
    return true;
}

static bool write_failures(struct buf *out, const char *name, const struct metric_label *labels,
                           const struct node_sample *sample) {
    metric_number(out, name, labels, 3, sample->report->errors);
    return true;
}

static bool write_trips(struct buf *out, const char *name, const struct metric_label *labels,
                        const struct node_sample *sample) {
    metric_number(out, name, labels, 3, sample->report->trips);
    return true;
}

static const struct {
    const char *name;
    const char *help;
    bool (*write)(struct buf *out, const char *name, const struct metric_label *labels,
                  const struct node_sample *sample);
    enum metric_type type;
} node_gauges[] = {
    {"weir_node_up", "Whether a node may be used.", write_up, METRIC_GAUGE},
    {"weir_node_active_servers", "Server connections of a node that are lent.", write_active,
     METRIC_GAUGE},
    {"weir_node_lag_bytes", "WAL of the primary that a replica has not replayed.", write_lag_bytes,
     METRIC_GAUGE},
    {"weir_node_lag_seconds", "How old what a replica shows may be, 0 when it has replayed all.",
     write_lag_seconds, METRIC_GAUGE},
    {"weir_node_latency_seconds", "How long the last probe of a node took.", write_latency,
     METRIC_GAUGE},
    {"weir_node_share_percent", "Its part of the reads: its weight times 100, or less.",
     write_share, METRIC_GAUGE},
    {"weir_node_left_out", "Whether a replica that is up gets no reads.", write_left_out,
     METRIC_GAUGE},
    {"weir_node_failures_total", "Failures of a node's servers that are its own.", write_failures,
     METRIC_COUNTER},
    {"weir_node_left_out_total", "How often a replica was left out of the reads.", write_trips,
     METRIC_COUNTER},
};

static void write_node_gauge(struct buf *out, struct admin *admin, struct database *database,
                             size_t gauge) {
    struct cluster *cluster = database_cluster(admin->databases, database);
    for (size_t i = 0; i < cluster_count(cluster); i++) {
        struct node_report report;
        const struct node *node = cluster_node(cluster, i);
        node_report_get(cluster, i, &report);
        const struct metric_label labels[] = {{"database", database->name},
                                              {"node", node->name},
                                              {"role", node_role_text(report.role)}};
        const struct node_sample sample = {&report, node};
        (void)node_gauges[gauge].write(out, node_gauges[gauge].name, labels, &sample);
    }
    cluster_free(&cluster);
}

static void write_nodes(struct buf *out, struct admin *admin) {
    size_t count;
    struct database **list = database_list(admin->databases, &count);
    for (size_t gauge = 0; gauge < COUNT(node_gauges); gauge++) {
        metric_head(out, node_gauges[gauge].name, node_gauges[gauge].type, node_gauges[gauge].help);
        for (size_t i = 0; i < count; i++)
            if (!atomic_load(&list[i]->is_removed)) write_node_gauge(out, admin, list[i], gauge);
    }
    memory_free((void *)list);
}

/* ---- everything else */

static void write_clients(struct buf *out, const struct census *census) {
    static const char *const states[CLIENT_CLOSED] = {
        [CLIENT_STARTUP] = "startup", [CLIENT_LOGIN] = "login",     [CLIENT_WELCOME] = "welcome",
        [CLIENT_IDLE] = "idle",       [CLIENT_WAITING] = "waiting", [CLIENT_ACTIVE] = "active",
        [CLIENT_CONSOLE] = "console", [CLIENT_CANCEL] = "cancel",
    };
    metric_head(out, "weir_clients", METRIC_GAUGE, "Connections of clients by state.");
    for (size_t i = 0; i < COUNT(states); i++) {
        const struct metric_label label = {"state", states[i]};
        metric_number(out, "weir_clients", &label, 1, census->clients[i]);
    }
    metric_head(out, "weir_faults_total", METRIC_COUNTER,
                "Errors that clients were told, by kind.");
    for (unsigned i = 0; i < FAULT_COUNTER_COUNT; i++) {
        const struct metric_label label = {"kind", fault_counter_name((enum fault_counter)i)};
        metric_number(out, "weir_faults_total", &label, 1, census->faults[i]);
    }
}

static void write_traits(struct buf *out, const struct traits_cache_stats *traits) {
    const struct {
        const char *name;
        const char *help;
        enum metric_type type;
        uint64_t value;
    } rows[] = {
        {"weir_shapes", "Statement shapes whose meaning is remembered.", METRIC_GAUGE,
         traits->shapes},
        {"weir_shape_hits_total", "Statements whose shape was known.", METRIC_COUNTER,
         traits->hits},
        {"weir_shape_misses_total", "Statements whose shape was not known.", METRIC_COUNTER,
         traits->misses},
        {"weir_parses_inline_total", "Statements parsed at once.", METRIC_COUNTER,
         traits->parsed_inline},
        {"weir_parses_later_total", "Statements parsed beside the work.", METRIC_COUNTER,
         traits->parsed_later},
        {"weir_parses_refused_total", "Statements that were too long or too many to parse.",
         METRIC_COUNTER, traits->refused},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        metric_head(out, rows[i].name, rows[i].type, rows[i].help);
        metric_number(out, rows[i].name, NULL, 0, rows[i].value);
    }
}

static void write_alerts(struct buf *out, const struct admin *admin) {
    size_t count;
    struct scoped_alert **alerts = monitor_list(admin, &count);
    metric_head(out, "weir_alert_active", METRIC_GAUGE,
                "Whether more servers than the threshold have been in use for long enough.");
    for (size_t i = 0; i < count; i++) {
        const struct metric_label labels[] = {{"alert", "active_servers"},
                                              {"database", alerts[i]->scope}};
        /* The label of the whole process is left out. */
        size_t labels_count = alerts[i]->scope[0] == '\0' ? 1 : 2;
        metric_number(out, "weir_alert_active", labels, labels_count,
                      alerts[i]->alert.state == ALERT_FIRING);
    }
    memory_free((void *)alerts);
}

static uint64_t resident_bytes(void) {
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    char *line = fgets(text, sizeof text, file);
    (void)fclose(file);
    const char *at = line == NULL ? NULL : strchr(line, ' ');
    if (at == NULL) return 0;
    uint64_t pages = 0;
    for (at++; *at >= '0' && *at <= '9'; at++) pages = pages * 10 + (uint64_t)(*at - '0');
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* How many descriptors are open; 0 where that cannot be said at little cost. Linux 6.2 and newer
 * give the number as the folder's size. */
static uint64_t open_descriptors(const struct census *census) {
    static const char folder[] = "/proc/self/fd";
    struct stat about;
    if (stat(folder, &about) == 0 && about.st_size > 0) return (uint64_t)about.st_size;
    uint64_t connections = census->servers;
    for (unsigned i = 0; i < CLIENT_STATE_COUNT; i++) connections += census->clients[i];
    DIR *list = connections > DESCRIPTORS_LISTED_MAX ? NULL : opendir(folder);
    if (list == NULL) return 0;
    uint64_t count = 0;
    while (readdir(list) != NULL) count++;
    (void)closedir(list);
    return count > 3 ? count - 3 : 0; /* without ., .. and the list's own */
}

static void write_process(struct buf *out, const struct census *census) {
    struct timespec cpu = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    metric_head(out, "process_cpu_seconds_total", METRIC_COUNTER, "CPU time that was used.");
    metric_seconds(out, "process_cpu_seconds_total", NULL, 0,
                   (uint64_t)cpu.tv_sec * US_PER_S + (uint64_t)cpu.tv_nsec / 1000);
    metric_head(out, "process_resident_memory_bytes", METRIC_GAUGE, "Memory in use.");
    metric_number(out, "process_resident_memory_bytes", NULL, 0, resident_bytes());
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metric_head(out, "process_max_fds", METRIC_GAUGE, "Descriptors that may be open.");
        metric_number(out, "process_max_fds", NULL, 0, limit.rlim_cur);
    }
    uint64_t descriptors = open_descriptors(census);
    if (descriptors == 0) return;
    metric_head(out, "process_open_fds", METRIC_GAUGE, "Descriptors that are open.");
    metric_number(out, "process_open_fds", NULL, 0, descriptors);
}

unsigned page_metrics(struct admin *admin, const struct census *census, struct buf *out) {
    const struct metric_label version = {"version", WEIR_VERSION};
    metric_head(out, "weir_build_info", METRIC_GAUGE, "The version that runs; always 1.");
    metric_number(out, "weir_build_info", &version, 1, 1);
    write_counters(out, census);
    for (size_t i = 0; i < COUNT(counters); i++)
        if (is_by_node(&counters[i])) write_node_counter(out, census, &counters[i]);
    write_servers(out, census);
    write_sizes(out, census);
    write_pool_clients(out, census);
    write_pins(out, census);
    write_waits(out, census);
    write_nodes(out, admin);
    write_clients(out, census);
    write_traits(out, &census->traits);
    write_alerts(out, admin);
    write_process(out, census);
    return OK;
}
