/* What statements and functions do: a row for each kind, with the flags it must have. */
#include "core/buf.h"
#include "core/check.h"
#include "sql/builtins.h"
#include "sql/traits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* R reads anywhere, P the primary, M may write there, W is known to, D changes the schema, U runs
 * code that is not known, A may do anything. */
#define R      0u
#define P      ((uint32_t)TRAITS_NEEDS_PRIMARY)
#define M      (P | TRAITS_MAY_WRITE)
#define W      (M | TRAITS_KNOWN_WRITE)
#define D      (W | TRAITS_CHANGES_SCHEMA)
#define U      (M | TRAITS_RUNS_UNKNOWN)
#define A      (U | TRAITS_ANYTHING)
#define SET    (P | TRAITS_SETS)
#define ALIKE  (P | TRAITS_SETS_ALIKE)
#define LOCAL  (P | TRAITS_SETS_LOCAL)
#define MANY   TRAITS_MANY
#define BEGINS TRAITS_BEGINS
#define ENDS   TRAITS_ENDS
#define RONLY  TRAITS_READ_ONLY
#define RWRITE TRAITS_READ_WRITE
#define SERIAL TRAITS_SERIALIZABLE
#define TEMP   TRAITS_TEMPORARY
#define CURSOR TRAITS_USES_CURSOR

struct statement_row {
    const char *text;
    uint32_t flags;
    const char *why; /* NULL: not looked at */
};

static const struct statement_row statements[] = {
    /* Reads */
    {"SELECT 1", R, ""},
    {"SELECT a, count(*) FROM t JOIN s.u USING (id) WHERE a = 1 GROUP BY a", R, ""},
    {"TABLE t", R, ""},
    {"VALUES (1, 'a'), (2, 'b')", R, ""},
    {"(SELECT 1) UNION ALL (SELECT 2 ORDER BY 1) LIMIT 3", R, ""},
    {"WITH x AS (SELECT 1) SELECT * FROM x", R, ""},
    {"WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x", R, ""},
    {"SELECT * FROM t TABLESAMPLE system (5) REPEATABLE (1)", R, ""},
    {"SELECT rank() OVER (PARTITION BY a ORDER BY b), sum(c) FILTER (WHERE d) FROM t", R, ""},
    {"SELECT a FROM t GROUP BY GROUPING SETS ((a), ())", R, ""},
    {"SELECT xmltable.* FROM t, XMLTABLE('/r' PASSING d COLUMNS i int PATH 'i')", R, ""},
    {"SELECT extract(year FROM a), trim(b), position('x' IN c), d AT TIME ZONE 'UTC' FROM t", R,
     ""},
    {"SELECT a LIKE b ESCAPE '!', a SIMILAR TO b, coalesce(a, b), current_date FROM t", R, ""},
    {"SELECT relname FROM pg_catalog.pg_class", R, ""},
    {"SELECT * FROM information_schema.tables", R, ""},
    {"SELECT 'INSERT INTO t'", R, ""},
    {"SELECT \"nextval\" FROM t", R, ""},
    {"SELECT 'pg_temp'", R, ""},
    {"", TRAITS_EMPTY, ""},
    {" ; /* nothing */ ; -- at all", TRAITS_EMPTY, ""},
    /* Locks and writes */
    {"SELECT * FROM t FOR UPDATE", W, "SELECT ... FOR UPDATE"},
    {"SELECT * FROM t FOR NO KEY UPDATE", W, "SELECT ... FOR NO KEY UPDATE"},
    {"SELECT * FROM t FOR SHARE SKIP LOCKED", W, "SELECT ... FOR SHARE"},
    {"SELECT * FROM t FOR KEY SHARE NOWAIT", W, "SELECT ... FOR KEY SHARE"},
    {"SELECT * FROM (SELECT * FROM t FOR UPDATE OF t) x", W, "SELECT ... FOR UPDATE"},
    {"SELECT 1 WHERE EXISTS (SELECT 1 FROM t FOR UPDATE)", W, "SELECT ... FOR UPDATE"},
    {"INSERT INTO t VALUES (1)", W, "INSERT"},
    {"INSERT INTO t SELECT * FROM u ON CONFLICT DO NOTHING RETURNING a", W, "INSERT"},
    {"UPDATE t SET a = 1", W, "UPDATE"},
    {"DELETE FROM t", W, "DELETE"},
    {"MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DO NOTHING", W, "MERGE"},
    {"WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x", W, "INSERT"},
    {"WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x", W, "UPDATE"},
    {"WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", W, "DELETE"},
    {"SELECT * INTO u FROM t", D, "SELECT INTO"},
    {"SELECT * INTO TEMP u FROM t", D | TEMP, "SELECT INTO"},
    {"TRUNCATE t", W, "TRUNCATE"},
    {"NOTIFY c, 'x'", W, "NOTIFY"},
    {"LOCK TABLE t IN ACCESS SHARE MODE", P, "LOCK TABLE"},
    {"CALL p(1)", U | TRAITS_RUNS_CODE, "CALL"},
    {"DO $$ BEGIN NULL; END $$", U | TRAITS_RUNS_CODE, "DO"},
    /* Views and columns of one node, temporary tables */
    {"SELECT * FROM pg_stat_activity", P, "pg_stat_activity shows one node only"},
    {"SELECT * FROM pg_catalog.pg_locks", P, "pg_locks shows one node only"},
    {"SELECT * FROM pg_statio_user_tables", P, NULL},
    {"SELECT * FROM pg_settings", P, NULL},
    {"SELECT * FROM pg_sequences", P, NULL},
    {"SELECT * FROM pg_prepared_xacts, t", P, NULL},
    {"SELECT * FROM pg_cursors", P, NULL},
    {"SELECT * FROM app.pg_locks", R, ""},
    {"SELECT last_value FROM s", P, "column last_value may be a sequence's"},
    {"SELECT s.is_called FROM s", P, NULL},
    {"SELECT last_value(a) OVER () FROM t", R, ""},
    {"SELECT * FROM pg_temp.t", P | TEMP, "temporary table"},
    {"SELECT * FROM pg_temp_17.t", P | TEMP, "temporary table"},
    {"SELECT pg_temp_of_day, pg_temp_ FROM pg_temperature.t", R, ""},
    {"SELECT pg_temp.f()", U | TEMP, NULL},
    {"SELECT * FROM ROWS FROM (nextval('s'), now())", W, NULL},
    {"SELECT * FROM t TABLESAMPLE mine (5)", U, "TABLESAMPLE mine is not known to be harmless"},
    /* Schema */
    {"CREATE TABLE t (a int)", D, "CREATE TABLE"},
    {"CREATE UNLOGGED TABLE t (a int)", D, "CREATE TABLE"},
    {"CREATE TEMP TABLE t (a int)", D | TEMP, "CREATE TABLE"},
    {"CREATE TEMP TABLE t (a int) ON COMMIT DROP", D, "CREATE TABLE"},
    {"CREATE TABLE pg_temp.t (a int)", D | TEMP, "CREATE TABLE"},
    {"CREATE TEMP SEQUENCE s", D | TEMP, "CREATE SEQUENCE"},
    {"CREATE TEMP VIEW v AS SELECT 1", D | TEMP, "CREATE VIEW"},
    {"CREATE TABLE t AS SELECT 1", D, "CREATE TABLE AS"},
    {"CREATE TEMP TABLE t AS SELECT 1", D | TEMP, "CREATE TABLE AS"},
    {"CREATE MATERIALIZED VIEW v AS SELECT 1", D, NULL},
    {"REFRESH MATERIALIZED VIEW v", W, "REFRESH MATERIALIZED VIEW"},
    {"CREATE INDEX CONCURRENTLY i ON t (a)", D, "CREATE INDEX"},
    {"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", D, "CREATE FUNCTION"},
    {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", D, "CREATE FUNCTION"},
    {"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", D | TEMP, NULL},
    {"CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; NOTIFY c)", D, "CREATE RULE"},
    {"CREATE EXTENSION x", D, "CREATE EXTENSION"},
    {"CREATE DATABASE d", D, "CREATE DATABASE"},
    {"CREATE LANGUAGE plpgsql", D, NULL},
    {"ALTER TABLE t ADD b int", D, "ALTER TABLE"},
    {"ALTER TABLE t RENAME TO u", D, NULL},
    {"ALTER ROLE r SET a = 1", D, "ALTER ROLE"},
    {"ALTER DATABASE d SET a = 1", D, "ALTER DATABASE"},
    {"ALTER FUNCTION f() SET a = 1", D, "ALTER FUNCTION"},
    {"CREATE FUNCTION f() RETURNS int SET a = 1 LANGUAGE sql AS ''", D, "CREATE FUNCTION"},
    {"DROP TABLE IF EXISTS t", D, "DROP"},
    {"COMMENT ON TABLE t IS 'x'", D, "COMMENT"},
    {"SECURITY LABEL ON TABLE t IS 'x'", D, NULL},
    {"GRANT SELECT ON t TO u", D, NULL},
    {"REVOKE r FROM u", D, NULL},
    {"REASSIGN OWNED BY a TO b", D, NULL},
    {"DROP OWNED BY a", D, NULL},
    {"IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y", D, NULL},
    {"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a", D, NULL},
    {"ALTER SYSTEM SET a = 1", W, "ALTER SYSTEM"},
    {"VACUUM t", W, NULL},
    {"ANALYZE", W, NULL},
    {"CLUSTER t", W, "CLUSTER"},
    {"REINDEX TABLE t", W, "REINDEX"},
    {"CHECKPOINT", P, "CHECKPOINT"},
    {"LOAD 'x'", P | TRAITS_SESSION_MEMORY, "LOAD"},
    /* Transactions */
    {"BEGIN", P | BEGINS, "BEGIN"},
    {"START TRANSACTION", P | BEGINS, "START TRANSACTION"},
    {"BEGIN READ ONLY", BEGINS | RONLY, NULL},
    {"START TRANSACTION READ ONLY, NOT DEFERRABLE", BEGINS | RONLY, NULL},
    {"BEGIN READ WRITE", P | BEGINS | RWRITE, NULL},
    {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", BEGINS | RONLY, NULL},
    {"BEGIN ISOLATION LEVEL REPEATABLE READ", P | BEGINS, "BEGIN"},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", P | BEGINS | SERIAL | RONLY,
     "SERIALIZABLE transaction"},
    {"BEGIN READ ONLY, READ WRITE", P | BEGINS | RONLY | RWRITE, NULL},
    {"COMMIT", ENDS, NULL},
    {"END", ENDS, NULL},
    {"ROLLBACK", ENDS, NULL},
    {"ABORT", ENDS, NULL},
    {"COMMIT AND CHAIN", ENDS | BEGINS, NULL},
    {"ROLLBACK AND NO CHAIN", ENDS, NULL},
    {"SAVEPOINT a", R, NULL},
    {"RELEASE a", R, NULL},
    {"ROLLBACK TO a", R, NULL},
    {"PREPARE TRANSACTION 'x'", W | ENDS, "PREPARE TRANSACTION"},
    {"COMMIT PREPARED 'x'", W, "COMMIT PREPARED"},
    {"ROLLBACK PREPARED 'x'", W, "ROLLBACK PREPARED"},
    {"SET TRANSACTION READ ONLY", TRAITS_SETS_LOCAL | RONLY, NULL},
    {"SET TRANSACTION READ WRITE", LOCAL | RWRITE, NULL},
    {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", LOCAL | SERIAL, NULL},
    {"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", TRAITS_SETS_LOCAL, NULL},
    {"SET TRANSACTION SNAPSHOT 'x'", LOCAL, NULL},
    {"SET transaction_read_only = on", TRAITS_SETS_LOCAL | RONLY, NULL},
    {"SET transaction_read_only = off", LOCAL | RWRITE, NULL},
    {"SET transaction_read_only TO DEFAULT", LOCAL | RWRITE, NULL},
    {"SET transaction_isolation = 'serializable'", LOCAL | SERIAL, NULL},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", SET, NULL},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", SET | SERIAL, NULL},
    {"SET default_transaction_isolation = serializable", SET | SERIAL, NULL},
    {"SET default_transaction_read_only = on", SET, NULL},
    {"SET CONSTRAINTS ALL DEFERRED", P, "SET CONSTRAINTS"},
    /* The session */
    {"SET a.b = 1", SET, "sets a.b"},
    {"SET LOCAL work_mem = '1MB'", TRAITS_SETS_LOCAL, "sets work_mem"},
    {"SET extra_float_digits = 3", ALIKE, "sets extra_float_digits"},
    {"SET Extra_Float_Digits TO '1'", ALIKE, "sets extra_float_digits"},
    {"SELECT set_config('extra_float_digits', '2', false)", ALIKE, "sets extra_float_digits"},
    {"SET extra_float_digits = 0", SET, "sets extra_float_digits"},
    {"SET extra_float_digits = -3", SET, "sets extra_float_digits"},
    {"SET extra_float_digits = 13", SET, "sets extra_float_digits"},
    {"SET extra_float_digits TO DEFAULT", SET, "sets extra_float_digits"},
    {"RESET extra_float_digits", SET, "sets extra_float_digits"},
    {"SET extra_float_digits = 3; SET work_mem = '1MB'", SET | TRAITS_SETS_ALIKE | TRAITS_MANY,
     NULL},
    {"SET SESSION work_mem TO DEFAULT", SET, "sets work_mem"},
    {"RESET work_mem", SET, "sets work_mem"},
    {"RESET ALL", P | TRAITS_RESETS_ALL, "RESET ALL"},
    {"SET TIME ZONE 'UTC'", SET, "sets timezone"},
    {"SET NAMES 'UTF8'", SET, "sets client_encoding"},
    {"SET SCHEMA 's'", SET, "sets search_path"},
    {"SET ROLE r", SET, "sets role"},
    {"SET LOCAL ROLE r", TRAITS_SETS_LOCAL, "sets role"},
    {"RESET ROLE", SET, "sets role"},
    {"SET SESSION AUTHORIZATION r", SET, "sets session_authorization"},
    {"SET XML OPTION DOCUMENT", SET, "sets xmloption"},
    {"SHOW work_mem", P, "SHOW"},
    {"SHOW transaction_read_only", P, "SHOW"},
    {"SHOW ALL", P, "SHOW"},
    {"SHOW search_path", 0, ""},
    {"SHOW TIME ZONE", 0, ""},
    {"SHOW \"app.tenant\"", 0, ""},
    {"SHOW TRANSACTION ISOLATION LEVEL", P, "SHOW"},
    {"DISCARD ALL", P | TRAITS_RESETS_ALL | TRAITS_DISCARDS_ALL, NULL},
    {"DISCARD PLANS", P, "DISCARD"},
    {"DISCARD TEMP", P | TRAITS_CHANGES_SCHEMA, "DISCARD"},
    {"PREPARE p AS SELECT 1", P | TRAITS_PREPARES, "PREPARE"},
    {"PREPARE p (int) AS INSERT INTO t VALUES ($1)", W | TRAITS_PREPARES, "INSERT"},
    {"EXECUTE p(1)", U | TRAITS_EXECUTES, "EXECUTE"},
    {"DEALLOCATE p", P | TRAITS_DEALLOCATES, "DEALLOCATE"},
    {"DEALLOCATE ALL", P | TRAITS_DEALLOCATES, "DEALLOCATE"},
    {"LISTEN c", P | TRAITS_LISTENS, "LISTEN"},
    {"UNLISTEN *", P | TRAITS_UNLISTENS, "UNLISTEN"},
    {"DECLARE c CURSOR FOR SELECT 1", CURSOR, ""},
    {"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1 FOR UPDATE", W | CURSOR, NULL},
    {"DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1", P | TRAITS_HOLDS_CURSOR, NULL},
    {"FETCH 5 FROM c", P | CURSOR, "FETCH"},
    {"MOVE c", P | CURSOR, NULL},
    {"CLOSE ALL", P | CURSOR, "CLOSE"},
    /* COPY and EXPLAIN */
    {"COPY t TO STDOUT", 0, ""},
    {"COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)", 0, ""},
    {"COPY (SELECT nextval('s')) TO STDOUT", W, "function nextval() writes"},
    {"COPY (DELETE FROM t RETURNING a) TO STDOUT", W, "DELETE"},
    {"COPY t FROM STDIN", W | TRAITS_COPIES_IN, "COPY FROM"},
    {"COPY t FROM '/x'", W, "COPY FROM"},
    {"COPY t TO '/x'", P, "COPY TO a file"},
    {"COPY t TO PROGRAM 'x'", M, "COPY TO PROGRAM"},
    {"EXPLAIN SELECT 1", R, ""},
    {"EXPLAIN (VERBOSE, ANALYZE on) SELECT 1", R, ""},
    {"EXPLAIN INSERT INTO t VALUES (1)", M, "INSERT"},
    {"EXPLAIN ANALYZE INSERT INTO t VALUES (1)", W, "INSERT"},
    {"EXPLAIN (ANALYZE) INSERT INTO t VALUES (1)", W, NULL},
    {"EXPLAIN (VERBOSE, ANALYZE on) DELETE FROM t", W, NULL},
    {"EXPLAIN (ANALYZE 1) DELETE FROM t", W, NULL},
    {"EXPLAIN (ANALYZE 'yes') DELETE FROM t", W, NULL},
    {"EXPLAIN (ANALYZE 0) DELETE FROM t", M, NULL},
    {"EXPLAIN (ANALYZE off, VERBOSE) DELETE FROM t", M, NULL},
    {"EXPLAIN (ANALYZE FALSE) DELETE FROM t", M, NULL},
    {"EXPLAIN (ANALYZE off, ANALYZE) DELETE FROM t", W, NULL},
    {"EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", D, NULL},
    {"EXPLAIN EXECUTE p", U | TRAITS_EXECUTES, NULL},
    /* Several statements in one text */
    {"SELECT 1; SELECT 2", MANY, ""},
    {"SELECT 1; INSERT INTO t VALUES (1)", W | MANY, "INSERT"},
    {"BEGIN; SELECT 1; COMMIT", P | BEGINS | ENDS | MANY, "BEGIN"},
    {"BEGIN READ ONLY; SELECT 1; COMMIT", BEGINS | RONLY | ENDS | MANY, NULL},
    {"EXPLAIN DELETE FROM t; DELETE FROM u", W | MANY, "DELETE"},
    {"EXPLAIN DELETE FROM t; SELECT 1", M | MANY, "DELETE"},
    {"SELECT 1; SELEC 2", A, "not understood: syntax error at or near \"SELEC\""},
    /* Not understood */
    {"SELEC 1", A, "not understood: syntax error at or near \"SELEC\""},
    {"SELECT FROM WHERE", A, NULL},
    {"SELECT 1a", A, "not understood: a letter behind a number"},
    {"SELECT 'a", A, "not understood: unterminated string"},
    {"START_REPLICATION SLOT x 0/0", A, NULL},
    /* Hints */
    {"/* weir:primary */ SELECT 1", TRAITS_HINT_PRIMARY, NULL},
    {"SELECT now_and_then() -- weir:replica", U | TRAITS_HINT_REPLICA, NULL},
    {"/*weir:replica*/ DELETE FROM t", W | TRAITS_HINT_REPLICA, NULL},
    {"/* weir:primary */", TRAITS_EMPTY | TRAITS_HINT_PRIMARY, NULL},
    /* Functions by the way they are written */
    {"SELECT f(1)", U, "function f() is not known to be harmless"},
    {"SELECT pg_catalog.lower('A')", R, ""},
    {"SELECT s.lower('A')", U, "function lower() is not known to be harmless"},
    {"SELECT d.pg_catalog.lower('A')", U, NULL},
    {"SELECT \"NEXTVAL\"('s')", U, NULL},
    {"SELECT NextVal('s')", W, "function nextval() writes"},
    {"SELECT * FROM t WHERE a = (SELECT max(nextval('s')) FROM u)", W, NULL},
    {"SELECT * FROM generate_series(1, 10), LATERAL f(1)", U, NULL},
    {"SELECT CASE WHEN a THEN nextval('s') END FROM t", W, NULL},
    {"VALUES (nextval('s'))", W, NULL},
    {"SELECT set_config('a.b', 'c', false)", SET, "sets a.b"},
    {"SELECT set_config('a.b', 'c', true)", TRAITS_SETS_LOCAL, "sets a.b"},
    {"SELECT set_config('a.b', 'c', $1)", SET, "sets a.b"},
    {"SELECT set_config($1, 'c', true)", LOCAL, "sets some parameter"},
    {"SELECT set_config($1, 'c', false)", SET, "sets some parameter"},
    {"SELECT set_config($1 || 'a', 'c', false)", SET | TRAITS_RUNS_UNKNOWN, "sets some parameter"},
    {"SELECT set_config('a.b'::text, 'c', 'on'::bool)", TRAITS_SETS_LOCAL, "sets a.b"},
    {"SELECT set_config('a.bcd'::varchar(3), 'c', false)", SET | TRAITS_RUNS_UNKNOWN,
     "sets some parameter"},
    {"SELECT set_config('a.b'::name, 'c', false)", SET | TRAITS_RUNS_UNKNOWN, NULL},
    {"SELECT set_config('a.b'::s.text, 'c', false)", SET | TRAITS_RUNS_UNKNOWN, NULL},
    {"SELECT set_config('a.b', 'c', true::s.bool)", SET, "sets a.b"},
    {"UPDATE pg_settings SET setting = 'x'", U | W, "UPDATE"},
    {"UPDATE settings SET setting = 'x'", W, "UPDATE"},
    {"SELECT set_config('transaction_read_only', 'off', true)", LOCAL | RWRITE, NULL},
    {"SELECT current_setting('a.b', true)", R, ""},
    {"SELECT current_setting('TimeZone')", R, ""},
    {"SELECT current_setting('timezone')", R, ""},
    {"SELECT current_setting('transaction_read_only')", P, NULL},
    {"SELECT current_setting(a) FROM t", P, "the value of a setting differs between nodes"},
};

static const struct function_row {
    const char *names;
    uint32_t flags;
} functions[] = {
    {"random gen_random_uuid uuidv4 uuidv7 random_normal array_shuffle array_sample "
     "gen_random_bytes"
     " clock_timestamp timeofday pg_sleep pg_sleep_for pg_sleep_until current_query"
     " pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size"
     " pg_tablespace_size pg_partition_tree pg_partition_ancestors pg_collation_actual_version"
     " pg_xact_commit_timestamp pg_xact_commit_timestamp_origin currtid2 pg_jit_available"
     " pg_get_wal_resource_managers pg_get_wait_events now statement_timestamp lower upper count"
     " sum max jsonb_build_object array_agg string_agg generate_series to_char row_number unnest"
     " has_table_privilege pg_get_viewdef to_regclass date_trunc jsonb_path_query xpath",
     R},
    {"nextval setval txid_current pg_current_xact_id pg_notify pg_replication_origin_create"
     " pg_replication_origin_advance pg_replication_origin_oid lo_create lo_creat lo_from_bytea"
     " lo_import lo_put lowrite lo_truncate lo_unlink pg_logical_emit_message pg_nextoid"
     " pg_import_system_collations pg_switch_wal pg_create_restore_point pg_log_standby_snapshot"
     " brin_summarize_new_values brin_summarize_range brin_desummarize_range"
     " gin_clean_pending_list pg_restore_relation_stats pg_clear_attribute_stats",
     W},
    {"pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_walfile_name"
     " pg_walfile_name_offset lo_get lo_open loread lo_lseek64 lo_tell lo_close"
     " pg_export_snapshot pg_current_snapshot txid_current_snapshot"
     " pg_current_xact_id_if_assigned txid_status pg_xact_status pg_visible_in_snapshot"
     " pg_last_committed_xact pg_sequence_last_value pg_is_in_recovery inet_server_addr"
     " inet_server_port pg_backend_pid pg_postmaster_start_time pg_conf_load_time"
     " pg_control_system pg_control_checkpoint version pg_last_wal_receive_lsn"
     " pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_is_wal_replay_paused"
     " pg_blocking_pids pg_stat_get_numscans pg_stat_get_activity pg_listening_channels"
     " pg_my_temp_schema pg_notification_queue_usage pg_read_file pg_read_binary_file pg_ls_dir"
     " pg_stat_file pg_current_logfile pg_advisory_xact_lock pg_try_advisory_xact_lock_shared"
     " pg_get_shmem_allocations pg_stat_get_recovery_prefetch pg_show_all_settings pg_config",
     P},
    {"pg_wal_replay_pause pg_wal_replay_resume pg_promote pg_cancel_backend pg_terminate_backend"
     " pg_log_backend_memory_contexts pg_stat_reset pg_stat_reset_shared pg_stat_clear_snapshot"
     " pg_reload_conf pg_rotate_logfile lo_export pg_create_physical_replication_slot"
     " pg_create_logical_replication_slot pg_logical_slot_get_changes "
     "pg_copy_logical_replication_slot"
     " pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots",
     M},
    {"pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_advisory_unlock"
     " pg_advisory_unlock_all",
     P | TRAITS_SESSION_LOCK},
    {"currval lastval setseed pg_backup_start pg_backup_stop pg_start_backup",
     P | TRAITS_SESSION_MEMORY},
    {"query_to_xml query_to_xmlschema cursor_to_xml table_to_xml schema_to_xml"
     " database_to_xml_and_xmlschema ts_stat ts_rewrite dblink dblink_exec dblink_connect"
     " plpgsql_call_handler amvalidate my_own_function",
     U},
};

static const struct traits_context context = {NULL, true, true, NULL};

static const struct traits *look(struct traits_cache **cache, const char *text) {
    traits_cache_free(cache);
    *cache = traits_cache_new(10, 1000, NULL);
    return traits_of(*cache, bytes_of_text(text), &context, 1);
}

static void test_statements(void **state) {
    (void)state;
    struct traits_cache *cache = NULL;
    for (size_t i = 0; i < COUNT(statements); i++) {
        const struct statement_row *row = &statements[i];
        const struct traits *traits = look(&cache, row->text);
        if (traits->flags != row->flags)
            fail_msg("%s\n  has %08x (%s), expected %08x", row->text, traits->flags, traits->why,
                     row->flags);
        if (row->why != NULL && strcmp(row->why, traits->why) != 0)
            fail_msg("%s\n  because of '%s', expected '%s'", row->text, traits->why, row->why);
    }
    traits_cache_free(&cache);
}

static void test_functions(void **state) {
    (void)state;
    struct traits_cache *cache = NULL;
    for (size_t i = 0; i < COUNT(functions); i++) {
        const char *name = functions[i].names;
        while (*name != '\0') {
            size_t len = strcspn(name, " ");
            struct buf text = {0};
            buf_append_format(&text, "SELECT %.*s(a, b) FROM t", (int)len, name);
            const struct traits *traits = look(&cache, buf_text(&text));
            if (traits->flags != functions[i].flags)
                fail_msg("%s\n  has %08x (%s), expected %08x", buf_text(&text), traits->flags,
                         traits->why, functions[i].flags);
            buf_release(&text);
            name += len + strspn(name + len, " ");
        }
    }
    traits_cache_free(&cache);
}

static const struct parameter_row {
    const char *text, *parameter;
} parameters[] = {
    {"SELECT 1", ""},
    {"SET TimeZone = 'UTC'", "timezone"},
    {"RESET TimeZone", "timezone"},
    {"SET TIME ZONE LOCAL", "timezone"},
    {"SET ROLE NONE", "role"},
    {"RESET SESSION AUTHORIZATION", "session_authorization"},
    {"SET \"App\".Tenant = 1", "app.tenant"},
    {"SELECT set_config('App.Tenant', $1, false)", "app.tenant"},
    {"SELECT set_config($1, 'x', false)", ""},
    {"SET a.a = 1; SET a.b = 2", ""},
    {"SET a.a = 1; SET a.b = 2; SET a.a = 1", ""},
    {"SET a.a = 1; SET a.a = 2", "a.a"},
    {"SELECT set_config('a.a', 'x', false), set_config('a.b', 'x', false)", ""},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only"},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE", ""},
    {"RESET ALL", ""},
};

static void test_parameters(void **state) {
    (void)state;
    struct traits_cache *cache = NULL;
    for (size_t i = 0; i < COUNT(parameters); i++) {
        const struct traits *traits = look(&cache, parameters[i].text);
        if (strcmp(traits->parameter, parameters[i].parameter) != 0)
            fail_msg("%s\n  sets '%s'", parameters[i].text, traits->parameter);
    }
    traits_cache_free(&cache);
}

static const struct names_row {
    const char *text, *names; /* with a blank for each NUL */
    bool is_complete;
} names[] = {
    {"SELECT 1", "", true},
    {"SELECT a FROM t, s.t, \"T\" WHERE lower(a) = pg_catalog.upper(b)",
     "rt rs.t rT o= flower fpg_catalog.upper ", true},
    {"SELECT * FROM t JOIN t AS u USING (a)", "rt ", true},
    {"INSERT INTO t SELECT f(a) FROM d.s.u", "it rt ff rd.s.u ", true},
    {"SELECT * FROM \"a.b\"", "ra.b ", false},
    {"WITH c AS (DELETE FROM s.t RETURNING a) INSERT INTO u SELECT * FROM c",
     "iu ru rc cc ws.t rs.t ", true},
    {"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "wt rt ", true},
    {"UPDATE t SET a = u.b + 1 FROM u", "wt rt o+ ab ru ", true},
    {"MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "wt rt ru ", true},
    {"COPY t FROM STDIN; COPY t TO STDOUT", "it rt ", true},
    {"REFRESH MATERIALIZED VIEW v", "wv rv ", true},
    {"SELECT (r).f, r.g, a::kind, 1::int FROM r ORDER BY a USING <#", "af ag ykind rr o<# ", true},
    {"GRANT a TO b", "g ", true},
    {"SET Work_Mem = 1; SET LOCAL a.b = 2; SET TIME ZONE LOCAL; RESET a.b",
     "swork_mem la.b dtimezone stimezone da.b sa.b ", true},
    {"SELECT set_config('App.Tenant', $1, false)", "fset_config sapp.tenant ", true},
    {"SELECT set_config('app.tenant', $1, true)", "fset_config lapp.tenant ", true},
    {"PREPARE Get AS SELECT 1", "pget ", true},
    {"EXPLAIN EXECUTE \"Get.it\"(1)", "pGet.it ", true},
    {"CREATE TABLE t AS EXECUTE q; DEALLOCATE PREPARE q; DEALLOCATE ALL", "pq rt ", true},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "sdefault_transaction_read_only ",
     true},
    {"SELECT set_config($1, $2, false), pg_catalog.set_config($12::text, '', $3)",
     "fset_config s$1 fpg_catalog.set_config s$12 ytext ", true},
    {"SELECT set_config($2, $1, true)", "fset_config l$2 ", true},
    {"DROP DATABASE IF EXISTS d", "g bd ", true},
    {"ALTER DATABASE d RENAME TO e", "g bd ", true},
    {"ALTER DATABASE d SET TABLESPACE t", "g bd ", true},
    {"ALTER TABLE d RENAME TO e", "g rd ", true},
    {"CREATE DATABASE e TEMPLATE d; CREATE DATABASE f", "g bd btemplate1 ", true},
};

static void test_names(void **state) {
    (void)state;
    struct traits_cache *cache = NULL;
    for (size_t i = 0; i < COUNT(names); i++) {
        const struct traits *traits = look(&cache, names[i].text);
        assert_int_equal(traits->names.len, strlen(names[i].names));
        for (size_t at = 0; at < traits->names.len; at++) {
            char c = names[i].names[at];
            assert_int_equal(traits->names.at[at], c == ' ' ? '\0' : c);
        }
        assert_int_equal(traits->names_complete, names[i].is_complete);
    }
    struct buf text = {0};
    buf_append_text(&text, "SELECT 1 FROM t");
    for (int i = 0; i < 180; i++) buf_append_format(&text, ", a_relation_of_some_length_%d", i);
    const struct traits *traits = look(&cache, buf_text(&text));
    assert_false(traits->names_complete);
    assert_in_range(traits->names.len, 1000, 4096);
    buf_release(&text);
    traits_cache_free(&cache);
}

/* The generated list is searched by halves, and every name on it is one PostgreSQL takes. */
static void test_stable_functions_are_sorted(void **state) {
    (void)state;
    assert_true(stable_functions_count > 1500);
    for (size_t i = 1; i < stable_functions_count; i++)
        assert_true(strcmp(stable_functions[i - 1], stable_functions[i]) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stable_functions_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
