/*
 * SHOW POOLS, NODE_POOLS, DATABASES, USERS and NODES: all made from the census of the workers and
 * the configuration at hand.
 */
#include "views.h"

#include "cluster/fitness.h"
#include "cluster/report.h"
#include "core/clock.h"
#include "core/memory.h"

#include <stdlib.h>

#define CONSOLE_NAME      "pgbouncer"
#define CONSOLE_POOL_MODE "statement"
#define CONSOLE_POOL_SIZE 2

static const struct config_database *entry_of(const struct admin *admin, const char *name) {
    return config_database(admin->config, bytes_of_text(name));
}

/* PgBouncer shows it where host is a list. */
static const char *load_balance_text(const struct config_database *entry) {
    if (entry == NULL || entry->hosts_count < 2) return NULL;
    return config_load_balance_hosts(entry) == BALANCE_DISABLE ? "disable" : "round-robin";
}

static void write_servers(struct rows *rows, const uint32_t servers[CENSUS_SERVER_COUNT]) {
    for (unsigned i = 0; i < CENSUS_SERVER_COUNT; i++) rows_number(rows, servers[i]);
}

void view_pools(const struct view_context *context) {
    struct rows *rows = context->rows;
    for (size_t i = 0; i < context->census->count; i++) {
        const struct census_pool *pool = context->census->pools[i];
        bool is_console = pool->database == NULL;
        rows_begin(rows);
        rows_text(rows, pool->database_name);
        rows_text(rows, pool->user);
        rows_number(rows, pool->clients[CENSUS_CLIENT_ACTIVE] + pool->clients[CENSUS_CLIENT_IDLE]);
        rows_number(rows, pool->clients[CENSUS_CLIENT_WAITING]);
        rows_number(rows, pool->cancels.active);
        rows_number(rows, pool->cancels.waiting);
        uint32_t servers[CENSUS_SERVER_COUNT];
        memcpy(servers, pool->servers, sizeof servers);
        servers[CENSUS_ACTIVE_CANCEL] += (uint32_t)pool->cancels.active;
        write_servers(rows, servers);
        rows_wait(rows, pool->wait_us);
        rows_text(rows, is_console ? CONSOLE_POOL_MODE : pool_mode_text(pool->mode));
        rows_text(rows, is_console
                            ? NULL
                            : load_balance_text(entry_of(context->admin, pool->database_name)));
        rows_end(rows);
    }
}

static void write_node_pool(struct rows *rows, const struct census_pool *pool, size_t index) {
    const struct node *node = cluster_node_const(pool->cluster, index);
    const struct census_node *counts = &pool->nodes[index];
    rows_begin(rows);
    rows_text(rows, pool->database_name);
    rows_text(rows, pool->user);
    rows_text(rows, node->name);
    rows_text(rows, node_role_text(node_role(node)));
    write_servers(rows, counts->servers);
    /* Without routing all hosts share one limit, and nobody counts by host. */
    rows_number(rows, cluster_is_probed(pool->cluster) ? counts->limit : pool->nodes[0].limit);
    rows_number(rows, counts->stats.queries);
    rows_number(rows, counts->stats.server_logins);
    rows_number(rows, counts->stats.server_failures);
    rows_text(rows, counts->error);
    rows_end(rows);
}

void view_node_pools(const struct view_context *context) {
    for (size_t i = 0; i < context->census->count; i++) {
        const struct census_pool *pool = context->census->pools[i];
        for (size_t n = 0; n < pool->nodes_count; n++) write_node_pool(context->rows, pool, n);
    }
}

/* ---- DATABASES */

struct database_row {
    const char *name;
    const struct config_database *entry;
    const struct database *database; /* NULL: not in use yet */
};

static int compare_rows(const void *a, const void *b) {
    return strcmp(((const struct database_row *)a)->name, ((const struct database_row *)b)->name);
}

/* Those in use and those that are listed, by name, and last of all the console. `*` stands for
 * names that are not known before somebody asks for one. */
static struct database_row *database_rows(struct admin *admin, struct database **list,
                                          size_t *count) {
    const struct config_entries *entries = &admin->config->entries[SETTING_SCOPE_DATABASE];
    struct database_row *rows = memory_new((*count + entries->count + 1) * sizeof *rows);
    size_t used = *count, filled = 0;
    for (size_t i = 0; i < used; i++) {
        const struct config_database *entry = entry_of(admin, list[i]->name);
        if (entry != NULL) rows[filled++] = (struct database_row){list[i]->name, entry, list[i]};
    }
    size_t in_use = filled;
    for (size_t i = 0; i < entries->count; i++) {
        const struct config_database *entry = config_database_at(admin->config, i);
        struct database_row row = {.name = entry->entry.name, .entry = entry};
        if (strcmp(row.name, "*") == 0) continue;
        if (bsearch(&row, rows, in_use, sizeof row, compare_rows) == NULL) rows[filled++] = row;
    }
    rows[filled++] = (struct database_row){.name = CONSOLE_NAME};
    qsort(rows, filled, sizeof *rows, compare_rows);
    *count = filled;
    return rows;
}

size_t view_databases_count(struct admin *admin) {
    size_t count;
    struct database **list = database_list(admin->databases, &count);
    struct database_row *found = database_rows(admin, list, &count);
    memory_free(found);
    memory_free((void *)list);
    return count;
}

struct database_counts {
    uint64_t servers;
    uint64_t clients;
};

static struct database_counts count_database(const struct census *census, const char *name) {
    struct database_counts counts = {0};
    size_t count;
    struct census_pool *const *pools = census_find(census, name, &count);
    for (size_t i = 0; i < count; i++) {
        counts.servers += census_sum(pools[i]->servers);
        for (unsigned c = 0; c < CENSUS_CLIENT_COUNT; c++) counts.clients += pools[i]->clients[c];
    }
    return counts;
}

static void write_console_database(struct rows *rows, const struct config *config,
                                   struct database_counts counts) {
    rows_text(rows, NULL);
    rows_number(rows, (uint64_t)config->listen_port);
    rows_text(rows, CONSOLE_NAME);
    rows_text(rows, CONSOLE_NAME);
    rows_number(rows, CONSOLE_POOL_SIZE);
    rows_number(rows, 0);
    rows_number(rows, 0);
    rows_number(rows, config->server_lifetime_us / US_PER_S);
    rows_text(rows, CONSOLE_POOL_MODE);
    rows_null(rows);
    rows_number(rows, (uint64_t)config->max_db_connections);
    rows_number(rows, counts.servers);
    rows_number(rows, (uint64_t)config->max_db_client_connections);
    rows_number(rows, counts.clients);
    rows_number(rows, 0);
    rows_number(rows, 0);
    rows_number(rows, 0);
}

static void write_database(struct rows *rows, const struct config *config,
                           const struct database_row *row, struct database_counts counts) {
    const struct config_database *entry = row->entry;
    rows_text(rows, entry->host.text);
    rows_number(rows, (uint64_t)entry->hosts[0].port);
    rows_text(rows, config_dbname(entry, bytes_of_text(row->name)).at);
    rows_text(rows, entry->user);
    rows_number(rows, (uint64_t)config_pool_size(config, entry, NULL));
    rows_number(rows, (uint64_t)config_min_pool_size(config, entry));
    rows_number(rows, (uint64_t)config_reserve_pool_size(config, entry, NULL));
    rows_number(rows, config_server_lifetime_us(config, entry) / US_PER_S);
    rows_text(rows, pool_mode_text(entry->pool_mode));
    rows_text(rows, load_balance_text(entry));
    rows_number(rows, (uint64_t)config_max_db_connections(config, entry));
    rows_number(rows, counts.servers);
    rows_number(rows, (uint64_t)config_max_db_client_connections(config, entry));
    rows_number(rows, counts.clients);
    rows_number(rows, row->database != NULL && atomic_load(&row->database->is_paused));
    rows_number(rows, row->database != NULL && atomic_load(&row->database->is_disabled));
    rows_number(rows, (uint64_t)config_reserve_pool_size(config, entry, NULL));
}

void view_databases(const struct view_context *context) {
    size_t count;
    struct database **list = database_list(context->admin->databases, &count);
    struct database_row *found = database_rows(context->admin, list, &count);
    for (size_t i = 0; i < count; i++) {
        struct database_counts counts = count_database(context->census, found[i].name);
        rows_begin(context->rows);
        rows_text(context->rows, found[i].name);
        if (found[i].entry == NULL) {
            write_console_database(context->rows, context->admin->config, counts);
        } else {
            write_database(context->rows, context->admin->config, &found[i], counts);
        }
        rows_end(context->rows);
    }
    memory_free(found);
    memory_free((void *)list);
}

/* ---- USERS */

struct user_row {
    struct map_node node;
    uint64_t servers;
    char name[];
};

static struct user_row *user_row_of(struct map *users, struct bytes name) {
    struct map_node *node = map_find(users, name);
    if (node != NULL) return MAP_OWNER(node, struct user_row, node);
    struct user_row *row = memory_new(sizeof *row + name.len + 1);
    memcpy(row->name, name.at, name.len);
    map_add(users, &row->node, bytes_of(row->name, name.len));
    return row;
}

/* The users of auth_file and of [users], and those who have pools. */
static void collect_users(const struct view_context *context, struct map *users) {
    const struct config *config = context->admin->config;
    const struct users *known = context->admin->workers[0].pools->users;
    const struct user *user = users_next(known, NULL);
    for (; user != NULL; user = users_next(known, user)) (void)user_row_of(users, user->name);
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_USER].count; i++)
        (void)user_row_of(users, bytes_of_text(config_user_at(config, i)->entry.name));
    for (size_t i = 0; i < context->census->count; i++) {
        const struct census_pool *pool = context->census->pools[i];
        user_row_of(users, bytes_of_text(pool->user))->servers += census_sum(pool->servers);
    }
}

static struct user_row **user_rows(const struct view_context *context, size_t *count);

size_t view_users_count(const struct view_context *context) {
    size_t count;
    struct user_row **rows = user_rows(context, &count);
    for (size_t i = 0; i < count; i++) memory_free(rows[i]);
    memory_free((void *)rows);
    return count;
}

/* A size in nine columns, or nothing where it is not set. */
static void write_size(struct rows *rows, int size) {
    struct buf text = {0};
    if (size != SETTING_UNSET) buf_append_format(&text, "%9d", size);
    rows_text(rows, buf_text(&text));
    buf_release(&text);
}

static void write_user(const struct view_context *context, const struct user_row *row) {
    const struct config *config = context->admin->config;
    const struct config_user *user = config_user(config, row->node.key);
    const char *mode = user == NULL ? NULL : pool_mode_text(user->pool_mode);
    rows_begin(context->rows);
    rows_text(context->rows, row->name);
    write_size(context->rows, user == NULL ? SETTING_UNSET : user->pool_size);
    write_size(context->rows, user == NULL ? SETTING_UNSET : user->reserve_pool_size);
    rows_text(context->rows, mode);
    rows_number(context->rows, (uint64_t)config_max_user_connections(config, user));
    rows_number(context->rows, row->servers);
    rows_number(context->rows, (uint64_t)config_max_user_client_connections(config, user));
    rows_number(context->rows, census_user_clients(context->census, row->node.key));
    rows_end(context->rows);
}

static int compare_users(const void *a, const void *b) {
    return strcmp((*(struct user_row *const *)a)->name, (*(struct user_row *const *)b)->name);
}

static struct user_row **user_rows(const struct view_context *context, size_t *count) {
    struct map users = {0};
    collect_users(context, &users);
    struct user_row **rows = memory_new((users.count + 1) * sizeof *rows);
    *count = 0;
    struct map_node *node = map_next(&users, NULL);
    for (; node != NULL; node = map_next(&users, node))
        rows[(*count)++] = MAP_OWNER(node, struct user_row, node);
    map_release(&users);
    qsort(rows, *count, sizeof *rows, compare_users);
    return rows;
}

void view_users(const struct view_context *context) {
    size_t count;
    struct user_row **rows = user_rows(context, &count);
    for (size_t i = 0; i < count; i++) {
        write_user(context, rows[i]);
        memory_free(rows[i]);
    }
    memory_free((void *)rows);
}

/* ---- NODES */

/* What all pools of a database do on one node together. */
static struct census_node sum_node(const struct census *census, const char *database_name,
                                   const struct cluster *cluster, size_t index) {
    struct census_node sum = {0};
    size_t count;
    struct census_pool *const *pools = census_find(census, database_name, &count);
    for (size_t i = 0; i < count; i++) {
        if (pools[i]->cluster != cluster) continue;
        const struct census_node *node = &pools[i]->nodes[index];
        for (unsigned s = 0; s < CENSUS_SERVER_COUNT; s++) sum.servers[s] += node->servers[s];
        stats_values_add(&sum.stats, &node->stats);
        if (node->error != NULL) sum.error = node->error;
    }
    return sum;
}

static void write_lag(struct rows *rows, const struct node_report *report) {
    if (report->has_lag) {
        rows_number(rows, report->lag_bytes);
        rows_number(rows, report->lag_ms);
    } else {
        rows_null(rows);
        rows_null(rows);
    }
    if (report->lsn == 0) {
        rows_null(rows);
    } else {
        struct buf lsn = {0};
        buf_append_format(&lsn, "%X/%X", (unsigned)(report->lsn >> 32), (unsigned)report->lsn);
        rows_text(rows, buf_text(&lsn));
        buf_release(&lsn);
    }
    if (report->timeline == 0) {
        rows_null(rows);
    } else {
        rows_number(rows, report->timeline);
    }
}

/* The share in percent of its weight. */
static void write_fitness(struct rows *rows, const struct node *node,
                          const struct node_report *report) {
    unsigned weight = node->weight == 0 ? 1 : node->weight;
    rows_text(rows, node->zone[0] == '\0' ? NULL : node->zone);
    rows_number(rows, node->weight);
    rows_number(rows, report->share * 100 / (weight * NODE_RAMP_FULL));
    rows_number(rows, report->errors);
    rows_text(rows, report->left_out);
}

static void write_node(const struct view_context *context, const char *database_name,
                       struct cluster *cluster, size_t index) {
    struct node_report report;
    const struct node *node = cluster_node_const(cluster, index);
    struct census_node sum = sum_node(context->census, database_name, cluster, index);
    node_report_get(cluster, index, &report);
    rows_begin(context->rows);
    rows_text(context->rows, database_name);
    rows_text(context->rows, node->name);
    rows_text(context->rows, node->host);
    rows_number(context->rows, node->port);
    rows_text(context->rows, node_role_text(report.role));
    rows_text(context->rows, node_state_text(report.state));
    write_lag(context->rows, &report);
    rows_number(context->rows, sum.servers[CENSUS_ACTIVE] + sum.servers[CENSUS_ACTIVE_CANCEL]);
    rows_number(context->rows, sum.servers[CENSUS_IDLE] + sum.servers[CENSUS_USED]);
    rows_number(context->rows, sum.stats.queries);
    if (report.latency_us == 0) {
        rows_null(context->rows);
    } else {
        rows_number(context->rows, report.latency_us);
    }
    rows_text(context->rows, report.error[0] != '\0' ? report.error : sum.error);
    rows_text(context->rows, report.chosen_by);
    write_fitness(context->rows, node, &report);
    rows_end(context->rows);
}

void view_nodes(const struct view_context *context) {
    size_t count;
    struct database **list = database_list(context->admin->databases, &count);
    for (size_t i = 0; i < count; i++) {
        if (atomic_load(&list[i]->is_removed)) continue;
        struct cluster *cluster = database_cluster(context->admin->databases, list[i]);
        for (size_t n = 0; n < cluster_count(cluster); n++)
            write_node(context, list[i]->name, cluster, n);
        cluster_free(&cluster);
    }
    memory_free((void *)list);
}
