/*
 * SHOW ROUTE: where a statement would run now, and why, judged by the same functions as on the
 * data path, for a session that has just begun.
 */
#include "views.h"

#include "core/memory.h"
#include "sql/facts.h"

static const struct column columns[] = {
    {"database", COLUMN_TEXT},
    {"target", COLUMN_TEXT},
    {"node", COLUMN_TEXT},
    {"reason", COLUMN_TEXT},
};

static const char *const target_texts[] = {
    [ROUTE_ANY] = "any",
    [ROUTE_PRIMARY] = "primary",
    [ROUTE_REPLICA] = "replica",
};

static enum route_mode mode_of(enum routing routing) {
    switch (routing) {
    case ROUTING_SHADOW: /* where it would run with it */
    case ROUTING_READ_WRITE:
        return ROUTE_MODE_READ_WRITE;
    case ROUTING_PRIMARY:
        return ROUTE_MODE_PRIMARY;
    case ROUTING_REPLICA:
        return ROUTE_MODE_REPLICA;
    case ROUTING_UNSET:
    case ROUTING_OFF:
        break;
    }
    return ROUTE_MODE_OFF;
}

static struct route_request request_for(const struct config *config,
                                        const struct config_database *entry,
                                        const struct database *database,
                                        const struct traits *traits) {
    static const enum route_choice choices[] = {
        [REPLICA_CHOICE_ROUND_ROBIN] = ROUTE_ROUND_ROBIN,
        [REPLICA_CHOICE_LATENCY] = ROUTE_LATENCY,
    };
    struct config_choice choice = config_choice(config, entry);
    struct route_request request = {.flags = traits->flags,
                                    .why = traits->why,
                                    .mode = mode_of(config_routing(config, entry, NULL)),
                                    .transaction_node = -1,
                                    .need.stick_node = -1,
                                    .may_wait = config->replica_wait_us > 0,
                                    .replica_fallback =
                                        choice.replica_fallback == REPLICA_FALLBACK_ON,
                                    .choice = choices[choice.replica_choice]};
    enum read_consistency consistency = config_read_consistency(config, entry, NULL);
    if (consistency == READ_CONSISTENCY_CLUSTER) request.need.floor = freshness_now();
    if (consistency == READ_CONSISTENCY_DATABASE)
        request.need.floor =
            freshness_floor(database->hash, traits->flags & TRAITS_BEGINS ? NULL : &traits->reads);
    return request;
}

static void write_route(struct admin *admin, struct database *database, struct bytes sql,
                        struct rows *rows) {
    const struct config_database *entry =
        config_database(admin->config, bytes_of_text(database->name));
    struct cluster *cluster = database_cluster(admin->databases, database);
    struct facts *facts = NULL;
    cluster_learn(cluster, &facts);
    bool is_known = facts != NULL && facts_schema(facts) == freshness_schema(database->hash);
    struct traits_context context = {.standard_conforming_strings = true,
                                     .safe_backslash_quote = true,
                                     .facts = is_known ? facts : facts_unread()};
    if (!cluster_is_probed(cluster)) context.facts = NULL;
    const struct traits *traits =
        traits_of(admin->traits, sql, &context, loop_now_us(admin->workers[0].loop));
    struct route_request request = request_for(admin->config, entry, database, traits);
    struct route route = route_choose(&request, cluster);
    struct buf reason = {0};
    route_describe(&reason, &route, &request, cluster);
    rows_begin(rows);
    rows_text(rows, database->name);
    rows_text(rows, target_texts[route.target]);
    rows_text(rows, route.node < 0 ? NULL : cluster_node(cluster, (size_t)route.node)->name);
    rows_text(rows, buf_text(&reason));
    rows_end(rows);
    buf_release(&reason);
    facts_free(&facts);
    cluster_free(&cluster);
}

bool view_route(struct admin *admin, const char *name, struct bytes sql, struct rows *rows) {
    rows_init(rows, columns, COUNT(columns), 0);
    if (name != NULL) {
        struct database *database =
            databases_get(admin->databases, admin->config, bytes_of_text(name));
        if (database == NULL) return false;
        write_route(admin, database, sql, rows);
        return true;
    }
    for (size_t i = 0; i < admin->config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        const char *listed = config_database_at(admin->config, i)->entry.name;
        if (strcmp(listed, "*") == 0) continue;
        struct database *database =
            databases_get(admin->databases, admin->config, bytes_of_text(listed));
        if (database != NULL) write_route(admin, database, sql, rows);
    }
    return true;
}
