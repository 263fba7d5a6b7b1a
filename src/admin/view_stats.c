/*
 * SHOW STATS and its relatives: the counters by database, and their averages over the last period.
 * One table gives the order in which PgBouncer lists them.
 */
#include "views.h"

#include <stddef.h>

static const struct {
    size_t offset; /* in struct stats_values */
    const char *name;
} counters[] = {
    {offsetof(struct stats_values, assignments), "server_assignment_count"},
    {offsetof(struct stats_values, transactions), "xact_count"},
    {offsetof(struct stats_values, queries), "query_count"},
    {offsetof(struct stats_values, bytes_received), "client_bytes"},
    {offsetof(struct stats_values, bytes_sent), "server_bytes"},
    {offsetof(struct stats_values, transaction_us), "xact_time"},
    {offsetof(struct stats_values, query_us), "query_time"},
    {offsetof(struct stats_values, wait_us), "wait_time"},
    {offsetof(struct stats_values, client_parses), "ps_client_parse_count"},
    {offsetof(struct stats_values, server_parses), "ps_server_parse_count"},
    {offsetof(struct stats_values, binds), "ps_bind_count"},
    {offsetof(struct stats_values, client_logins), "client_login_count"},
};

static uint64_t counter_of(const struct stats_values *values, size_t index) {
    uint64_t value;
    memcpy(&value, (const char *)values + counters[index].offset, sizeof value);
    return value;
}

static void write_counters(struct rows *rows, const struct stats_values *values) {
    for (size_t i = 0; i < COUNT(counters); i++) rows_number(rows, counter_of(values, i));
}

/* The groups of counters that a view has. */
enum { TOTALS = 1, AVERAGES = 2, OLD = 4 };

static struct stats_values average_of(const struct view_context *context, const char *name,
                                      const struct stats_values *now) {
    struct admin *admin = context->admin;
    if (admin->config->stats_period == 0) return (struct stats_values){0};
    return averages_get(&admin->averages, name, now, loop_now_us(admin->workers[0].loop));
}

static void write_all(const struct view_context *context, unsigned groups) {
    for (size_t i = 0; i < context->census->counts.count; i++) {
        const struct census_database *database = context->census->databases[i];
        struct stats_values average = average_of(context, database->name, &database->stats);
        rows_begin(context->rows);
        rows_text(context->rows, database->name);
        if (groups & TOTALS) write_counters(context->rows, &database->stats);
        if (groups & AVERAGES) write_counters(context->rows, &average);
        if (groups & OLD) rows_number(context->rows, database->stats.queries);
        rows_end(context->rows);
    }
}

void view_stats(const struct view_context *context) {
    write_all(context, TOTALS | AVERAGES | OLD);
}

void view_stats_totals(const struct view_context *context) {
    write_all(context, TOTALS);
}

void view_stats_averages(const struct view_context *context) {
    write_all(context, AVERAGES);
}

void view_retries(const struct view_context *context) {
    for (size_t i = 0; i < context->census->counts.count; i++) {
        const struct census_database *database = context->census->databases[i];
        rows_begin(context->rows);
        rows_text(context->rows, database->name);
        rows_number(context->rows, database->stats.retries_refused);
        rows_number(context->rows, database->stats.retries_missing);
        rows_number(context->rows, database->stats.retries_conflict);
        rows_number(context->rows, database->stats.retries_lost);
        rows_end(context->rows);
    }
}

static void write_named(struct rows *rows, const char *prefix, const struct stats_values *values) {
    struct buf name = {0};
    for (size_t i = 0; i < COUNT(counters); i++) {
        buf_clear(&name);
        buf_append_format(&name, "%s%s", prefix, counters[i].name);
        rows_begin(rows);
        rows_text(rows, buf_text(&name));
        rows_number(rows, counter_of(values, i));
        rows_end(rows);
    }
    buf_release(&name);
}

void view_totals(const struct view_context *context) {
    struct stats_values sum = {0};
    for (size_t i = 0; i < context->census->counts.count; i++)
        stats_values_add(&sum, &context->census->databases[i]->stats);
    struct stats_values average = average_of(context, "", &sum);
    write_named(context->rows, "total_", &sum);
    write_named(context->rows, "avg_", &average);
}
