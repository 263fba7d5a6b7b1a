/* Reading the files that decide who gets in; see auth/access.h. */
#include "auth/access.h"

#include "auth/hba.h"
#include "auth/ident.h"
#include "auth/ldap_options.h"
#include "config/effective.h"
#include "core/check.h"
#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <string.h>

/* Reads one file of rules; false, reported, if it cannot be read or is not set. */
static bool read_rules(const char *what, const char *path, struct buf *text,
                       struct rules_report *report) {
    if (path[0] == '\0') return false;
    if (users_read_file(path, RULES_FILE_BYTES_MAX, text)) return true;
    report->unreadable++;
    report->errors_count++;
    buf_append_format(&report->errors, "could not open %s config file %s: %s\n", what, path,
                      strerror(errno));
    return false;
}

static bool read_names(const char *path, struct buf *text) {
    return users_read_file(path, RULES_FILE_BYTES_MAX, text);
}

static bool judge_ldap(const char *text, struct buf *why) {
    struct ldap_options options;
    bool is_good = ldap_options_parse(&options, text, why);
    ldap_options_release(&options);
    return is_good;
}

static void load_rules(struct users *users, const struct config *config,
                       struct rules_report *report) {
    struct buf text = {0};
    struct ident *ident = NULL;
    struct hba *hba = NULL;
    if (read_rules("ident", config->auth_ident_file, &text, report))
        ident = ident_new(buf_content(&text), config->auth_ident_file, report);
    buf_clear(&text);
    if (read_rules("hba", config->auth_hba_file, &text, report)) {
        struct hba_source source = {.file = config->auth_hba_file,
                                    .ident = ident,
                                    .read = read_names,
                                    .judge_ldap = judge_ldap};
        hba = hba_new(buf_content(&text), &source, report);
    }
    buf_release(&text);
    users_take_rules(users, hba, ident);
}

/* The settings by which users and rules are kept, and what is read again when one of them is SET;
 * for the others it suffices to make users anew from those at hand. */
static const struct {
    const char *name;
    unsigned parts;
} access_settings[] = {
    {"auth_file", ACCESS_USERS}, {"auth_hba_file", ACCESS_RULES}, {"auth_ident_file", ACCESS_RULES},
    {"auth_type", ACCESS_RULES}, {"auth_ldap_options", 0},        {"scram_iterations", 0},
};

bool access_is_setting(const char *name, unsigned *parts) {
    for (size_t i = 0; i < COUNT(access_settings); i++) {
        if (strcmp(name, access_settings[i].name) != 0) continue;
        *parts = access_settings[i].parts;
        return true;
    }
    return false;
}

static void add_error(struct rules_report *report, struct buf *error) {
    struct bytes text = buf_content(error);
    struct bytes line;
    while (text.len > 0 && rules_next_line(&text, &line)) {
        if (report->errors_count < RULES_ERRORS_MAX) {
            buf_append_bytes(&report->errors, line);
            buf_append_u8(&report->errors, '\n');
        }
        report->errors_count++;
    }
    buf_clear(error);
}

static void load_users(struct users *users, const struct config *config,
                       struct rules_report *report) {
    struct buf error = {0};
    struct buf text = {0};
    const char *path = config->auth_file;
    if (path[0] != '\0' && !users_read_file(path, USERS_FILE_BYTES_MAX, &text)) {
        report->unreadable++;
        buf_append_format(&error, "could not open auth_file %s: %s", path, strerror(errno));
    } else if (path[0] != '\0') {
        (void)users_parse(users, buf_content(&text), path, &error);
    }
    add_error(report, &error);
    if (text.memory != NULL) memory_wipe(text.memory, text.size);
    buf_release(&text);
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_USER].count; i++) {
        const struct config_user *user = config_user_at(config, i);
        if (user->secret == NULL) continue;
        (void)users_add(users, bytes_of_text(user->entry.name), bytes_of_text(user->secret),
                        &error);
        add_error(report, &error);
    }
    buf_release(&error);
}

static void judge_ldap_setting(const struct config *config, struct rules_report *report) {
    struct buf why = {0};
    struct buf error = {0};
    if (!judge_ldap(config->auth_ldap_options, &why)) {
        buf_append_format(&error, "invalid value for parameter auth_ldap_options: %s",
                          buf_text(&why));
        add_error(report, &error);
    }
    buf_release(&error);
    buf_release(&why);
}

struct users *access_load(const struct config *config, const struct users_scram *scram,
                          struct rules_report *report) {
    struct users *users = users_new(scram);
    load_users(users, config, report);
    if (config->auth_type == AUTH_TYPE_HBA) load_rules(users, config, report);
    if (config->auth_type == AUTH_TYPE_LDAP) judge_ldap_setting(config, report);
    return users;
}

struct users *access_load_parts(const struct config *config, const struct users_scram *scram,
                                const struct users *from, unsigned parts,
                                struct rules_report *report) {
    struct users *users = users_new(scram);
    size_t unreadable = report->unreadable;
    bool has_file = parts & ACCESS_USERS && config->auth_file[0] != '\0';
    if (has_file) load_users(users, config, report);
    if (!has_file || report->unreadable > unreadable) users_copy_all(users, from);
    if (config->auth_type == AUTH_TYPE_HBA) {
        unreadable = report->unreadable;
        if (parts & ACCESS_RULES) load_rules(users, config, report);
        if (!(parts & ACCESS_RULES) || report->unreadable > unreadable)
            users_share_rules(users, from);
    }
    if (config->auth_type == AUTH_TYPE_LDAP) judge_ldap_setting(config, report);
    return users;
}

bool access_is_refused(const struct config *config, const struct rules_report *report,
                       bool is_reload) {
    if (config->hba_strict && report->errors_count > 0) return true;
    return is_reload && report->unreadable > 0;
}

static void log_lines(enum log_level level, struct bytes text) {
    struct bytes line;
    while (rules_next_line(&text, &line)) log_line(level, "%.*s", (int)line.len, line.at);
}

void access_log(const struct rules_report *report) {
    log_lines(LOG_LEVEL_WARNING, buf_content(&report->warnings));
    log_lines(LOG_LEVEL_ERROR, buf_content(&report->errors));
    if (report->errors_count > RULES_ERRORS_MAX)
        log_line(LOG_LEVEL_ERROR, "and %zu more", report->errors_count - RULES_ERRORS_MAX);
}
