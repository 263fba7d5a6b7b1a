/*
 * SHOW SHADOW: what routing = shadow has counted. First the doubts, which went to the primary since
 * nobody knows what they do, then the rest of it; the most frequent first.
 */
#include "views.h"

#include "client/shadow.h"
#include "core/memory.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
    const struct shadow_row *one = *(struct shadow_row *const *)a;
    const struct shadow_row *other = *(struct shadow_row *const *)b;
    if (one->is_doubt != other->is_doubt) return one->is_doubt ? -1 : 1;
    if (one->count != other->count) return one->count > other->count ? -1 : 1;
    int order = strcmp(one->database, other->database);
    if (order == 0) order = strcmp(one->shape, other->shape);
    return order == 0 ? strcmp(one->reason, other->reason) : order;
}

static void write_row(struct rows *rows, const struct shadow_row *row) {
    rows_begin(rows);
    rows_text(rows, row->database);
    rows_text(rows, row->is_replica ? "replica" : "primary");
    rows_number(rows, row->is_doubt);
    rows_number(rows, row->count);
    rows_number(rows, row->stale);
    rows_text(rows, row->reason[0] == '\0' ? NULL : row->reason);
    rows_text(rows, row->shape[0] == '\0' ? NULL : row->shape);
    rows_end(rows);
}

void view_shadow(const struct view_context *context) {
    const struct map *map = &context->census->shadow;
    if (map->count == 0) return;
    const struct shadow_row **found = memory_new(map->count * sizeof *found);
    size_t count = 0;
    struct map_node *node = map_next(map, NULL);
    for (; node != NULL; node = map_next(map, node))
        found[count++] = MAP_OWNER(node, struct shadow_row, node);
    qsort((void *)found, count, sizeof *found, compare);
    for (size_t i = 0; i < count; i++) write_row(context->rows, found[i]);
    memory_free((void *)found);
}
