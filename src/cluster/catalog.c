/*
 * Reading the catalog; see cluster/catalog.h.
 *
 *      closed -> connecting -> settling -> idle <-> asking for the fingerprint
 *                                            ^`---> asking for the rows -> building --.
 *                                            `-----------------------------------------'
 *
 * One statement asks for everything, so that one snapshot answers it. What views, policies,
 * defaults, checks and SQL bodies call and read stands in their stored trees by number (funcid,
 * relid), also where pg_depend has no row since it is PostgreSQL's own. The text of other functions
 * is searched for the names of functions that are called there, and of relations.
 *
 * The fingerprint is the number of rows that were ever changed in the catalogs that matter, as the
 * statistics have it: cheap, but up to about a second late. DDL that goes through this process does
 * not wait for it.
 */
#include "cluster/catalog.h"

#include "cluster/freshness.h"
#include "core/check.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/loop.h"
#include "sql/facts.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_TIMEOUT_MS 60000u
#define PAUSE_US_MIN    10000u /* between two readings, and */
#define PAUSE_TIMES     4u     /* so many times what the last one took */
#define SLICE_ROWS      500u
#define VERSION_BODIES  140000u /* since when functions have parsed bodies */
#define RETRY_US        1000000u

enum catalog_step {
    CATALOG_CLOSED,
    CATALOG_CONNECTING,
    CATALOG_SETTLING,
    CATALOG_IDLE,
    CATALOG_COMPARING,
    CATALOG_READING,
    CATALOG_BUILDING
};

struct catalog {
    struct loop *loop;
    struct cluster *cluster;
    const struct probe_settings *settings;
    uint64_t hash;
    void (*changed)(void *owner);
    void *owner;
    enum catalog_step step;
    struct pqconn *conn;
    int node; /* where the connection leads */
    unsigned version;
    bool is_from_primary;  /* they were read from a primary */
    bool is_read;          /* there are facts, */
    uint32_t schema;       /* and the schema number they hold for */
    char fingerprint[32];  /* from before they were asked for */
    bool is_outdated;      /* the fingerprint has changed since */
    bool is_failing;       /* the log was told */
    uint32_t asked_schema; /* of the reading under way */
    uint64_t asked_us, ended_us, compared_us, took_us;
    struct buf rows; /* of the answer, six texts each with its NUL */
    size_t done;     /* bytes of them that were worked through */
    struct facts_builder *builder;
    struct loop_timer slice;
};

static const char settle[] = "SELECT set_config('search_path', 'pg_catalog', false),"
                             " current_setting('server_version_num')";

static const char compare[] =
    "SELECT sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c)"
    " + pg_stat_get_tuples_deleted(c)) FROM unnest(ARRAY['pg_aggregate', 'pg_attrdef',"
    " 'pg_attribute', 'pg_cast', 'pg_class', 'pg_constraint', 'pg_index', 'pg_inherits',"
    " 'pg_namespace', 'pg_operator', 'pg_policy', 'pg_proc', 'pg_rewrite', 'pg_trigger',"
    " 'pg_type']::regclass[]) c";

/* clang-format off */
/* The one statement, in parts; NULL stands for the parsed body of a function p. */
static const char *const read_all[] = {
    "WITH f AS (SELECT p.oid, p.proname, n.nspname, p.provolatile, l.lanname, p.prosrc, ", NULL, /* a function's parsed body */
    "  AS body, p.prorettype = 'trigger'::regtype AS is_trigger, p.pronargs = 1 AND EXISTS"
    "  (SELECT FROM pg_type t WHERE t.oid = p.proargtypes[0] AND (t.typtype = 'c'"
    "  OR t.typname IN ('record', 'any', 'anyelement', 'anycompatible'))) AS takes_row"
    "  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    "  JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384 AND p.prokind <> 'p'),"
    " tree(k, id, m, t) AS ("
    "  SELECT 'u', ev_class, 'r', ev_action::text FROM pg_rewrite"
    "  WHERE ev_type = '1' AND ev_class >= 16384"
    "  UNION ALL SELECT 'u', polrelid, 'r', polqual::text FROM pg_policy"
    "  JOIN pg_class c ON c.oid = polrelid WHERE c.relrowsecurity"
    "  UNION ALL SELECT 'u', adrelid, 'r', adbin::text FROM pg_attrdef JOIN pg_attribute"
    "  ON attrelid = adrelid AND attnum = adnum WHERE attgenerated = 'v'"
    "  UNION ALL SELECT 'u', oid, 'f', body::text FROM f WHERE body IS NOT NULL"
    "  UNION ALL SELECT 'd', adrelid, 'r', adbin::text FROM pg_attrdef WHERE adrelid >= 16384"
    "  UNION ALL SELECT 'd', conrelid, 'r', conbin::text FROM pg_constraint WHERE conrelid >= 16384"
    "  UNION ALL SELECT 'd', attrelid, 'r', conbin::text FROM pg_attribute JOIN pg_constraint"
    "  ON contypid = atttypid WHERE attrelid >= 16384 AND NOT attisdropped"
    "  UNION ALL SELECT 'd', indrelid, 'r', concat(indexprs::text, indpred::text) FROM pg_index"
    "  WHERE indrelid >= 16384"
    "  UNION ALL SELECT 'd', polrelid, 'r', concat(polqual::text, polwithcheck::text) FROM pg_policy"
    "  UNION ALL SELECT 'y', contypid, '', conbin::text FROM pg_constraint WHERE contypid >= 16384),"
    " call AS (SELECT DISTINCT k, id, m, c[1]::oid AS callee FROM tree, regexp_matches(t,"
    "  ':(?:funcid|aggfnoid|winfnoid|opfuncid) (\\d+)', 'g') c),"
    " word AS (SELECT DISTINCT f.oid, c[1] AS w, c[2] <> '' AS is_call FROM f, regexp_matches("
    "  lower(prosrc), '([[:alpha:]_][[:alnum:]_$]*)(\"?\\s*\\()?', 'g') c WHERE body IS NULL"
    "  AND lanname NOT IN ('c', 'internal') AND (provolatile <> 'v' OR is_trigger))",
    " SELECT 'r', c.oid, 0::oid, concat(relkind, relpersistence), nspname::text, relname::text"
    "  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    "  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'"
    "  AND nspname <> 'pg_toast'",
    " UNION ALL SELECT 'f', oid, 0, concat(provolatile, CASE WHEN lanname IN ('c', 'internal')"
    "  THEN 'c' WHEN body IS NOT NULL THEN 'b' WHEN lanname IN ('sql', 'plpgsql') THEN 'q'"
    "  ELSE 'x' END, CASE WHEN is_trigger THEN 't' END, CASE WHEN is_trigger"
    "  AND regexp_replace(prosrc, '''[^'']*''', '', 'g') ~* ('\\m(insert|update|delete|merge|copy|'"
    "  || 'truncate|execute|call|do|create|drop|alter|refresh|grant|revoke|import)\\M') THEN 'm' END,"
    "  CASE WHEN takes_row THEN 'w' END), nspname, proname FROM f",
    " UNION ALL SELECT k, id, callee, m, '', CASE WHEN callee < 16384 THEN proname::text ELSE '' END"
    "  FROM call JOIN pg_proc p ON p.oid = callee WHERE k <> 'y' AND (callee >= 16384 OR NOT EXISTS"
    "  (SELECT FROM pg_operator WHERE oprcode = callee))",
    " UNION ALL SELECT DISTINCT 'v', id, c[1]::oid, m, '', '' FROM tree,"
    "  regexp_matches(t, ':relid (\\d+)', 'g') c WHERE k = 'u'",
    " UNION ALL SELECT 'o', oprcode::oid, 0, '', nspname, oprname FROM pg_operator o"
    "  JOIN pg_namespace n ON n.oid = oprnamespace WHERE o.oid >= 16384",
    " UNION ALL SELECT DISTINCT 'y', e.fn, 0::oid, '', nspname::text, typname::text FROM"
    "  (SELECT id, callee AS fn FROM call WHERE k = 'y' UNION SELECT casttarget, castfunc FROM pg_cast"
    "  UNION SELECT t.oid, o FROM pg_type t, unnest(ARRAY[typinput, typoutput, typreceive, typsend])"
    "  o WHERE t.oid >= 16384) e JOIN pg_type t ON t.oid = e.id"
    "  JOIN pg_namespace n ON n.oid = typnamespace WHERE e.fn >= 16384",
    " UNION ALL SELECT 'c', castfunc, 0, '', '', '' FROM pg_cast"
    "  WHERE castcontext = 'i' AND castfunc >= 16384",
    " UNION ALL SELECT 'd', tgrelid, tgfoid, 'r', '', CASE WHEN tgfoid < 16384 THEN proname::text"
    "  ELSE '' END FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid"
    "  WHERE NOT tgisinternal AND tgenabled <> 'D'",
    " UNION ALL SELECT 'a', ev_class, 0, 'r', '', '' FROM pg_rewrite"
    "  WHERE ev_type <> '1' AND ev_class >= 16384",
    " UNION ALL SELECT 'k', confrelid, conrelid, 'r', '', '' FROM pg_constraint WHERE contype = 'f'"
    "  AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))",
    " UNION ALL SELECT 'i', inhparent, inhrelid, 'r', '', '' FROM pg_inherits",
    " UNION ALL SELECT DISTINCT 'u', aggfnoid::oid, p.oid, 'f', '', CASE WHEN p.oid < 16384"
    "  THEN proname::text ELSE '' END FROM pg_aggregate, unnest(ARRAY[aggtransfn, aggfinalfn,"
    "  aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn, aggminvtransfn, aggmfinalfn]) g"
    "  JOIN pg_proc p ON p.oid = g WHERE aggfnoid >= 16384",
    " UNION ALL SELECT DISTINCT 'w', word.oid, 0::oid, 'f', '', proname::text FROM word"
    "  JOIN pg_proc p ON lower(proname) = w WHERE is_call",
    " UNION ALL SELECT DISTINCT 'w', word.oid, 0::oid, 'r', '', relname::text FROM word"
    "  JOIN pg_class c ON lower(relname) = w WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"};
/* clang-format on */

enum { ROW_KIND, ROW_ID, ROW_OTHER, ROW_MARK, ROW_SCHEMA, ROW_NAME, ROW_COLUMNS };

/* ---- building */

static void stop_building(struct catalog *catalog) {
    loop_timer_stop(&catalog->slice);
    facts_builder_free(&catalog->builder);
    buf_release(&catalog->rows);
    catalog->done = 0;
}

static void end_building(struct catalog *catalog) {
    static uint32_t generation = 1; /* all catalogs are read on worker 0 */
    if (++generation < 2) generation = 2;
    struct facts *facts = facts_builder_end(&catalog->builder, generation, catalog->asked_schema);
    stop_building(catalog);
    cluster_set_facts(catalog->cluster, facts);
    catalog->ended_us = loop_now_us(catalog->loop);
    catalog->took_us = catalog->ended_us - catalog->asked_us;
    catalog->schema = catalog->asked_schema;
    catalog->is_read = true;
    if (catalog->node == cluster_primary(catalog->cluster)) catalog->is_from_primary = true;
    catalog->is_failing = false;
    catalog->step = CATALOG_IDLE;
    catalog->changed(catalog->owner);
}

/* Takes the next text out of the rows; "" at their end. */
static const char *next_text(struct catalog *catalog) {
    struct bytes all = buf_content(&catalog->rows);
    const char *text = all.at + catalog->done;
    catalog->done += strlen(text) + 1;
    return text;
}

static void on_slice(struct loop_timer *timer) {
    struct catalog *catalog = LIST_OWNER(timer, struct catalog, slice);
    size_t len = buf_length(&catalog->rows);
    for (unsigned i = 0; i < SLICE_ROWS && catalog->done < len; i++) {
        struct facts_row row = {.kind = *next_text(catalog)};
        row.id = (uint32_t)strtoul(next_text(catalog), NULL, 10);
        row.other = (uint32_t)strtoul(next_text(catalog), NULL, 10);
        row.mark = next_text(catalog);
        row.schema = next_text(catalog);
        row.name = next_text(catalog);
        facts_builder_add(catalog->builder, &row);
    }
    if (catalog->done == len)
        end_building(catalog);
    else
        loop_timer_start(catalog->loop, &catalog->slice, 1, 0);
}

static void begin_building(struct catalog *catalog, const struct pqconn_rows *rows) {
    catalog->step = CATALOG_BUILDING;
    catalog->builder = facts_builder_new(catalog->hash, catalog->settings->allowed);
    for (unsigned i = 0; i < pqconn_rows_count(rows); i++) {
        for (unsigned column = 0; column < ROW_COLUMNS; column++) {
            const char *value = pqconn_value(rows, i, column);
            buf_append_text0(&catalog->rows, value == NULL ? "" : value);
        }
    }
    catalog->slice.run = on_slice;
    loop_timer_start(catalog->loop, &catalog->slice, 1, 0);
}

/* ---- asking */

static void close_connection(struct catalog *catalog) {
    stop_building(catalog);
    pqconn_close(&catalog->conn);
    catalog->step = CATALOG_CLOSED;
    catalog->ended_us = loop_now_us(catalog->loop);
}

static void fail(struct catalog *catalog, const char *error) {
    close_connection(catalog);
    if (catalog->is_failing) return;
    catalog->is_failing = true;
    log_line(LOG_LEVEL_WARNING,
             "cluster %s: the catalog cannot be read, statements with names of its own go to the "
             "primary: %s",
             cluster_name(catalog->cluster), error);
}

static void ask(struct catalog *catalog, enum catalog_step step, const char *sql) {
    catalog->step = step;
    unsigned timeout_ms =
        step == CATALOG_READING ? READ_TIMEOUT_MS : catalog->settings->query_timeout_ms;
    pqconn_ask(catalog->conn, sql, NULL, 0, timeout_ms);
}

static void begin_comparing(struct catalog *catalog) {
    catalog->compared_us = loop_now_us(catalog->loop);
    ask(catalog, CATALOG_COMPARING, compare);
}

static void begin_reading(struct catalog *catalog) {
    catalog->asked_us = loop_now_us(catalog->loop);
    catalog->asked_schema = freshness_schema(catalog->hash);
    catalog->is_outdated = false;
    struct buf sql = {0};
    for (size_t i = 0; i < COUNT(read_all); i++) {
        bool has_bodies = catalog->version >= VERSION_BODIES;
        const char *body = has_bodies ? "p.prosqlbody" : "NULL::text";
        buf_append_text(&sql, read_all[i] == NULL ? body : read_all[i]);
    }
    ask(catalog, CATALOG_READING, buf_text(&sql));
    buf_release(&sql);
}

static void take_fingerprint(struct catalog *catalog, const char *now) {
    catalog->step = CATALOG_IDLE;
    if (strcmp(catalog->fingerprint, now) == 0) return;
    (void)snprintf(catalog->fingerprint, sizeof catalog->fingerprint, "%s", now);
    catalog->is_outdated = true;
    catalog_look(catalog);
}

static void on_connected(void *owner, const char *address) {
    (void)address;
    ask(owner, CATALOG_SETTLING, settle);
}

static const char *value_of(const struct pqconn_rows *rows, unsigned column) {
    const char *value = pqconn_rows_count(rows) == 0 ? NULL : pqconn_value(rows, 0, column);
    return value == NULL ? "" : value;
}

static void on_answered(void *owner, const struct pqconn_rows *rows, const char *sqlstate,
                        const char *error) {
    struct catalog *catalog = owner;
    (void)sqlstate;
    if (rows == NULL) {
        fail(catalog, error);
        return;
    }
    switch (catalog->step) {
    case CATALOG_SETTLING:
        catalog->version = (unsigned)strtoul(value_of(rows, 1), NULL, 10);
        begin_comparing(catalog);
        break;
    case CATALOG_COMPARING:
        take_fingerprint(catalog, value_of(rows, 0));
        break;
    case CATALOG_READING:
        begin_building(catalog, rows);
        break;
    default:
        CHECK(false);
    }
}

static void on_failed(void *owner, const char *error) {
    fail(owner, error);
}

static const struct pqconn_ops conn_ops = {on_connected, on_answered, on_failed};

static void connect_to(struct catalog *catalog, int index) {
    const struct node *node = cluster_node_const(catalog->cluster, (size_t)index);
    const struct probe_settings *settings = catalog->settings;
    struct pqconn_target target = {
        .host = node->host,
        .port = node->port,
        .user = settings->user,
        .password = settings->password,
        .database = settings->database,
        .security = settings->security,
        .application_name = "weir catalog",
        .timeout_ms = settings->connect_timeout_ms,
    };
    catalog->node = index;
    catalog->step = CATALOG_CONNECTING;
    catalog->fingerprint[0] = '\0'; /* each node counts for itself, so that it is read anew */
    catalog->conn = pqconn_open(catalog->loop, &target, &conn_ops, catalog);
}

/* Whom to ask: the primary, or while there is none and nothing is known yet a replica, for those
 * reads that may be old. -1: nobody. */
static int find_node(const struct catalog *catalog) {
    int primary = cluster_primary(catalog->cluster);
    if (primary >= 0 || catalog->is_from_primary) return primary;
    for (unsigned i = 0; i < cluster_count(catalog->cluster); i++) {
        const struct node *node = cluster_node_const(catalog->cluster, i);
        if (node_role(node) == NODE_REPLICA && node_state(node) == NODE_UP) return (int)i;
    }
    return -1;
}

void catalog_look(struct catalog *catalog) {
    int node = find_node(catalog);
    uint64_t now_us = loop_now_us(catalog->loop);
    if (catalog->step != CATALOG_CLOSED && catalog->node != node) close_connection(catalog);
    uint64_t rested_us = now_us - catalog->ended_us;
    if (catalog->step == CATALOG_CLOSED) {
        bool is_early = catalog->is_failing && rested_us < RETRY_US;
        if (node >= 0 && !is_early) connect_to(catalog, node);
        return;
    }
    if (catalog->step != CATALOG_IDLE) return;
    bool is_due = !catalog->is_read || catalog->is_outdated ||
                  catalog->schema != freshness_schema(catalog->hash);
    bool has_rested = rested_us >= PAUSE_US_MIN && rested_us >= catalog->took_us * PAUSE_TIMES;
    if (is_due && (has_rested || !catalog->is_read))
        begin_reading(catalog);
    else if (now_us - catalog->compared_us >= catalog->settings->interval_ms * UINT64_C(1000))
        begin_comparing(catalog);
}

struct catalog *catalog_new(struct loop *loop, struct cluster *cluster,
                            const struct probe_settings *settings, void (*changed)(void *owner),
                            void *owner) {
    struct catalog *catalog = memory_new(sizeof *catalog);
    catalog->loop = loop;
    catalog->cluster = cluster;
    catalog->settings = settings;
    catalog->hash = settings->database_hash;
    catalog->changed = changed;
    catalog->owner = owner;
    return catalog;
}

void catalog_free(struct catalog **catalog_at) {
    struct catalog *catalog = *catalog_at;
    if (catalog == NULL) return;
    *catalog_at = NULL;
    stop_building(catalog);
    pqconn_close(&catalog->conn);
    memory_free(catalog);
}
