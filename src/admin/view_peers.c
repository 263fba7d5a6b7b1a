/* SHOW PEERS and SHOW PEER_POOLS: the processes to which cancel requests are passed on. */
#include "admin_state.h"
#include "census.h"
#include "rows.h"
#include "views.h"

#include "config/effective.h"
#include "core/list.h"

void view_peers(const struct view_context *context) {
    const struct config *config = context->admin->config;
    const struct config_entries *peers = &config->entries[SETTING_SCOPE_PEER];
    struct rows *rows = context->rows;
    for (size_t i = 0; i < peers->count; i++) {
        const struct config_peer *peer = LIST_OWNER(peers->at[i], struct config_peer, entry);
        rows_begin(rows);
        rows_number(rows, config_peer_id(peers->at[i]));
        rows_text(rows, peer->host);
        rows_number(rows, (uint64_t)peer->port);
        rows_number(rows, (uint64_t)config_peer_pool_size(config, peer));
        rows_end(rows);
    }
}

void view_peer_pools(const struct view_context *context) {
    const struct census *census = context->census;
    const struct config_entries *peers = &context->admin->config->entries[SETTING_SCOPE_PEER];
    struct rows *rows = context->rows;
    for (size_t i = 0; i < peers->count && i < census->peers_count; i++) {
        const struct cancel_count *cancels = &census->peers[i];
        rows_begin(rows);
        rows_number(rows, config_peer_id(peers->at[i]));
        rows_number(rows, cancels->active);
        rows_number(rows, cancels->waiting);
        rows_number(rows, cancels->active); /* each has a connection of its own */
        rows_number(rows, 0);               /* peers are not logged in to */
        rows_end(rows);
    }
}
