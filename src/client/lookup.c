/*
 * Lookups; see client/lookup.h.
 *
 *      (database, auth_user, auth_query, user) --> one errand --> its waiters
 *
 * The errand runs on the pool of the auth_user in the database that auth_dbname names, else in the
 * client's own. Of the answer only a row that names the very user who was asked for counts:
 * another one's secret would let a client in as somebody else. A question whose waiters have all
 * left is finished for its server's sake, within client_login_timeout.
 */
#include "client/lookup.h"

#include "client/parts.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "pool/errand.h"

#include <stdio.h>

#define ORPHAN_US_MAX (60 * (uint64_t)US_PER_S) /* where there is no client_login_timeout */

struct lookup {
    struct errand errand;
    struct map_node node;
    struct client_set *set;
    struct list waiters; /* clients, by their `by_lookup` */
    struct buf key;
    char *user;
    struct users *found; /* NULL: no row */
    uint64_t since_us;
};

static void lookup_free(struct lookup *lookup) {
    CHECK(lookup->waiters.count == 0);
    map_remove(&lookup->set->lookups, &lookup->node);
    users_free(&lookup->found);
    buf_release(&lookup->key);
    memory_free(lookup->user);
    memory_free(lookup);
}

/* ---- the answer */

/* The user with its secret; a secret that cannot be one lets nobody in. */
static struct users *make_users(const struct lookup *lookup, struct bytes secret) {
    struct users *users = users_new_like(lookup->set->pools->users);
    struct bytes name = bytes_of_text(lookup->user);
    struct buf why = {0};
    bool is_added = users_add(users, name, secret, &why);
    if (buf_length(&why) > 0)
        log_line(LOG_LEVEL_ERROR, "auth_query: the secret of user %s is not usable: %s",
                 lookup->user, buf_text(&why));
    if (!is_added) (void)users_add(users, name, bytes_of("", 0), &why);
    buf_release(&why);
    return users;
}

static bool on_row(void *owner, const struct bytes *values, unsigned count,
                   char reason[ERRAND_REASON_SIZE]) {
    struct lookup *lookup = owner;
    if (count != 2) {
        (void)snprintf(reason, ERRAND_REASON_SIZE, "expected 2 columns from auth_query, not %u",
                       count);
        return false;
    }
    if (values[0].at == NULL || !bytes_equal_text(values[0], lookup->user)) {
        (void)snprintf(reason, ERRAND_REASON_SIZE, "auth_query returned another user than %.100s",
                       lookup->user);
        return false;
    }
    users_free(&lookup->found);
    lookup->found = make_users(lookup, values[1]);
    return true;
}

static void tell(struct client *client, const struct lookup *lookup, const struct errand_end *end) {
    if (end->is_answered && lookup->found != NULL) {
        client_login_found(client, lookup->found);
    } else if (end->is_answered) {
        client_log(client, LOG_LEVEL_LOG, "login failed: db=%s user=%s", client->database->at,
                   client->user->at);
        client_fail(client, FAULT_AUTH_NO_USER, NULL);
    } else if (end->fault == FAULT_NONE) {
        client_fail(client, FAULT_AUTH_CONFIG, NULL);
    } else {
        client_refuse(client, end->fault, end->argument, end->fields);
    }
}

static void on_done(void *owner, const struct errand_end *end) {
    struct lookup *lookup = owner;
    struct link *l;
    while ((l = list_pop(&lookup->waiters)) != NULL) {
        struct client *client = LIST_OWNER(l, struct client, by_lookup);
        client->lookup = NULL;
        tell(client, lookup, end);
    }
    lookup_free(lookup);
}

/* ---- the question */

/* The database to ask in, held; NULL if the client was refused for it. */
static struct database *find_database(struct client *client, const char *name) {
    struct pool_set *pools = client->set->pools;
    struct database *database = NULL;
    if (config_is_console(pools->config, bytes_of_text(name)))
        client_log(client, LOG_LEVEL_ERROR,
                   "cannot use the reserved \"%s\" database as an auth_dbname", name);
    else if ((database = databases_hold(pools->databases, pools->config, bytes_of_text(name))) ==
             NULL)
        client_log(client, LOG_LEVEL_ERROR, "authentication database \"%s\" is not configured.",
                   name);
    if (database == NULL) {
        client_fail(client, FAULT_AUTH_CONFIG, NULL);
    } else if (atomic_load(&database->is_disabled)) {
        client_fail(client, FAULT_AUTH_DATABASE_DISABLED, name);
        database_release(database);
        return NULL;
    }
    return database;
}

static struct lookup *lookup_new(struct client *client, struct database *database,
                                 const struct config_auth_lookup *how, struct buf *key) {
    struct client_set *set = client->set;
    struct lookup *lookup = memory_new(sizeof *lookup);
    lookup->set = set;
    lookup->key = *key;
    lookup->user = memory_copy(client->user->at, client->user->len);
    lookup->since_us = loop_now_us(set->loop);
    list_init(&lookup->waiters);
    map_add(&set->lookups, &lookup->node, buf_content(&lookup->key));
    lookup->errand.doing = "auth_query";
    lookup->errand.ops = (struct errand_ops){.row = on_row, .done = on_done, .owner = lookup};
    struct pool *pool = pool_get(set->pools, database, bytes_of_text(how->user));
    errand_begin(&lookup->errand, pool, how->query, bytes_of_text(lookup->user));
    return lookup;
}

bool lookup_begin(struct client *client) {
    struct pool_set *pools = client->set->pools;
    struct bytes name = bytes_of(client->database->at, client->database->len);
    struct bytes user = bytes_of(client->user->at, client->user->len);
    bool is_console = config_is_console(pools->config, name);
    const struct config_database *entry = is_console ? NULL : config_database(pools->config, name);
    if ((entry == NULL && !is_console) || users_find(pools->users, user) != NULL) return false;
    struct config_auth_lookup how = config_auth_lookup(pools->config, entry);
    if (how.user == NULL) return false;
    struct database *database =
        find_database(client, how.dbname != NULL ? how.dbname : client->database->at);
    if (database == NULL) return true;
    struct buf key = {0};
    buf_append_text0(&key, database->name);
    buf_append_text0(&key, how.user);
    buf_append_text0(&key, how.query);
    buf_append_bytes(&key, user);
    struct map_node *node = map_find(&client->set->lookups, buf_content(&key));
    if (node != NULL) {
        buf_release(&key);
        client->lookup = MAP_OWNER(node, struct lookup, node);
    } else {
        client->lookup = lookup_new(client, database, &how, &key);
    }
    database_release(database);
    list_append(&client->lookup->waiters, &client->by_lookup);
    client->doing = "waiting for auth_query";
    stream_stop(&client->stream);
    return true;
}

void lookup_leave(struct client *client) {
    struct lookup *lookup = client->lookup;
    if (lookup == NULL) return;
    client->lookup = NULL;
    list_remove(&lookup->waiters, &client->by_lookup);
    if (lookup->waiters.count > 0 || errand_is_asking(&lookup->errand)) return;
    errand_give_up(&lookup->errand);
    lookup_free(lookup);
}

bool lookup_is_in(const struct client *client, const struct database *database) {
    return client->lookup != NULL && client->lookup->errand.borrower.pool->database == database;
}

static void give_up_orphans(struct client_set *set, uint64_t begun_before_us) {
    const struct map_node *node = map_next(&set->lookups, NULL);
    while (node != NULL) {
        struct lookup *lookup = MAP_OWNER(node, struct lookup, node);
        node = map_next(&set->lookups, node);
        if (lookup->waiters.count > 0 || lookup->since_us > begun_before_us) continue;
        errand_give_up(&lookup->errand);
        lookup_free(lookup);
    }
}

void lookup_tick(struct client_set *set, uint64_t now_us) {
    uint64_t limit_us = set->pools->config->client_login_timeout_us;
    if (limit_us == 0) limit_us = ORPHAN_US_MAX;
    if (set->lookups.count > 0 && now_us > limit_us) give_up_orphans(set, now_us - limit_us);
}

void lookup_release(struct client_set *set) {
    give_up_orphans(set, UINT64_MAX);
    CHECK(set->lookups.count == 0);
    map_release(&set->lookups);
}
