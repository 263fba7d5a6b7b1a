/*
 * How fresh a read has to be; see client/reach.h and cluster/freshness.h.
 *
 * The floor that the consistency promises comes first. Besides, no session goes backwards. What a
 * replica has shown, the stick keeps (cluster/freshness.h). The primary shows more than any floor
 * tells: commits whose answers have not come yet, and with `session` those of others. So the
 * session remembers what it read there and when, and a later read of the same relations wants a
 * round that began after that.
 *
 * Such rounds come when somebody asks for them, but whoever reads without a pause is always ahead
 * of them. So a read that would only have to wait for a probe does that now and then, for a moment:
 * what it reads from the replica does not renew what was seen.
 */
#include "client/reach.h"

#include "client/parts.h"
#include "cluster/freshness.h"
#include "core/clock.h"

/* How long a read waits for the probe that it needs; after so long on the primary, and so often. */
#define PROBE_WAIT_US    UINT64_C(100000)
#define SEEN_WAIT_US     UINT64_C(20000)
#define SEEN_EARLIEST_US UINT64_C(20000)
#define SEEN_PAUSE_US    UINT64_C(1000000)

static bool is_empty(const struct reach *reach) {
    return reach->count == 0 && !reach->is_all;
}

/* Whether the read has to show what the session saw on the primary. */
static bool meets_seen(const struct client *client) {
    const struct client_reach *reach = &client->reach;
    return reach->seen_round != 0 && (reach->is_open || !is_empty(&reach->reads));
}

/* What the consistency promises. */
static uint32_t promised_floor(const struct client *client) {
    const struct client_reach *reach = &client->reach;
    switch (client->pool->consistency) {
    case READ_CONSISTENCY_SESSION:
        return client->own_floor;
    case READ_CONSISTENCY_EVENTUAL:
        return 0;
    case READ_CONSISTENCY_CLUSTER:
        return reach->began_round;
    default:
        return freshness_floor(client->pool->database->hash, reach->is_open ? NULL : &reach->reads);
    }
}

void reach_begin(struct client *client) {
    struct client_reach *reach = &client->reach;
    reach_clear(&reach->reads);
    reach->is_claimed = reach->is_open = reach->is_patient = reach->shows_rows = false;
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
        if (meets_seen(client)) reach->seen_round = 0;
    } else if (reach->shows_rows && !is_empty(&reach->reads)) {
        uint64_t earliest_us = loop_now_us(client->set->loop) + SEEN_EARLIEST_US;
        if (reach->seen_round == 0 && reach->patient_us < earliest_us)
            reach->patient_us = earliest_us;
        reach->seen_round = freshness_now();
    }
}
