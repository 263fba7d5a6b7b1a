/* What pools that are gone had counted; see pool/ended.h. */
#include "pool/ended.h"

#include "core/memory.h"
#include "pool/pool_set.h"

static struct pool_ended *ended_of(struct pool_set *set, struct database *database) {
    struct bytes key = bytes_of((const char *)&database, sizeof database);
    struct map_node *node = map_find(&set->ended, key);
    if (node != NULL) return MAP_OWNER(node, struct pool_ended, node);
    struct pool_ended *ended = memory_new(sizeof *ended);
    ended->database = database;
    database_hold(database);
    map_add(&set->ended, &ended->node,
            bytes_of((const char *)&ended->database, sizeof ended->database));
    return ended;
}

void ended_keep(struct pool_set *set, struct database *database, const struct stats *stats) {
    stats_sum(&ended_of(set, database)->stats, stats);
}

static void forget(struct pool_set *set, bool is_each) {
    struct map_node *node = map_next(&set->ended, NULL);
    while (node != NULL) {
        struct pool_ended *ended = MAP_OWNER(node, struct pool_ended, node);
        node = map_next(&set->ended, node);
        if (!is_each && !atomic_load(&ended->database->is_idle)) continue;
        map_remove(&set->ended, &ended->node);
        database_release(ended->database);
        memory_free(ended);
    }
}

void ended_tick(struct pool_set *set) {
    forget(set, false);
}

void ended_release(struct pool_set *set) {
    forget(set, true);
    map_release(&set->ended);
}
