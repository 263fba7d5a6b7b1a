/*
 * The table of views, and the small ones among them; see views.h. Columns, their types and their
 * order are PgBouncer's: exporters read by name, scripts by position. What is Weir's own stands in
 * views of its own, or behind PgBouncer's columns where the console is called weir.
 */
#include "views.h"

#include "core/clock.h"
#include "core/memory.h"

/* What CLIENTS, SERVERS and SOCKETS have in common. */
#define CONNECTION_COLUMNS                                                                         \
    {"type", COLUMN_TEXT}, {"user", COLUMN_TEXT}, {"database", COLUMN_TEXT},                       \
        {"replication", COLUMN_TEXT}, {"state", COLUMN_TEXT}, {"addr", COLUMN_TEXT},               \
        {"port", COLUMN_INT4}, {"local_addr", COLUMN_TEXT}, {"local_port", COLUMN_INT4},           \
        {"connect_time", COLUMN_TEXT}, {"request_time", COLUMN_TEXT}, {"wait", COLUMN_INT4},       \
        {"wait_us", COLUMN_INT4}, {"close_needed", COLUMN_INT4}, {"ptr", COLUMN_TEXT},             \
        {"link", COLUMN_TEXT}, {"remote_pid", COLUMN_INT4}, {"tls", COLUMN_TEXT},                  \
        {"application_name", COLUMN_TEXT}, {"prepared_statements", COLUMN_INT4}, {                 \
        "id", COLUMN_INT4                                                                          \
    }

static const struct column clients_columns[] = {
    CONNECTION_COLUMNS,
    {"node", COLUMN_TEXT | COLUMN_OWN},
    {"worker", COLUMN_INT4 | COLUMN_OWN},
    {"route", COLUMN_TEXT | COLUMN_OWN},
};

static const struct column servers_columns[] = {
    CONNECTION_COLUMNS,
    {"node", COLUMN_TEXT | COLUMN_OWN},
    {"worker", COLUMN_INT4 | COLUMN_OWN},
};

static const struct column sockets_columns[] = {
    CONNECTION_COLUMNS,
    {"recv_pos", COLUMN_INT4},
    {"pkt_pos", COLUMN_INT4},
    {"pkt_remain", COLUMN_INT4},
    {"send_pos", COLUMN_INT4},
    {"send_remain", COLUMN_INT4},
    {"pkt_avail", COLUMN_INT4},
    {"send_avail", COLUMN_INT4},
    {"node", COLUMN_TEXT | COLUMN_OWN},
    {"worker", COLUMN_INT4 | COLUMN_OWN},
    {"route", COLUMN_TEXT | COLUMN_OWN},
};

static const struct column fds_columns[] = {
    {"fd", COLUMN_INT4},
    {"task", COLUMN_TEXT},
    {"user", COLUMN_TEXT},
    {"database", COLUMN_TEXT},
    {"addr", COLUMN_TEXT},
    {"port", COLUMN_INT4},
    {"cancel", COLUMN_INT8},
    {"link", COLUMN_INT4},
    {"client_encoding", COLUMN_TEXT},
    {"std_strings", COLUMN_TEXT},
    {"datestyle", COLUMN_TEXT},
    {"timezone", COLUMN_TEXT},
    {"password", COLUMN_TEXT},
    {"scram_client_key", COLUMN_BYTEA},
    {"scram_server_key", COLUMN_BYTEA},
};

static const struct column pins_columns[] = {
    {"user", COLUMN_TEXT},      {"database", COLUMN_TEXT}, {"client_id", COLUMN_INT4},
    {"server_id", COLUMN_INT4}, {"node", COLUMN_TEXT},     {"backend_pid", COLUMN_INT4},
    {"reasons", COLUMN_TEXT},   {"age", COLUMN_INT4},
};

static const struct column pools_columns[] = {
    {"database", COLUMN_TEXT},
    {"user", COLUMN_TEXT},
    {"cl_active", COLUMN_INT4},
    {"cl_waiting", COLUMN_INT4},
    {"cl_active_cancel_req", COLUMN_INT4},
    {"cl_waiting_cancel_req", COLUMN_INT4},
    {"sv_active", COLUMN_INT4},
    {"sv_active_cancel", COLUMN_INT4},
    {"sv_being_canceled", COLUMN_INT4},
    {"sv_idle", COLUMN_INT4},
    {"sv_used", COLUMN_INT4},
    {"sv_tested", COLUMN_INT4},
    {"sv_login", COLUMN_INT4},
    {"maxwait", COLUMN_INT4},
    {"maxwait_us", COLUMN_INT4},
    {"pool_mode", COLUMN_TEXT},
    {"load_balance_hosts", COLUMN_TEXT},
};

static const struct column node_pools_columns[] = {
    {"database", COLUMN_TEXT},
    {"user", COLUMN_TEXT},
    {"node", COLUMN_TEXT},
    {"role", COLUMN_TEXT},
    {"sv_active", COLUMN_INT4},
    {"sv_active_cancel", COLUMN_INT4},
    {"sv_being_canceled", COLUMN_INT4},
    {"sv_idle", COLUMN_INT4},
    {"sv_used", COLUMN_INT4},
    {"sv_tested", COLUMN_INT4},
    {"sv_login", COLUMN_INT4},
    {"pool_size", COLUMN_INT4},
    {"queries", COLUMN_INT8},
    {"logins", COLUMN_INT8},
    {"failures", COLUMN_INT8},
    {"error", COLUMN_TEXT},
};

static const struct column databases_columns[] = {
    {"name", COLUMN_TEXT},
    {"host", COLUMN_TEXT},
    {"port", COLUMN_INT4},
    {"database", COLUMN_TEXT},
    {"force_user", COLUMN_TEXT},
    {"pool_size", COLUMN_INT4},
    {"min_pool_size", COLUMN_INT4},
    {"reserve_pool_size", COLUMN_INT4},
    {"server_lifetime", COLUMN_INT4},
    {"pool_mode", COLUMN_TEXT},
    {"load_balance_hosts", COLUMN_TEXT},
    {"max_connections", COLUMN_INT4},
    {"current_connections", COLUMN_INT4},
    {"max_client_connections", COLUMN_INT4},
    {"current_client_connections", COLUMN_INT4},
    {"paused", COLUMN_INT4},
    {"disabled", COLUMN_INT4},
    {"reserve_pool", COLUMN_INT4 | COLUMN_OLD},
};

static const struct column users_columns[] = {
    {"name", COLUMN_TEXT},
    {"pool_size", COLUMN_TEXT},
    {"reserve_pool_size", COLUMN_TEXT},
    {"pool_mode", COLUMN_TEXT},
    {"max_user_connections", COLUMN_INT4},
    {"current_connections", COLUMN_INT4},
    {"max_user_client_connections", COLUMN_INT4},
    {"current_client_connections", COLUMN_INT4},
};

static const struct column nodes_columns[] = {
    {"database", COLUMN_TEXT},  {"node", COLUMN_TEXT},       {"host", COLUMN_TEXT},
    {"port", COLUMN_INT4},      {"role", COLUMN_TEXT},       {"state", COLUMN_TEXT},
    {"lag_bytes", COLUMN_INT8}, {"lag_ms", COLUMN_INT8},     {"lsn", COLUMN_TEXT},
    {"timeline", COLUMN_INT4},  {"sv_active", COLUMN_INT4},  {"sv_idle", COLUMN_INT4},
    {"queries", COLUMN_INT8},   {"latency_us", COLUMN_INT8}, {"error", COLUMN_TEXT},
    {"chosen_by", COLUMN_TEXT}, {"zone", COLUMN_TEXT},       {"weight", COLUMN_INT4},
    {"share", COLUMN_INT4},     {"failures", COLUMN_INT8},   {"left_out", COLUMN_TEXT},
};

static const struct column retries_columns[] = {
    {"database", COLUMN_TEXT},    {"refused", COLUMN_NUMERIC}, {"missing", COLUMN_NUMERIC},
    {"conflict", COLUMN_NUMERIC}, {"lost", COLUMN_NUMERIC},
};

static const struct column shadow_columns[] = {
    {"database", COLUMN_TEXT},  {"target", COLUMN_TEXT}, {"doubt", COLUMN_INT4},
    {"count", COLUMN_INT8},     {"stale", COLUMN_INT8},  {"reason", COLUMN_TEXT},
    {"statement", COLUMN_TEXT},
};

static const struct column stats_columns[] = {
    {"database", COLUMN_TEXT},
    {"total_server_assignment_count", COLUMN_NUMERIC},
    {"total_xact_count", COLUMN_NUMERIC},
    {"total_query_count", COLUMN_NUMERIC},
    {"total_received", COLUMN_NUMERIC},
    {"total_sent", COLUMN_NUMERIC},
    {"total_xact_time", COLUMN_NUMERIC},
    {"total_query_time", COLUMN_NUMERIC},
    {"total_wait_time", COLUMN_NUMERIC},
    {"total_client_parse_count", COLUMN_NUMERIC},
    {"total_server_parse_count", COLUMN_NUMERIC},
    {"total_bind_count", COLUMN_NUMERIC},
    {"total_client_login_count", COLUMN_NUMERIC},
    {"avg_server_assignment_count", COLUMN_NUMERIC},
    {"avg_xact_count", COLUMN_NUMERIC},
    {"avg_query_count", COLUMN_NUMERIC},
    {"avg_recv", COLUMN_NUMERIC},
    {"avg_sent", COLUMN_NUMERIC},
    {"avg_xact_time", COLUMN_NUMERIC},
    {"avg_query_time", COLUMN_NUMERIC},
    {"avg_wait_time", COLUMN_NUMERIC},
    {"avg_client_parse_count", COLUMN_NUMERIC},
    {"avg_server_parse_count", COLUMN_NUMERIC},
    {"avg_bind_count", COLUMN_NUMERIC},
    {"avg_client_login_count", COLUMN_NUMERIC},
    {"total_requests", COLUMN_NUMERIC | COLUMN_OLD},
};

static const struct column stats_totals_columns[] = {
    {"database", COLUMN_TEXT},
    {"server_assignment_count", COLUMN_NUMERIC},
    {"xact_count", COLUMN_NUMERIC},
    {"query_count", COLUMN_NUMERIC},
    {"bytes_received", COLUMN_NUMERIC},
    {"bytes_sent", COLUMN_NUMERIC},
    {"xact_time", COLUMN_NUMERIC},
    {"query_time", COLUMN_NUMERIC},
    {"wait_time", COLUMN_NUMERIC},
    {"client_parse_count", COLUMN_NUMERIC},
    {"server_parse_count", COLUMN_NUMERIC},
    {"bind_count", COLUMN_NUMERIC},
    {"client_login_count", COLUMN_NUMERIC},
};

static const struct column stats_averages_columns[] = {
    {"database", COLUMN_TEXT},
    {"server_assignment_count", COLUMN_NUMERIC},
    {"xact_count", COLUMN_NUMERIC},
    {"query_count", COLUMN_NUMERIC},
    {"bytes_received", COLUMN_NUMERIC},
    {"bytes_sent", COLUMN_NUMERIC},
    {"xact_time", COLUMN_NUMERIC},
    {"query_time", COLUMN_NUMERIC},
    {"wait_time", COLUMN_NUMERIC},
    {"avg_client_parse_count", COLUMN_NUMERIC},
    {"avg_server_parse_count", COLUMN_NUMERIC},
    {"avg_bind_count", COLUMN_NUMERIC},
    {"avg_client_login_count", COLUMN_NUMERIC},
};

static const struct column totals_columns[] = {{"name", COLUMN_TEXT}, {"value", COLUMN_NUMERIC}};
static const struct column lists_columns[] = {{"list", COLUMN_TEXT}, {"items", COLUMN_INT4}};
static const struct column version_columns[] = {{"version", COLUMN_TEXT}};
static const struct column state_columns[] = {{"key", COLUMN_TEXT}, {"value", COLUMN_TEXT}};

static const struct column config_columns[] = {
    {"key", COLUMN_TEXT},
    {"value", COLUMN_TEXT},
    {"default", COLUMN_TEXT},
    {"changeable", COLUMN_TEXT},
};

static const struct column facts_columns[] = {
    {"database", COLUMN_TEXT}, {"state", COLUMN_TEXT}, {"kind", COLUMN_TEXT},
    {"schema", COLUMN_TEXT},   {"name", COLUMN_TEXT},  {"effect", COLUMN_TEXT},
    {"reason", COLUMN_TEXT},
};

static const struct column peers_columns[] = {
    {"peer_id", COLUMN_INT4},
    {"host", COLUMN_TEXT},
    {"port", COLUMN_INT4},
    {"pool_size", COLUMN_INT4},
};

static const struct column peer_pools_columns[] = {
    {"peer_id", COLUMN_INT4},
    {"cl_active_cancel_req", COLUMN_INT4},
    {"cl_waiting_cancel_req", COLUMN_INT4},
    {"sv_active_cancel", COLUMN_INT4},
    {"sv_login", COLUMN_INT4},
};

static const struct column mem_columns[] = {
    {"name", COLUMN_TEXT}, {"size", COLUMN_INT4},     {"used", COLUMN_INT4},
    {"free", COLUMN_INT4}, {"memtotal", COLUMN_INT4},
};

static const struct column dns_hosts_columns[] = {
    {"hostname", COLUMN_TEXT},
    {"ttl", COLUMN_INT8},
    {"addrs", COLUMN_TEXT},
};

static const struct column dns_zones_columns[] = {
    {"zonename", COLUMN_TEXT},
    {"serial", COLUMN_INT8},
    {"count", COLUMN_INT4},
};

static const struct column alerts_columns[] = {
    {"name", COLUMN_TEXT},      {"scope", COLUMN_TEXT}, {"value", COLUMN_INT4},
    {"threshold", COLUMN_INT4}, {"since", COLUMN_TEXT}, {"for_s", COLUMN_INT4},
    {"state", COLUMN_TEXT},
};

const char *pool_mode_text(enum pool_mode mode) {
    switch (mode) {
    case POOL_MODE_SESSION:
        return "session";
    case POOL_MODE_TRANSACTION:
        return "transaction";
    case POOL_MODE_STATEMENT:
        return "statement";
    case POOL_MODE_UNSET:
        break;
    }
    return NULL;
}

static void view_config(const struct view_context *context) {
    struct buf value = {0};
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_POOLER, i);
        buf_clear(&value);
        setting_show(setting, context->admin->config, &value);
        rows_begin(context->rows);
        rows_text(context->rows, setting->name);
        rows_text(context->rows, buf_text(&value));
        rows_text(context->rows, setting->default_text == NULL ? "" : setting->default_text);
        rows_text(context->rows, setting->flags & SETTING_FLAG_LIVE ? "yes" : "no");
        rows_end(context->rows);
    }
    buf_release(&value);
}

static void text_pair(struct rows *rows, const char *key, const char *value) {
    rows_begin(rows);
    rows_text(rows, key);
    rows_text(rows, value);
    rows_end(rows);
}

static void view_state(const struct view_context *context) {
    const struct pool_set *pools = context->admin->workers[0].pools;
    text_pair(context->rows, "active", pools->is_paused || pools->is_suspended ? "no" : "yes");
    text_pair(context->rows, "paused", pools->is_paused ? "yes" : "no");
    text_pair(context->rows, "suspended", pools->is_suspended ? "yes" : "no");
}

static void view_version(const struct view_context *context) {
    rows_begin(context->rows);
    rows_text(context->rows, "PgBouncer " PGBOUNCER_VERSION);
    rows_end(context->rows);
}

static void view_alerts(const struct view_context *context) {
    size_t count;
    struct scoped_alert **alerts = monitor_list(context->admin, &count);
    for (size_t i = 0; i < count; i++) {
        const struct alert *alert = &alerts[i]->alert;
        rows_begin(context->rows);
        rows_text(context->rows, "active_servers");
        rows_text(context->rows, alert_scope_text(alerts[i]));
        rows_number(context->rows, alert->value);
        rows_number(context->rows, alert->rule.threshold);
        rows_time(context->rows, alert->since_wall_us);
        rows_number(context->rows, alert->rule.for_us / US_PER_S);
        rows_text(context->rows, alert_state_text(alert->state));
        rows_end(context->rows);
    }
    memory_free((void *)alerts);
}

#define COLUMNS(columns)     columns, COUNT(columns)
#define BY_WORKER_0(write)   VIEW_OWN, write, NULL, NULL, NULL, false, NULL
#define BY_CENSUS(write)     VIEW_CENSUS, write, NULL, NULL, NULL, false, NULL
#define BY_WALK(one, other)  VIEW_WALK, NULL, one, other, NULL, false, NULL
#define BY_ADMIN(one, other) VIEW_WALK, NULL, one, other, NULL, true, NULL

static const struct view views[] = {
    {"ACTIVE_SOCKETS", COLUMNS(sockets_columns),
     BY_WALK(view_client_socket_active, view_server_socket_active)},
    {"ALERTS", COLUMNS(alerts_columns), BY_WORKER_0(view_alerts)},
    {"CLIENTS", COLUMNS(clients_columns), BY_WALK(view_client, NULL)},
    {"CONFIG", COLUMNS(config_columns), BY_WORKER_0(view_config)},
    {"DATABASES", COLUMNS(databases_columns), BY_CENSUS(view_databases)},
    {"DNS_HOSTS", COLUMNS(dns_hosts_columns), BY_WORKER_0(view_dns_hosts)},
    {"DNS_ZONES", COLUMNS(dns_zones_columns), BY_WORKER_0(view_dns_zones)},
    {"FDS", COLUMNS(fds_columns), BY_ADMIN(view_client_fd, view_server_fd)},
    {"LISTS", COLUMNS(lists_columns), BY_CENSUS(view_lists)},
    {"MEM", COLUMNS(mem_columns), BY_CENSUS(view_memory)},
    {"FACTS", COLUMNS(facts_columns), BY_WORKER_0(view_facts)},
    {"NODES", COLUMNS(nodes_columns), BY_CENSUS(view_nodes)},
    {"NODE_POOLS", COLUMNS(node_pools_columns), BY_CENSUS(view_node_pools)},
    {"PINS", COLUMNS(pins_columns), BY_WALK(view_pin, NULL)},
    {"PEERS", COLUMNS(peers_columns), BY_WORKER_0(view_peers)},
    {"PEER_POOLS", COLUMNS(peer_pools_columns), BY_CENSUS(view_peer_pools)},
    {"POOLS", COLUMNS(pools_columns), BY_CENSUS(view_pools)},
    {"RETRIES", COLUMNS(retries_columns), BY_CENSUS(view_retries)},
    {"SERVERS", COLUMNS(servers_columns), VIEW_WALK, NULL, NULL, view_server, view_cancel, false,
     NULL},
    {"SHADOW", COLUMNS(shadow_columns), VIEW_CENSUS, view_shadow, NULL, NULL, NULL, false,
     census_take_shadow},
    {"SOCKETS", COLUMNS(sockets_columns), BY_WALK(view_client_socket, view_server_socket)},
    {"STATE", COLUMNS(state_columns), BY_WORKER_0(view_state)},
    {"STATS", COLUMNS(stats_columns), BY_CENSUS(view_stats)},
    {"STATS_AVERAGES", COLUMNS(stats_averages_columns), BY_CENSUS(view_stats_averages)},
    {"STATS_TOTALS", COLUMNS(stats_totals_columns), BY_CENSUS(view_stats_totals)},
    {"TOTALS", COLUMNS(totals_columns), BY_CENSUS(view_totals)},
    {"USERS", COLUMNS(users_columns), VIEW_CENSUS, view_users, NULL, NULL, NULL, false,
     census_take_users},
    {"VERSION", COLUMNS(version_columns), BY_WORKER_0(view_version)},
};

const struct view *view_find(const char *name) {
    for (size_t i = 0; i < COUNT(views); i++)
        if (bytes_equal_nocase(bytes_of_text(name), views[i].name)) return &views[i];
    return NULL;
}

size_t view_count(void) {
    return COUNT(views);
}

const struct view *view_at(size_t index) {
    CHECK(index < COUNT(views));
    return &views[index];
}
