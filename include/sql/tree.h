/*
 * Reading a parse tree in its packed form.
 *
 * libpg_query hands a parse tree over as protobuf bytes. They are read where they lie, with the
 * descriptors that the library exports saying which field is what. Nothing is unpacked: that
 * recurses, and the depth of a tree is chosen by whoever wrote the statement. The wrapper "Node",
 * of which the tree has one around most things, is passed over.
 */
#ifndef WEIR_SQL_TREE_H
#define WEIR_SQL_TREE_H

#include "core/bytes.h"

struct tree_type;

/* A view of one node: its type, and those of its fields that have not been read yet. */
struct tree_node {
    const struct tree_type *type;
    const uint8_t *at;
    const uint8_t *end;
};

enum tree_kind { TREE_NUMBER, TREE_CHOICE, TREE_TEXT, TREE_NODE };

struct tree_field {
    const char *name;
    enum tree_kind kind;
    uint64_t number;       /* TREE_NUMBER, and booleans as 0 and 1 */
    const char *choice;    /* TREE_CHOICE: the name of an enum's value */
    struct bytes text;     /* TREE_TEXT */
    struct tree_node node; /* TREE_NODE */
};

/* The whole tree that pg_query_parse_protobuf gave. */
struct tree_node tree_root(struct bytes packed);

/* The node's type as PostgreSQL names it: "SelectStmt". */
const char *tree_type_name(const struct tree_node *node);

/* Takes the next field off the front of `node`. False at the end. Fields that hold their
 * default (0, false, an empty text) are absent; bytes that are not understood end the node and
 * make tree_is_broken true. */
bool tree_next(struct tree_node *node, struct tree_field *field);
bool tree_is_broken(const struct tree_node *node);

/* As tree_next, but passes over the fields with other names. */
bool tree_next_named(struct tree_node *node, const char *name, struct tree_field *field);

/* The first field with a name, or its default: an empty view, 0, an empty text, false. The node
 * is not changed. */
struct bytes tree_text(const struct tree_node *node, const char *name);
uint64_t tree_number(const struct tree_node *node, const char *name);
const char *tree_choice(const struct tree_node *node, const char *name);
bool tree_child(const struct tree_node *node, const char *name, struct tree_node *child);

#endif
