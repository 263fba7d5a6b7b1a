/*
 * The admin as a whole: its beginning, its end, and what it does by the clock; see admin/admin.h.
 */
#include "admin/admin.h"

#include "admin_state.h"
#include "commands.h"
#include "console.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "gather.h"
#include "http.h"
#include "walk.h"

#define SHAPES_MAX 64 /* of SHOW ROUTE */

struct admin *admin_new(const struct admin_worker *workers, unsigned count,
                        struct databases *databases, struct config *config,
                        const struct admin_ops *ops) {
    CHECK(count >= 1 && count <= WORKERS_MAX);
    struct admin *admin = memory_new(sizeof *admin);
    admin->workers = workers;
    admin->workers_count = count;
    admin->databases = databases;
    admin->config = config_ref(config);
    admin->ops = *ops;
    admin->traits = traits_cache_new(SHAPES_MAX, (unsigned)config->parse_inline_tokens, NULL);
    admin->averages.older_us = admin->averages.newer_us = loop_now_us(workers[0].loop);
    list_init(&admin->gathers);
    list_init(&admin->walks);
    list_init(&admin->consoles);
    return admin;
}

void admin_free(struct admin **admin_at) {
    struct admin *admin = *admin_at;
    if (admin == NULL) return;
    *admin_at = NULL;
    http_close(&admin->http);
    gather_free_all(admin);
    walk_free_all(admin);
    console_free_all(admin);
    monitor_release(admin);
    averages_release(&admin->averages);
    traits_cache_free(&admin->traits);
    config_unref(&admin->config);
    memory_free(admin);
}

void admin_apply(struct admin *admin, struct config *config) {
    struct config *old = admin->config;
    admin->config = config_ref(config);
    config_unref(&old);
}

void admin_started(struct admin *admin) {
    admin->is_started = true;
    monitor_alerts(admin); /* so that SHOW ALERTS has them before the first tick */
}

bool admin_http_start(struct admin *admin, const char *http_listen, struct buf *error) {
    if (http_listen[0] == '\0') return true;
    admin->http = http_open(admin, http_listen, error);
    return admin->http != NULL;
}

void admin_http_stop(struct admin *admin) {
    http_close(&admin->http);
}

/* ---- averages */

static void tell_stats(struct admin *admin, const struct stats_values *average) {
    struct buf line = {0};
    buf_append_format(
        &line,
        "stats: %llu xacts/s, %llu queries/s, %llu client parses/s, %llu server parses/s, %llu "
        "binds/s, %llu client logins/s, in %llu B/s, out %llu B/s, xact %llu us, query %llu us, "
        "wait %llu us",
        (unsigned long long)average->transactions, (unsigned long long)average->queries,
        (unsigned long long)average->client_parses, (unsigned long long)average->server_parses,
        (unsigned long long)average->binds, (unsigned long long)average->client_logins,
        (unsigned long long)average->bytes_received, (unsigned long long)average->bytes_sent,
        (unsigned long long)average->transaction_us, (unsigned long long)average->query_us,
        (unsigned long long)average->wait_us);
    if (admin->config->log_stats) log_line(LOG_LEVEL_LOG, "%s", buf_text(&line));
    admin->ops.status(admin->ops.owner, buf_text(&line));
    buf_release(&line);
}

/* Takes the readings of all databases; they together are returned. */
static struct stats_values note_averages(struct admin *admin, const struct census *census) {
    struct stats_values all = {0};
    for (size_t i = 0; i < census->counts.count; i++) {
        const struct census_database *database = census->databases[i];
        stats_values_add(&all, &database->stats);
        averages_note(&admin->averages, database->name, &database->stats);
    }
    averages_note(&admin->averages, "", &all);
    return all;
}

static void count_part(struct gather_part *part) {
    gather_census(part);
}

static void on_period_counted(struct gather *gather) {
    struct admin *admin = gather->admin;
    uint64_t now_us = loop_now_us(admin->workers[0].loop);
    averages_turn(&admin->averages, now_us);
    struct stats_values all = note_averages(admin, gather_merge(gather));
    admin->is_averaging = false;
    struct stats_values average = averages_get(&admin->averages, "", &all, now_us);
    tell_stats(admin, &average);
}

static void tick_averages(struct admin *admin) {
    static const struct gather_plan plan = {count_part, on_period_counted};
    uint64_t now_us = loop_now_us(admin->workers[0].loop);
    uint64_t period_us = (uint64_t)admin->config->stats_period * US_PER_S;
    if (period_us == 0 || admin->is_averaging) return;
    if (now_us - admin->averages.newer_us < period_us) return;
    admin->is_averaging = true;
    gather_send(gather_new(admin, &plan, NULL));
}

void admin_tick(struct admin *admin) {
    monitor_alerts(admin);
    tick_averages(admin);
    control_tick(admin);
    walk_tick(admin);
    console_tick(admin);
}
