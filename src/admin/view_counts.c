/*
 * SHOW LISTS and SHOW MEM: how much of everything there is. Also the views that this version can
 * only answer with no rows.
 */
#include "views.h"

#include "core/clock.h"
#include "core/memory.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/resolver.h"

struct count {
    const char *name;
    uint64_t items;
    size_t size; /* of one, for MEM */
};

static uint64_t clients_in_login(const struct census *census) {
    return census->clients[CLIENT_STARTUP] + census->clients[CLIENT_LOGIN];
}

static uint64_t clients_logged_in(const struct census *census) {
    uint64_t sum = 0;
    for (unsigned i = CLIENT_WELCOME; i < CLIENT_CLOSED; i++) sum += census->clients[i];
    return sum;
}

/* All workers share one cache of names. */
static struct dns *dns_of(const struct view_context *context) {
    return resolver_dns(loop_resolver(context->admin->workers[0].loop));
}

void view_lists(const struct view_context *context) {
    const struct census *census = context->census;
    size_t peers = context->admin->config->entries[SETTING_SCOPE_PEER].count;
    struct dns_counts dns = dns_count(dns_of(context));
    const struct count lists[] = {
        {"databases", view_databases_count(context->admin), 0},
        {"users", view_users_count(context), 0},
        {"peers", peers, 0},
        {"pools", census->count, 0},
        {"peer_pools", peers, 0},
        {"free_clients", 0, 0},
        {"used_clients", clients_logged_in(census) + clients_in_login(census), 0},
        {"login_clients", clients_in_login(census), 0},
        {"free_servers", 0, 0},
        {"used_servers", census->servers, 0},
        {"dns_names", dns.names, 0},
        {"dns_zones", dns.zones, 0},
        {"dns_queries", (size_t)dns.asking, 0},
        {"dns_pending", 0, 0},
    };
    for (size_t i = 0; i < COUNT(lists); i++) {
        rows_begin(context->rows);
        rows_text(context->rows, lists[i].name);
        rows_number(context->rows, lists[i].items);
        rows_end(context->rows);
    }
}

static void write_cache(struct rows *rows, const struct count *cache, uint64_t bytes) {
    rows_begin(rows);
    rows_text(rows, cache->name);
    rows_number(rows, cache->size);
    rows_number(rows, cache->items);
    rows_number(rows, 0);
    rows_number(rows, bytes);
    rows_end(rows);
}

/* Under PgBouncer's names of its caches. Memory comes from the system, so nothing is kept free. */
void view_memory(const struct view_context *context) {
    const struct census *census = context->census;
    const struct count caches[] = {
        {"user_cache", view_users_count(context), sizeof(struct user)},
        {"db_cache", view_databases_count(context->admin), sizeof(struct database)},
        {"pool_cache", census->count, sizeof(struct pool)},
        {"client_cache", clients_logged_in(census) + clients_in_login(census),
         sizeof(struct client)},
        {"server_cache", census->servers, sizeof(struct server)},
    };
    for (size_t i = 0; i < COUNT(caches); i++)
        write_cache(context->rows, &caches[i], caches[i].items * caches[i].size);
    const struct count statements = {"prepared_statement_cache", census->statements,
                                     sizeof(struct statement)};
    write_cache(context->rows, &statements, census->statement_bytes);
}

/* "127.0.0.1:0,[::1]:0": an address of a host has no port. */
static void write_dns_host(void *owner, const struct dns_view *view) {
    struct rows *rows = owner;
    struct buf text = {0};
    for (unsigned i = 0; i < view->count; i++) {
        bool is_v6 = strchr(view->addresses[i], ':') != NULL;
        buf_append_format(&text, "%s%s%s%s:0", i > 0 ? "," : "", is_v6 ? "[" : "",
                          view->addresses[i], is_v6 ? "]" : "");
    }
    rows_begin(rows);
    rows_text(rows, view->host);
    rows_number(rows, view->ttl_us / US_PER_S);
    rows_text(rows, buf_text(&text));
    rows_end(rows);
    buf_release(&text);
}

void view_dns_hosts(const struct view_context *context) {
    struct loop *loop = context->admin->workers[0].loop;
    dns_each(dns_of(context), loop_now_us(loop), write_dns_host, context->rows);
}

static void write_dns_zone(void *owner, const struct dns_zone_view *view) {
    struct rows *rows = owner;
    rows_begin(rows);
    rows_text(rows, view->zone);
    rows_number(rows, view->serial);
    rows_number(rows, view->hosts);
    rows_end(rows);
}

void view_dns_zones(const struct view_context *context) {
    dns_each_zone(dns_of(context), write_dns_zone, context->rows);
}
