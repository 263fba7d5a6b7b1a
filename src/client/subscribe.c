/*
 * Clients that listen without a server of their own; see client/subscribe.h.
 *
 * PostgreSQL alone decides what LISTEN and UNLISTEN mean (in transactions, savepoints, functions):
 * they go to the server that the client has at hand, and when the transaction has ended that server
 * is asked which channels there are. Then the listener is told, and while it gets ready the client
 * keeps its server, which notifies it as ever. The change from the one to the other:
 *
 *      server    a b [LISTEN mark; NOTIFY mark] a M ...  [UNLISTEN *] -> goes back to its pool
 *      listener              a b                a M c d ...
 *      client    a b         (a b not again)    a   c d ...
 *
 * Both get all notifications in the one order in which they were committed, and M, whose payload
 * nobody else knows, is among them: what comes before M is the server's to tell, what comes after
 * it the listener's. So none is lost, none comes twice and the order is kept, whichever is faster.
 * What the listener tells of a channel before its M is dropped, and after it held until the
 * server's M is there. A listener that is lost on the way never tells M; AGAIN then stands for it,
 * or the change is begun anew where the server's M has not come yet.
 *
 * A later transaction runs on a server that knows nothing of the channels. Where that might
 * matter (a transaction block, UNLISTEN, pg_listening_channels(), a program) the server LISTENs to
 * them first, in the same write, and is asked or just UNLISTENs at the end. What it notifies of
 * these channels meanwhile is dropped, since the listener tells it. A LISTEN alone needs none of
 * that: what is there is added to what there was; so it is in the middle of a pipeline, where our
 * own LISTEN would come too late.
 *
 * A client is told between its transactions only, as PostgreSQL does it. One that does not read has
 * up to SUBSCRIBE_BYTES_MAX waiting; then its connection ends.
 *
 * What is not as with PostgreSQL: the sender's own notifications come right behind its
 * ReadyForQuery, not ahead of it; and while one that listens already adds a channel, notifications
 * of old and new channels that were committed in those milliseconds may change places.
 */
#include "client/subscribe.h"

#include "client/parts.h"
#include "client/remember.h"
#include "core/log.h"
#include "core/memory.h"

/* Who listens to more keeps its server. */
#define CHANNELS_MAX 10000u

#define TRIES_MAX 5u

/* Statements before which the server has to have the channels. LISTEN alone only adds some. */
#define CHANNEL_FLAGS                                                                              \
    (TRAITS_BEGINS | TRAITS_UNLISTENS | TRAITS_RUNS_CODE | TRAITS_ANYTHING | TRAITS_RUNS_UNKNOWN)

#define PINNED_BY_LISTEN (1u << PIN_LISTEN)

/* The clients of this worker that listen in one database as one user. */
struct audience {
    struct map_node node; /* in set->audiences; key: the pool's */
    struct client_set *set;
    unsigned home; /* the listener's worker */
    bool is_lost;  /* it does not listen now */
    bool is_down;  /* and could not be made to */
    struct map channels;
    struct list members;
    char key[];
};

struct audience_channel {
    struct map_node node;
    struct list hearings;
    char name[];
};

/* One client's part in one channel. */
struct hearing {
    struct link by_channel;
    struct link by_client;
    struct audience_channel *channel;
    struct subscription *subscription;
    uint32_t change;   /* which takes it over from the server; 0: done */
    bool mark_here;    /* the listener has told its mark */
    bool mark_there;   /* so has the server */
    bool is_confirmed; /* scratch of subscribe_learned */
};

enum change_state {
    CHANGE_NONE,
    CHANGE_ASKED,  /* the listener is getting ready */
    CHANGE_READY,  /* it is: the mark is to be sent */
    CHANGE_MARKED, /* it was sent */
    CHANGE_LEAVES, /* UNLISTEN was sent */
    CHANGE_CANNOT  /* the server stays */
};

struct subscription {
    struct client *client;
    struct audience *audience;
    struct link member;
    struct link aside; /* in a list of those that something is to be done with */
    struct list hearings;
    enum change_state state;
    uint32_t change;    /* number of the last one */
    bool is_given;      /* the server at hand has its channels */
    bool has_failed;    /* the query under way */
    unsigned tries;     /* that have failed: a cancel request may meet any of them */
    bool is_begun_anew; /* the listener was lost on the way */
    struct buf held;    /* whole messages for the client */
};

/* ---- audiences */

static struct bytes no_text(void) {
    return bytes_of(NULL, 0);
}

static void order(const struct audience *audience, enum listen_kind kind, uint32_t id,
                  struct bytes text) {
    const struct pool_set *pools = audience->set->pools;
    struct listen_mail *mail = listen_mail_new(kind, pools->worker, audience->node.key, text);
    mail->id = id;
    pools->ops.listen(pools->ops.owner, audience->home, mail);
}

static struct audience *audience_get(struct client_set *set, struct bytes key) {
    struct map_node *node = map_find(&set->audiences, key);
    if (node != NULL) return MAP_OWNER(node, struct audience, node);
    struct audience *audience = memory_new(sizeof *audience + key.len);
    memcpy(audience->key, key.at, key.len);
    audience->set = set;
    audience->home = listeners_claim(set->pools->listeners, key, set->pools->worker);
    list_init(&audience->members);
    map_add(&set->audiences, &audience->node, bytes_of(audience->key, key.len));
    return audience;
}

static void audience_leave(struct subscription *subscription) {
    struct audience *audience = subscription->audience;
    list_remove(&audience->members, &subscription->member);
    if (audience->members.count > 0) return;
    listeners_release(audience->set->pools->listeners, audience->node.key);
    map_release(&audience->channels);
    map_remove(&audience->set->audiences, &audience->node);
    memory_free(audience);
}

static struct hearing *find(const struct subscription *subscription, struct bytes name) {
    struct map_node *node = map_find(&subscription->audience->channels, name);
    if (node == NULL) return NULL;
    const struct audience_channel *channel = MAP_OWNER(node, struct audience_channel, node);
    LIST_EACH (&channel->hearings, l) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_channel);
        if (hearing->subscription == subscription) return hearing;
    }
    return NULL;
}

static struct hearing *hear(struct subscription *subscription, struct bytes name) {
    struct audience *audience = subscription->audience;
    struct map_node *node = map_find(&audience->channels, name);
    if (node == NULL) {
        struct audience_channel *made = memory_new(sizeof *made + name.len);
        memcpy(made->name, name.at, name.len);
        list_init(&made->hearings);
        node = &made->node;
        map_add(&audience->channels, node, bytes_of(made->name, name.len));
        order(audience, LISTEN_WANT, 0, name);
    }
    struct hearing *hearing = memory_new(sizeof *hearing);
    hearing->subscription = subscription;
    hearing->channel = MAP_OWNER(node, struct audience_channel, node);
    list_append(&hearing->channel->hearings, &hearing->by_channel);
    list_append(&subscription->hearings, &hearing->by_client);
    return hearing;
}

/* Takes out what was held of a channel. */
static void drop_held(struct subscription *subscription, struct bytes name) {
    struct buf kept = {0};
    struct bytes rest = buf_content(&subscription->held);
    while (rest.len > 0) {
        uint32_t length = message_length(rest.at);
        struct notification one;
        struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        if (!notification_read(body, &one) || !bytes_equal(one.channel, name))
            buf_append(&kept, rest.at, length);
        rest = bytes_of(rest.at + length, rest.len - length);
    }
    buf_release(&subscription->held);
    subscription->held = kept;
}

static void hear_no_more(struct hearing *hearing) {
    struct subscription *subscription = hearing->subscription;
    struct audience_channel *channel = hearing->channel;
    drop_held(subscription, channel->node.key);
    list_remove(&channel->hearings, &hearing->by_channel);
    list_remove(&subscription->hearings, &hearing->by_client);
    memory_free(hearing);
    if (channel->hearings.count > 0) return;
    order(subscription->audience, LISTEN_UNWANT, 0, channel->node.key);
    map_remove(&subscription->audience->channels, &channel->node);
    memory_free(channel);
}

static struct subscription *subscription_of(const struct client *client) {
    return client->session == NULL ? NULL : client->session->subscription;
}

static struct subscription *begin(struct client *client) {
    struct subscription *subscription = memory_new(sizeof *subscription);
    subscription->client = client;
    list_init(&subscription->hearings);
    subscription->audience = audience_get(client->set, client->pool->node.key);
    list_append(&subscription->audience->members, &subscription->member);
    client->session->subscription = subscription;
    return subscription;
}

void subscribe_end(struct client *client) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL) return;
    buf_release(&subscription->held);
    LIST_EACH_SAFE (&subscription->hearings, l, following) {
        hear_no_more(LIST_OWNER(l, struct hearing, by_client));
    }
    audience_leave(subscription);
    memory_free(subscription);
    client->session->subscription = NULL;
}

/* ---- ahead of a statement */

static bool names_channels(const struct traits *traits) {
    struct bytes rest = traits->names, entry;
    if (!traits->names_complete) return true;
    while (message_text(rest, &entry, &rest)) {
        if (bytes_equal_text(entry, "fpg_listening_channels") ||
            bytes_equal_text(entry, "fpg_catalog.pg_listening_channels"))
            return true;
    }
    return false;
}

/* Whether nothing of the client's is owed, so that a query of our own may go ahead. */
static bool is_at_start(struct client *client) {
    struct pipeline *pipeline = &client->pipeline;
    if (client->transaction != 'I') return false;
    for (uint32_t i = 0; i < pipeline->count; i++) {
        const struct pipeline_entry *entry = pipeline_at(pipeline, i);
        if (entry->request != REQUEST_QUERY || entry->action != PIPELINE_SWALLOW) return false;
    }
    return true;
}

bool subscribe_must_wait(struct client *client) {
    bool is_within = client->transaction != 'I' || client->unsynced > 0 || client->is_copying;
    return subscription_of(client) != NULL && !is_within && !is_at_start(client);
}

void subscribe_note(struct client *client, const struct traits *traits) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL || subscription->is_given || client->route.target == ROUTE_REPLICA)
        return;
    if (!(traits->flags & CHANNEL_FLAGS) && !names_channels(traits)) return;
    if (!is_at_start(client)) return;
    struct buf query = {0};
    LIST_EACH (&subscription->hearings, l) {
        const struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        listener_append_command(&query, "LISTEN", hearing->channel->node.key);
    }
    subscription->is_given = true;
    client->session->pins |= PINNED_BY_LISTEN;
    remember_send_ahead(client, buf_content(&query), OWN_QUERY_GIVE);
    buf_release(&query);
}

/* ---- after a transaction */

/* Whether the listener can tell the client what this server would. */
static bool is_eligible(const struct client *client) {
    const struct server *server = client->borrower.server;
    const struct server_memory *memory = server->memory;
    const struct text *encoding = client->parameters.values[TRACKED_CLIENT_ENCODING];
    return client->pool->shares_listen && client->set->pools->listeners != NULL &&
           client->route.target != ROUTE_REPLICA &&
           encoding == memory->login[TRACKED_CLIENT_ENCODING];
}

static size_t count_names(struct bytes rest) {
    struct bytes name;
    size_t count = 0;
    while (message_text(rest, &name, &rest)) count++;
    return count;
}

/* Begins to take over what only the server tells so far. */
static void change(struct subscription *subscription) {
    subscription->change = ++subscription->audience->set->changes;
    LIST_EACH (&subscription->hearings, l) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        bool is_told = hearing->mark_there && !subscription->is_begun_anew;
        if (hearing->change == 0 || is_told) continue;
        hearing->change = subscription->change;
        hearing->mark_here = hearing->mark_there = false;
    }
    subscription->is_begun_anew = false;
}

/* Whether some channel is still the server's. */
static bool is_changing(const struct subscription *subscription) {
    LIST_EACH (&subscription->hearings, l) {
        const struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        if (hearing->change != 0 && !hearing->mark_there) return true;
    }
    return false;
}

/* Takes the names of all channels that the server has; false if some of them stay there. */
static bool take_names(struct subscription *subscription, struct bytes rest, bool may_add) {
    struct bytes name;
    bool is_all = true;
    while (message_text(rest, &name, &rest)) {
        struct hearing *hearing = find(subscription, name);
        if (hearing == NULL && may_add) {
            hearing = hear(subscription, name);
            hearing->change = UINT32_MAX; /* any, until there is one */
        }
        if (hearing == NULL) {
            is_all = false;
        } else {
            hearing->is_confirmed = true;
        }
    }
    return is_all;
}

/* What the server lacks is not listened to any more, if it was given all. */
static void forget_others(struct subscription *subscription) {
    LIST_EACH_SAFE (&subscription->hearings, l, following) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        if (!hearing->is_confirmed && subscription->is_given)
            hear_no_more(hearing);
        else
            hearing->is_confirmed = false;
    }
}

void subscribe_learned(struct client *client) {
    struct subscription *subscription = subscription_of(client);
    struct bytes names = buf_content(&client->session->channels);
    bool may_add = is_eligible(client) && count_names(names) <= CHANNELS_MAX;
    if (subscription == NULL && (!may_add || names.len == 0)) return;
    if (subscription == NULL) {
        subscription = begin(client);
        subscription->is_given = true; /* there is nothing that the server lacks */
    }
    bool is_all = take_names(subscription, names, may_add);
    forget_others(subscription);
    if (subscription->hearings.count == 0) {
        subscribe_end(client);
        return;
    }
    subscription->state = is_all ? CHANGE_NONE : CHANGE_CANNOT;
    subscription->tries = 0;
    if (!is_all || !is_changing(subscription)) return;
    change(subscription);
    subscription->state = CHANGE_ASKED;
    order(subscription->audience, LISTEN_ASK, subscription->change, no_text());
}

static void send_mark(struct subscription *subscription) {
    const struct pool_set *pools = subscription->audience->set->pools;
    struct buf query = {0};
    if (subscription->is_begun_anew) change(subscription);
    listeners_append_mark(pools->listeners, &query, pools->worker, subscription->change);
    subscription->state = CHANGE_MARKED;
    remember_send(subscription->client, buf_content(&query), OWN_QUERY_MARK);
    buf_release(&query);
}

static void send_unlisten(struct subscription *subscription) {
    subscription->state = CHANGE_LEAVES;
    remember_send(subscription->client, bytes_of_text("UNLISTEN *"), OWN_QUERY_UNLISTEN);
}

enum subscribe_step subscribe_step(struct client *client) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL || subscription->state == CHANGE_CANNOT) return SUBSCRIBE_PINNED;
    const struct audience *audience = subscription->audience;
    if (subscription->state == CHANGE_NONE) {
        send_unlisten(subscription);
    } else if (subscription->state == CHANGE_READY && !audience->is_lost) {
        send_mark(subscription);
    } else {
        return audience->is_down ? SUBSCRIBE_PINNED : SUBSCRIBE_WAITS;
    }
    client->is_syncing = true;
    return SUBSCRIBE_ASKS;
}

void subscribe_failed(struct client *client, unsigned kind) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL) return;
    subscription->has_failed = kind != OWN_QUERY_GIVE;
    if (kind == OWN_QUERY_GIVE) subscription->is_given = false;
}

/* A query of the change has failed: it is sent again, a few times. */
static void try_again(struct subscription *subscription, enum change_state state) {
    bool is_enough = ++subscription->tries >= TRIES_MAX;
    subscription->state = is_enough ? CHANGE_CANNOT : state;
    if (is_enough)
        client_log(subscription->client, LOG_LEVEL_WARNING,
                   "the shared listener cannot take over what it listens to");
}

void subscribe_answered(struct client *client, unsigned kind) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL || kind == OWN_QUERY_GIVE) return;
    bool has_failed = subscription->has_failed;
    subscription->has_failed = false;
    bool is_done = !has_failed && !subscription->is_begun_anew && !is_changing(subscription);
    if (kind == OWN_QUERY_MARK && is_done) {
        send_unlisten(subscription);
        return;
    }
    client->is_syncing = false;
    client->is_release_due = true; /* or one more step */
    if (kind == OWN_QUERY_MARK) {
        try_again(subscription, CHANGE_READY);
    } else if (has_failed) {
        try_again(subscription, CHANGE_NONE);
    } else {
        subscription->state = CHANGE_NONE;
        subscription->tries = 0;
        subscription->is_given = false;
        client->session->pins &= ~PINNED_BY_LISTEN;
    }
}

bool subscribe_needs_server(const struct client *client) {
    const struct subscription *subscription = subscription_of(client);
    return subscription == NULL || subscription->state != CHANGE_NONE || is_changing(subscription);
}

void subscribe_lost(struct client *client) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL) return;
    subscription->is_given = false;
    subscription->state = CHANGE_NONE;
    LIST_EACH_SAFE (&subscription->hearings, l, following) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        if (hearing->change != 0 && !hearing->mark_there) hear_no_more(hearing);
    }
    if (subscription->hearings.count == 0) subscribe_end(client);
}

/* ---- notifications */

static void settle(struct hearing *hearing) {
    if (hearing->mark_here && hearing->mark_there) hearing->change = 0;
}

bool subscribe_passes(struct client *client, struct bytes body) {
    struct subscription *subscription = subscription_of(client);
    struct notification one;
    unsigned worker = 0;
    if (subscription == NULL || !notification_read(body, &one)) return true;
    const struct pool_set *pools = client->set->pools;
    if (!bytes_equal(one.channel, listeners_mark_channel(pools->listeners))) {
        const struct hearing *hearing = find(subscription, one.channel);
        return hearing == NULL || (hearing->change != 0 && !hearing->mark_there);
    }
    uint32_t id = listeners_mark_id(one.payload, &worker);
    if (id == 0 || worker != pools->worker) return false;
    LIST_EACH (&subscription->hearings, l) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        if (hearing->change != id) continue;
        hearing->mark_there = true;
        settle(hearing);
    }
    return false;
}

uint32_t subscribe_sender(const struct client *client, struct bytes body) {
    const struct server *server = client->borrower.server;
    const struct listeners *listeners = client->set->pools->listeners;
    uint32_t pid = bytes_get_u32(body.at);
    if (pid == server->backend_pid) return bytes_get_u32(client->key);
    return listeners == NULL ? pid : listeners_sender(listeners, server, pid);
}

/* Whether messages may be written: outside transactions, and between two messages. */
static bool is_at_rest(const struct client *client) {
    if (client->state == CLIENT_IDLE || client->state == CLIENT_WAITING) return true;
    return client->state == CLIENT_ACTIVE && client->transaction == 'I' && !client->is_syncing &&
           pipeline_is_empty(&client->pipeline) && client->reply.skip == 0 &&
           buf_length(&client->reply.gather) == 0;
}

void subscribe_deliver(struct client *client) {
    struct subscription *subscription = subscription_of(client);
    if (subscription == NULL || buf_length(&subscription->held) == 0) return;
    if (judge_is_on(client)) (void)freshness_raise(client->pool->database->hash, NULL);
    stream_write_bytes(&client->stream, buf_content(&subscription->held));
    buf_release(&subscription->held);
}

/* One message for one client; false if it has too many waiting. */
static bool give(struct subscription *subscription, struct bytes body) {
    struct client *client = subscription->client;
    struct buf *held = &subscription->held;
    buf_append_u8(held, 'A');
    buf_append_u32(held, (uint32_t)(4 + body.len));
    buf_append_bytes(held, body);
    if (is_at_rest(client)) subscribe_deliver(client);
    return buf_length(held) + stream_queued(&client->stream) <= SUBSCRIBE_BYTES_MAX;
}

static void close_late(struct list *late) {
    for (struct link *l = list_pop(late); l != NULL; l = list_pop(late))
        client_fail(LIST_OWNER(l, struct subscription, aside)->client, FAULT_LISTENER_SLOW, NULL);
}

static void take_note(const struct audience *audience, struct bytes body) {
    struct notification one;
    struct list late;
    if (!notification_read(body, &one)) return;
    struct map_node *node = map_find(&audience->channels, one.channel);
    if (node == NULL) return;
    list_init(&late);
    LIST_EACH (&MAP_OWNER(node, struct audience_channel, node)->hearings, l) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_channel);
        if (hearing->change != 0 && !hearing->mark_here) continue; /* its server tells it */
        if (!give(hearing->subscription, body)) list_append(&late, &hearing->subscription->aside);
    }
    close_late(&late);
}

/* ---- what the listener tells */

/* Clients that rest on their servers until the listener is ready take the next step. That may end
 * the last of them and the audience. */
static void go_on(struct list *resting) {
    for (struct link *l = list_pop(resting); l != NULL; l = list_pop(resting)) {
        struct client *client = LIST_OWNER(l, struct subscription, aside)->client;
        const struct server *server = client->borrower.server;
        bool is_resting = server != NULL && server->state == SERVER_LENT && is_at_rest(client) &&
                          buf_length(&client->kept) == 0;
        if (is_resting) relay_end(client);
    }
}

static void go_on_all(struct audience *audience) {
    struct list resting;
    list_init(&resting);
    LIST_EACH (&audience->members, l) {
        struct subscription *subscription = LIST_OWNER(l, struct subscription, member);
        bool is_waiting =
            subscription->state == CHANGE_ASKED || subscription->state == CHANGE_READY;
        if (is_waiting) list_append(&resting, &subscription->aside);
    }
    go_on(&resting);
}

static struct subscription *find_change(const struct audience *audience, uint32_t id) {
    LIST_EACH (&audience->members, l) {
        struct subscription *subscription = LIST_OWNER(l, struct subscription, member);
        if (subscription->change == id) return subscription;
    }
    return NULL;
}

static void take_ready(const struct audience *audience, uint32_t id) {
    struct subscription *subscription = find_change(audience, id);
    if (subscription == NULL || subscription->state != CHANGE_ASKED) return;
    struct list resting;
    list_init(&resting);
    subscription->state = CHANGE_READY;
    list_append(&resting, &subscription->aside);
    go_on(&resting);
}

static void take_mark(const struct audience *audience, uint32_t id) {
    LIST_EACH (&audience->members, m) {
        struct subscription *subscription = LIST_OWNER(m, struct subscription, member);
        LIST_EACH (&subscription->hearings, l) {
            struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
            if (hearing->change != id) continue;
            hearing->mark_here = true;
            settle(hearing);
        }
    }
}

/* It hears again; marks that were sent meanwhile never come. */
static void hear_again(struct subscription *subscription) {
    LIST_EACH (&subscription->hearings, l) {
        struct hearing *hearing = LIST_OWNER(l, struct hearing, by_client);
        if (hearing->change == 0 || !hearing->mark_there) continue;
        hearing->mark_here = true;
        settle(hearing);
    }
    if (subscription->state == CHANGE_MARKED) subscription->is_begun_anew = true;
}

static void take_again(struct audience *audience) {
    audience->is_lost = audience->is_down = false;
    LIST_EACH (&audience->members, l) {
        struct subscription *subscription = LIST_OWNER(l, struct subscription, member);
        hear_again(subscription);
    }
    go_on_all(audience);
}

void subscribe_take(struct client_set *set, const struct listen_mail *mail) {
    struct map_node *node = map_find(&set->audiences, mail->key);
    if (node == NULL) return;
    struct audience *audience = MAP_OWNER(node, struct audience, node);
    if (mail->worker != audience->home) return; /* a former one's */
    switch (mail->kind) {
    case LISTEN_READY:
        take_ready(audience, mail->id);
        break;
    case LISTEN_NOTE:
        take_note(audience, mail->text);
        break;
    case LISTEN_MARK:
        take_mark(audience, mail->id);
        break;
    case LISTEN_LOST:
        audience->is_lost = true;
        break;
    case LISTEN_DOWN:
        audience->is_lost = audience->is_down = true;
        go_on_all(audience);
        break;
    case LISTEN_AGAIN:
        take_again(audience);
        break;
    default:
        break;
    }
}
