/*
 * The table of views, and the small ones among them; see views.h. Columns, their types and their
 * order are PgBouncer's: exporters read by name, scripts by position. What is Weir's own stands in
 * views of its own, or behind PgBouncer's columns.
 */
#include "views.h"

#include "core/clock.h"
#include "core/memory.h"

static const struct column clients_columns[] = {
    {"type", COLUMN_TEXT},
    {"user", COLUMN_TEXT},
    {"database", COLUMN_TEXT},
    {"replication", COLUMN_TEXT},
    {"state", COLUMN_TEXT},
    {"addr", COLUMN_TEXT},
    {"port", COLUMN_INT4},
    {"local_addr", COLUMN_TEXT},
    {"local_port", COLUMN_INT4},
    {"connect_time", COLUMN_TEXT},
    {"request_time", COLUMN_TEXT},
    {"wait", COLUMN_INT4},
    {"wait_us", COLUMN_INT4},
    {"close_needed", COLUMN_INT4},
    {"ptr", COLUMN_TEXT},
    {"link", COLUMN_TEXT},
    {"remote_pid", COLUMN_INT4},
    {"tls", COLUMN_TEXT},
    {"application_name", COLUMN_TEXT},
    {"prepared_statements", COLUMN_INT4},
    {"id", COLUMN_INT4},
    {"node", COLUMN_TEXT}, /* from here on Weir's own */
    {"worker", COLUMN_INT4},
    {"route", COLUMN_TEXT},
};
#define SERVERS_COLUMNS (COUNT(clients_columns) - 1) /* the same without `route` */

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

static void number_pair(struct rows *rows, const char *key, uint64_t value) {
    rows_begin(rows);
    rows_text(rows, key);
    rows_number(rows, value);
    rows_end(rows);
}

static void view_state(const struct view_context *context) {
    bool is_paused = context->admin->workers[0].pools->is_paused;
    text_pair(context->rows, "active", is_paused ? "no" : "yes");
    text_pair(context->rows, "paused", is_paused ? "yes" : "no");
    text_pair(context->rows, "suspended", "no");
    text_pair(context->rows, "weir_version", WEIR_VERSION);
}

static void view_version(const struct view_context *context) {
    rows_begin(context->rows);
    rows_text(context->rows, "PgBouncer 1.25.2");
    rows_end(context->rows);
}

static void view_lists(const struct view_context *context) {
    const struct census *census = context->census;
    uint64_t used = 0, in_login = census->clients[CLIENT_STARTUP] + census->clients[CLIENT_LOGIN];
    for (unsigned i = CLIENT_WELCOME; i < CLIENT_CLOSED; i++) used += census->clients[i];
    const struct {
        const char *name;
        uint64_t items;
    } lists[] = {
        {"databases", view_databases_count(context->admin)},
        {"users", users_count(context->admin->workers[0].pools->users) + 1},
        {"peers", 0},
        {"pools", census->count},
        {"peer_pools", 0},
        {"free_clients", 0},
        {"used_clients", used},
        {"login_clients", in_login},
        {"free_servers", 0},
        {"used_servers", census->servers},
        {"dns_names", 0},
        {"dns_zones", 0},
        {"dns_queries", 0},
        {"dns_pending", 0},
    };
    for (size_t i = 0; i < COUNT(lists); i++)
        number_pair(context->rows, lists[i].name, lists[i].items);
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

#define COLUMNS(columns) columns, COUNT(columns)

static const struct view views[] = {
    {"ALERTS", COLUMNS(alerts_columns), VIEW_OWN, view_alerts, NULL},
    {"CLIENTS", COLUMNS(clients_columns), VIEW_WORKERS, NULL, view_clients},
    {"CONFIG", COLUMNS(config_columns), VIEW_OWN, view_config, NULL},
    {"DATABASES", COLUMNS(databases_columns), VIEW_CENSUS, view_databases, NULL},
    {"LISTS", COLUMNS(lists_columns), VIEW_CENSUS, view_lists, NULL},
    {"NODES", COLUMNS(nodes_columns), VIEW_CENSUS, view_nodes, NULL},
    {"NODE_POOLS", COLUMNS(node_pools_columns), VIEW_CENSUS, view_node_pools, NULL},
    {"POOLS", COLUMNS(pools_columns), VIEW_CENSUS, view_pools, NULL},
    {"SERVERS", clients_columns, SERVERS_COLUMNS, VIEW_WORKERS, NULL, view_servers},
    {"STATE", COLUMNS(state_columns), VIEW_OWN, view_state, NULL},
    {"STATS", COLUMNS(stats_columns), VIEW_CENSUS, view_stats, NULL},
    {"STATS_AVERAGES", COLUMNS(stats_averages_columns), VIEW_CENSUS, view_stats_averages, NULL},
    {"STATS_TOTALS", COLUMNS(stats_totals_columns), VIEW_CENSUS, view_stats_totals, NULL},
    {"TOTALS", COLUMNS(totals_columns), VIEW_CENSUS, view_totals, NULL},
    {"USERS", COLUMNS(users_columns), VIEW_CENSUS, view_users, NULL},
    {"VERSION", COLUMNS(version_columns), VIEW_OWN, view_version, NULL},
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
