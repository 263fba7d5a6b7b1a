/*
 * Facts of a catalog; see sql/facts.h.
 *
 * The builder collects things and the edges between them. At the end it goes over the edges until
 * nothing changes any more: badness and what is read flow from a thing to whoever uses it, what is
 * written from a relation to whoever's change changes it. A catalog's graph is shallow, so that few
 * rounds do. Relations of one tree of partitions share a key: who reads the whole and who writes a
 * part meet there.
 *
 *      level   HARMLESS < PRIMARY (an unlogged table, a lock) < WRITES (a volatile function)
 *      cause   the thing at the end of the chain that made it so, for people
 */
#include "things.h"

#include "core/check.h"
#include "core/memory.h"
#include "sql/builtins.h"

#define FIRST_OWN_ID 16384u /* smaller ones are PostgreSQL's own (access/transam.h) */

struct edge {
    struct link link;
    char kind, class;
    uint32_t from, to;
    struct thing *source, *target;
    char name[];
};

struct facts_builder {
    struct facts *facts;
    struct map ids;
    struct list edges;
    uint64_t database;
    char *harmless;
};

/* ---- references */

struct facts *facts_share(struct facts *facts) {
    shared_take(&facts->shared);
    return facts;
}

static void free_list(struct list *list, size_t offset) {
    struct link *link;
    while ((link = list_pop(list)) != NULL) memory_free((char *)link - offset);
}

void facts_free(struct facts **facts_at) {
    struct facts *facts = *facts_at;
    *facts_at = NULL;
    if (facts == NULL || !shared_drop(&facts->shared)) return;
    map_release(&facts->names);
    free_list(&facts->things, offsetof(struct thing, link));
    memory_free(facts);
}

const struct facts *facts_unread(void) {
    static const struct facts unread = {.generation = 1, .is_unread = true};
    return &unread;
}

uint32_t facts_generation(const struct facts *facts) {
    return facts->generation;
}

uint32_t facts_schema(const struct facts *facts) {
    return facts->schema;
}

/* ---- building: things */

static void write_id(char id[ID_BYTES], char class, uint32_t number) {
    id[0] = class;
    bytes_put_u32(id + 1, number);
}

static struct thing *find_by_id(const struct facts_builder *builder, char class, uint32_t number) {
    char id[ID_BYTES];
    write_id(id, class, number);
    struct map_node *node = map_find(&builder->ids, bytes_of(id, sizeof id));
    return node == NULL ? NULL : MAP_OWNER(node, struct thing, by_id);
}

static struct thing *first_by_name(const struct facts *facts, struct bytes key) {
    struct map_node *node = map_find(&facts->names, key);
    return node == NULL ? NULL : MAP_OWNER(node, struct thing, by_name);
}

/* A thing that has a name and, if `number` is not 0, is found by it. */
static struct thing *add_thing(struct facts_builder *builder, char class, uint32_t number,
                               const char *schema, const char *name) {
    size_t len = strlen(name), schema_len = strlen(schema);
    struct facts *facts = builder->facts;
    struct thing *thing = memory_new(sizeof *thing + len + schema_len + 3);
    thing->class = thing->name[0] = class;
    memcpy(thing->name + 1, name, len);
    memcpy(thing->name + len + 2, schema, schema_len);
    thing->schema = thing->name + len + 2;
    thing->number = number;
    thing->why = "";
    list_append(&facts->things, &thing->link);
    struct bytes key = bytes_of(thing->name, len + 1);
    struct thing *first = first_by_name(facts, key);
    if (first == NULL) {
        map_add(&facts->names, &thing->by_name, key);
    } else {
        thing->namesake = first->namesake;
        first->namesake = thing;
    }
    if (number == 0 || find_by_id(builder, class, number) != NULL) return thing;
    write_id(thing->id, class, number);
    map_add(&builder->ids, &thing->by_id, bytes_of(thing->id, sizeof thing->id));
    return thing;
}

static void worsen(struct thing *thing, enum level level, const char *why,
                   const struct thing *cause) {
    if (level <= thing->level) return;
    thing->level = level;
    thing->why = why;
    thing->cause = cause;
}

/* The relations that cannot be read on a standby, or not rightly. */
static const struct {
    char relkind, persistence; /* ' ': any */
    const char *why;
} unreadable[] = {
    {'f', ' ', "a foreign table"},
    {'S', ' ', "a sequence"},
    {' ', 'u', "an unlogged table"},
};

static uint32_t key_of(uint64_t database, uint32_t id) {
    uint64_t mixed = (database ^ id) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(mixed >> 32);
}

/* Whether a list of names has this one, with or without its schema. */
static bool is_listed(const char *list, const char *schema, const char *name) {
    struct bytes own = bytes_of_text(name), home = bytes_of_text(schema);
    for (const char *at = list == NULL ? "" : list; *at != '\0';) {
        size_t len = strcspn(at, ", \t");
        struct bytes entry = bytes_of(at, len);
        bool is_qualified = entry.len == home.len + 1 + own.len &&
                            memcmp(entry.at, home.at, home.len) == 0 && entry.at[home.len] == '.' &&
                            memcmp(entry.at + home.len + 1, own.at, own.len) == 0;
        if (is_qualified || bytes_equal(entry, own)) return true;
        at += len + (at[len] == '\0' ? 0 : 1);
    }
    return false;
}

static void add_relation(struct facts_builder *builder, const struct facts_row *row) {
    struct thing *thing = add_thing(builder, CLASS_RELATION, row->id, row->schema, row->name);
    thing->relkind = row->mark[0];
    bool is_allowed = row->mark[0] == 'f' && is_listed(builder->harmless, row->schema, row->name);
    for (size_t i = 0; i < COUNT(unreadable) && !is_allowed; i++) {
        bool is_kind = unreadable[i].relkind == ' ' || unreadable[i].relkind == row->mark[0];
        bool is_alike = unreadable[i].persistence == ' ' ||
                        (row->mark[0] != '\0' && unreadable[i].persistence == row->mark[1]);
        if (is_kind && is_alike) worsen(thing, LEVEL_PRIMARY, unreadable[i].why, NULL);
    }
    if (thing->relkind == 'f') thing->inserts.is_all = thing->changes.is_all = true;
}

static void add_function(struct facts_builder *builder, const struct facts_row *row) {
    struct thing *thing = add_thing(builder, CLASS_FUNCTION, row->id, row->schema, row->name);
    const char *mark = row->mark;
    bool is_marked = strlen(mark) >= 2;
    char language = is_marked ? mark[1] : 'x';
    thing->is_trigger = is_marked && strchr(mark + 2, 't') != NULL;
    thing->takes_row = is_marked && strchr(mark + 2, 'w') != NULL;
    /* An extension's that is known by its name is trusted: only a superuser makes one in C. */
    bool is_known =
        language == 'c' && builtin_function(bytes_of_text(row->name)) == BUILTIN_HARMLESS;
    bool is_allowed = is_known || is_listed(builder->harmless, row->schema, row->name);
    bool is_pure = is_known || (language == 'c' && mark[0] == 'i') || language == 'b';
    thing->reads.is_all = !is_pure;
    if (thing->is_trigger) {
        bool may_write = language != 'q' || strchr(mark + 2, 'm') != NULL;
        if (may_write) worsen(thing, LEVEL_WRITES, "a trigger's function", NULL);
    } else if (!is_allowed && (!is_marked || mark[0] == 'v')) {
        worsen(thing, LEVEL_WRITES, "volatile", NULL);
    }
}

/* What a built-in function means for whoever calls it out of sight. */
static enum level level_of_builtin(struct bytes name) {
    switch (builtin_function(name)) {
    case BUILTIN_HARMLESS:
    case BUILTIN_SHOWS:
        return LEVEL_HARMLESS;
    case BUILTIN_WRITES:
        return builtin_writes_no_rows(name) ? LEVEL_PRIMARY : LEVEL_WRITES;
    case BUILTIN_LOCKS:
    case BUILTIN_SESSION_LOCKS:
    case BUILTIN_ONE_NODE:
    case BUILTIN_REMEMBERS:
    case BUILTIN_SETS:
        return LEVEL_PRIMARY;
    case BUILTIN_UNKNOWN:
    case BUILTIN_ACTS:
    case BUILTIN_RUNS_TEXT:
    case BUILTIN_CONNECTS:
        break;
    }
    return LEVEL_WRITES;
}

/* Built-in triggers that look at nothing but their row. */
static bool is_plain_trigger(const char *name) {
    static const char *const names[] = {"suppress_redundant_updates_trigger",
                                        "tsvector_update_trigger",
                                        "tsvector_update_trigger_column"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(names[i], name) == 0) return true;
    }
    return false;
}

/* Things of PostgreSQL itself are made when somebody uses them. They are not found by name. */
static struct thing *builtin_thing(struct facts_builder *builder, uint32_t id, const char *name) {
    struct thing *thing = find_by_id(builder, CLASS_FUNCTION, id);
    if (thing != NULL || name[0] == '\0') return thing;
    size_t len = strlen(name);
    thing = memory_new(sizeof *thing + len + 3);
    thing->class = thing->name[0] = CLASS_FUNCTION;
    memcpy(thing->name + 1, name, len);
    thing->schema = thing->name + len + 2;
    thing->why = "";
    list_append(&builder->facts->things, &thing->link);
    write_id(thing->id, CLASS_FUNCTION, id);
    map_add(&builder->ids, &thing->by_id, bytes_of(thing->id, sizeof thing->id));
    thing->reads.is_all = builtin_measures(bytes_of_text(name));
    if (!is_plain_trigger(name))
        worsen(thing, level_of_builtin(bytes_of_text(name)), "which is not for replicas", NULL);
    return thing;
}

/* ---- building: edges */

static void add_edge(struct facts_builder *builder, const struct facts_row *row, char class) {
    size_t len = strlen(row->name);
    struct edge *edge = memory_new(sizeof *edge + len + 1);
    edge->kind = row->kind;
    edge->class = class;
    edge->from = row->id;
    edge->to = row->other;
    memcpy(edge->name, row->name, len + 1);
    list_append(&builder->edges, &edge->link);
}

void facts_builder_add(struct facts_builder *builder, const struct facts_row *row) {
    struct thing *thing;
    switch (row->kind) {
    case 'r':
        add_relation(builder, row);
        break;
    case 'f':
        add_function(builder, row);
        break;
    case 'o':
    case 'y':
        /* A thing without an id, and its edge by a number of its own. */
        thing = add_thing(builder, row->kind, 0, row->schema, row->name);
        thing->number = row->id;
        break;
    default:
        add_edge(builder, row, row->mark[0]);
        break;
    }
}

/* One edge between things that are known; those to others say nothing. */
static void join(struct facts_builder *builder, char kind, struct thing *source,
                 struct thing *target) {
    if (source == NULL || target == NULL || source == target) return;
    struct edge *edge = memory_new(sizeof *edge + 1);
    edge->kind = kind;
    edge->source = source;
    edge->target = target;
    list_append(&builder->edges, &edge->link);
}

/* The text of a function names something: every thing of that name counts. */
static void join_word(struct facts_builder *builder, struct thing *source,
                      const struct edge *edge) {
    char key[TRAITS_NAME_BYTES_MAX];
    size_t len = strlen(edge->name);
    if (source == NULL || len + 2 > sizeof key) return;
    key[0] = edge->class;
    memcpy(key + 1, edge->name, len);
    struct thing *thing = first_by_name(builder->facts, bytes_of(key, len + 1));
    for (; thing != NULL; thing = thing->namesake) join(builder, 'u', source, thing);
    struct bytes name = bytes_of(edge->name, len);
    if (edge->class == CLASS_RELATION && builtin_relation_is_local(name))
        worsen(source, LEVEL_PRIMARY, "reads what shows one node only", NULL);
    if (edge->class == CLASS_FUNCTION && builtin_function(name) != BUILTIN_UNKNOWN &&
        level_of_builtin(name) != LEVEL_HARMLESS)
        worsen(source, level_of_builtin(name), "calls what is not for replicas", NULL);
}

static void find_ends(struct facts_builder *builder, struct edge *edge) {
    bool is_from_function = edge->class == CLASS_FUNCTION && strchr("uvw", edge->kind) != NULL;
    char from = is_from_function || edge->kind == 'w' || edge->kind == 'c' ? CLASS_FUNCTION
                                                                           : CLASS_RELATION;
    struct thing *source = find_by_id(builder, from, edge->from);
    if (edge->kind == 'w') {
        join_word(builder, source, edge);
        return;
    }
    edge->source = source;
    if (edge->kind == 'u' || edge->kind == 'd')
        edge->target = builtin_thing(builder, edge->to, edge->name);
    else if (edge->kind != 'a' && edge->kind != 'c')
        edge->target = find_by_id(builder, CLASS_RELATION, edge->to);
    if (edge->kind == 'a' && source != NULL) source->inserts.is_all = source->changes.is_all = true;
    /* A relation of PostgreSQL itself that shows one node. */
    if (edge->kind == 'v' && source != NULL && edge->target != NULL &&
        builtin_relation_is_local(bytes_of_text(edge->target->name + 1)))
        worsen(source, LEVEL_PRIMARY, "reads what shows one node only", NULL);
}

static struct thing *root_of(struct thing *thing) {
    while (thing->root != NULL) thing = thing->root;
    return thing;
}

/* ---- building: the closure */

static bool flow_level(struct thing *to, const struct thing *from) {
    if (from->level <= to->level) return false;
    to->level = from->level;
    to->why = from->why;
    to->cause = from->cause == NULL ? from : from->cause;
    return true;
}

static bool flow_reach(struct reach *to, const struct reach *from) {
    if (to->is_all) return false;
    uint32_t count = to->count;
    reach_merge(to, from);
    return to->is_all || to->count > count;
}

static bool flow_writes(struct thing *to, const struct thing *from) {
    bool is_changed = flow_reach(&to->inserts, &from->inserts);
    return flow_reach(&to->changes, &from->changes) || is_changed;
}

/* What goes along one edge; true if it changed anything. */
static bool flow(const struct edge *edge) {
    struct thing *source = edge->source;
    const struct thing *target = edge->target;
    if (source == NULL || target == NULL) return false;
    bool is_changed = false;
    switch (edge->kind) {
    case 'u':
    case 'v':
        /* A materialized view is read as it stands. */
        if (source->relkind == 'm') return false;
        is_changed = flow_level(source, target);
        is_changed = flow_reach(&source->reads, &target->reads) || is_changed;
        if (source->relkind == 'v' && edge->kind == 'v')
            is_changed = flow_writes(source, target) || is_changed;
        return is_changed;
    case 'd':
        if (target->level < LEVEL_WRITES || source->inserts.is_all) return false;
        source->inserts.is_all = source->changes.is_all = true;
        return true;
    case 'k':
        return flow_reach(&source->changes, &target->changes);
    case 'i':
        is_changed = flow_level(source, target);
        return flow_writes(source, target) || is_changed;
    default:
        return false;
    }
}

static bool has_own_rows(const struct thing *thing) {
    return thing->class == CLASS_RELATION && thing->relkind != 'v' && thing->relkind != 'S' &&
           thing->number >= FIRST_OWN_ID;
}

static void give_keys(struct facts_builder *builder) {
    LIST_EACH (&builder->facts->things, l) {
        struct thing *thing = LIST_OWNER(l, struct thing, link);
        if (!has_own_rows(thing)) continue;
        uint32_t key = key_of(builder->database, root_of(thing)->number);
        reach_add(&thing->reads, key);
        reach_add(&thing->inserts, key);
        reach_add(&thing->changes, key);
    }
}

/* Operators and types are as their functions. */
static void join_named(struct facts_builder *builder) {
    LIST_EACH (&builder->facts->things, l) {
        struct thing *thing = LIST_OWNER(l, struct thing, link);
        bool is_by_function = thing->class == CLASS_OPERATOR || thing->class == CLASS_TYPE;
        if (is_by_function)
            join(builder, 'u', thing, find_by_id(builder, CLASS_FUNCTION, thing->number));
    }
}

static void close_over(struct facts_builder *builder) {
    bool is_changed = true;
    while (is_changed) {
        is_changed = false;
        LIST_EACH (&builder->edges, l) {
            is_changed = flow(LIST_OWNER(l, struct edge, link)) || is_changed;
        }
    }
}

/* Operators that PostgreSQL uses unasked, for ORDER BY, DISTINCT, IN and the like. */
static bool is_used_unasked(const struct thing *thing) {
    static const char *const names[] = {"=", "<", ">", "<=", ">=", "<>"};
    for (size_t i = 0; i < COUNT(names) && thing->class == CLASS_OPERATOR; i++) {
        if (strcmp(thing->name + 1, names[i]) == 0) return true;
    }
    return false;
}

struct facts_builder *facts_builder_new(uint64_t database, const char *harmless) {
    struct facts_builder *builder = memory_new(sizeof *builder);
    builder->facts = memory_new(sizeof *builder->facts);
    shared_begin(&builder->facts->shared);
    list_init(&builder->facts->things);
    list_init(&builder->edges);
    builder->database = database;
    if (harmless != NULL) builder->harmless = memory_copy_text(harmless);
    return builder;
}

void facts_builder_free(struct facts_builder **builder_at) {
    struct facts_builder *builder = *builder_at;
    *builder_at = NULL;
    if (builder == NULL) return;
    map_release(&builder->ids);
    free_list(&builder->edges, offsetof(struct edge, link));
    facts_free(&builder->facts);
    memory_free(builder->harmless);
    memory_free(builder);
}

struct facts *facts_builder_end(struct facts_builder **builder_at, uint32_t generation,
                                uint32_t schema) {
    struct facts_builder *builder = *builder_at;
    struct facts *facts = builder->facts;
    LIST_EACH (&builder->edges, l) {
        struct edge *edge = LIST_OWNER(l, struct edge, link);
        if (edge->source == NULL) find_ends(builder, edge);
    }
    join_named(builder);
    LIST_EACH (&builder->edges, l) {
        struct edge *edge = LIST_OWNER(l, struct edge, link);
        bool is_tree = edge->kind == 'i' && edge->source != NULL && edge->target != NULL;
        if (!is_tree) continue;
        struct thing *parent = root_of(edge->source), *child = root_of(edge->target);
        if (parent != child) child->root = parent;
    }
    give_keys(builder);
    close_over(builder);
    LIST_EACH (&builder->edges, l) {
        const struct edge *edge = LIST_OWNER(l, struct edge, link);
        if (edge->kind == 'c' && edge->source != NULL && edge->source->level > LEVEL_HARMLESS)
            facts->has_bad_casts = true;
    }
    LIST_EACH (&facts->things, l) {
        const struct thing *thing = LIST_OWNER(l, struct thing, link);
        if (is_used_unasked(thing) && thing->level > LEVEL_HARMLESS) facts->has_bad_casts = true;
    }
    facts->generation = generation;
    facts->schema = schema;
    builder->facts = NULL;
    facts_builder_free(builder_at);
    return facts;
}
