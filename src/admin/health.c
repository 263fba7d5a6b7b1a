/*
 * /health and /ready: can this process serve clients?
 *
 *      healthy    every node of every database is in order
 *      degraded   something is wrong, but some database can serve a client
 *      unhealthy  no database can
 *
 * A routed database is judged by what the probes found, another one by how the connections of its
 * pools fared. One that is listed and was never used counts as able to serve.
 */
#include "pages.h"

#include "admin/json.h"
#include "cluster/report.h"
#include "core/clock.h"
#include "core/memory.h"

#define OK          200u
#define UNAVAILABLE 503u

const char *health_status_text(enum health_status status) {
    static const char *const texts[] = {
        [HEALTH_HEALTHY] = "healthy",
        [HEALTH_DEGRADED] = "degraded",
        [HEALTH_UNHEALTHY] = "unhealthy",
    };
    return texts[status];
}

/* What was found so far. */
struct health {
    struct admin *admin;
    const struct census *census;
    struct buf reasons; /* texts, each with its NUL */
    size_t able;        /* databases that can serve a client, */
    size_t unable;      /* and those that cannot */
};

static void reason(struct health *health, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void reason(struct health *health, const char *format, ...) {
    va_list list;
    va_start(list, format);
    buf_append_format_list(&health->reasons, format, list);
    va_end(list);
    buf_append_u8(&health->reasons, 0);
}

static void count(struct health *health, bool is_able) {
    if (is_able) {
        health->able++;
    } else {
        health->unable++;
    }
}

/* ---- routed databases */

static bool has_replica(const struct cluster *cluster) {
    for (size_t i = 0; i < cluster_count(cluster); i++) {
        const struct node *node = cluster_node_const(cluster, i);
        if (node_role(node) == NODE_REPLICA && node_state(node) == NODE_UP) return true;
    }
    return false;
}

static bool is_able(const struct admin *admin, const struct config_database *entry,
                    const struct cluster *cluster) {
    bool has_primary = cluster_primary(cluster) >= 0;
    switch (config_routing(admin->config, entry, NULL)) {
    case ROUTING_PRIMARY:
        return has_primary;
    case ROUTING_REPLICA:
        return has_replica(cluster) ||
               (has_primary &&
                config_choice(admin->config, entry).replica_fallback == REPLICA_FALLBACK_ON);
    case ROUTING_SHADOW:
        return has_primary;
    case ROUTING_READ_WRITE:
    case ROUTING_OFF:
    case ROUTING_UNSET:
        break;
    }
    return has_primary || has_replica(cluster);
}

static void judge_node(struct health *health, const char *database, struct cluster *cluster,
                       size_t index) {
    struct node_report report;
    node_report_get(cluster, index, &report);
    const char *name = cluster_node(cluster, index)->name;
    const char *divider = report.error[0] == '\0' ? "" : ": ";
    if (report.role == NODE_RIVAL || report.role == NODE_STRANGER) {
        reason(health, "%s: node %s is a %s", database, name, node_role_text(report.role));
    } else if (report.state == NODE_DOWN) {
        reason(health, "%s: node %s is down%s%s", database, name, divider, report.error);
    } else if (report.state == NODE_UNTRIED) {
        reason(health, "%s: node %s has not answered yet%s%s", database, name, divider,
               report.error);
    } else if (report.left_out != NULL) {
        reason(health, "%s: node %s gets no reads, since it %s", database, name, report.left_out);
    }
}

static void judge_routed(struct health *health, const struct config_database *entry,
                         const char *database, struct cluster *cluster) {
    char trouble[CLUSTER_TROUBLE_SIZE];
    cluster_trouble_get(cluster, trouble);
    if (cluster_primary(cluster) < 0) {
        reason(health, "%s: no primary%s%s", database, trouble[0] == '\0' ? "" : ": ", trouble);
    } else if (trouble[0] != '\0') {
        reason(health, "%s: %s", database, trouble);
    }
    for (size_t i = 0; i < cluster_count(cluster); i++) judge_node(health, database, cluster, i);
    count(health, is_able(health->admin, entry, cluster));
}

/* ---- databases without routing */

/* The last attempt to connect failed, and no connection is left from before. */
static const char *pool_error(const struct census_pool *pool) {
    for (size_t i = 0; i < pool->nodes_count; i++)
        if (pool->nodes[i].has_failed && census_sum(pool->servers) == 0)
            return pool->nodes[i].error;
    return NULL;
}

static void judge_pools(struct health *health, const char *database) {
    size_t pools_count, failed = 0;
    struct census_pool *const *pools = census_find(health->census, database, &pools_count);
    for (size_t i = 0; i < pools_count; i++) {
        const char *error = pool_error(pools[i]);
        if (error == NULL) continue;
        failed++;
        reason(health, "%s: user %s: %s", database, pools[i]->user, error);
    }
    count(health, pools_count == 0 || failed < pools_count);
}

/* ---- all together */

static void judge_alerts(struct health *health) {
    size_t alerts_count;
    struct scoped_alert **alerts = monitor_list(health->admin, &alerts_count);
    for (size_t i = 0; i < alerts_count; i++) {
        const struct alert *alert = &alerts[i]->alert;
        if (alert->state != ALERT_FIRING) continue;
        reason(health, "alert active_servers: %s: %llu servers in use, more than %llu",
               alert_scope_text(alerts[i]), (unsigned long long)alert->value,
               (unsigned long long)alert->rule.threshold);
    }
    memory_free((void *)alerts);
}

static void write_node(struct json *json, const char *database, struct cluster *cluster,
                       size_t index) {
    struct node_report report;
    const struct node *node = cluster_node(cluster, index);
    node_report_get(cluster, index, &report);
    json_open(json, NULL, '{');
    json_text(json, "database", database);
    json_text(json, "name", node->name);
    json_text(json, "host", node->host);
    json_number(json, "port", node->port);
    json_text(json, "role", node_role_text(report.role));
    json_text(json, "state", node_state_text(report.state));
    if (report.latency_us == 0) {
        json_null(json, "latency_ms");
    } else {
        json_decimal(json, "latency_ms", (double)report.latency_us / US_PER_MS);
    }
    if (report.has_lag) {
        json_number(json, "lag_bytes", report.lag_bytes);
        json_number(json, "lag_ms", report.lag_ms);
    } else {
        json_null(json, "lag_bytes");
        json_null(json, "lag_ms");
    }
    json_number(json, "active_servers", node_active(node));
    json_text(json, "left_out", report.left_out);
    json_text(json, "error", report.error[0] == '\0' ? NULL : report.error);
    json_close(json, '}');
}

static void judge_database(struct health *health, struct database *database, struct json *nodes) {
    struct admin *admin = health->admin;
    const struct config_database *entry =
        config_database(admin->config, bytes_of_text(database->name));
    if (entry == NULL || atomic_load(&database->is_removed)) return;
    struct cluster *cluster = database_cluster(admin->databases, database);
    if (atomic_load(&database->is_paused)) reason(health, "%s: paused", database->name);
    if (cluster_is_probed(cluster)) {
        judge_routed(health, entry, database->name, cluster);
    } else {
        judge_pools(health, database->name);
    }
    for (size_t i = 0; i < cluster_count(cluster); i++)
        write_node(nodes, database->name, cluster, i);
    cluster_free(&cluster);
}

/* Databases that are listed, while nobody has used them. */
static size_t unused_databases(const struct admin *admin, struct database *const *list,
                               size_t list_count) {
    size_t listed = 0;
    for (size_t i = 0; i < list_count; i++)
        listed += config_database(admin->config, bytes_of_text(list[i]->name)) != NULL;
    size_t entries = admin->config->entries[SETTING_SCOPE_DATABASE].count;
    return entries > listed ? entries - listed : 0;
}

static enum health_status status_of(const struct health *health) {
    if (health->able == 0 && health->unable > 0) return HEALTH_UNHEALTHY;
    return buf_length(&health->reasons) > 0 ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

static void write_reasons(struct json *json, struct bytes reasons) {
    json_open(json, "reasons", '[');
    for (size_t at = 0; at < reasons.len; at += strlen(reasons.at + at) + 1)
        json_text(json, NULL, reasons.at + at);
    json_close(json, ']');
}

static void write_timestamp(struct json *json) {
    char text[CLOCK_TEXT_SIZE + 1];
    clock_format(text, clock_wall_us(), 1);
    text[strlen("2026-11-22")] = 'T';
    size_t len = strlen(text);
    text[len] = 'Z';
    text[len + 1] = '\0';
    json_text(json, "timestamp", text);
}

enum health_status health_write(struct json *json, struct admin *admin,
                                const struct census *census) {
    struct health health = {.admin = admin, .census = census};
    struct buf nodes_text = {0};
    struct json nodes = {.out = &nodes_text};
    size_t list_count;
    struct database **list = database_list(admin->databases, &list_count);
    if (admin->workers[0].pools->is_paused) reason(&health, "paused");
    if (admin->workers[0].clients->is_refusing) reason(&health, "shutting down");
    json_open(&nodes, NULL, '[');
    for (size_t i = 0; i < list_count; i++) judge_database(&health, list[i], &nodes);
    json_close(&nodes, ']');
    health.able += unused_databases(admin, list, list_count);
    judge_alerts(&health);

    enum health_status status = status_of(&health);
    json_text(json, "status", health_status_text(status));
    write_timestamp(json);
    json_text(json, "version", WEIR_VERSION);
    write_reasons(json, buf_content(&health.reasons));
    json_raw(json, "nodes", buf_content(&nodes_text));
    buf_release(&nodes_text);
    buf_release(&health.reasons);
    memory_free((void *)list);
    return status;
}

unsigned page_health(struct admin *admin, const struct census *census, struct buf *out) {
    struct json json = {.out = out};
    json_open(&json, NULL, '{');
    enum health_status status = health_write(&json, admin, census);
    json_close(&json, '}');
    buf_append_u8(out, '\n');
    return status == HEALTH_UNHEALTHY ? UNAVAILABLE : OK;
}

/* ---- /ready */

static void lacks_primary(void *owner, struct database *database) {
    struct health *health = owner;
    const struct config *config = health->admin->config;
    const struct config_database *entry = config_database(config, bytes_of_text(database->name));
    if (entry == NULL || atomic_load(&database->is_removed)) return;
    count(health, !atomic_load(&database->is_paused));
    enum routing routing = config_routing(config, entry, NULL);
    if (routing != ROUTING_READ_WRITE && routing != ROUTING_SHADOW) return;
    if (cluster_primary(database->cluster) < 0) reason(health, "%s: no primary", database->name);
}

unsigned page_ready(struct admin *admin, const struct census *census, struct buf *out) {
    (void)census;
    struct health health = {.admin = admin};
    const struct admin_worker *worker = &admin->workers[0];
    databases_each(admin->databases, lacks_primary, &health);
    bool is_all_paused = health.able == 0 && health.unable > 0;
    if (!admin->is_started) reason(&health, "starting");
    if (worker->pools->is_paused || is_all_paused) reason(&health, "paused");
    if (worker->clients->is_refusing || worker->pools->is_shutting_down)
        reason(&health, "shutting down");
    bool is_ready = buf_length(&health.reasons) == 0;
    struct json json = {.out = out};
    json_open(&json, NULL, '{');
    json_text(&json, "status", is_ready ? "ready" : "not ready");
    write_reasons(&json, buf_content(&health.reasons));
    json_close(&json, '}');
    buf_append_u8(out, '\n');
    buf_release(&health.reasons);
    return is_ready ? OK : UNAVAILABLE;
}
