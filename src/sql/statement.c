/*
 * What each node of a parse tree means for routing and for the session.
 *
 * The walk (parse.c) shows every node of the tree to statement_look, so an INSERT is found
 * wherever it stands: in WITH, in COPY, behind EXPLAIN. Node types are PostgreSQL's
 * (src/include/nodes/parsenodes.h). A node without a row says nothing itself, unless its name
 * ends in "Stmt": a kind of statement that is not in the table may do anything.
 */
#include "sql/statement.h"

#include "core/check.h"
#include "sql/builtins.h"

#include <stdio.h>

#define PRIMARY TRAITS_NEEDS_PRIMARY
#define WRITE   (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_KNOWN_WRITE)
/* A write to the relation that it names; its look says to which. */
#define TARGET  (TRAITS_NEEDS_PRIMARY | TRAITS_KNOWN_WRITE)
#define DDL     (WRITE | TRAITS_CHANGES_SCHEMA)
#define UNKNOWN (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_RUNS_UNKNOWN)

/* How many parts of a qualified name are looked at: database, schema and its own. */
#define NAME_PARTS_MAX 3

struct node_rule {
    const char *type;
    uint32_t flags;
    const char *why;
    /* Looks into the node; false if its children say nothing more. NULL: they do. */
    bool (*look)(struct findings *findings, const struct tree_node *node);
};

/* What a function of each kind means; the reason follows "function NAME()". */
static const struct {
    uint32_t flags;
    const char *why;
} function_rules[] = {
    [BUILTIN_UNKNOWN] = {UNKNOWN, "is not known to be harmless"},
    [BUILTIN_HARMLESS] = {0, ""},
    [BUILTIN_WRITES] = {WRITE, "writes"},
    [BUILTIN_ONE_NODE] = {PRIMARY, "answers for one node only"},
    [BUILTIN_ACTS] = {PRIMARY | TRAITS_MAY_WRITE, "acts on the node that runs it"},
    [BUILTIN_LOCKS] = {PRIMARY, "takes a lock"},
    [BUILTIN_SESSION_LOCKS] = {PRIMARY | TRAITS_SESSION_LOCK, "takes or frees a session's lock"},
    [BUILTIN_REMEMBERS] = {PRIMARY | TRAITS_SESSION_MEMORY, "uses the session's memory"},
    [BUILTIN_RUNS_TEXT] = {UNKNOWN, "runs SQL given as a text"},
    [BUILTIN_CONNECTS] = {UNKNOWN, "works through a connection of its own"},
    [BUILTIN_SETS] = {0, ""}, /* what it sets says more */
    [BUILTIN_SHOWS] = {0, ""},
};

/* ---- Reading small things ---- */

/* The texts in a field that repeats, such as the parts of a name: the last `max` of them. */
static size_t read_texts(const struct tree_node *node, const char *name, struct bytes *texts,
                         size_t max) {
    struct tree_node rest = *node;
    struct tree_field field;
    size_t count = 0;
    while (tree_next_named(&rest, name, &field)) {
        if (field.kind != TREE_NODE || strcmp(tree_type_name(&field.node), "String") != 0) continue;
        if (count == max) {
            memmove(texts, texts + 1, (max - 1) * sizeof *texts);
            count--;
        }
        texts[count++] = tree_text(&field.node, "sval");
    }
    return count;
}

/* The text of an integer constant of one digit; nobody asks for the others, negative ones too. */
static struct bytes small_number(uint64_t number) {
    static const char digits[] = "0123456789";
    return number < 10 ? bytes_of(digits + number, 1) : bytes_of_text("another number");
}

/* Whether a cast leaves a constant as it is written: one to varchar(3) or to name would cut it. */
static bool is_plain_cast(const struct tree_node *node) {
    struct tree_node type, rest;
    struct tree_field field;
    struct bytes parts[NAME_PARTS_MAX];
    if (!tree_child(node, "type_name", &type)) return false;
    rest = type;
    if (tree_next_named(&rest, "typmods", &field)) return false;
    rest = type;
    if (tree_next_named(&rest, "array_bounds", &field)) return false;
    size_t count = read_texts(&type, "names", parts, NAME_PARTS_MAX);
    bool is_builtin = count == 1 || (count == 2 && bytes_equal_text(parts[0], "pg_catalog"));
    if (!is_builtin) return false;
    return bytes_equal_text(parts[count - 1], "text") || bytes_equal_text(parts[count - 1], "bool");
}

/* What stands behind casts that leave it as it is. */
static struct tree_node behind_casts(struct tree_node node) {
    struct tree_node value;
    while (strcmp(tree_type_name(&node), "TypeCast") == 0 && is_plain_cast(&node) &&
           tree_child(&node, "arg", &value)) {
        node = value;
    }
    return node;
}

/* The text of a constant, also behind casts; at is NULL where it is none or NULL itself. */
static struct bytes constant_text(struct tree_node node) {
    struct tree_node value;
    node = behind_casts(node);
    if (strcmp(tree_type_name(&node), "AConst") != 0) return bytes_of(NULL, 0);
    if (tree_child(&node, "sval", &value)) return tree_text(&value, "sval");
    if (tree_child(&node, "fval", &value)) return tree_text(&value, "fval");
    if (tree_child(&node, "ival", &value)) return small_number(tree_number(&value, "ival"));
    if (tree_child(&node, "boolval", &value))
        return bytes_of_text(tree_number(&value, "boolval") == 0 ? "off" : "on");
    return bytes_of(NULL, 0);
}

/* The constant at place `index` of a field that repeats. */
static struct bytes constant_at(const struct tree_node *node, const char *name, size_t index) {
    struct tree_node rest = *node;
    struct tree_field field;
    for (size_t i = 0; tree_next_named(&rest, name, &field); i++) {
        if (i == index && field.kind == TREE_NODE) return constant_text(field.node);
    }
    return bytes_of(NULL, 0);
}

static int shown(struct bytes name) {
    return name.len > 40 ? 40 : (int)name.len;
}

/* pg_temp, or pg_temp_ and a number, which is what it stands for. */
static bool is_temporary_schema(struct bytes name) {
    if (bytes_equal_text(name, "pg_temp")) return true;
    if (name.len < 9 || memcmp(name.at, "pg_temp_", 8) != 0) return false;
    for (size_t i = 8; i < name.len; i++) {
        if (name.at[i] < '0' || name.at[i] > '9') return false;
    }
    return true;
}

/* ---- Expressions ---- */

static void look_at_setting(struct findings *findings, const struct tree_node *node) {
    struct bytes name = constant_at(node, "args", 0);
    if (name.at == NULL || !builtin_setting_is_common(name))
        findings_note(findings, PRIMARY, "the value of %.*s differs between nodes",
                      name.at == NULL ? 9 : shown(name), name.at == NULL ? "a setting" : name.at);
}

/* The parameter ("$1") that the first argument is; "" where it is none. */
static void parameter_text(const struct tree_node *node, char text[16]) {
    struct tree_node rest = *node;
    struct tree_field field;
    text[0] = '\0';
    if (!tree_next_named(&rest, "args", &field) || field.kind != TREE_NODE) return;
    struct tree_node first = behind_casts(field.node);
    if (strcmp(tree_type_name(&first), "ParamRef") != 0) return;
    uint64_t number = tree_number(&first, "number");
    if (number >= 1 && number <= UINT16_MAX) (void)snprintf(text, 16, "$%u", (unsigned)number);
}

/* set_config(name, value, is_local) */
static void look_at_set_config(struct findings *findings, const struct tree_node *node) {
    struct bytes name = constant_at(node, "args", 0);
    struct bytes is_local = constant_at(node, "args", 2);
    bool is_known_local = is_local.at != NULL && bytes_equal_text(is_local, "on");
    uint32_t flag = is_known_local ? TRAITS_SETS_LOCAL : TRAITS_SETS;
    if (name.at == NULL) {
        char parameter[16];
        parameter_text(node, parameter);
        struct bytes bound = bytes_of_text(parameter);
        if (bound.len > 0) findings_add_name(findings, is_known_local ? 'l' : 's', &bound, 1);
        /* A Bind tells it, and what is undone at the end of its transaction is nobody's concern. */
        uint32_t unknown = is_known_local || bound.len > 0 ? 0 : TRAITS_RUNS_UNKNOWN;
        findings_note(findings, PRIMARY | flag | unknown, "sets some parameter");
        findings->parameters++;
        findings->parameter[0] = '\0';
        return;
    }
    findings_set_parameter(findings, name, constant_at(node, "args", 1), flag);
}

/* What a function of that name does; one that is not built in is judged by the catalog. */
static void note_function(struct findings *findings, struct bytes name, enum builtin_kind kind) {
    uint32_t flags = function_rules[kind].flags;
    const char *why = function_rules[kind].why;
    bool has_written_beyond = findings->writes_beyond;
    if (kind == BUILTIN_UNKNOWN)
        findings_doubt(findings, flags, "function %.*s() %s", shown(name), name.at, why);
    else if (flags != 0)
        findings_note(findings, flags, "function %.*s() %s", shown(name), name.at, why);
    if (builtin_writes_no_rows(name)) findings->writes_beyond = has_written_beyond;
    if (builtin_measures(name)) findings->reads_beyond = true;
}

static bool look_at_function(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX];
    size_t count = read_texts(node, "funcname", parts, NAME_PARTS_MAX);
    if (count == 0) return true;
    struct bytes name = parts[count - 1];
    bool is_builtin = count == 1 || (count == 2 && bytes_equal_text(parts[0], "pg_catalog"));
    enum builtin_kind kind = is_builtin ? builtin_function(name) : BUILTIN_UNKNOWN;
    findings_add_name(findings, 'f', parts, count);
    if (kind == BUILTIN_SETS) look_at_set_config(findings, node);
    if (kind == BUILTIN_SHOWS) look_at_setting(findings, node);
    note_function(findings, name, kind);
    return true;
}

/* Names a relation: read ('r'), or also changed ('w') or added to ('i'). */
static void name_relation(struct findings *findings, char kind, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX] = {
        tree_text(node, "catalogname"), tree_text(node, "schemaname"), tree_text(node, "relname")};
    findings_add_name(findings, kind, parts, NAME_PARTS_MAX);
}

/* It may write, but no more than its relation. */
static void note_target(struct findings *findings, const struct tree_node *node, char kind) {
    struct tree_node relation;
    findings->flags |= TRAITS_MAY_WRITE;
    if (tree_child(node, "relation", &relation))
        name_relation(findings, kind, &relation);
    else
        findings->writes_beyond = true;
}

static bool look_at_change(struct findings *findings, const struct tree_node *node) {
    note_target(findings, node, 'w');
    return true;
}

static bool look_at_insert(struct findings *findings, const struct tree_node *node) {
    struct tree_node conflict;
    note_target(findings, node, tree_child(node, "on_conflict_clause", &conflict) ? 'w' : 'i');
    return true;
}

/* Rules of the view pg_settings make a set_config of each row that is updated. */
static bool look_at_update(struct findings *findings, const struct tree_node *node) {
    struct tree_node relation;
    note_target(findings, node, 'w');
    if (tree_child(node, "relation", &relation) &&
        bytes_equal_text(tree_text(&relation, "relname"), "pg_settings"))
        findings_note(findings, UNKNOWN, "UPDATE of pg_settings");
    return true;
}

/* last_value and its neighbours are the columns of a sequence, which a standby shows as they were
 * logged: ahead of time. */
static bool look_at_column(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[2];
    size_t count = read_texts(node, "fields", parts, 2);
    if (count == 0) return false;
    struct bytes name = parts[count - 1];
    if (bytes_equal_text(name, "last_value") || bytes_equal_text(name, "is_called") ||
        bytes_equal_text(name, "log_cnt"))
        findings_doubt(findings, PRIMARY, "column %.*s may be a sequence's", shown(name), name.at);
    /* t.f may be a call of f(t). */
    if (count > 1) findings_add_name(findings, 'a', &name, 1);
    return true;
}

/* (expression).f, too. */
static bool look_at_indirection(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX];
    size_t count = read_texts(node, "indirection", parts, NAME_PARTS_MAX);
    for (size_t i = 0; i < count; i++) findings_add_name(findings, 'a', &parts[i], 1);
    return true;
}

/* The sign of a constant, which a shape does not keep. */
static bool is_sign(const struct tree_node *node, struct bytes name) {
    struct tree_node left, right;
    return bytes_equal_text(name, "+") && !tree_child(node, "lexpr", &left) &&
           tree_child(node, "rexpr", &right) && strcmp(tree_type_name(&right), "AConst") == 0;
}

static bool look_at_operator(struct findings *findings, const struct tree_node *node) {
    static const char *const fields[] = {"name", "oper_name", "use_op"};
    struct bytes parts[NAME_PARTS_MAX];
    for (size_t i = 0; i < COUNT(fields); i++) {
        size_t count = read_texts(node, fields[i], parts, NAME_PARTS_MAX);
        if (count > 0 && !is_sign(node, parts[count - 1]))
            findings_add_name(findings, 'o', &parts[count - 1], 1);
    }
    return true;
}

/* Types of PostgreSQL itself that the grammar names so run nobody's code. */
static bool look_at_type(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX];
    size_t count = read_texts(node, "names", parts, NAME_PARTS_MAX);
    bool is_builtin = count > 1 && bytes_equal_text(parts[0], "pg_catalog");
    if (count > 0 && !is_builtin) findings_add_name(findings, 'y', &parts[count - 1], 1);
    return true;
}

static bool look_at_with(struct findings *findings, const struct tree_node *node) {
    struct bytes name = tree_text(node, "ctename");
    findings_add_name(findings, 'c', &name, 1);
    return true;
}

static bool look_at_relation(struct findings *findings, const struct tree_node *node) {
    struct bytes schema = tree_text(node, "schemaname");
    struct bytes name = tree_text(node, "relname");
    name_relation(findings, 'r', node);
    if (is_temporary_schema(schema))
        findings_note(findings, PRIMARY | TRAITS_TEMPORARY, "temporary table");
    bool is_catalog = schema.len == 0 || bytes_equal_text(schema, "pg_catalog");
    if (is_catalog && builtin_relation_is_local(name))
        findings_note(findings, PRIMARY, "%.*s shows one node only", shown(name), name.at);
    return false;
}

/* Part of some name, since constants are not descended into. */
static bool look_at_string(struct findings *findings, const struct tree_node *node) {
    if (is_temporary_schema(tree_text(node, "sval")))
        findings_note(findings, PRIMARY | TRAITS_TEMPORARY, "temporary object");
    return false;
}

/* For constants, and where what stands inside is not done now. */
static bool look_at_nothing(struct findings *findings, const struct tree_node *node) {
    (void)findings;
    (void)node;
    return false;
}

static bool look_at_sample(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX];
    size_t count = read_texts(node, "method", parts, NAME_PARTS_MAX);
    struct bytes name = count == 0 ? bytes_of("", 0) : parts[count - 1];
    if (!bytes_equal_text(name, "bernoulli") && !bytes_equal_text(name, "system"))
        findings_note(findings, UNKNOWN, "TABLESAMPLE %.*s is not known to be harmless",
                      shown(name), name.at);
    return true;
}

static bool look_at_locking(struct findings *findings, const struct tree_node *node) {
    static const char *const strengths[][2] = {
        {"LCS_FORKEYSHARE", "SELECT ... FOR KEY SHARE"},
        {"LCS_FORSHARE", "SELECT ... FOR SHARE"},
        {"LCS_FORNOKEYUPDATE", "SELECT ... FOR NO KEY UPDATE"},
        {"LCS_FORUPDATE", "SELECT ... FOR UPDATE"}};
    const char *why = "SELECT with a locking clause";
    for (size_t i = 0; i < COUNT(strengths); i++) {
        if (strcmp(tree_choice(node, "strength"), strengths[i][0]) == 0) why = strengths[i][1];
    }
    findings_note(findings, TARGET, "%s", why);
    findings->flags |= TRAITS_MAY_WRITE; /* a lock, which nobody can read */
    return true;
}

/* ---- Statements ---- */

/* A temporary thing needs its session only for longer than the transaction. */
static void note_temporary(struct findings *findings, const struct tree_node *node,
                           const char *relation, const char *on_commit) {
    struct tree_node name;
    if (!tree_child(node, relation, &name)) return;
    if (!bytes_equal_text(tree_text(&name, "relpersistence"), "t")) return;
    if (strcmp(tree_choice(node, on_commit), "ONCOMMIT_DROP") == 0) return;
    findings_note(findings, PRIMARY | TRAITS_TEMPORARY, "temporary object");
}

static bool look_at_create_table(struct findings *findings, const struct tree_node *node) {
    note_temporary(findings, node, "relation", "oncommit");
    return true;
}

static bool look_at_create_sequence(struct findings *findings, const struct tree_node *node) {
    note_temporary(findings, node, "sequence", "");
    return true;
}

static bool look_at_create_view(struct findings *findings, const struct tree_node *node) {
    note_temporary(findings, node, "view", "");
    return true;
}

/* What its body does and its SET clauses say comes only when it is called. */
static bool look_at_create_function(struct findings *findings, const struct tree_node *node) {
    struct bytes parts[NAME_PARTS_MAX];
    size_t count = read_texts(node, "funcname", parts, NAME_PARTS_MAX);
    if (count > 1 && is_temporary_schema(parts[count - 2]))
        findings_note(findings, PRIMARY | TRAITS_TEMPORARY, "temporary function");
    return false;
}

static bool look_at_into(struct findings *findings, const struct tree_node *node) {
    note_temporary(findings, node, "rel", "on_commit");
    return true;
}

/* PREPARE, EXECUTE, DEALLOCATE; the name of DEALLOCATE ALL is empty. */
static bool look_at_prepared(struct findings *findings, const struct tree_node *node) {
    struct bytes name = tree_text(node, "name");
    if (name.len > 0) findings_add_prepared(findings, name);
    return true;
}

/* Transaction modes, in a field that repeats. `flag` 0 is for BEGIN, which sets no parameter. */
static void note_modes(struct findings *findings, const struct tree_node *node, const char *list,
                       uint32_t flag) {
    struct tree_node rest = *node;
    struct tree_field field;
    while (tree_next_named(&rest, list, &field)) {
        struct tree_node value;
        struct bytes name = tree_text(&field.node, "defname");
        struct bytes text = bytes_of(NULL, 0);
        if (tree_child(&field.node, "arg", &value)) text = constant_text(value);
        struct findings one = {.names = findings->names};
        findings_set_parameter(&one, name, text, flag);
        one.flags &= TRAITS_READ_ONLY | TRAITS_READ_WRITE | TRAITS_SERIALIZABLE;
        if (flag == TRAITS_SETS) {
            /* The session's defaults, which are parameters of their own. */
            char setting[TRAITS_WHY_SIZE] = "default_";
            size_t len = strlen(setting);
            if (len + name.len < sizeof setting) memcpy(setting + len, name.at, name.len);
            findings_set_parameter(findings, bytes_of_text(setting), text, flag);
        } else if (one.flags & (TRAITS_READ_WRITE | TRAITS_SERIALIZABLE)) {
            bool is_serializable = (one.flags & TRAITS_SERIALIZABLE) != 0;
            findings_note(findings, PRIMARY | one.flags, "%s transaction",
                          is_serializable ? "SERIALIZABLE" : "READ WRITE");
        } else {
            findings->flags |= one.flags;
        }
    }
}

static bool look_at_transaction(struct findings *findings, const struct tree_node *node) {
    static const struct {
        const char *kind;
        uint32_t flags;
        const char *why;
    } rules[] = {
        {"TRANS_STMT_BEGIN", TRAITS_BEGINS, "BEGIN"},
        {"TRANS_STMT_START", TRAITS_BEGINS, "START TRANSACTION"},
        {"TRANS_STMT_COMMIT", TRAITS_ENDS, "COMMIT"},
        {"TRANS_STMT_ROLLBACK", TRAITS_ENDS, "ROLLBACK"},
        {"TRANS_STMT_SAVEPOINT", 0, "SAVEPOINT"},
        {"TRANS_STMT_RELEASE", 0, "RELEASE"},
        {"TRANS_STMT_ROLLBACK_TO", 0, "ROLLBACK TO"},
        {"TRANS_STMT_PREPARE", TRAITS_ENDS | WRITE, "PREPARE TRANSACTION"},
        {"TRANS_STMT_COMMIT_PREPARED", WRITE, "COMMIT PREPARED"},
        {"TRANS_STMT_ROLLBACK_PREPARED", WRITE, "ROLLBACK PREPARED"},
    };
    const char *kind = tree_choice(node, "kind");
    size_t i = 0;
    while (i < COUNT(rules) && strcmp(kind, rules[i].kind) != 0) i++;
    if (i == COUNT(rules)) {
        findings_note(findings, UNKNOWN | TRAITS_ANYTHING, "a transaction command not known");
        return true;
    }
    note_modes(findings, node, "options", 0);
    uint32_t flags = rules[i].flags;
    if (tree_number(node, "chain") != 0) flags |= TRAITS_BEGINS;
    bool may_write = (findings->flags & TRAITS_READ_ONLY) == 0;
    if (rules[i].flags == TRAITS_BEGINS && may_write) flags |= PRIMARY;
    findings_note(findings, flags, "%s", rules[i].why);
    return false;
}

static bool look_at_set(struct findings *findings, const struct tree_node *node) {
    const char *kind = tree_choice(node, "kind");
    struct bytes name = tree_text(node, "name");
    uint32_t flag = tree_number(node, "is_local") != 0 ? TRAITS_SETS_LOCAL : TRAITS_SETS;
    bool is_reset = strcmp(kind, "VAR_RESET") == 0 || strcmp(kind, "VAR_SET_DEFAULT") == 0;
    if (strcmp(kind, "VAR_RESET_ALL") == 0) {
        findings_note(findings, PRIMARY | TRAITS_RESETS_ALL, "RESET ALL");
    } else if (is_reset && flag == TRAITS_SETS) {
        findings_reset_parameter(findings, name);
    } else if (strcmp(kind, "VAR_SET_MULTI") != 0) {
        bool has_value = strcmp(kind, "VAR_SET_VALUE") == 0;
        struct bytes value = has_value ? constant_at(node, "args", 0) : bytes_of(NULL, 0);
        findings_set_parameter(findings, name, value, flag);
    } else if (bytes_equal_text(name, "TRANSACTION")) {
        note_modes(findings, node, "args", TRAITS_SETS_LOCAL);
        findings_note(findings, TRAITS_SETS_LOCAL, "SET TRANSACTION");
    } else if (bytes_equal_text(name, "SESSION CHARACTERISTICS")) {
        note_modes(findings, node, "args", TRAITS_SETS);
    } else {
        findings_note(findings, PRIMARY | TRAITS_SETS_LOCAL, "SET TRANSACTION SNAPSHOT");
    }
    return false;
}

/* SHOW, as current_setting(). */
static bool look_at_show(struct findings *findings, const struct tree_node *node) {
    if (!builtin_setting_is_common(tree_text(node, "name")))
        findings_note(findings, PRIMARY, "SHOW");
    return false;
}

static bool look_at_discard(struct findings *findings, const struct tree_node *node) {
    if (strcmp(tree_choice(node, "target"), "DISCARD_ALL") == 0)
        findings_note(findings, PRIMARY | TRAITS_RESETS_ALL | TRAITS_DISCARDS_ALL, "DISCARD ALL");
    if (strcmp(tree_choice(node, "target"), "DISCARD_TEMP") == 0)
        findings_note(findings, PRIMARY | TRAITS_CHANGES_SCHEMA, "DISCARD TEMP");
    return false;
}

/* ANALYZE counts unless it is certain to be off (PostgreSQL's manual on EXPLAIN). */
static bool look_at_explain(struct findings *findings, const struct tree_node *node) {
    struct tree_node rest = *node;
    struct tree_field field;
    bool is_plan_only = true;
    while (tree_next_named(&rest, "options", &field)) {
        struct tree_node value;
        if (!bytes_equal_text(tree_text(&field.node, "defname"), "analyze")) continue;
        struct bytes text = bytes_of("on", 2);
        if (tree_child(&field.node, "arg", &value)) {
            const char *type = tree_type_name(&value);
            if (strcmp(type, "String") == 0) text = tree_text(&value, "sval");
            if (strcmp(type, "Integer") == 0 && tree_number(&value, "ival") == 0)
                text = bytes_of("off", 3);
        }
        if (!bytes_equal_nocase(text, "off") && !bytes_equal_nocase(text, "false"))
            is_plan_only = false;
    }
    findings->is_plan_only = is_plan_only;
    return true;
}

static bool look_at_copy(struct findings *findings, const struct tree_node *node) {
    bool is_program = tree_number(node, "is_program") != 0;
    bool uses_client = !is_program && tree_text(node, "filename").len == 0;
    if (tree_number(node, "is_from") != 0) {
        findings_note(findings, TARGET | (uses_client ? TRAITS_COPIES_IN : 0), "COPY FROM");
        note_target(findings, node, 'i');
    } else if (!uses_client) {
        findings_note(findings, PRIMARY | (is_program ? TRAITS_MAY_WRITE : 0), "COPY TO %s",
                      is_program ? "PROGRAM" : "a file");
    }
    return true;
}

static bool look_at_cursor(struct findings *findings, const struct tree_node *node) {
    const uint64_t with_hold = 0x20; /* CURSOR_OPT_HOLD of parsenodes.h */
    if (tree_number(node, "options") & with_hold)
        findings_note(findings, PRIMARY | TRAITS_HOLDS_CURSOR, "a cursor WITH HOLD");
    else
        findings->flags |= TRAITS_USES_CURSOR;
    return true;
}

static bool look_at_notify(struct findings *findings, const struct tree_node *node) {
    (void)node;
    findings->flags |= TRAITS_MAY_WRITE; /* no row of anything */
    return true;
}

/* ---- What wants a database without sessions ---- */

static void add_database(struct findings *findings, struct bytes name) {
    if (name.len > 0) findings_add_name(findings, 'b', &name, 1);
}

static bool look_at_database(struct findings *findings, const struct tree_node *node) {
    add_database(findings, tree_text(node, "dbname"));
    return true;
}

static bool look_at_create_database(struct findings *findings, const struct tree_node *node) {
    struct tree_node rest = *node, value;
    struct tree_field field;
    struct bytes template = bytes_of_text("template1");
    while (tree_next_named(&rest, "options", &field)) {
        if (!bytes_equal_text(tree_text(&field.node, "defname"), "template")) continue;
        if (tree_child(&field.node, "arg", &value)) template = tree_text(&value, "sval");
    }
    add_database(findings, template);
    return true;
}

static bool look_at_rename(struct findings *findings, const struct tree_node *node) {
    if (strcmp(tree_choice(node, "rename_type"), "OBJECT_DATABASE") == 0)
        add_database(findings, tree_text(node, "subname"));
    return true;
}

/* Sorted by type. */
static const struct node_rule rules[] = {
    {"AConst", 0, "", look_at_nothing},
    {"AExpr", 0, "", look_at_operator},
    {"AIndirection", 0, "", look_at_indirection},
    {"AlterCollationStmt", DDL, "ALTER COLLATION", NULL},
    {"AlterDatabaseRefreshCollStmt", DDL, "ALTER DATABASE", NULL},
    {"AlterDatabaseSetStmt", DDL, "ALTER DATABASE", look_at_nothing},
    {"AlterDatabaseStmt", DDL, "ALTER DATABASE", look_at_database},
    {"AlterDefaultPrivilegesStmt", DDL, "ALTER DEFAULT PRIVILEGES", NULL},
    {"AlterDomainStmt", DDL, "ALTER DOMAIN", NULL},
    {"AlterEnumStmt", DDL, "ALTER TYPE", NULL},
    {"AlterEventTrigStmt", DDL, "ALTER EVENT TRIGGER", NULL},
    {"AlterExtensionContentsStmt", DDL, "ALTER EXTENSION", NULL},
    {"AlterExtensionStmt", DDL, "ALTER EXTENSION", NULL},
    {"AlterFdwStmt", DDL, "ALTER FOREIGN DATA WRAPPER", NULL},
    {"AlterForeignServerStmt", DDL, "ALTER SERVER", NULL},
    {"AlterFunctionStmt", DDL, "ALTER FUNCTION", look_at_nothing},
    {"AlterObjectDependsStmt", DDL, "ALTER ... DEPENDS ON", NULL},
    {"AlterObjectSchemaStmt", DDL, "ALTER ... SET SCHEMA", NULL},
    {"AlterOpFamilyStmt", DDL, "ALTER OPERATOR FAMILY", NULL},
    {"AlterOperatorStmt", DDL, "ALTER OPERATOR", NULL},
    {"AlterOwnerStmt", DDL, "ALTER ... OWNER", NULL},
    {"AlterPolicyStmt", DDL, "ALTER POLICY", NULL},
    {"AlterPublicationStmt", DDL, "ALTER PUBLICATION", NULL},
    {"AlterRoleSetStmt", DDL, "ALTER ROLE", look_at_nothing},
    {"AlterRoleStmt", DDL, "ALTER ROLE", NULL},
    {"AlterSeqStmt", DDL, "ALTER SEQUENCE", NULL},
    {"AlterStatsStmt", DDL, "ALTER STATISTICS", NULL},
    {"AlterSubscriptionStmt", DDL, "ALTER SUBSCRIPTION", NULL},
    {"AlterSystemStmt", WRITE, "ALTER SYSTEM", look_at_nothing},
    {"AlterTSConfigurationStmt", DDL, "ALTER TEXT SEARCH", NULL},
    {"AlterTSDictionaryStmt", DDL, "ALTER TEXT SEARCH", NULL},
    {"AlterTableMoveAllStmt", DDL, "ALTER ... ALL IN TABLESPACE", NULL},
    {"AlterTableSpaceOptionsStmt", DDL, "ALTER TABLESPACE", NULL},
    {"AlterTableStmt", DDL, "ALTER TABLE", NULL},
    {"AlterTypeStmt", DDL, "ALTER TYPE", NULL},
    {"AlterUserMappingStmt", DDL, "ALTER USER MAPPING", NULL},
    {"CallStmt", UNKNOWN | TRAITS_RUNS_CODE, "CALL", NULL},
    {"CheckPointStmt", PRIMARY, "CHECKPOINT", NULL},
    {"ClosePortalStmt", PRIMARY | TRAITS_USES_CURSOR, "CLOSE", NULL},
    {"ClusterStmt", WRITE, "CLUSTER", NULL},
    {"ColumnRef", 0, "", look_at_column},
    {"CommentStmt", DDL, "COMMENT", NULL},
    {"CommonTableExpr", 0, "", look_at_with},
    {"CompositeTypeStmt", DDL, "CREATE TYPE", NULL},
    {"ConstraintsSetStmt", PRIMARY, "SET CONSTRAINTS", NULL},
    {"CopyStmt", 0, "", look_at_copy},
    {"CreateAmStmt", DDL, "CREATE ACCESS METHOD", NULL},
    {"CreateCastStmt", DDL, "CREATE CAST", NULL},
    {"CreateConversionStmt", DDL, "CREATE CONVERSION", NULL},
    {"CreateDomainStmt", DDL, "CREATE DOMAIN", NULL},
    {"CreateEnumStmt", DDL, "CREATE TYPE", NULL},
    {"CreateEventTrigStmt", DDL, "CREATE EVENT TRIGGER", NULL},
    {"CreateExtensionStmt", DDL, "CREATE EXTENSION", NULL},
    {"CreateFdwStmt", DDL, "CREATE FOREIGN DATA WRAPPER", NULL},
    {"CreateForeignServerStmt", DDL, "CREATE SERVER", NULL},
    {"CreateForeignTableStmt", DDL, "CREATE FOREIGN TABLE", NULL},
    {"CreateFunctionStmt", DDL, "CREATE FUNCTION", look_at_create_function},
    {"CreateOpClassStmt", DDL, "CREATE OPERATOR CLASS", NULL},
    {"CreateOpFamilyStmt", DDL, "CREATE OPERATOR FAMILY", NULL},
    {"CreatePLangStmt", DDL, "CREATE LANGUAGE", NULL},
    {"CreatePolicyStmt", DDL, "CREATE POLICY", NULL},
    {"CreatePublicationStmt", DDL, "CREATE PUBLICATION", NULL},
    {"CreateRangeStmt", DDL, "CREATE TYPE", NULL},
    {"CreateRoleStmt", DDL, "CREATE ROLE", NULL},
    {"CreateSchemaStmt", DDL, "CREATE SCHEMA", NULL},
    {"CreateSeqStmt", DDL, "CREATE SEQUENCE", look_at_create_sequence},
    {"CreateStatsStmt", DDL, "CREATE STATISTICS", NULL},
    {"CreateStmt", DDL, "CREATE TABLE", look_at_create_table},
    {"CreateSubscriptionStmt", DDL, "CREATE SUBSCRIPTION", NULL},
    {"CreateTableAsStmt", DDL, "CREATE TABLE AS", NULL},
    {"CreateTableSpaceStmt", DDL, "CREATE TABLESPACE", NULL},
    {"CreateTransformStmt", DDL, "CREATE TRANSFORM", NULL},
    {"CreateTrigStmt", DDL, "CREATE TRIGGER", NULL},
    {"CreateUserMappingStmt", DDL, "CREATE USER MAPPING", NULL},
    {"CreatedbStmt", DDL, "CREATE DATABASE", look_at_create_database},
    {"DeallocateStmt", PRIMARY | TRAITS_DEALLOCATES, "DEALLOCATE", look_at_prepared},
    {"DeclareCursorStmt", 0, "", look_at_cursor},
    {"DefineStmt", DDL, "CREATE", NULL},
    {"DeleteStmt", TARGET, "DELETE", look_at_change},
    {"DiscardStmt", PRIMARY, "DISCARD", look_at_discard},
    {"DoStmt", UNKNOWN | TRAITS_RUNS_CODE, "DO", NULL},
    {"DropOwnedStmt", DDL, "DROP OWNED", NULL},
    {"DropRoleStmt", DDL, "DROP ROLE", NULL},
    {"DropStmt", DDL, "DROP", NULL},
    {"DropSubscriptionStmt", DDL, "DROP SUBSCRIPTION", NULL},
    {"DropTableSpaceStmt", DDL, "DROP TABLESPACE", NULL},
    {"DropUserMappingStmt", DDL, "DROP USER MAPPING", NULL},
    {"DropdbStmt", DDL, "DROP DATABASE", look_at_database},
    {"ExecuteStmt", UNKNOWN | TRAITS_EXECUTES, "EXECUTE", look_at_prepared},
    {"ExplainStmt", 0, "", look_at_explain},
    {"FetchStmt", PRIMARY | TRAITS_USES_CURSOR, "FETCH", NULL},
    {"FuncCall", 0, "", look_at_function},
    {"GrantRoleStmt", DDL, "GRANT or REVOKE", NULL},
    {"GrantStmt", DDL, "GRANT or REVOKE", NULL},
    {"ImportForeignSchemaStmt", DDL, "IMPORT FOREIGN SCHEMA", NULL},
    {"IndexStmt", DDL, "CREATE INDEX", NULL},
    {"InsertStmt", TARGET, "INSERT", look_at_insert},
    {"IntoClause", DDL, "SELECT INTO", look_at_into},
    {"ListenStmt", PRIMARY | TRAITS_LISTENS, "LISTEN", NULL},
    {"LoadStmt", PRIMARY | TRAITS_SESSION_MEMORY, "LOAD", NULL},
    {"LockStmt", PRIMARY, "LOCK TABLE", NULL},
    {"LockingClause", 0, "", look_at_locking},
    {"MergeStmt", TARGET, "MERGE", look_at_change},
    {"NotifyStmt", TARGET, "NOTIFY", look_at_notify},
    {"PrepareStmt", PRIMARY | TRAITS_PREPARES, "PREPARE", look_at_prepared},
    {"RangeTableSample", 0, "", look_at_sample},
    {"RangeVar", 0, "", look_at_relation},
    {"RawStmt", 0, "", NULL},
    {"ReassignOwnedStmt", DDL, "REASSIGN OWNED", NULL},
    {"RefreshMatViewStmt", TARGET, "REFRESH MATERIALIZED VIEW", look_at_change},
    {"ReindexStmt", WRITE, "REINDEX", NULL},
    {"RenameStmt", DDL, "ALTER ... RENAME", look_at_rename},
    {"ReplicaIdentityStmt", DDL, "ALTER TABLE", NULL},
    {"ReturnStmt", 0, "", NULL},
    {"RuleStmt", DDL, "CREATE RULE", NULL},
    {"SecLabelStmt", DDL, "SECURITY LABEL", NULL},
    {"SelectStmt", 0, "", NULL},
    {"SortBy", 0, "", look_at_operator},
    {"String", 0, "", look_at_string},
    {"SubLink", 0, "", look_at_operator},
    {"TransactionStmt", 0, "", look_at_transaction},
    {"TruncateStmt", WRITE, "TRUNCATE", NULL},
    {"TypeName", 0, "", look_at_type},
    {"UnlistenStmt", PRIMARY | TRAITS_UNLISTENS, "UNLISTEN", NULL},
    {"UpdateStmt", TARGET, "UPDATE", look_at_update},
    {"VacuumStmt", WRITE, "VACUUM or ANALYZE", NULL},
    {"VariableSetStmt", 0, "", look_at_set},
    {"VariableShowStmt", 0, "", look_at_show},
    {"ViewStmt", DDL, "CREATE VIEW", look_at_create_view},
};

static const struct node_rule *find_rule(const char *type) {
    size_t low = 0;
    size_t high = COUNT(rules);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(type, rules[middle].type);
        if (order == 0) return &rules[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* DDL whose effect is seen, or may be, in every database of the cluster. */
static bool is_global(const char *type) {
    static const char *const types[] = {"AlterDatabaseRefreshCollStmt",
                                        "AlterDatabaseSetStmt",
                                        "AlterDatabaseStmt",
                                        "AlterOwnerStmt",
                                        "AlterRoleSetStmt",
                                        "AlterRoleStmt",
                                        "AlterTableSpaceOptionsStmt",
                                        "CreateRoleStmt",
                                        "CreateTableSpaceStmt",
                                        "CreatedbStmt",
                                        "DropOwnedStmt",
                                        "DropRoleStmt",
                                        "DropTableSpaceStmt",
                                        "DropdbStmt",
                                        "GrantRoleStmt",
                                        "GrantStmt",
                                        "ReassignOwnedStmt",
                                        "RenameStmt"};
    for (size_t i = 0; i < COUNT(types); i++) {
        if (strcmp(type, types[i]) == 0) return true;
    }
    return false;
}

bool statement_look(struct findings *findings, const struct tree_node *node) {
    const char *type = tree_type_name(node);
    const struct node_rule *rule = find_rule(type);
    if (rule != NULL && rule->flags & TRAITS_CHANGES_SCHEMA && is_global(type))
        findings_add_name(findings, 'g', NULL, 0);
    if (rule == NULL) {
        size_t len = strlen(type);
        if (len > 4 && strcmp(type + len - 4, "Stmt") == 0)
            findings_note(findings, UNKNOWN | TRAITS_ANYTHING, "a %s is not known", type);
        return true;
    }
    if (rule->flags != 0) findings_note(findings, rule->flags, "%s", rule->why);
    return rule->look == NULL || rule->look(findings, node);
}
