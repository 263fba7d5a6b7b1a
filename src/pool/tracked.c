/* Which parameters follow a client; see pool/tracked.h. */
#include "pool/tracked.h"

#include "core/memory.h"

static bool is_tracked(const struct pool_set *set, const char *name) {
    for (unsigned i = 0; i < set->tracked_count; i++) {
        if (bytes_equal_nocase(bytes_of_text(name), set->tracked[i])) return true;
    }
    return false;
}

void tracked_init(struct pool_set *set, const struct setting_list *extra) {
    static const char *const always[TRACKED_ALWAYS] = {
        [TRACKED_CLIENT_ENCODING] = "client_encoding",
        [TRACKED_DATESTYLE] = "DateStyle",
        [TRACKED_TIMEZONE] = "TimeZone",
        [TRACKED_STANDARD_CONFORMING_STRINGS] = "standard_conforming_strings",
        [TRACKED_APPLICATION_NAME] = "application_name",
        [TRACKED_INTERVALSTYLE] = "IntervalStyle",
        [TRACKED_SEARCH_PATH] = "search_path",
        [TRACKED_SESSION_AUTHORIZATION] = "session_authorization",
        [TRACKED_DEFAULT_TRANSACTION_READ_ONLY] = "default_transaction_read_only",
        [TRACKED_SCRAM_ITERATIONS] = "scram_iterations"};
    memcpy(set->tracked, always, sizeof always);
    set->tracked_count = TRACKED_ALWAYS;
    for (size_t i = 0; i < extra->count && set->tracked_count < SERVER_PARAMETERS_MAX; i++) {
        if (!is_tracked(set, extra->items[i]))
            set->tracked[set->tracked_count++] = memory_copy_text(extra->items[i]);
    }
}

void tracked_release(struct pool_set *set) {
    for (unsigned i = TRACKED_ALWAYS; i < set->tracked_count; i++)
        memory_free((void *)(uintptr_t)set->tracked[i]);
    set->tracked_count = 0;
}
