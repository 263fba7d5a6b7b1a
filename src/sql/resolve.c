/*
 * What the names in a statement come to; see sql/facts.h.
 *
 * Each name adds what the worst thing of that name is. Reads and writes are unions; the reason that
 * weighs most is the one that is told.
 */
#include "things.h"

#include "core/check.h"
#include "sql/builtins.h"

#include <stdio.h>

#define PRIMARY TRAITS_NEEDS_PRIMARY
#define WRITES  (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE)

static const uint32_t flags_of_level[] = {
    [LEVEL_HARMLESS] = 0, [LEVEL_PRIMARY] = PRIMARY, [LEVEL_WRITES] = WRITES};

/* One statement on its way. */
struct resolution {
    const struct facts *facts;
    const struct findings *found;
    struct bytes names;
    struct traits *traits;
    unsigned rank;
};

/* A name as traits tell it: "name", "schema.name" or "database.schema.name". */
struct qualified {
    struct bytes schema, name;
};

static struct qualified split(struct bytes text) {
    struct qualified parts = {bytes_of("", 0), text};
    for (size_t i = text.len; i > 0; i--) {
        if (text.at[i - 1] != '.') continue;
        parts.name = bytes_of(text.at + i, text.len - i);
        size_t from = i - 1;
        while (from > 0 && text.at[from - 1] != '.') from--;
        parts.schema = bytes_of(text.at + from, i - 1 - from);
        break;
    }
    return parts;
}

static unsigned rank_of(uint32_t flags) {
    if (flags & TRAITS_MAY_WRITE) return 3;
    return flags & PRIMARY ? 2 : 0;
}

static void note(struct resolution *r, uint32_t flags, const char *before, const char *name,
                 const char *why) {
    r->traits->flags |= flags;
    if (rank_of(flags) <= r->rank) return;
    r->rank = rank_of(flags);
    int len = snprintf(r->traits->why, sizeof r->traits->why, "%s%s%s", before, name, why);
    if (len < 0) r->traits->why[0] = '\0';
}

/* "public.v", or only the name of what is PostgreSQL's own. */
static const char *full_name(const struct thing *thing, char *text, size_t size) {
    const char *dot = thing->schema[0] == '\0' ? "" : ".";
    const char *end = thing->class == CLASS_FUNCTION ? "()" : "";
    (void)snprintf(text, size, "%s%s%s%s", thing->schema, dot, thing->name + 1, end);
    return text;
}

/* "public.bump(), volatile", or where that is out of sight: "public.v, through bump(), volatile".
 */
void facts_describe(const struct thing *thing, char *text, size_t size) {
    char own[TRAITS_WHY_SIZE], other[TRAITS_WHY_SIZE];
    if (thing->cause == NULL) {
        (void)snprintf(text, size, "%s, %s", full_name(thing, own, sizeof own), thing->why);
    } else {
        (void)snprintf(text, size, "%s, through %s, %s", full_name(thing, own, sizeof own),
                       full_name(thing->cause, other, sizeof other), thing->why);
    }
}

static void use_thing(struct resolution *r, const struct thing *thing) {
    if (thing->level > LEVEL_HARMLESS) {
        char text[2 * TRAITS_WHY_SIZE];
        facts_describe(thing, text, sizeof text);
        note(r, flags_of_level[thing->level], thing->class == CLASS_RELATION ? "reads " : "calls ",
             text, "");
    }
    reach_merge(&r->traits->reads, &thing->reads);
    if (thing->level == LEVEL_WRITES) r->traits->writes.is_all = true;
}

static const struct thing *first_of(const struct resolution *r, char class, struct bytes name) {
    char key[TRAITS_NAME_BYTES_MAX];
    if (name.len + 1 > sizeof key) return NULL;
    key[0] = class;
    memcpy(key + 1, name.at, name.len);
    return facts_find(r->facts, bytes_of(key, name.len + 1));
}

static bool is_in_schema(const struct thing *thing, struct bytes schema) {
    return schema.len == 0 || bytes_equal_text(schema, thing->schema);
}

static void resolve_function(struct resolution *r, struct bytes text) {
    struct qualified parts = split(text);
    bool is_own = bytes_equal_text(parts.schema, "pg_catalog");
    bool is_builtin =
        (parts.schema.len == 0 || is_own) && builtin_function(parts.name) != BUILTIN_UNKNOWN;
    bool is_known = is_builtin;
    const struct thing *thing = is_own ? NULL : first_of(r, CLASS_FUNCTION, parts.name);
    for (; thing != NULL; thing = thing->namesake) {
        if (!is_in_schema(thing, parts.schema) || thing->is_trigger) continue;
        is_known = true;
        use_thing(r, thing);
    }
    if (is_known) return;
    note(r, r->found->doubts | WRITES, r->found->doubt, "", "");
    r->traits->reads.is_all = r->traits->writes.is_all = true;
}

/* Whether a WITH query of the statement has that name. */
static bool is_with_query(const struct resolution *r, struct bytes name) {
    struct bytes rest = r->names;
    while (rest.len > 0) {
        size_t len = strnlen(rest.at, rest.len);
        if (rest.at[0] == 'c' && bytes_equal(bytes_of(rest.at + 1, len - 1), name)) return true;
        size_t step = len < rest.len ? len + 1 : len;
        rest = bytes_of(rest.at + step, rest.len - step);
    }
    return false;
}

static void miss_relation(struct resolution *r, struct bytes text) {
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)text.len, text.at);
    note(r, PRIMARY, "relation ", name,
         r->facts->is_unread ? ", and the catalog is still to be read" : " is not in the catalog");
    r->traits->reads.is_all = true;
}

static void resolve_relation(struct resolution *r, struct bytes text) {
    struct qualified parts = split(text);
    bool is_known = parts.schema.len == 0 && is_with_query(r, parts.name);
    const struct thing *thing = first_of(r, CLASS_RELATION, parts.name);
    for (; thing != NULL; thing = thing->namesake) {
        if (!is_in_schema(thing, parts.schema)) continue;
        is_known = true;
        use_thing(r, thing);
    }
    if (!is_known) miss_relation(r, text);
}

static void resolve_target(struct resolution *r, char kind, struct bytes text) {
    struct qualified parts = split(text);
    bool is_known = false;
    const struct thing *thing = first_of(r, CLASS_RELATION, parts.name);
    for (; thing != NULL; thing = thing->namesake) {
        if (!is_in_schema(thing, parts.schema)) continue;
        is_known = true;
        reach_merge(&r->traits->writes, kind == 'i' ? &thing->inserts : &thing->changes);
    }
    if (!is_known) r->traits->writes.is_all = true;
}

/* An operator, a type, or what may be a function behind a dot; most are PostgreSQL's own or none.
 */
static void resolve_other(struct resolution *r, char class, struct bytes name, bool is_column) {
    const struct thing *thing = first_of(r, class, name);
    for (; thing != NULL; thing = thing->namesake) {
        if (!is_column || thing->takes_row) use_thing(r, thing);
    }
}

static void resolve_name(struct resolution *r, char kind, struct bytes name) {
    switch (kind) {
    case 'f':
        resolve_function(r, name);
        break;
    case 'r':
        resolve_relation(r, name);
        break;
    case 'w':
    case 'i':
        resolve_target(r, kind, name);
        break;
    case 'o':
        resolve_other(r, CLASS_OPERATOR, name, false);
        break;
    case 'y':
        resolve_other(r, CLASS_TYPE, name, false);
        break;
    case 'a':
        resolve_other(r, CLASS_FUNCTION, name, true);
        break;
    case 'g':
        r->traits->is_global = true;
        break;
    default:
        break;
    }
}

static void resolve_nothing(const struct findings *found, struct traits *traits) {
    traits->flags |= found->doubts;
    if (found->doubt_rank > found->why_rank) memcpy(traits->why, found->doubt, sizeof found->doubt);
    traits->reads.is_all = traits->writes.is_all = true;
}

void facts_resolve(const struct facts *facts, const struct findings *found, struct bytes names,
                   struct traits *traits) {
    struct resolution r = {
        .facts = facts, .found = found, .names = names, .traits = traits, .rank = found->why_rank};
    traits->flags = found->flags | (found->doubts & TRAITS_RUNS_UNKNOWN);
    memcpy(traits->why, found->why, sizeof found->why);
    traits->is_global = false;
    traits->is_silent = !found->shows_rows && !(found->flags & TRAITS_ANYTHING);
    reach_clear(&traits->reads);
    reach_clear(&traits->writes);
    if (facts == NULL) {
        resolve_nothing(found, traits);
        return;
    }
    bool is_opaque = (found->flags & TRAITS_ANYTHING) != 0 || found->names_cut;
    traits->reads.is_all = found->reads_beyond || is_opaque;
    traits->writes.is_all = found->writes_beyond || is_opaque;
    if (found->names_cut) note(&r, WRITES, "more names than are kept", "", "");
    bool has_names = false;
    for (struct bytes rest = names; rest.len > 0;) {
        size_t len = strnlen(rest.at, rest.len);
        has_names = has_names || rest.at[0] == 'r' || rest.at[0] == 'f';
        resolve_name(&r, rest.at[0], bytes_of(rest.at + 1, len - 1));
        size_t step = len < rest.len ? len + 1 : len;
        rest = bytes_of(rest.at + step, rest.len - step);
    }
    if (has_names && facts->has_bad_casts)
        note(&r, PRIMARY, "a cast or operator runs what is not for replicas", "", "");
}

/* ---- for people */

static const char *kind_of(const struct thing *thing) {
    if (thing->class == CLASS_FUNCTION) return "function";
    if (thing->class == CLASS_OPERATOR) return "operator";
    return thing->class == CLASS_TYPE ? "type" : "relation";
}

static const char *effect_of(const struct thing *thing) {
    if (thing->level == LEVEL_WRITES) return "primary, may write";
    if (thing->level == LEVEL_PRIMARY) return "primary";
    if (thing->class == CLASS_RELATION && thing->inserts.is_all)
        return "writes may change anything";
    if (thing->class == CLASS_RELATION && thing->changes.is_all)
        return "updates may change anything";
    return thing->reads.is_all ? "reads may see anything" : NULL;
}

void facts_each(const struct facts *facts,
                void (*visit)(void *owner, const struct facts_line *line), void *owner) {
    if (facts->is_unread) return;
    LIST_EACH (&facts->things, l) {
        const struct thing *thing = LIST_OWNER(l, const struct thing, link);
        const char *effect = effect_of(thing);
        bool is_shown = effect != NULL && thing->schema[0] != '\0' && !thing->is_trigger;
        if (!is_shown) continue;
        char text[2 * TRAITS_WHY_SIZE] = "";
        if (thing->level > LEVEL_HARMLESS) facts_describe(thing, text, sizeof text);
        struct facts_line line = {kind_of(thing), thing->schema, thing->name + 1, effect, text};
        visit(owner, &line);
    }
}
