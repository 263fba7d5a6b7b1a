/*
 * Sending reads again; see client/retry.h.
 *
 * What a reason asks for stands in one row each: whether only the primary will do, whether the
 * shape or the session is remembered for the primary, and what it is counted as. A node that had
 * the group is not tried again; where every replica was, the primary is left, if replica_fallback
 * lets it. Where nobody is left the answer goes to the client.
 */
#include "client/retry.h"

#include "client/parts.h"
#include "cluster/probe.h"
#include "core/log.h"

#include <stddef.h>

static const struct reason {
    const char *text;
    bool needs_primary;
    size_t counter; /* in struct stats */
} reasons[] = {
    [FAULT_REFUSAL_PRIMARY] = {"only a primary can run it", true,
                               offsetof(struct stats, retries_refused)},
    [FAULT_REFUSAL_SESSION] = {"a replica refuses the session's settings", true,
                               offsetof(struct stats, retries_refused)},
    [FAULT_REFUSAL_MISSING] = {"the replica may not have it yet", true,
                               offsetof(struct stats, retries_missing)},
    [FAULT_REFUSAL_CONFLICT] = {"it was in the way of replay", false,
                                offsetof(struct stats, retries_conflict)},
    [FAULT_REFUSAL_LOST] = {"the connection was lost", false, offsetof(struct stats, retries_lost)},
};

void retry_begin(struct client *client, struct bytes group) {
    struct client_retry *retry = &client->retry;
    if (client->route.target != ROUTE_REPLICA || !client->route.retryable) return;
    if (retry->is_second && retry->tried == 0) return; /* a repair's */
    if (retry->tried == 0) retry->since_us = loop_now_us(client->set->loop);
    if (retry->request.memory == NULL) retry->request = client_spare_take(client->set);
    buf_clear(&retry->request);
    buf_append_bytes(&retry->request, group);
    retry->is_holding = true;
    retry->is_whole = (client->route_request.flags & TRAITS_MANY) != 0;
}

/* Whether another node may have it. */
static bool has_place(const struct client *client, uint64_t tried) {
    struct route_request request = client->route_request;
    request.avoid |= tried;
    request.turns = NULL; /* it only asks */
    struct route route = route_choose(&request, client->pool->nodes[0]->cluster);
    return route.target == ROUTE_PRIMARY || route.nodes != 0;
}

static bool is_open(const struct client *client, uint64_t tried, enum fault_refusal reason) {
    const struct client_retry *retry = &client->retry;
    uint64_t now_us = loop_now_us(client->set->loop);
    if (!retry->is_holding || retry->is_repair || client->is_cancelled) return false;
    /* Of a transaction, nothing but a BEGIN that was held back is answered yet. */
    bool is_first = client->transaction == 'I' || client->begin.state == BEGIN_SENT;
    if (!is_first || reason == FAULT_REFUSAL_NOT) return false;
    if (now_us - retry->since_us >= client->set->retry_timeout_us) return false;
    return reasons[reason].needs_primary || has_place(client, tried);
}

static bool takes(struct client *client, const struct server *server, enum fault_refusal reason) {
    struct client_retry *retry = &client->retry;
    uint64_t tried = retry->tried | UINT64_C(1) << server->host;
    if (!is_open(client, tried, reason)) return false;
    if (reason == FAULT_REFUSAL_CONFLICT) node_add_error(server->node->cluster, server->host);
    if (reason == FAULT_REFUSAL_PRIMARY) judge_correct(client, buf_content(&retry->request));
    if (reason == FAULT_REFUSAL_SESSION)
        judge_keep_primary(client, "default_transaction_isolation");
    retry->tried = tried;
    retry->reason = reason;
    if (log_is_on(LOG_LEVEL_DEBUG)) {
        const struct node *node = cluster_node_const(server->node->cluster, server->host);
        client_log(client, LOG_LEVEL_DEBUG, "sending a read again, not on %s: %s", node->name,
                   reasons[reason].text);
    }
    return true;
}

bool retry_takes_error(struct client *client, const struct server *server,
                       const struct fault_fields *fields) {
    return takes(client, server, fault_refusal_of(fields));
}

bool retry_takes_loss(struct client *client, const struct server *server) {
    struct fault_fields fields = {0};
    enum fault_refusal reason = FAULT_REFUSAL_LOST;
    if (buf_length(&client->last_words) > 0) {
        (void)fault_read(buf_content(&client->last_words), &fields);
        reason = fault_refusal_of(&fields);
    }
    return takes(client, server, reason);
}

void retry_send(struct client *client) {
    struct client_retry *retry = &client->retry;
    struct buf request = retry->request;
    retry->request = (struct buf){0};
    buf_consume(&client->kept, client->group_left); /* what of it was not sent yet */
    buf_append_bytes(&request, buf_content(&client->kept));
    client_spare_give(client->set, &client->kept);
    client->kept = request;
    client_spare_give(client->set, &retry->held);
    begin_again(client);
    const struct reason *reason = retry->is_repair ? NULL : &reasons[retry->reason];
    client->is_forced_primary = reason != NULL && reason->needs_primary;
    if (reason != NULL) {
        char *stats = (char *)&client->pool->stats;
        stats_add((_Atomic uint64_t *)(void *)(stats + reason->counter), 1);
    }
    retry->is_holding = retry->is_discarding = retry->is_repair = false;
    retry->is_second = true;
    client->group_left = 0;
}

void retry_end(struct client *client) {
    struct client_retry *retry = &client->retry;
    client_spare_give(client->set, &retry->request);
    client_spare_give(client->set, &retry->held);
    begin_settle(client);
    retry->is_holding = retry->is_discarding = retry->is_second = retry->is_repair = false;
    retry->tried = 0;
}
