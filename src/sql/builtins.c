/*
 * PostgreSQL's own functions and views.
 *
 * What counts as harmless is a list, not the absence from one. Most of it is generated: every
 * function of pg_catalog that is declared immutable or stable (stable_functions.c). The tables
 * here come first, since that declaration is no proof: txid_current() is stable and writes,
 * pg_backend_pid() is stable and different on each node. Each of their rows was tried on a
 * streaming standby beside its primary. A name that ends in `*` stands for all that begin so.
 */
#include "sql/builtins.h"

struct kind_names {
    enum builtin_kind kind;
    const char *const *names;
};

/* clang-format off */
/* Volatile in the catalog, but with the same meaning on any node; and functions of versions
 * after 15, of which stable_functions.c cannot know, and of pgcrypto. */
static const char *const harmless[] = {
    "any_value", "array_reverse", "array_sample", "array_shuffle", "array_sort", "casefold",
    "clock_timestamp", "crc32", "crc32c", "current_query", "currtid2", "erf", "erfc", "gamma",
    "gen_random_bytes", "gen_random_uuid", "json_array", "json_arrayagg", "json_exists",
    "json_object", "json_objectagg", "json_query", "json_scalar", "json_serialize", "json_value",
    "lgamma", "pg_basetype", "pg_collation_actual_version", "pg_column_toast_chunk_id",
    "pg_database_collation_actual_version", "pg_database_size", "pg_get_acl", "pg_get_wait_events",
    "pg_get_wal_resource_managers", "pg_indexes_size", "pg_input_error_info", "pg_input_is_valid",
    "pg_jit_available", "pg_partition_ancestors", "pg_partition_tree", "pg_relation_size",
    "pg_sleep", "pg_sleep_for", "pg_sleep_until", "pg_table_size", "pg_tablespace_size",
    "pg_total_relation_size", "pg_xact_commit_timestamp", "pg_xact_commit_timestamp_origin",
    "random", "random_normal", "timeofday", "to_bin", "to_oct", "to_regtypemod",
    "unicode_assigned", "unicode_version", "uuid_extract_timestamp", "uuid_extract_version",
    "uuidv4", "uuidv7", NULL};

static const char *const writes[] = {
    "binary_upgrade_*", "brin_desummarize_range", "brin_summarize_new_values",
    "brin_summarize_range", "gin_clean_pending_list", "lo_creat", "lo_create", "lo_from_bytea",
    "lo_import", "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink", "lowrite", "nextval",
    "pg_clear_attribute_stats", "pg_clear_relation_stats", "pg_create_restore_point",
    "pg_current_xact_id", "pg_import_system_collations", "pg_log_standby_snapshot",
    "pg_logical_emit_message", "pg_nextoid", "pg_notify", "pg_replication_origin_*",
    "pg_restore_attribute_stats", "pg_restore_relation_stats", "pg_switch_wal", "setval",
    "txid_current", NULL};

static const char *const one_node[] = {
    "inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port", "lo_close",
    "lo_get", "lo_lseek", "lo_lseek64", "lo_open", "lo_tell", "lo_tell64", "loread",
    "pg_available_extension*", "pg_available_wal_summaries", "pg_backend_pid",
    "pg_blocking_pids", "pg_conf_load_time", "pg_config", "pg_control_*", "pg_current_logfile",
    "pg_current_snapshot", "pg_current_wal_*", "pg_current_xact_id_if_assigned", "pg_cursor",
    "pg_export_snapshot",
    "pg_get_aios", "pg_get_backend_memory_contexts", "pg_get_loaded_modules",
    "pg_get_multixact_members", "pg_get_replication_slots", "pg_get_sequence_data",
    "pg_get_shmem_allocations*", "pg_get_wal_replay_pause_state", "pg_get_wal_summarizer_state",
    "pg_hba_file_rules", "pg_ident_file_mappings", "pg_is_in_recovery",
    "pg_is_other_temp_schema", "pg_is_wal_replay_paused", "pg_isolation_test_*",
    "pg_last_committed_xact", "pg_last_wal_*", "pg_last_xact_replay_timestamp",
    "pg_listening_channels", "pg_lock_status", "pg_ls_*", "pg_my_temp_schema",
    "pg_notification_queue_usage", "pg_postmaster_start_time", "pg_prepared_statement",
    "pg_prepared_xact", "pg_read_binary_file", "pg_read_file*", "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value", "pg_show_*", "pg_stat_file", "pg_stat_get_*", "pg_stat_have_stats",
    "pg_stat_statements*", "pg_visible_in_snapshot", "pg_wal_summary_contents", "pg_walfile_name*",
    "pg_xact_status", "txid_current_if_assigned", "txid_current_snapshot", "txid_status",
    "txid_visible_in_snapshot", "version", NULL};

static const char *const acts[] = {
    "lo_export", "pg_cancel_backend", "pg_copy_*", "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot", "pg_drop_replication_slot",
    "pg_log_backend_memory_contexts", "pg_logical_slot_*", "pg_promote", "pg_reload_conf",
    "pg_replication_slot_advance", "pg_rotate_logfile*", "pg_stat_clear_snapshot",
    "pg_stat_force_next_flush", "pg_stat_reset*", "pg_sync_replication_slots",
    "pg_terminate_backend", "pg_wal_replay_*", NULL};

static const char *const locks[] = {"pg_advisory_xact_*", "pg_try_advisory_xact_*", NULL};

static const char *const session_locks[] = {"pg_advisory_lock*", "pg_advisory_unlock*",
                                            "pg_try_advisory_lock*", NULL};

static const char *const remembers[] = {"currval", "lastval", "pg_backup_*",
                                        "pg_start_backup", "pg_stop_backup", "setseed", NULL};

static const char *const runs_text[] = {
    "cursor_to_xml*", "database_to_xml*", "query_to_xml*", "schema_to_xml*", "table_to_xml*",
    "ts_rewrite", "ts_stat", NULL};

static const char *const connects[] = {"dblink*", "postgres_fdw_*", NULL};
static const char *const sets[] = {"set_config", NULL};
static const char *const shows[] = {"current_setting", NULL};

static const struct kind_names special[] = {
    {BUILTIN_HARMLESS, harmless},     {BUILTIN_WRITES, writes},
    {BUILTIN_ONE_NODE, one_node},     {BUILTIN_ACTS, acts},
    {BUILTIN_LOCKS, locks},           {BUILTIN_SESSION_LOCKS, session_locks},
    {BUILTIN_REMEMBERS, remembers},   {BUILTIN_RUNS_TEXT, runs_text},
    {BUILTIN_CONNECTS, connects},     {BUILTIN_SETS, sets},
    {BUILTIN_SHOWS, shows},
};

/* Views that show one node or one server connection; extensions' too, hence the last pattern. */
static const char *const local_relations[] = {
    "pg_aios", "pg_available_extension*", "pg_backend_memory_contexts", "pg_config", "pg_cursors",
    "pg_dsm_registry_allocations", "pg_file_settings", "pg_hba_file_rules",
    "pg_ident_file_mappings", "pg_locks", "pg_prepared_statements", "pg_prepared_xacts",
    "pg_replication_origin_status", "pg_replication_slots", "pg_sequences", "pg_settings",
    "pg_shmem_allocations*", "pg_stat_*", "pg_statio_*", NULL};

static const char *const common_settings[] = {
    "application_name", "client_encoding", "datestyle", "integer_datetimes", "intervalstyle",
    "is_superuser", "lc_collate", "lc_ctype", "role", "search_path", "server_encoding",
    "server_version", "server_version_num", "session_authorization",
    "standard_conforming_strings", "timezone", NULL};
/* clang-format on */

static bool name_matches(struct bytes name, const char *pattern) {
    size_t len = strlen(pattern);
    if (pattern[len - 1] != '*') return bytes_equal(name, bytes_of(pattern, len));
    return name.len >= len - 1 && memcmp(name.at, pattern, len - 1) == 0;
}

static bool list_has(const char *const *names, struct bytes name) {
    for (; *names != NULL; names++) {
        if (name_matches(name, *names)) return true;
    }
    return false;
}

/* Below, at or above 0, as strcmp. */
static int compare(struct bytes name, const char *with) {
    size_t len = strlen(with);
    int order = memcmp(name.at, with, name.len < len ? name.len : len);
    if (order != 0) return order;
    return name.len < len ? -1 : name.len > len;
}

static bool is_stable(struct bytes name) {
    size_t low = 0;
    size_t high = stable_functions_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(name, stable_functions[middle]);
        if (order == 0) return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

enum builtin_kind builtin_function(struct bytes name) {
    if (name.len == 0) return BUILTIN_UNKNOWN;
    for (size_t i = 0; i < COUNT(special); i++) {
        if (list_has(special[i].names, name)) return special[i].kind;
    }
    return is_stable(name) ? BUILTIN_HARMLESS : BUILTIN_UNKNOWN;
}

/* What they write nobody reads on a standby: the state of sequences goes there ahead of time, so
 * that it is read from the primary anyway. */
bool builtin_writes_no_rows(struct bytes name) {
    static const char *const names[] = {"nextval", "pg_current_xact_id", "pg_notify",
                                        "setval",  "txid_current",       NULL};
    return list_has(names, name);
}

bool builtin_measures(struct bytes name) {
    static const char *const names[] = {
        "currtid2",      "pg_database_size",   "pg_indexes_size",        "pg_relation_size",
        "pg_table_size", "pg_tablespace_size", "pg_total_relation_size", NULL};
    return list_has(names, name);
}

bool builtin_setting_is_common(struct bytes name) {
    if (name.len == 0) return false;
    for (size_t i = 0; common_settings[i] != NULL; i++) {
        if (bytes_equal_nocase(name, common_settings[i])) return true;
    }
    return memchr(name.at, '.', name.len) != NULL;
}

bool builtin_relation_is_local(struct bytes name) {
    return name.len > 0 && list_has(local_relations, name);
}
