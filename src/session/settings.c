/*
 * What a client's session has set, and how the next server is brought to have it; see
 * session/settings.h.
 *
 *      server's settings   client's   sent ahead of the client's statement
 *      the same            same       nothing
 *      some of them        a=1 b=2    the values that differ
 *      others, or unknown  b=2        RESET of everything, then all values
 *
 * RESET ALL asks for no right, which taking back one value of a superuser's would. A role comes
 * last and goes first: values are set with the rights of the login.
 */
#include "session/question.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/message.h"
#include "session/bind.h"
#include "session/traces.h"

#define ROLE          "role"
#define AUTHORIZATION "session_authorization"

/* A question that failed is asked again: a cancel request may have met it in place of a query. */
#define TRIES_MAX 5u

struct session *session_new(void) {
    struct session *session = memory_new(sizeof *session);
    session->checks_traces = true;
    return session;
}

static void forget_functions(struct session *session) {
    buf_release(&session->ran);
    buf_release(&session->programs);
    session->runs_hidden = false;
}

void session_free(struct session **session_at, struct texts *texts) {
    struct session *session = *session_at;
    *session_at = NULL;
    if (session == NULL) return;
    text_unref(texts, &session->settings);
    text_unref(texts, &session->startup);
    buf_release(&session->touched);
    buf_release(&session->reset);
    buf_release(&session->learned);
    buf_release(&session->named);
    buf_release(&session->prepared);
    buf_release(&session->prepared_context);
    buf_release(&session->channels);
    memory_free(session);
}

/* ---- settings as a text */

bool settings_next(struct bytes *rest, struct bytes *name, struct bytes *value) {
    return message_text(*rest, name, rest) && message_text(*rest, value, rest);
}

/* Below, at or above 0, as strcmp. */
static int compare(struct bytes a, struct bytes b) {
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    if (order != 0) return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static void append_setting(struct buf *settings, struct bytes name, struct bytes value) {
    buf_append_bytes(settings, name);
    buf_append_u8(settings, 0);
    buf_append_bytes(settings, value);
    buf_append_u8(settings, 0);
}

void settings_put(struct buf *settings, struct bytes name, struct bytes value) {
    struct buf all = {0};
    struct bytes rest = buf_content(settings), other, others;
    bool is_put = value.at == NULL;
    while (settings_next(&rest, &other, &others)) {
        int order = compare(other, name);
        if (order > 0 && !is_put) append_setting(&all, name, value);
        if (order >= 0 && value.at != NULL) is_put = true;
        if (order == 0 && value.at != NULL) append_setting(&all, name, value);
        if (order != 0) append_setting(&all, other, others);
    }
    if (!is_put) append_setting(&all, name, value);
    buf_release(settings);
    *settings = all;
}

static struct bytes content(const struct text *text) {
    return text == NULL ? bytes_of("", 0) : bytes_of(text->at, text->len);
}

/* The value of a setting; at is NULL if there is none of that name. */
static struct bytes find(struct bytes settings, struct bytes name) {
    struct bytes other, value;
    while (settings_next(&settings, &other, &value)) {
        if (bytes_equal(other, name)) return value;
    }
    return bytes_of(NULL, 0);
}

/* The text of these settings, NULL without any; replaces *text. */
static void keep(struct text **text, struct bytes settings, struct texts *texts) {
    struct text *new = settings.len == 0 ? NULL : text_get(texts, settings);
    text_unref(texts, text);
    *text = new;
}

/* ---- the gap */

/* Whether values can be set as the server is: every name that it has is one of the client's, and it
 * has the rights of its login. */
static bool is_extension(struct bytes there, struct bytes mine) {
    struct bytes name, value;
    if (find(there, bytes_of_text(ROLE)).at != NULL) return false;
    while (settings_next(&there, &name, &value)) {
        if (find(mine, name).at == NULL) return false;
    }
    return true;
}

static bool differs_in_authorization(const struct parameters *parameters,
                                     const struct server *server) {
    const struct text *mine = parameters->values[TRACKED_SESSION_AUTHORIZATION];
    return mine != NULL && mine != server->parameters[TRACKED_SESSION_AUTHORIZATION];
}

/* A value is kept as encode(..., 'escape') writes it: what is not ASCII, in the server's encoding,
 * is a backslash and three digits. So it is the same text for clients of any encoding, and is not
 * sent back in one that may not have it. */
static void append_config(struct buf *query, struct bytes name, struct bytes value) {
    if (memchr(value.at, '\\', value.len) == NULL) {
        parameters_append_config(query, name, value);
        return;
    }
    buf_append_text(query, "SELECT pg_catalog.set_config(");
    parameters_append_quoted(query, name);
    buf_append_text(query, ",pg_catalog.convert_from(pg_catalog.decode(");
    parameters_append_quoted(query, value);
    buf_append_text(query, ",'escape'),pg_catalog.getdatabaseencoding()),false) IS NULL;");
}

static void append_value(struct settings_gap *gap, const struct server *server, struct bytes name,
                         struct bytes value) {
    append_config(&gap->query, name, value);
    if (gap->step == PARAMETERS_SAME) gap->step = PARAMETERS_TOGETHER;
    /* A role that was accepted once may have been dropped since. */
    bool may_fail = bytes_equal_text(name, ROLE) || !parameters_was_accepted(server, name, value);
    if (may_fail) gap->step = PARAMETERS_FIRST;
}

/* The settings of the client that differ, all but the role or only that. */
static void append_values(struct settings_gap *gap, const struct server *server,
                          struct bytes settings, bool is_role) {
    const struct server_memory *memory = server->memory;
    struct bytes there = content(memory->settings), name, value;
    while (settings_next(&settings, &name, &value)) {
        if (bytes_equal_text(name, ROLE) != is_role) continue;
        struct bytes other = find(there, name);
        if (other.at == NULL || !bytes_equal(other, value)) append_value(gap, server, name, value);
    }
}

/* The server has no settings but those of its login. */
static void forget_settings(struct server *server) {
    struct server_memory *memory = server->memory;
    text_unref(server->pool->set->texts, &memory->settings);
    memory->is_unknown = false;
}

bool settings_scrub(struct server *server) {
    const struct server_memory *memory = server->memory;
    if (memory == NULL || (memory->settings == NULL && !memory->is_unknown)) return false;
    forget_settings(server);
    struct texts *texts = server->pool->set->texts;
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++) {
        struct text *login = text_ref(memory->login[i]);
        text_unref(texts, &server->parameters[i]);
        server->parameters[i] = login;
    }
    return true;
}

/* What differs from the parameters of the login, which the scrub ahead of it gives back. What the
 * server has reported stays, since it reports at the end of the Query what then is another value:
 * nothing where scrub and SET together change nothing. */
static enum parameters_step difference_from_login(struct settings_gap *gap,
                                                  const struct parameters *parameters,
                                                  struct server *server) {
    const struct server_memory *memory = server->memory;
    struct text *reported[SERVER_PARAMETERS_MAX];
    memcpy(reported, server->parameters, sizeof reported);
    memcpy(server->parameters, memory->login, sizeof reported);
    enum parameters_step step =
        parameters_difference(parameters, server->pool->set, server, &gap->query);
    memcpy(server->parameters, reported, sizeof reported);
    return step;
}

void settings_find_gap(struct settings_gap *gap, const struct parameters *parameters,
                       const struct session *session, uint32_t id, struct server *server) {
    const struct pool_set *set = server->pool->set;
    struct server_memory *memory = server->memory;
    *gap = (struct settings_gap){.step = PARAMETERS_SAME};
    struct text *settings = session->settings;
    bool is_own = memory->unknown_by == id && session->unknown_on == server->id;
    bool is_stranger = memory->is_unknown && !is_own;
    bool is_set_alike = settings == memory->settings && !is_stranger;
    if (is_set_alike && parameters_are_same(parameters, set, server)) return;
    bool has_other_rights = differs_in_authorization(parameters, server);
    if (is_set_alike && !has_other_rights) {
        gap->step = parameters_difference(parameters, set, server, &gap->query);
        return;
    }
    gap->is_scrubbed = is_stranger || has_other_rights ||
                       !is_extension(content(memory->settings), content(settings));
    if (gap->is_scrubbed) {
        gap->step = PARAMETERS_TOGETHER;
        forget_settings(server);
    }
    append_values(gap, server, content(settings), false);
    enum parameters_step step = gap->is_scrubbed
                                    ? difference_from_login(gap, parameters, server)
                                    : parameters_difference(parameters, set, server, &gap->query);
    if (step > gap->step) gap->step = step;
    append_values(gap, server, content(settings), true);
    text_unref(set->texts, &memory->settings);
    memory->settings = text_ref(settings);
}

void settings_accepted(const struct parameters *parameters, const struct session *session,
                       struct server *server) {
    parameters_accepted(parameters, server->pool->set, server);
    if (session == NULL) return;
    struct bytes rest = content(session->settings), name, value;
    while (settings_next(&rest, &name, &value)) {
        parameters_note_accepted(server, server->pool->set->texts, name, value);
    }
}

/* As encode(..., 'escape') does, and a NUL. At login a server takes bytes as they are, too. */
static void append_escaped(struct buf *out, struct bytes value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned c = (unsigned char)value.at[i];
        if (c >= 0x80) {
            buf_append_format(out, "\\%03o", c);
        } else {
            if (c == '\\') buf_append_u8(out, (unsigned char)c);
            buf_append_u8(out, (unsigned char)c);
        }
    }
    buf_append_u8(out, 0);
}

void session_start_with(struct session *session, struct texts *texts, struct bytes name,
                        struct bytes value) {
    struct buf settings = {0}, lower = {0}, escaped = {0};
    buf_append_bytes(&settings, content(session->startup));
    for (size_t i = 0; i < name.len; i++)
        buf_append_u8(&lower, (unsigned char)char_lower(name.at[i]));
    append_escaped(&escaped, value);
    struct bytes kept = bytes_of(buf_content(&escaped).at, buf_length(&escaped) - 1);
    settings_put(&settings, buf_content(&lower), kept);
    keep(&session->startup, buf_content(&settings), texts);
    buf_release(&settings);
    buf_release(&lower);
    buf_release(&escaped);
}

void session_begin(struct session *session) {
    session->settings = text_ref(session->startup);
}

bool session_is_serializable(const struct session *session) {
    if (session->settings == NULL) return false;
    return bytes_equal_nocase(
        find(content(session->settings), bytes_of_text("default_transaction_isolation")),
        "serializable");
}

bool session_quotes_safely(const struct session *session) {
    if (session->settings == NULL) return true;
    struct bytes value = find(content(session->settings), bytes_of_text("backslash_quote"));
    return value.at == NULL || bytes_equal_text(value, "safe_encoding");
}

void session_parse_context(const struct session *session, struct buf *context) {
    struct bytes rest = content(session->settings), name, value;
    while (settings_next(&rest, &name, &value)) {
        if (memchr(name.at, '.', name.len) == NULL) append_setting(context, name, value);
    }
}

/* ---- what a transaction has set */

static bool has_name(const struct buf *names, struct bytes name) {
    struct bytes rest = buf_content(names), other;
    while (message_text(rest, &other, &rest)) {
        if (bytes_equal(other, name)) return true;
    }
    return false;
}

static void add_name(struct buf *names, struct bytes name) {
    if (has_name(names, name)) return;
    buf_append_bytes(names, name);
    buf_append_u8(names, 0);
}

void session_touch(struct session *session, struct bytes name) {
    add_name(&session->touched, name);
}

void session_note_ran(struct session *session, struct bytes name) {
    add_name(&session->ran, name);
}

void session_touch_prepared(struct session *session, struct bytes name) {
    add_name(&session->prepared, name);
}

bool session_has_touched_prepared(const struct session *session, struct bytes name) {
    return has_name(&session->prepared, name);
}

/* Whether the server tells its value unasked. */
static bool is_reported(const struct server *server, struct bytes name) {
    int index = parameters_index(server->pool->set, name);
    return index >= 0 && server->parameters[index] != NULL;
}

static void remove_name(struct buf *names, struct bytes name) {
    struct buf others = {0};
    struct bytes rest = buf_content(names), other;
    while (message_text(rest, &other, &rest)) {
        if (!bytes_equal(other, name)) add_name(&others, other);
    }
    buf_release(names);
    *names = others;
}

/* All that the client has set may be otherwise now, perhaps as after its login; RESET ALL leaves a
 * role alone. */
static void touch_all(struct session *session, bool is_reset) {
    struct bytes rest = content(session->settings), name, value;
    while (settings_next(&rest, &name, &value)) {
        add_name(&session->touched, name);
        if (is_reset && !bytes_equal_text(name, ROLE)) add_name(&session->reset, name);
    }
}

/* A name that is not ASCII is another one where another encoding is in use. */
static bool is_ascii(struct bytes name) {
    size_t i = 0;
    while (i < name.len && (unsigned char)name.at[i] < 0x80) i++;
    return i == name.len;
}

static void note_unknown(struct session *session) {
    session->is_unknown = true;
    touch_all(session, false);
}

/* What decides how a statement is read, and which constants its literals become; a name that only a
 * Bind tells may. search_path and the role do not: the server looks at them again whenever it
 * executes. */
static bool decides_parse(struct bytes name) {
    static const char *const names[] = {"client_encoding",
                                        "standard_conforming_strings",
                                        "backslash_quote",
                                        "datestyle",
                                        "intervalstyle",
                                        "timezone",
                                        "transform_null_equals",
                                        "lc_monetary",
                                        "lc_numeric",
                                        "lc_time",
                                        "xmloption",
                                        "timezone_abbreviations",
                                        "array_nulls"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (bytes_equal_text(name, names[i])) return true;
    }
    return name.len > 0 && name.at[0] == '$';
}

static void note_context(struct session *session, const struct traits *traits) {
    struct bytes rest = traits->names, entry;
    bool is_named = false;
    if (!traits->names_complete || traits->flags & TRAITS_RESETS_ALL)
        session->is_context_open = true;
    while (message_text(rest, &entry, &rest)) {
        if (entry.len == 0 || (entry.at[0] != 's' && entry.at[0] != 'l')) continue;
        is_named = true;
        if (decides_parse(bytes_of(entry.at + 1, entry.len - 1))) session->is_context_open = true;
    }
    if (!is_named && traits->parameter[0] == '\0') session->is_context_open = true;
}

/* set_config with a name that a parameter gives. */
static void note_bound(struct session *session, const struct traits *traits,
                       const struct server *server, struct bytes parameter) {
    const struct session_bind *bind = session->bind;
    struct buf name = {0};
    if (bind != NULL && bind->is_later && !(traits->flags & TRAITS_PREPARES)) return;
    if (!bind_name(bind, parameter, &name)) {
        note_unknown(session);
    } else {
        bool is_with_role = bytes_equal_text(buf_content(&name), AUTHORIZATION);
        if (is_with_role) add_name(&session->touched, bytes_of_text(ROLE));
        remove_name(&session->reset, is_with_role ? bytes_of_text(ROLE) : buf_content(&name));
        if (!is_reported(server, buf_content(&name)))
            add_name(&session->touched, buf_content(&name));
    }
    buf_release(&name);
}

void session_note(struct session *session, const struct traits *traits,
                  const struct server *server) {
    session->seen |= traits->flags & pins_flags;
    if (traits->flags & (TRAITS_SETS | TRAITS_SETS_LOCAL | TRAITS_RESETS_ALL))
        note_context(session, traits);
    if (traits->flags & TRAITS_CHANGES_SCHEMA && !(traits->flags & TRAITS_TEMPORARY))
        session->changes_schema = true;
    struct bytes rest = traits->names, entry, reset = bytes_of("", 0);
    bool is_named = traits->names_complete;
    session->is_noted_since = !(traits->flags & TRAITS_DISCARDS_ALL);
    if (traits->flags & TRAITS_ANYTHING) session->seen |= TRAITS_RUNS_CODE;
    if (traits->flags & TRAITS_RESETS_ALL) touch_all(session, true);
    if (traits->flags & (TRAITS_RUNS_UNKNOWN | TRAITS_ANYTHING)) note_unknown(session);
    if (!(traits->flags & TRAITS_SETS) && !(traits->flags & TRAITS_SETS_ALIKE)) return;
    if (!is_named) note_unknown(session);
    while (message_text(rest, &entry, &rest)) {
        if (entry.len == 0 || (entry.at[0] != 's' && entry.at[0] != 'd')) continue;
        struct bytes name = bytes_of(entry.at + 1, entry.len - 1);
        if (name.len > 0 && name.at[0] == '$') {
            note_bound(session, traits, server, name);
            continue;
        }
        if (!is_ascii(name)) {
            note_unknown(session);
            continue;
        }
        bool is_with_role = bytes_equal_text(name, AUTHORIZATION);
        if (is_with_role) add_name(&session->touched, bytes_of_text(ROLE));
        if (entry.at[0] == 'd') {
            reset = name;
            add_name(&session->reset, is_with_role ? bytes_of_text(ROLE) : name);
        } else if (!bytes_equal(reset, name)) { /* an 's' behind its 'd' is the same RESET */
            remove_name(&session->reset, is_with_role ? bytes_of_text(ROLE) : name);
        }
        if (entry.at[0] == 's' && !is_reported(server, name)) add_name(&session->touched, name);
    }
}

void session_note_hidden(struct session *session, unsigned kinds) {
    session->runs_hidden = true;
    if (kinds & (TRACE_SETS | TRACE_SETS_UNKNOWN)) note_unknown(session);
}

void session_undone(struct session *session) {
    buf_clear(&session->reset);
}

void session_note_unknown(struct session *session) {
    note_unknown(session);
    session->is_noted_since = true;
    session->seen |= TRAITS_RUNS_CODE;
}

bool session_has_question(const struct session *session) {
    return buf_length(&session->touched) > 0 || buf_length(&session->prepared) > 0 ||
           pins_to_ask(session->seen, session->pins) != 0;
}

/* The names as a table of one column, n. */
static void append_names(const struct buf *names, struct buf *query) {
    struct bytes rest = buf_content(names), name;
    buf_append_text(query, "pg_catalog.unnest(ARRAY[");
    for (bool is_first = true; message_text(rest, &name, &rest); is_first = false) {
        if (!is_first) buf_append_u8(query, ',');
        parameters_append_quoted(query, name);
    }
    buf_append_text(query, "]::pg_catalog.text[]) n");
}

#define ESCAPED(value)                                                                             \
    "pg_catalog.encode(pg_catalog.convert_to(" value ",pg_catalog.getdatabaseencoding()),'escape'" \
    ")"

/* The values at hand; of a parameter with its default, or no role, NULL. Custom parameters, with a
 * dot, are not in pg_settings, and have no default that they could get back. */
static void append_settings_question(const struct session *session, struct buf *query) {
    static const char plain[] = ESCAPED("pg_catalog.current_setting(n, true)");
    static const char checked[] =
        "CASE WHEN pg_catalog.strpos(n, '.') OPERATOR(pg_catalog.>) 0"
        " OR n OPERATOR(pg_catalog.=) 'role' OR EXISTS (SELECT 1 FROM pg_catalog.pg_settings s"
        " WHERE s.name OPERATOR(pg_catalog.=) n"
        " AND s.source OPERATOR(pg_catalog.=) 'session')"
        " THEN " ESCAPED("pg_catalog.current_setting(n, true)") " END";
    buf_append_format(query, "SELECT n, %s FROM ",
                      buf_length(&session->reset) > 0 ? checked : plain);
    append_names(&session->touched, query);
}

static void append_prepared_question(const struct session *session, struct buf *query) {
    buf_append_text(query,
                    "SELECT '" SESSION_PREPARED_MARK "'::pg_catalog.text OPERATOR(pg_catalog.||) n,"
                    " (SELECT pg_catalog.concat(CASE WHEN p.from_sql THEN 's' ELSE 'p' END,"
                    " p.parameter_types::pg_catalog.oid[], p.statement)"
                    " FROM pg_catalog.pg_prepared_statements p"
                    " WHERE p.name OPERATOR(pg_catalog.=) n) FROM ");
    append_names(&session->prepared, query);
}

/* A part of the question, behind those that are there. */
static void append_part(struct buf *query, bool *is_first) {
    if (!*is_first) buf_append_text(query, " UNION ALL ");
    *is_first = false;
}

bool session_question(struct session *session, struct buf *query) {
    session->asked = pins_to_ask(session->seen, session->pins);
    if (!session_has_question(session) || session->tries == TRIES_MAX) return false;
    session->tries++;
    session->is_asking = true;
    session->found = 0;
    buf_clear(&session->learned);
    buf_clear(&session->channels);
    bool is_first = true;
    if (buf_length(&session->touched) > 0) {
        append_part(query, &is_first);
        append_settings_question(session, query);
    }
    if (buf_length(&session->prepared) > 0) {
        append_part(query, &is_first);
        append_prepared_question(session, query);
    }
    if (session->asked != 0) {
        append_part(query, &is_first);
        pins_append_question(query, session->asked);
    }
    return true;
}

bool session_row(struct session *session, struct bytes body) {
    struct bytes name, value;
    if (body.len < 2 || bytes_get_u16(body.at) != 2) return false;
    struct bytes rest = bytes_of(body.at + 2, body.len - 2);
    if (!message_column(&rest, &name) || !message_column(&rest, &value)) return false;
    bool is_bad = name.at == NULL || memchr(name.at, '\0', name.len) != NULL ||
                  (value.at != NULL && memchr(value.at, '\0', value.len) != NULL);
    if (is_bad) return false; /* no text of PostgreSQL has a NUL */
    enum pin pin = pin_of_mark(name);
    if (pin != PIN_COUNT) {
        session->found |= 1u << pin;
        if (pin != PIN_LISTEN) return true;
        buf_append_bytes(&session->channels, value);
        buf_append_u8(&session->channels, 0);
        return true;
    }
    bool is_none =
        value.at != NULL && bytes_equal_text(name, ROLE) && bytes_equal_text(value, "none");
    if (value.at == NULL || is_none) return true; /* what is not learned, has its default */
    append_setting(&session->learned, name, value);
    return true;
}

static void forget_transaction(struct session *session) {
    buf_release(&session->touched);
    buf_release(&session->reset);
    buf_release(&session->learned);
    buf_release(&session->prepared);
    buf_release(&session->prepared_context);
    session->is_unknown = session->is_asking = session->is_context_open = false;
    session->asks_traces = false;
    session->tries = 0;
    session->seen = 0;
    session->asked = session->found = 0;
}

/* Passes what is not known on to the server, by the client of that id, 0: by nobody any more. */
static void mark_unknown(struct session *session, struct server *server, uint32_t id) {
    struct server_memory *memory = server->memory;
    if (!session->is_unknown || memory == NULL) return;
    memory->is_unknown = true;
    memory->unknown_by = id;
    session->unknown_on = server->id;
}

/* What the client has of a setting with this value on the server. One that was reset is as after
 * its login; a custom one has no default that the server could tell, and is empty there. */
static struct bytes own_value(const struct session *session, struct bytes name,
                              struct bytes value) {
    bool is_custom = memchr(name.at, '.', name.len) != NULL;
    bool has_default = value.at == NULL || (is_custom && value.len == 0);
    if (!has_default || !has_name(&session->reset, name)) return value;
    struct bytes startup = find(content(session->startup), name);
    return startup.at != NULL ? startup : value;
}

void session_learned(struct session *session, struct server *server, uint32_t id) {
    struct server_memory *memory = server->memory;
    struct texts *texts = server->pool->set->texts;
    struct bytes touched = buf_content(&session->touched), name;
    struct buf there = {0}, mine = {0};
    buf_append_bytes(&there, content(session->settings));
    buf_append_bytes(&mine, content(session->settings));
    while (message_text(touched, &name, &touched)) {
        struct bytes value = find(buf_content(&session->learned), name);
        settings_put(&there, name, value);
        settings_put(&mine, name, own_value(session, name, value));
    }
    keep(&memory->settings, buf_content(&there), texts);
    keep(&session->settings, buf_content(&mine), texts);
    buf_release(&there);
    buf_release(&mine);
    mark_unknown(session, server, id);
    unsigned memories = pins_made(session->seen) & ~session->asked; /* nobody can be asked */
    session->pins = (session->pins & ~session->asked) | session->found | memories;
    forget_transaction(session);
}

void session_discarded(struct session *session, struct server *server) {
    struct server_memory *memory = server->memory;
    struct texts *texts = server->pool->set->texts;
    text_unref(texts, &memory->settings);
    memory->is_unknown = false;
    text_unref(texts, &session->settings);
    session->settings = text_ref(session->startup);
    session->pins = 0;
    if (!session->is_noted_since) forget_transaction(session);
}

void session_lost(struct session *session) {
    session->pins = 0;
    forget_functions(session);
    forget_functions(session);
    forget_transaction(session);
}

void session_left(struct session *session, struct server *server, uint32_t id) {
    session->pins = 0;
    if (buf_length(&session->touched) > 0) session->is_unknown = true;
    mark_unknown(session, server, buf_length(&session->touched) > 0 ? 0 : id);
    forget_functions(session);
    forget_transaction(session);
}
