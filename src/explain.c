/*
 * --explain-route: where statements would run, told without a server and without a catalog. Of one
 * statement, or of a script line by line.
 */
#include "explain.h"

#include "cluster/freshness.h"
#include "cluster/route.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/script.h"
#include "sql/traits.h"

#include <stdio.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)

/* What is counted of a script. */
struct tally {
    unsigned replica, primary, doubts, commands, data;
    unsigned unread; /* of the doubts: no SQL that this version understands */
};

/* The transaction that the script has open. */
struct open_transaction {
    unsigned line; /* 0: none */
    bool is_replica;
};

static struct route_request request_of(const struct traits *traits) {
    return (struct route_request){.flags = traits->flags,
                                  .why = traits->why,
                                  .mode = ROUTE_MODE_READ_WRITE,
                                  .transaction_node = -1,
                                  .need = {.stick_node = -1},
                                  .replica_fallback = true};
}

static const struct traits *traits_of_text(struct traits_cache *cache, struct bytes text,
                                           uint64_t now_us) {
    struct traits_context context = {.standard_conforming_strings = true,
                                     .safe_backslash_quote = true};
    return traits_of(cache, text, &context, now_us);
}

/* ---- one statement */

int explain_statement(const char *sql) {
    const struct cluster_member members[] = {{.host = "primary", .port = 5432, .weight = 1},
                                             {.host = "replica1", .port = 5432, .weight = 1},
                                             {.host = "replica2", .port = 5432, .weight = 1}};
    struct cluster *cluster = cluster_new("explain", members, COUNT(members), true);
    node_become(cluster_node(cluster, 0), NODE_PRIMARY, NODE_UP);
    for (size_t i = 1; i < COUNT(members); i++) {
        node_become(cluster_node(cluster, i), NODE_REPLICA, NODE_UP);
        node_sample(cluster_node(cluster, i), freshness_now(), freshness_now());
    }
    cluster_set_primary(cluster, 0);
    struct traits_cache *cache = traits_cache_new(1, UINT32_MAX, NULL);
    struct route_request request = request_of(traits_of_text(cache, bytes_of_text(sql), 1));
    struct route route = route_choose(&request, cluster);
    struct buf text = {0};
    route_describe(&text, &route, &request, cluster);
    (void)printf("%s\n", buf_text(&text));
    buf_release(&text);
    traits_cache_free(&cache);
    cluster_free(&cluster);
    return 0;
}

/* ---- a script */

bool explain_is_file(const char *argument) {
    struct stat about;
    size_t len = strlen(argument);
    bool is_named = len > 4 && strcmp(argument + len - 4, ".sql") == 0;
    return is_named || (stat(argument, &about) == 0 && S_ISREG(about.st_mode));
}

static bool is_doubt(const struct route *route, uint32_t flags) {
    if (route->reason == ROUTE_NOT_UNDERSTOOD) return true;
    return route->reason == ROUTE_NEEDS_PRIMARY && (flags & TRAITS_MAY_WRITE);
}

/* Follows the transactions: what stands in one runs where it began. */
static void follow(struct open_transaction *open, uint32_t flags, unsigned line,
                   const struct route *route) {
    if (flags & TRAITS_ENDS) {
        open->line = 0;
    } else if (flags & TRAITS_BEGINS) {
        open->line = line;
        open->is_replica = route->target == ROUTE_REPLICA;
    }
}

static void tell_statement(struct traits_cache *cache, struct bytes text, unsigned line,
                           struct open_transaction *open, struct tally *tally) {
    /* Each statement is a second later, so that no bound on new ones is met. */
    uint64_t now_us = ((uint64_t)tally->replica + tally->primary + 1) * 1000000u;
    const struct traits *traits = traits_of_text(cache, text, now_us);
    struct route_request request = request_of(traits);
    struct route route = route_wish(&request);
    struct buf sentence = {0};
    bool is_replica = route.target == ROUTE_REPLICA;
    if (open->line != 0) {
        is_replica = open->is_replica;
        buf_append_format(&sentence, "%s: within the transaction of line %u",
                          is_replica ? "replica" : "primary", open->line);
    } else {
        route_describe(&sentence, &route, &request, NULL);
        tally->doubts += is_doubt(&route, traits->flags);
        tally->unread += route.reason == ROUTE_NOT_UNDERSTOOD;
    }
    if (is_replica)
        tally->replica++;
    else
        tally->primary++;
    (void)printf("%u: %s\n", line, buf_text(&sentence));
    follow(open, traits->flags, line, &route);
    buf_release(&sentence);
}

static struct tally tell_script(struct bytes text) {
    struct traits_cache *cache = traits_cache_new(1, UINT32_MAX, NULL);
    struct tally tally = {0};
    struct open_transaction open = {0};
    struct script script;
    struct bytes part;
    unsigned line;
    enum script_part kind;
    script_begin(&script, text);
    while ((kind = script_next(&script, &part, &line)) != SCRIPT_END) {
        if (kind == SCRIPT_STATEMENT) {
            tell_statement(cache, part, line, &open, &tally);
        } else {
            bool is_data = kind == SCRIPT_DATA;
            (void)printf("%u: passed over: %s\n", line,
                         is_data ? "the data of a COPY" : "a line for psql");
            tally.data += is_data;
            tally.commands += !is_data;
        }
    }
    traits_cache_free(&cache);
    return tally;
}

static bool read_file(const char *path, struct buf *text) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    char chunk[65536];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0 && buf_length(text) < FILE_BYTES_MAX)
        buf_append(text, chunk, got);
    bool is_whole = ferror(file) == 0 && buf_length(text) < FILE_BYTES_MAX;
    (void)fclose(file);
    return is_whole;
}

int explain_file(const char *path) {
    struct buf text = {0};
    if (!read_file(path, &text)) {
        (void)fprintf(stderr, "weir: cannot read %s\n", path);
        buf_release(&text);
        return 1;
    }
    struct tally tally = tell_script(buf_content(&text));
    buf_release(&text);
    (void)printf("\n%u statements: %u on a replica, %u on the primary",
                 tally.replica + tally.primary, tally.replica, tally.primary);
    if (tally.doubts > 0)
        (void)printf(", %u of them since nobody knows what they do", tally.doubts);
    if (tally.commands + tally.data > 0)
        (void)printf("; passed over: %u lines for psql, %u blocks of data", tally.commands,
                     tally.data);
    (void)printf(
        "\nNo catalog was asked: functions of your own count as unknown, views as tables.\n");
    return tally.unread > 0 ? 2 : 0;
}
