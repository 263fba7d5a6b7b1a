/*
 * Where a group of requests may run; see client/parts.h.
 *
 * A group is what gets one target: a whole simple Query, or all messages up to the next Sync. It
 * is judged before a server is borrowed, from the traits of every statement in it, and only while
 * all of it is in hand; what is not, may do anything. What the statements leave behind in the
 * session is noted at the same time, since a session with state that replicas do not have reads
 * from the primary.
 */
#include "client/names.h"
#include "client/parts.h"
#include "client/shadow.h"
#include "cluster/probe.h"
#include "proto/message.h"
#include "sql/facts.h"

#include <stdio.h>

#define ANYTHING (TRAITS_ANYTHING | TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE)

/* State of a session that is not replayed on another server, in the words of SHOW CLIENTS. */
static const struct {
    uint32_t flag;
    const char *what;
} session_state[] = {
    {TRAITS_PREPARES, "PREPARE"},
    {TRAITS_LISTENS, "LISTEN"},
    {TRAITS_TEMPORARY, "a temporary object"},
    {TRAITS_HOLDS_CURSOR, "a cursor WITH HOLD"},
    {TRAITS_SESSION_LOCK, "an advisory lock"},
    {TRAITS_SESSION_MEMORY, NULL}, /* the statement's own reason names the function */
};

static const enum route_mode modes[] = {
    [ROUTING_UNSET] = ROUTE_MODE_OFF,
    [ROUTING_OFF] = ROUTE_MODE_OFF,
    [ROUTING_READ_WRITE] = ROUTE_MODE_READ_WRITE,
    [ROUTING_PRIMARY] = ROUTE_MODE_PRIMARY,
    [ROUTING_REPLICA] = ROUTE_MODE_REPLICA,
    [ROUTING_SHADOW] = ROUTE_MODE_PRIMARY,
};

static const enum route_choice choices[] = {
    [REPLICA_CHOICE_UNSET] = ROUTE_LEAST_BUSY,
    [REPLICA_CHOICE_LEAST_BUSY] = ROUTE_LEAST_BUSY,
    [REPLICA_CHOICE_ROUND_ROBIN] = ROUTE_ROUND_ROBIN,
    [REPLICA_CHOICE_LATENCY] = ROUTE_LATENCY,
};

bool judge_is_on(const struct client *client) {
    const struct pool *pool = client->pool;
    return pool->routing != ROUTING_OFF && cluster_is_probed(pool->nodes[0]->cluster);
}

size_t judge_group_length(struct bytes bytes, bool *has_flush) {
    size_t pos = 0;
    *has_flush = false;
    while (bytes.len - pos >= MESSAGE_HEAD_BYTES) {
        const char *head = bytes.at + pos;
        uint32_t length = message_length(head);
        unsigned kind = message_requests[(unsigned char)head[0]].kind;
        bool is_end = kind == REQUEST_QUERY || kind == REQUEST_FUNCTION || kind == REQUEST_SYNC;
        if (kind == REQUEST_FLUSH) *has_flush = true;
        if (length == 0 || bytes.len - pos < length) return 0;
        pos += length;
        if (is_end) return pos;
    }
    return 0;
}

/* What the catalog says now; while that is not known, and a reading is on its way, nothing. */
static const struct facts *facts_at_hand(const struct client *client) {
    const struct pool *pool = client->pool;
    if (!judge_is_on(client)) return NULL;
    uint32_t schema = freshness_schema(pool->database->hash);
    if (pool->facts != NULL && facts_schema(pool->facts) == schema) return pool->facts;
    probe_nudge(pool->nodes[0]->cluster);
    return facts_unread();
}

struct traits_context client_context(const struct client *client) {
    struct traits_context context = parameters_context(&client->parameters);
    if (client->session != NULL)
        context.safe_backslash_quote = session_quotes_safely(client->session);
    context.facts = facts_at_hand(client);
    return context;
}

const struct traits *judge_traits(const struct client *client, struct statement *statement) {
    const struct facts *facts = facts_at_hand(client);
    uint32_t generation = facts == NULL ? 0 : facts_generation(facts);
    struct bytes text, rest;
    if (statement->traits.generation != generation && client->set->traits != NULL &&
        message_text(statement->body, &text, &rest)) {
        statement->traits = *client_traits(client, text);
        statement->traits.names = bytes_of(NULL, 0);
    }
    return &statement->traits;
}

const struct traits *client_traits(const struct client *client, struct bytes text) {
    struct client_set *set = client->set;
    struct traits_context context = client_context(client);
    return traits_of(set->traits, text, &context, loop_now_us(set->loop));
}

void client_parse_context(const struct client *client, struct buf *context) {
    const struct session *session = client->session;
    parameters_parse_context(&client->parameters, client->set->pools, context);
    if (session == NULL) return;
    session_parse_context(session, context);
    buf_append_format(context, "schema %u", statements_schema(client->pool->database->hash));
}

/* ---- what the session leaves behind */

void judge_keep_primary(struct client *client, const char *what) {
    if (client->sticky != NULL) return; /* the first reason is the one that is shown */
    client->sticky = text_get(client->set->texts, bytes_of_text(what));
}

static void note_session(struct client *client, const struct traits *traits) {
    uint32_t flags = traits->flags;
    if (flags & TRAITS_RESETS_ALL) {
        text_unref(client->set->texts, &client->sticky);
        if (!(flags & TRAITS_MANY)) return;
    }
    if (flags & TRAITS_SETS && !client->pool->tracks_sessions) {
        struct bytes name = bytes_of_text(traits->parameter);
        int index = name.len > 0 ? parameters_index(client->set->pools, name) : -1;
        /* What servers do not report cannot follow the client, whatever the settings say. */
        bool is_replayed = index >= 0 && client->reported & UINT32_C(1) << index;
        bool is_ours = strcmp(traits->parameter, "weir.route") == 0;
        if (!is_replayed && !is_ours)
            judge_keep_primary(client, name.len > 0 ? traits->parameter : traits->why);
    }
    /* Who keeps a server for such a thing gets no other one anyway, and reads where it likes later.
     */
    if (client->pool->tracks_sessions && client->pool->on_session_state == ON_STATE_PIN) return;
    if (client->pool->shares_listen) flags &= ~(uint32_t)TRAITS_LISTENS;
    for (size_t i = 0; i < COUNT(session_state); i++) {
        const char *what = session_state[i].what;
        if (client->session != NULL && session_state[i].flag == TRAITS_PREPARES) continue;
        if (flags & session_state[i].flag)
            judge_keep_primary(client, what == NULL ? traits->why : what);
    }
}

static void note_writes(struct client *client, const struct traits *traits) {
    struct client_reach *reach = &client->reach;
    uint32_t flags = traits->flags;
    if (!client->may_write) {
        reach_clear(&reach->writes);
        reach->changes_schema = reach->is_global = false;
    }
    client->may_write = true;
    reach_merge(&reach->writes, &traits->writes);
    /* What is temporary only is nobody else's. */
    bool is_temporary = flags & TRAITS_TEMPORARY && !(flags & TRAITS_MANY);
    if (flags & TRAITS_CHANGES_SCHEMA && !is_temporary) reach->changes_schema = true;
    if (traits->is_global) reach->is_global = true;
}

void judge_note_reach(struct client *client, const struct traits *traits) {
    if (traits->flags & TRAITS_MAY_WRITE) note_writes(client, traits);
    reach_merge(&client->reach.reads, &traits->reads);
    if (!traits->is_silent) client->reach.shows_rows = true;
}

static uint32_t take_traits(struct client *client, const struct traits *traits) {
    note_session(client, traits);
    judge_note_reach(client, traits);
    if (traits->flags & (TRAITS_ENDS | TRAITS_ANYTHING)) client->may_end = true;
    if (traits->flags & (TRAITS_RUNS_UNKNOWN | TRAITS_ANYTHING)) client->may_reach_out = true;
    return traits->flags & TRAITS_BEGINS ? begin_as_default(client, traits->flags) : traits->flags;
}

static uint32_t take_anything(struct client *client) {
    const struct traits anything = {.flags = ANYTHING, .reads.is_all = true, .writes.is_all = true};
    judge_note_reach(client, &anything);
    client->may_reach_out = client->may_end = true;
    return ANYTHING;
}

static uint32_t take_text(struct client *client, struct bytes text) {
    const struct traits *traits = client_traits(client, text);
    struct statement *executed = client->session == NULL ? NULL : names_executed(client, traits);
    hint_note(client, traits, text);
    return take_traits(client, executed == NULL ? traits : judge_traits(client, executed));
}

void judge_text(struct client *client, struct bytes text) {
    if (text.at == NULL) {
        (void)take_anything(client);
    } else {
        (void)take_text(client, text);
    }
}

/* ---- the messages of a group */

static uint32_t judge_query(struct client *client, struct bytes body) {
    struct bytes text, rest;
    if (!message_text(body, &text, &rest)) return take_anything(client);
    return take_text(client, text);
}

static uint32_t judge_parse(struct client *client, struct bytes body) {
    struct bytes name, rest;
    if (!message_text(body, &name, &rest)) return take_anything(client);
    return judge_query(client, rest);
}

static uint32_t judge_statement(struct client *client, struct statement *statement) {
    struct bytes text, rest;
    if (statement == NULL) return take_anything(client);
    const struct traits *traits = judge_traits(client, statement);
    bool sets = (traits->flags & (TRAITS_SETS | TRAITS_RESETS_ALL)) != 0;
    if (sets && message_text(statement->body, &text, &rest)) hint_note(client, traits, text);
    return take_traits(client, traits);
}

/* A Bind of a statement that was parsed in an earlier group; one that was parsed in this group has
 * been judged there, and its name may not be known yet. */
static uint32_t judge_bind(struct client *client, struct bytes body, bool has_named,
                           bool has_unnamed) {
    struct bytes portal, name, rest;
    if (!message_text(body, &portal, &rest) || !message_text(rest, &name, &rest))
        return take_anything(client);
    if (name.len == 0) return has_unnamed ? 0 : judge_statement(client, client->unnamed);
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (entry == NULL) return has_named ? 0 : take_anything(client);
    return judge_statement(client, entry->statement);
}

static uint32_t flags_of_group(struct client *client, struct bytes group) {
    uint32_t flags = 0;
    bool has_named = false, has_unnamed = false, has_executed = false;
    for (size_t pos = 0; pos < group.len;) {
        const char *head = group.at + pos;
        uint32_t length = message_length(head);
        struct bytes body = bytes_of(head + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        switch (message_requests[(unsigned char)head[0]].kind) {
        case REQUEST_QUERY:
            flags |= judge_query(client, body);
            break;
        case REQUEST_PARSE:
            flags |= judge_parse(client, body);
            if (body.len > 0 && body.at[0] == '\0') {
                has_unnamed = true;
            } else {
                has_named = true;
            }
            break;
        case REQUEST_BIND:
            flags |= judge_bind(client, body, has_named, has_unnamed);
            break;
        case REQUEST_FUNCTION:
            flags |= take_anything(client);
            break;
        case REQUEST_EXECUTE:
            if (has_executed) flags |= TRAITS_MANY;
            has_executed = true;
            break;
        default:
            break;
        }
        pos += length;
    }
    return flags;
}

/* ---- the route */

void judge_again(struct client *client) {
    struct pool *pool = client->pool;
    const struct client_set *set = client->set;
    struct route_request *request = &client->route_request;
    request->mode = client->is_forced_primary ? ROUTE_MODE_PRIMARY : modes[pool->routing];
    request->transaction_node = -1;
    request->session_state = client->sticky == NULL ? NULL : client->sticky->at;
    request->hint = hint_of(client);
    request->need.floor = reach_floor(client);
    uint64_t wait_us = reach_wait_us(client);
    request->may_wait = wait_us > 0;
    if (client->state == CLIENT_WAITING)
        request->may_wait = loop_now_us(set->loop) - client->state_us < wait_us;
    request->replica_fallback = pool->choice.replica_fallback == REPLICA_FALLBACK_ON;
    request->choice = choices[pool->choice.replica_choice];
    request->turns = &pool->turns;
    request->avoid = client->borrower.avoid | client->retry.tried;
    client->route = route_choose(request, pool->nodes[0]->cluster);
    if (client->route.outcome == ROUTE_NOT_FRESH && client->route.stale != 0) {
        stats_add(&pool->stats.stale_reads, 1);
        probe_nudge(pool->nodes[0]->cluster);
    }
}

/* Length of what is there up to the last Flush. */
static size_t length_to_flush(struct bytes bytes) {
    size_t pos = 0, found = 0;
    while (bytes.len - pos >= MESSAGE_HEAD_BYTES) {
        uint32_t length = message_length(bytes.at + pos);
        bool is_flush = message_requests[(unsigned char)bytes.at[pos]].kind == REQUEST_FLUSH;
        if (length == 0 || bytes.len - pos < length) break;
        pos += length;
        if (is_flush) found = pos;
    }
    return found;
}

enum judgement judge_group(struct client *client, struct bytes bytes) {
    if (!judge_is_on(client)) {
        client->route = (struct route){.target = ROUTE_ANY, .nodes = 1, .node = 0};
        client->is_routed = false;
        return JUDGE_READY;
    }
    bool has_flush;
    size_t limit = client->set->gather_bytes;
    size_t length = judge_group_length(bytes, &has_flush);
    /* A transaction that is declared READ ONLY has its node without the rest, as it will have the
     * statements behind it. */
    bool is_declared = has_flush && begin_is_read_only(client);
    if (is_declared && length == 0) length = length_to_flush(bytes);
    bool is_in_hand = length > 0 && length <= limit && (!has_flush || is_declared);
    if (length == 0 && !has_flush && bytes.len < limit) return JUDGE_MORE;
    client->is_routed = true;
    client->may_reach_out = false;
    client->borrower.avoid = 0;
    struct route_request *request = &client->route_request;
    request->why = "";
    reach_begin(client);
    if (is_in_hand) {
        request->flags = flags_of_group(client, bytes_of(bytes.at, length));
        client->group_left = (uint32_t)length;
    } else {
        request->flags = take_anything(client);
        client->group_left = 0;
    }
    request->flags = begin_join(client, request->flags);
    client->reach.is_open = (request->flags & TRAITS_BEGINS) != 0;
    if (client->session != NULL && session_is_serializable(client->session))
        request->flags |= TRAITS_SERIALIZABLE;
    reach_judged(client);
    judge_again(client);
    if (client->pool->routing == ROUTING_SHADOW)
        shadow_note(client, is_in_hand ? bytes_of(bytes.at, length) : bytes_of(bytes.at, 0));
    if (is_in_hand && !has_flush) retry_begin(client, bytes_of(bytes.at, length));
    return JUDGE_READY;
}

void judge_correct(struct client *client, struct bytes group) {
    struct client_set *set = client->set;
    struct traits_context context = client_context(client);
    for (size_t pos = 0; pos < group.len;) {
        const char *head = group.at + pos;
        uint32_t length = message_length(head);
        struct bytes body = bytes_of(head + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        struct bytes name, text, rest;
        unsigned kind = message_requests[(unsigned char)head[0]].kind;
        if (kind == REQUEST_QUERY && message_text(body, &text, &rest))
            traits_correct(set->traits, text, &context);
        if (kind == REQUEST_PARSE && message_text(body, &name, &rest) &&
            message_text(rest, &text, &rest))
            traits_correct(set->traits, text, &context);
        if (kind == REQUEST_BIND && message_text(body, &name, &rest) &&
            message_text(rest, &name, &rest)) {
            struct prepared_name *entry = prepared_find(&client->names, name);
            struct statement *statement = entry == NULL ? client->unnamed : entry->statement;
            if (statement != NULL)
                statement->traits.flags |= TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE;
            if (statement != NULL && message_text(statement->body, &text, &rest))
                traits_correct(set->traits, text, &context);
        }
        pos += length;
    }
}
