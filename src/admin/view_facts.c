/*
 * SHOW FACTS: what the catalogs of routed databases say, as far as it is more than a plain table or
 * a harmless function.
 */
#include "views.h"

#include "core/memory.h"
#include "sql/facts.h"

struct place {
    struct rows *rows;
    const char *database, *state;
};

static void begin_row(const struct place *place) {
    rows_begin(place->rows);
    rows_text(place->rows, place->database);
    rows_text(place->rows, place->state);
}

static void write_line(void *owner, const struct facts_line *line) {
    const struct place *place = owner;
    begin_row(place);
    rows_text(place->rows, line->kind);
    rows_text(place->rows, line->schema);
    rows_text(place->rows, line->name);
    rows_text(place->rows, line->effect);
    rows_text(place->rows, line->reason);
    rows_end(place->rows);
}

/* The row of the catalog as a whole, which says whether it is known. */
static void write_catalog(const struct place *place) {
    begin_row(place);
    rows_text(place->rows, "catalog");
    for (unsigned i = 0; i < 4; i++) rows_text(place->rows, NULL);
    rows_end(place->rows);
}

static void write_database(const struct view_context *context, struct database *database) {
    struct cluster *cluster = database_cluster(context->admin->databases, database);
    struct facts *facts = NULL;
    cluster_learn(cluster, &facts);
    bool is_current = facts != NULL && facts_schema(facts) == freshness_schema(database->hash);
    struct place place = {context->rows, database->name, is_current ? "current" : "outdated"};
    if (facts == NULL) place.state = "unread";
    if (cluster_is_probed(cluster)) write_catalog(&place);
    if (facts != NULL) facts_each(facts, write_line, &place);
    facts_free(&facts);
    cluster_free(&cluster);
}

void view_facts(const struct view_context *context) {
    size_t count;
    struct database **list = database_list(context->admin->databases, &count);
    for (size_t i = 0; i < count; i++) {
        if (!atomic_load(&list[i]->is_removed)) write_database(context, list[i]);
    }
    memory_free((void *)list);
}
