/*
 * How fresh a read has to be; see client/reach.h and cluster/freshness.h.
 *
 * The floor that the consistency promises comes first. Besides, no session goes backwards. What a
 * replica has shown, the stick keeps (cluster/freshness.h). The primary shows more than floors
 * tell: with `session` the commits of others, so that these count as far as they were acknowledged
 * when it was asked last; and commits whose answers have not come yet. For these the session
 * remembers what it was shown there and when: a later read of the same relations wants a round that
 * began after that.
 *
 * Such rounds come when somebody asks for them, but whoever reads without a pause is always ahead
 * of them. So a read that would only have to wait for a probe does that now and then, for a moment:
 * what it reads from the replica does not renew what was seen.
 */
#include "client/reach.h"

#include "client/parts.h"
#include "cluster/freshness.h"
#include "cluster/probe.h"
#include "core/clock.h"

/* How long a read waits for the probe that it needs; after so long on the primary, and so often. */
#define PROBE_WAIT_US    UINT64_C(100000)
#define SEEN_WAIT_US     UINT64_C(20000)
#define SEEN_EARLIEST_US UINT64_C(20000)
#define SEEN_PAUSE_US    UINT64_C(1000000)

static bool is_empty(const struct reach *reach) {
    return reach->count == 0 && !reach->is_all;
}

/* Whether it reads what the primary has shown the session. */
static bool meets_seen(const struct client *client) {
    const struct client_reach *reach = &client->reach;
    const struct reach *seen = &reach->seen, *reads = &reach->reads;
    if (is_empty(seen)) return false;
    if (reach->is_open) return true;
    if (seen->is_all || reads->is_all) return !is_empty(reads);
    for (uint32_t i = 0; i < reads->count; i++) {
        for (uint32_t k = 0; k < seen->count; k++) {
            if (reads->keys[i] == seen->keys[k]) return true;
        }
    }
    return false;
}

static uint32_t floor_of_reads(const struct client *client) {
    const struct client_reach *reach = &client->reach;
    return freshness_floor(client->pool->database->hash, reach->is_open ? NULL : &reach->reads);
}

/* Its own writes, and of others' what it may have seen on the primary. */
static uint32_t session_floor(const struct client *client) {
    uint32_t floor = floor_of_reads(client);
    if (floor > client->reach.seen_round) floor = client->reach.seen_round;
    return floor > client->own_floor ? floor : client->own_floor;
}

/* What the consistency promises. */
static uint32_t promised_floor(const struct client *client) {
    const struct client_reach *reach = &client->reach;
    switch (client->pool->consistency) {
    case READ_CONSISTENCY_SESSION:
        return session_floor(client);
    case READ_CONSISTENCY_EVENTUAL:
        return 0;
    case READ_CONSISTENCY_CLUSTER:
        return reach->began_round;
    default:
        return floor_of_reads(client);
    }
}

void reach_begin(struct client *client) {
    struct client_reach *reach = &client->reach;
    reach_clear(&reach->reads);
    reach->is_open = reach->is_patient = reach->shows_rows = false;
    reach->began_round = freshness_now();
}

void reach_judged(struct client *client) {
    struct client_reach *reach = &client->reach;
    if (!meets_seen(client)) return;
    uint64_t now_us = loop_now_us(client->set->loop);
    if (now_us < reach->patient_us || promised_floor(client) >= reach->seen_round) return;
    reach->patient_us = now_us + SEEN_PAUSE_US;
    reach->is_patient = true;
}

uint32_t reach_floor(const struct client *client) {
    uint32_t floor = promised_floor(client);
    uint32_t seen = client->reach.seen_round;
    return seen > floor && meets_seen(client) ? seen : floor;
}

uint64_t reach_wait_us(const struct client *client) {
    uint64_t wait_us = client->set->replica_wait_us;
    bool is_probed_for = client->pool->consistency == READ_CONSISTENCY_CLUSTER;
    if (is_probed_for && wait_us < PROBE_WAIT_US) return PROBE_WAIT_US;
    return client->reach.is_patient && wait_us < SEEN_WAIT_US ? SEEN_WAIT_US : wait_us;
}

void reach_answered(struct client *client, bool is_replica) {
    struct client_reach *reach = &client->reach;
    enum read_consistency consistency = client->pool->consistency;
    bool is_kept =
        consistency == READ_CONSISTENCY_DATABASE || consistency == READ_CONSISTENCY_SESSION;
    if (!is_kept) return;
    if (is_replica) {
        /* It had all that was seen. */
        if (meets_seen(client)) reach_clear(&reach->seen);
    } else if (reach->shows_rows && !is_empty(&reach->reads)) {
        uint64_t earliest_us = loop_now_us(client->set->loop) + SEEN_EARLIEST_US;
        bool is_first = is_empty(&reach->seen);
        if (is_first && reach->patient_us < earliest_us) reach->patient_us = earliest_us;
        reach_merge(&reach->seen, &reach->reads);
        reach->seen_round = freshness_now();
        /* The round that the next read needs. */
        if (client->route.outcome == ROUTE_NOT_FRESH) probe_nudge(client->pool->nodes[0]->cluster);
    }
}
