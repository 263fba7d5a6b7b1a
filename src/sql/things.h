/*
 * The things that facts know; for facts.c, which makes them, and resolve.c, which looks them up.
 */
#ifndef WEIR_SQL_THINGS_H
#define WEIR_SQL_THINGS_H

#include "core/list.h"
#include "core/map.h"
#include "core/shared.h"
#include "sql/facts.h"

#define ID_BYTES 5u

enum level { LEVEL_HARMLESS, LEVEL_PRIMARY, LEVEL_WRITES };

/* Classes of things, which have names, and ids, of their own. */
enum { CLASS_FUNCTION = 'f', CLASS_RELATION = 'r', CLASS_OPERATOR = 'o', CLASS_TYPE = 'y' };

struct thing {
    struct link link;
    struct map_node by_id;
    struct map_node by_name;
    struct thing *namesake; /* of the same class */
    char class;
    char id[ID_BYTES];
    char relkind;
    bool takes_row;  /* a function that may be written as a column */
    bool is_trigger; /* a trigger's function, which nothing else calls */
    enum level level;
    const char *why;
    const struct thing *cause;
    struct thing *root; /* of its tree of partitions; NULL: itself */
    uint32_t number;
    struct reach reads;   /* by whoever names it */
    struct reach inserts; /* by whoever adds rows to it */
    struct reach changes; /* by whoever changes it */
    const char *schema;
    char name[]; /* class, name, NUL, schema, NUL */
};

struct facts {
    struct shared shared;
    uint32_t generation;
    uint32_t schema;
    bool is_unread;
    bool has_bad_casts; /* somewhere a cast that nobody sees runs what is not harmless */
    struct list things;
    struct map names;
};

/* The first thing of a class (the key's first byte) and name; its namesakes hang on it. NULL: none.
 */
static inline const struct thing *facts_find(const struct facts *facts, struct bytes key) {
    struct map_node *node = map_find(&facts->names, key);
    return node == NULL ? NULL : MAP_OWNER(node, const struct thing, by_name);
}

/* Why it is not for replicas, in words; only where it is not. */
void facts_describe(const struct thing *thing, char *text, size_t size);

#endif
