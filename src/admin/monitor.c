/*
 * The alerts of this process: one for all databases together, and one for each database in use
 * that has an alert_active_servers of its own. What is judged is the number of servers that are
 * lent, which every worker keeps in the nodes' atomics, so that nobody has to be asked.
 */
#include "admin_state.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

#include <stdlib.h>

struct database_array {
    struct database **at;
    size_t count;
    size_t size;
};

static void collect(void *owner, struct database *database) {
    struct database_array *array = owner;
    if (array->count == array->size) {
        array->size = array->size == 0 ? 16 : array->size * 2;
        array->at = memory_resize(array->at, array->size * sizeof(struct database *));
    }
    array->at[array->count++] = database;
}

static int compare_databases(const void *a, const void *b) {
    return strcmp((*(struct database *const *)a)->name, (*(struct database *const *)b)->name);
}

struct database **database_list(struct databases *databases, size_t *count) {
    struct database_array array = {0};
    databases_each(databases, collect, &array);
    if (array.count > 0) qsort(array.at, array.count, sizeof(struct database *), compare_databases);
    *count = array.count;
    return array.at;
}

/* ---- judging */

static struct scoped_alert *alert_of(struct admin *admin, const char *scope) {
    struct map_node *node = map_find(&admin->alerts, bytes_of_text(scope));
    if (node != NULL) return MAP_OWNER(node, struct scoped_alert, node);
    size_t len = strlen(scope);
    struct scoped_alert *alert = memory_new(sizeof *alert + len + 1);
    memcpy(alert->scope, scope, len);
    map_add(&admin->alerts, &alert->node, bytes_of(alert->scope, len));
    return alert;
}

const char *alert_scope_text(const struct scoped_alert *alert) {
    return alert->scope[0] == '\0' ? "all databases" : alert->scope;
}

static void judge(struct admin *admin, const char *scope, int threshold, uint64_t value) {
    struct scoped_alert *scoped = alert_of(admin, scope);
    struct alert_rule rule = {(uint64_t)threshold, admin->config->alert_for_us};
    struct alert_time now = {loop_now_us(admin->workers[0].loop), clock_wall_us()};
    uint64_t since_us = scoped->alert.since_us;
    scoped->is_seen = true;
    switch (alert_judge(&scoped->alert, &rule, value, now)) {
    case ALERT_STARTED:
        log_line(LOG_LEVEL_WARNING,
                 "alert active_servers started: %s: %llu servers in use, more than %d for %llu s",
                 alert_scope_text(scoped), (unsigned long long)value, threshold,
                 (unsigned long long)(rule.for_us / US_PER_S));
        break;
    case ALERT_ENDED:
        log_line(LOG_LEVEL_WARNING,
                 "alert active_servers ended: %s: %llu servers in use; it lasted %llu s, %llu in "
                 "use at most",
                 alert_scope_text(scoped), (unsigned long long)value,
                 (unsigned long long)((now.monotonic_us - since_us) / US_PER_S),
                 (unsigned long long)scoped->alert.highest);
        break;
    case ALERT_SAME:
        break;
    }
}

static uint64_t active_servers(const struct cluster *cluster) {
    uint64_t sum = 0;
    for (size_t i = 0; i < cluster_count(cluster); i++)
        sum += node_active(cluster_node_const(cluster, i));
    return sum;
}

struct round {
    struct admin *admin;
    uint64_t active;
};

static void judge_database(void *owner, struct database *database) {
    struct round *round = owner;
    const struct config *config = round->admin->config;
    uint64_t active = active_servers(database->cluster);
    round->active += active;
    const struct config_database *entry = config_database(config, bytes_of_text(database->name));
    if (entry == NULL || entry->alert_active_servers == SETTING_UNSET) return;
    judge(round->admin, database->name, entry->alert_active_servers, active);
}

/* Alerts whose database has none of its own any more. */
static void forget_unseen(struct admin *admin) {
    struct map_node *node = map_next(&admin->alerts, NULL);
    while (node != NULL) {
        struct scoped_alert *alert = MAP_OWNER(node, struct scoped_alert, node);
        node = map_next(&admin->alerts, node);
        if (alert->is_seen) {
            alert->is_seen = false;
            continue;
        }
        map_remove(&admin->alerts, &alert->node);
        memory_free(alert);
    }
}

void monitor_alerts(struct admin *admin) {
    struct round round = {.admin = admin};
    databases_each(admin->databases, judge_database, &round);
    judge(admin, "", admin->config->alert_active_servers, round.active);
    forget_unseen(admin);
}

void monitor_release(struct admin *admin) {
    forget_unseen(admin);
    map_release(&admin->alerts);
}

static int compare_alerts(const void *a, const void *b) {
    return strcmp((*(struct scoped_alert *const *)a)->scope,
                  (*(struct scoped_alert *const *)b)->scope);
}

struct scoped_alert **monitor_list(const struct admin *admin, size_t *count) {
    struct scoped_alert **list = memory_new((admin->alerts.count + 1) * sizeof *list);
    *count = 0;
    struct map_node *node = map_next(&admin->alerts, NULL);
    for (; node != NULL; node = map_next(&admin->alerts, node))
        list[(*count)++] = MAP_OWNER(node, struct scoped_alert, node);
    qsort(list, *count, sizeof *list, compare_alerts);
    return list;
}
