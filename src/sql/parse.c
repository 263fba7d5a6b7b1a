/*
 * Parsing: libpg_query's only home.
 *
 * libpg_query is PostgreSQL's raw parser. Its state is thread-local, so that threads do not
 * disturb each other, and it frees what a parse took. It returns the tree packed as protobuf
 * (sql/tree.h), through which the walk goes with a stack of its own, since a tree may be
 * thousands of levels deep. The raw tree names things and resolves nothing; what the names mean
 * is judged in statement.c and, where a catalog is at hand, by facts.
 */
#include "sql/parse.h"

#include "core/check.h"
#include "core/memory.h"
#include "sql/statement.h"

#include <pg_query.h>

#define WALK_LEVELS_FIRST 64u
/* Far more than any text within the lexer's bounds has; three levels at most go to a token. */
#define WALK_LEVELS_MAX 65536u

#define ANYTHING (TRAITS_ANYTHING | TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_RUNS_UNKNOWN)

/* The nodes from the root to the one being read, each with the fields that are still to come. */
struct walk {
    struct tree_node first[WALK_LEVELS_FIRST];
    struct tree_node *levels;
    size_t levels_max;
    size_t count;
};

static void walk_push(struct walk *walk, struct tree_node node) {
    if (walk->count == walk->levels_max) {
        struct tree_node *old = walk->levels == walk->first ? NULL : walk->levels;
        struct tree_node *levels = memory_resize(old, 2 * walk->count * sizeof *levels);
        if (old == NULL) memcpy(levels, walk->first, sizeof walk->first);
        walk->levels = levels;
        walk->levels_max = 2 * walk->count;
    }
    walk->levels[walk->count++] = node;
}

/* Looks at one statement and everything in it. */
static void walk_statement(struct tree_node statement, struct findings *findings) {
    struct walk walk = {.levels_max = WALK_LEVELS_FIRST};
    walk.levels = walk.first;
    walk_push(&walk, statement);
    while (walk.count > 0) {
        struct tree_node *top = &walk.levels[walk.count - 1];
        struct tree_field field;
        if (!tree_next(top, &field)) {
            if (tree_is_broken(top)) findings_note(findings, ANYTHING, "a tree that is not known");
            walk.count--;
        } else if (field.kind == TREE_NODE && statement_look(findings, &field.node)) {
            if (walk.count < WALK_LEVELS_MAX)
                walk_push(&walk, field.node);
            else
                findings_note(findings, ANYTHING, "nested too deeply");
        }
    }
    if (walk.levels != walk.first) memory_free(walk.levels);
}

/* Whether the answer to a statement, a RawStmt, may have rows. */
static bool shows_rows(const struct tree_node *raw) {
    static const char *const silent[] = {"DeleteStmt",      "InsertStmt", "MergeStmt",
                                         "TransactionStmt", "UpdateStmt", "VariableSetStmt"};
    struct tree_node statement, rest;
    struct tree_field field;
    if (!tree_child(raw, "stmt", &statement)) return true;
    rest = statement;
    if (tree_next_named(&rest, "returning_list", &field)) return true;
    for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
        if (strcmp(tree_type_name(&statement), silent[i]) == 0) return false;
    }
    return true;
}

static void walk_tree(struct bytes packed, struct findings *findings) {
    struct tree_node root = tree_root(packed);
    struct tree_field field;
    unsigned statements = 0;
    while (tree_next_named(&root, "stmts", &field)) {
        struct findings one = {.names = findings->names, .shows_rows = shows_rows(&field.node)};
        walk_statement(field.node, &one);
        findings_merge(findings, &one);
        statements++;
    }
    if (tree_is_broken(&root)) findings_note(findings, ANYTHING, "a tree that is not known");
    if (statements == 0) findings->flags |= TRAITS_EMPTY;
    if (statements > 1) findings->flags |= TRAITS_MANY;
}

void parse_text(const char *text, struct findings *findings) {
    PgQueryProtobufParseResult result = pg_query_parse_protobuf(text);
    if (result.error != NULL) {
        findings_note(findings, ANYTHING, "not understood: %s", result.error->message);
    } else {
        walk_tree(bytes_of(result.parse_tree.data, result.parse_tree.len), findings);
    }
    pg_query_free_protobuf_parse_result(result);
}
