/*
 * What takes more than one value to judge, and what the values imply; see snapshot.h.
 *
 * Each check runs over a whole snapshot, whether it came from a file, a URL, a RELOAD or a SET,
 * and goes on after an error, so that all of them are told at once.
 */
#include "snapshot.h"

#include "config/effective.h"
#include "core/list.h"
#include "core/memory.h"

#include <stdio.h>

#define NAME_CONSOLE   "pgbouncer"
#define PORT_DEFAULT   5432
#define PORT_TEXT_SIZE 16

/* The port of the host at `index`, from a list of none, one, or one for each host. PgBouncer knows
 * a single one, of which it reads the number in front, whose lower 16 bits go into an address. */
static bool host_port(const struct config_database *database, size_t index, int *port) {
    *port = PORT_DEFAULT;
    if (database->port.count == 0) return true;
    bool is_single = database->port.count == 1;
    struct bytes text = bytes_of_text(database->port.items[is_single ? 0 : index]);
    int64_t number;
    bool is_whole = setting_leading_number(text, &number);
    if (!is_single && (!is_whole || number < 1 || number > UINT16_MAX)) return false;
    *port = (int)((uint64_t)number & UINT16_MAX);
    return *port != 0;
}

/* Warns of a port that was not taken as it stands. */
static void port_check(const struct config_database *database, struct config_errors *errors) {
    if (database->port.count != 1 || database->hosts_count == 0) return;
    int64_t number;
    bool is_whole = setting_leading_number(bytes_of_text(database->port.items[0]), &number);
    int port = database->hosts[0].port;
    if (is_whole && number == port) return;
    struct buf quoted = {0};
    errors_quote(&quoted, bytes_of_text(database->port.text), false);
    errors_warn(errors, "value %s for parameter port in database \"%s\" (%s): it counts as %d",
                buf_text(&quoted), database->entry.name, database->entry.where, port);
    buf_release(&quoted);
}

static bool hosts_fit(const struct config_database *database, const char *socket_dir,
                      struct config_errors *errors) {
    const char *name = database->entry.name;
    const char *where = database->entry.where;
    size_t hosts = database->host.count == 0 ? 1 : database->host.count;
    size_t before = errors->count;
    if (hosts > CONFIG_HOSTS_MAX)
        errors_add(errors, "too many hosts in database \"%s\" (%s): at most %d", name, where,
                   CONFIG_HOSTS_MAX);
    if (database->port.count > 1 && database->port.count != hosts)
        errors_add(errors,
                   "%zu ports for %zu hosts in database \"%s\" (%s): expected one port, or one for "
                   "each host",
                   database->port.count, hosts, name, where);
    if (database->host.count == 0 && socket_dir[0] == '\0')
        errors_warn(
            errors,
            "no host in database \"%s\" (%s): it cannot be reached, since unix_socket_dir is "
            "empty",
            name, where);
    return errors->count == before;
}

static void hosts_derive(struct config *config, struct config_database *database,
                         struct config_errors *errors) {
    if (!hosts_fit(database, config->unix_socket_dir, errors)) return;
    size_t count = database->host.count == 0 ? 1 : database->host.count;
    for (size_t i = 0; i < count; i++) {
        int port;
        if (!host_port(database, i, &port)) {
            struct buf quoted = {0};
            errors_quote(&quoted, bytes_of_text(database->port.text), false);
            errors_add(errors,
                       "invalid value %s for parameter port in database \"%s\" (%s): expected "
                       "numbers from 1 to 65535",
                       buf_text(&quoted), database->entry.name, database->entry.where);
            buf_release(&quoted);
            return;
        }
        const char *name =
            database->host.count == 0 ? config->unix_socket_dir : database->host.items[i];
        database->hosts[i] = (struct config_host){memory_copy_text(name), port};
        database->hosts_count = i + 1;
    }
}

/* A node is one address, so a list that names one twice cannot be routed over. */
static void hosts_check(const struct config *config, const struct config_database *database,
                        struct config_errors *errors) {
    if (config_routing(config, database, NULL) == ROUTING_OFF) return;
    if (database->host.count == 0 && config->unix_socket_dir[0] == '\0')
        errors_add(errors, "no host in database \"%s\" (%s), which is routed: expected one",
                   database->entry.name, database->entry.where);
    for (size_t i = 1; i < database->hosts_count; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct config_host *a = &database->hosts[i];
            const struct config_host *b = &database->hosts[j];
            if (a->port == b->port && strcmp(a->name, b->name) == 0)
                errors_add(errors, "host %s port %d occurs twice in database \"%s\" (%s)", a->name,
                           a->port, database->entry.name, database->entry.where);
        }
    }
}

/* The console has no servers to ask. `entry` is NULL for the global setting; in an entry it fails
 * when a client comes for whom it counts, as in PgBouncer. */
static void auth_dbname_check(const char *name, const struct config_entry *entry,
                              struct config_errors *errors) {
    if (name == NULL || !bytes_equal_text(bytes_of_text(name), NAME_CONSOLE)) return;
    if (entry == NULL)
        errors_add(errors, "cannot use the reserved \"%s\" database as an auth_dbname", name);
    else
        errors_warn(errors,
                    "cannot use the reserved \"%s\" database as an auth_dbname in database \"%s\" "
                    "(%s)",
                    name, entry->name, entry->where);
}

/* `where` is empty for the global setting. */
static void patroni_check(const char *urls, const char *where, struct config_errors *errors) {
    for (; urls != NULL && *urls != '\0'; urls += strcspn(urls, ",")) {
        urls += strspn(urls, ", ");
        bool is_http = strncmp(urls, "http://", 7) == 0 || strncmp(urls, "https://", 8) == 0;
        if (*urls == '\0' || is_http) continue;
        errors_add(errors,
                   "invalid value in patroni_url%s: expected URLs that begin with http:// or "
                   "https://",
                   where);
    }
}

static void database_check(const struct config *config, const struct config_database *database,
                           struct config_errors *errors) {
    hosts_check(config, database, errors);
    auth_dbname_check(database->auth_dbname, &database->entry, errors);
    patroni_check(database->patroni_url, " of a database", errors);
    if (database->probe_password != NULL && database->probe_user == NULL)
        errors_add(errors, "probe_password without probe_user in database \"%s\" (%s)",
                   database->entry.name, database->entry.where);
    if (config_routing(config, database, NULL) != ROUTING_OFF &&
        config_probe_login(config, database).user == NULL)
        errors_warn(errors,
                    "database \"%s\" (%s) is routed, but nobody is named to probe its nodes: set "
                    "probe_user, or user in its entry",
                    database->entry.name, database->entry.where);
    if (database->sslnegotiation == SSLNEGOTIATION_DIRECT &&
        config->server_tls_sslmode < SSLMODE_REQUIRE)
        errors_add(errors,
                   "sslnegotiation = direct in database \"%s\" (%s): expected server_tls_sslmode = "
                   "require, verify-ca or verify-full",
                   database->entry.name, database->entry.where);
    bool is_started = config_session_state(config, database) == SESSION_STATE_TRACK &&
                      config_pool_mode(config, database, NULL) == POOL_MODE_SESSION;
    if (config_backend_pid(config, database) == BACKEND_PID_SERVER &&
        (!is_started || config->peer_id != 0))
        errors_warn(errors,
                    "database \"%s\" (%s): backend_pid = server counts only with pool_mode = "
                    "session and session_state = track, and without peer_id",
                    database->entry.name, database->entry.where);
    enum routing asked = database->routing == ROUTING_UNSET ? config->routing : database->routing;
    if ((asked == ROUTING_READ_WRITE || asked == ROUTING_SHADOW) &&
        config_pool_mode(config, database, NULL) == POOL_MODE_SESSION)
        errors_warn(
            errors,
            "database \"%s\" (%s): with pool_mode = session, routing = %s counts as primary",
            database->entry.name, database->entry.where,
            asked == ROUTING_SHADOW ? "shadow" : "read_write");
}

/* Whether a name is one of the database's hosts, or HOST:PORT of one. */
static bool is_node_of(const struct config_database *database, const char *name) {
    for (size_t i = 0; i < database->hosts_count; i++) {
        const struct config_host *host = &database->hosts[i];
        size_t len = strlen(host->name);
        if (strncmp(name, host->name, len) != 0) continue;
        char port[PORT_TEXT_SIZE];
        (void)snprintf(port, sizeof port, ":%d", host->port);
        if (name[len] == '\0' || strcmp(name + len, port) == 0) return true;
    }
    return false;
}

static void node_check(const struct config *config, const struct config_entry *node,
                       struct config_errors *errors) {
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        if (is_node_of(config_database_at(config, i), node->name)) return;
    }
    struct buf quoted = {0};
    errors_quote(&quoted, bytes_of_text(node->name), false);
    errors_add(errors, "unknown node %s (%s): expected a host, or HOST:PORT, that a database lists",
               buf_text(&quoted), node->where);
    buf_release(&quoted);
}

static void peer_check(const struct config_entry *entry, struct config_errors *errors) {
    const struct config_peer *peer = LIST_OWNER(entry, struct config_peer, entry);
    unsigned number = 0;
    const char *digit = entry->name;
    for (; *digit >= '0' && *digit <= '9'; digit++) number = number * 10 + (unsigned)(*digit - '0');
    if (*digit != '\0' || number < 1 || number > UINT16_MAX || entry->name[0] == '0') {
        struct buf quoted = {0};
        errors_quote(&quoted, bytes_of_text(entry->name), false);
        errors_add(errors, "invalid peer name %s (%s): expected a number from 1 to 65535",
                   buf_text(&quoted), entry->where);
        buf_release(&quoted);
    }
    if (peer->host == NULL)
        errors_add(errors, "no host in peer \"%s\" (%s): expected one", entry->name, entry->where);
}

static void logins_check(const struct config *config, struct config_errors *errors) {
    bool wants_secrets = config->auth_type == AUTH_TYPE_PLAIN ||
                         config->auth_type == AUTH_TYPE_MD5 ||
                         config->auth_type == AUTH_TYPE_SCRAM_SHA_256;
    if (!wants_secrets || config->auth_file[0] != '\0') return;
    if (config->auth_user[0] != '\0') return;
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        if (config_database_at(config, i)->auth_user != NULL) return;
    }
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_USER].count; i++) {
        if (config_user_at(config, i)->secret != NULL) return;
    }
    errors_warn(errors, "auth_file is not set, so that nobody can log in with a password");
}

static void rules_check(const struct config *config, struct config_errors *errors) {
    if (config->auth_type == AUTH_TYPE_HBA && config->auth_hba_file[0] == '\0')
        errors_warn(errors, "auth_type = hba, but auth_hba_file is not set: nobody can log in");
}

bool snapshot_finish(struct config *config, struct config_errors *errors) {
    const struct config_entries *databases = &config->entries[SETTING_SCOPE_DATABASE];
    const struct config_entries *nodes = &config->entries[SETTING_SCOPE_NODE];
    size_t before = errors->count;
    if (config->listen_addr.count == 0 && config->unix_socket_dir[0] == '\0')
        errors_add(errors, "nowhere to listen: expected listen_addr, unix_socket_dir or both");
    auth_dbname_check(config->auth_dbname, NULL, errors);
    patroni_check(config->patroni_url, "", errors);
    for (size_t i = 0; i < databases->count; i++) {
        struct config_database *database =
            LIST_OWNER(databases->at[i], struct config_database, entry);
        hosts_derive(config, database, errors);
        port_check(database, errors);
        database_check(config, database, errors);
    }
    /* With errors before, a node may be unknown only because its database was not understood. */
    for (size_t i = 0; i < nodes->count && errors->count == 0; i++)
        node_check(config, nodes->at[i], errors);
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_PEER].count; i++)
        peer_check(config->entries[SETTING_SCOPE_PEER].at[i], errors);
    logins_check(config, errors);
    rules_check(config, errors);
    return errors->count == before;
}
