/*
 * Any bytes as a configuration: as a connection URL where they begin like one, else as a file
 * (with %include refused, so that the disk is not touched).
 *
 * What must hold: a snapshot or at least one error, never both; every value of a snapshot is
 * taken again as it is shown; a copy made by SET differs in nothing else; every database has
 * its hosts.
 */
#include "config/effective.h"
#include "config/load.h"
#include "config/url.h"

#include "core/check.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(struct config *config) {
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_POOLER, i);
        if (setting->flags & SETTING_FLAG_SECRET || !(setting->flags & SETTING_FLAG_LIVE)) continue;
        struct config_errors errors = {0};
        struct buf shown = {0};
        struct buf diff = {0};
        setting_show(setting, config, &shown);
        struct config *copy = config_with(config, setting->name, buf_text(&shown), &errors);
        CHECK(copy != NULL && errors.count == 0);
        config_diff(config, copy, &diff);
        CHECK(buf_length(&diff) == 0);
        config_unref(&copy);
        buf_release(&diff);
        buf_release(&shown);
        config_errors_release(&errors);
        if (config->entries[SETTING_SCOPE_DATABASE].count > 0) break; /* copies cost */
    }
}

static void check_databases(const struct config *config) {
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        const struct config_database *database = config_database_at(config, i);
        CHECK(database->hosts_count >= 1 && database->hosts_count <= CONFIG_HOSTS_MAX);
        CHECK(config_database(config, bytes_of_text(database->entry.name)) == database);
        CHECK(config_pool_mode(config, database, NULL) != POOL_MODE_UNSET);
        CHECK(config_routing(config, database, NULL) != ROUTING_UNSET);
        for (size_t j = 0; j < database->hosts_count; j++)
            CHECK(database->hosts[j].port >= 1 && database->hosts[j].port <= UINT16_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config_errors errors = {0};
    char *text = memory_copy((const char *)data, size);
    struct config *config = url_is_url(text) ? config_from_url(text, &errors)
                                             : config_load_text("f", bytes_of(text, size), &errors);
    CHECK((config == NULL) == (errors.count > 0));
    if (config != NULL) {
        check_values(config);
        check_databases(config);
    }
    config_unref(&config);
    config_errors_release(&errors);
    memory_free(text);
    return 0;
}
