/*
 * How a client has to log in: by auth_type, or by the first HBA rule that fits its connection.
 * Nothing here asks the client; that is client_login.c's.
 */
#include "auth/hba.h"
#include "client/parts.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/tls.h"

#include <errno.h>
#include <pwd.h>
#include <unistd.h>

#define PASSWD_BYTES_MAX 65536u

/* For AUTH_TYPE_HBA the rules tell. */
static const enum verify_method by_type[] = {
    [AUTH_TYPE_ANY] = VERIFY_ANY,
    [AUTH_TYPE_TRUST] = VERIFY_TRUST,
    [AUTH_TYPE_PLAIN] = VERIFY_PLAIN,
    [AUTH_TYPE_MD5] = VERIFY_MD5,
    [AUTH_TYPE_SCRAM_SHA_256] = VERIFY_SCRAM,
    [AUTH_TYPE_CERT] = VERIFY_CERT,
    [AUTH_TYPE_PAM] = VERIFY_PAM,
    [AUTH_TYPE_LDAP] = VERIFY_LDAP,
};

static const enum verify_method by_rule[] = {
    [HBA_NONE] = VERIFY_NOTHING, [HBA_TRUST] = VERIFY_TRUST,    [HBA_REJECT] = VERIFY_REJECT,
    [HBA_MD5] = VERIFY_MD5,      [HBA_PASSWORD] = VERIFY_PLAIN, [HBA_SCRAM] = VERIFY_SCRAM,
    [HBA_PEER] = VERIFY_PEER,    [HBA_CERT] = VERIFY_CERT,      [HBA_LDAP] = VERIFY_LDAP,
};

static struct bytes text_bytes(const struct text *text) {
    return bytes_of(text->at, text->len);
}

/* The name of the system user at the other end of a Unix socket; nothing if there is none. */
static void add_peer_name(const struct client *client, struct buf *names) {
    unsigned uid;
    int pid;
    if (!endpoint_is_unix(stream_descriptor(&client->stream), &uid, &pid)) return;
    struct passwd entry;
    struct passwd *found = NULL;
    char *room = memory_new(PASSWD_BYTES_MAX);
    int error = getpwuid_r((uid_t)uid, &entry, room, PASSWD_BYTES_MAX, &found);
    if (found != NULL) {
        buf_append_text0(names, found->pw_name);
    } else {
        client_log(client, LOG_LEVEL_WARNING, "no system user has the id %u: %s", uid,
                   error == 0 ? "there is none" : strerror(error));
    }
    memory_free(room);
}

static void add_name(void *names, struct bytes name) {
    buf_append_bytes(names, name);
    buf_append_u8(names, 0);
}

/* The names in the client's certificate, if that was verified; otherwise why there are none. */
static void add_certificate_names(const struct client *client, struct buf *names) {
    const struct tls *tls = stream_tls(&client->stream);
    const char *missing = NULL;
    if (tls == NULL) {
        missing = "TLS connection required for certificate authentication";
    } else if (!tls_is_verified(tls)) {
        missing = "the client gave no certificate that could be verified";
    } else {
        tls_peer_each_name(tls, add_name, names);
        if (buf_length(names) == 0) missing = "the client's certificate has no name";
    }
    if (missing != NULL) client_log(client, LOG_LEVEL_WARNING, "%s", missing);
}

static struct hba_verdict ask_rules(const struct client *client) {
    int fd = stream_descriptor(&client->stream);
    struct hba_connection connection = {.database = text_bytes(client->database),
                                        .user = text_bytes(client->user)};
    connection.is_tls = stream_tls(&client->stream) != NULL;
    connection.is_physical = client->replication == STARTUP_REPLICATION_PHYSICAL;
    unsigned uid;
    int pid;
    connection.is_unix = endpoint_is_unix(fd, &uid, &pid);
    if (!connection.is_unix)
        connection.address_bytes = endpoint_peer_address(fd, connection.address);
    return hba_judge(users_hba(client->set->pools->users), &connection);
}

void client_method(struct client *client, struct verify_request *request, struct buf *room) {
    const struct tls *tls = stream_tls(&client->stream);
    const struct pool_set *pools = client->set->pools;
    const struct config *config = pools->config;
    *request = (struct verify_request){.users = pools->users,
                                       .user = text_bytes(client->user),
                                       .ident = users_ident(pools->users)};
    request->is_listed = config_user(config, request->user) != NULL;
    if (config->auth_type == AUTH_TYPE_HBA) {
        struct hba_verdict verdict = ask_rules(client);
        request->method = by_rule[verdict.method];
        request->map = verdict.map;
        request->ldap = verdict.ldap;
    } else {
        request->method = by_type[config->auth_type];
        request->ldap = config->auth_ldap_options;
    }
    if (request->method == VERIFY_PEER || request->method == VERIFY_CERT) {
        if (request->method == VERIFY_PEER) add_peer_name(client, room);
        if (request->method == VERIFY_CERT) add_certificate_names(client, room);
        request->system_names = buf_content(room);
    } else if (tls != NULL && (request->method == VERIFY_SCRAM || request->method == VERIFY_MD5)) {
        char *hash = buf_room(room, TLS_END_POINT_BYTES_MAX);
        buf_grown(room, tls_server_end_point(tls, (unsigned char *)hash));
        request->end_point = buf_content(room);
    }
}
