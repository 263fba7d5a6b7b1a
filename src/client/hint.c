/*
 * weir.route; see client/hint.h. The grammar has found that a text sets it; what follows reads the
 * value, of which the traits of a shape say nothing.
 */
#include "client/hint.h"

#include "client/client.h"
#include "client/parts.h"
#include "client/remember.h"
#include "session/settings.h"
#include "sql/cut.h"

#include <stdio.h>

#define NAME       "weir.route"
#define TEXT_MAX   256u /* of a SHOW or SET that is looked at */
#define TOKENS_MAX 8u   /* SET SESSION "weir"."route" TO value */
#define QUERY_SIZE 64

static const char *const words[] = {
    [ROUTE_HINT_NONE] = "auto",
    [ROUTE_HINT_PRIMARY] = "primary",
    [ROUTE_HINT_REPLICA] = "replica",
};

static bool read_word(struct bytes value, unsigned char *hint) {
    for (unsigned i = 0; i < COUNT(words); i++) {
        if (!bytes_equal_nocase(value, words[i])) continue;
        *hint = (unsigned char)i;
        return true;
    }
    return false;
}

/* ---- reading a text */

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || (unsigned char)c >= 0x80;
}

/* The next word, what stands between quotes, or a single sign; at is NULL at the end. */
static struct bytes next_token(struct bytes *rest) {
    while (rest->len > 0 && char_is_blank(rest->at[0]))
        *rest = bytes_of(rest->at + 1, rest->len - 1);
    if (rest->len == 0) return bytes_of(NULL, 0);
    const char *from = rest->at;
    size_t len = 0, skipped = 1;
    if (from[0] == '\'' || from[0] == '"') {
        from++;
        while (len + 1 < rest->len && from[len] != rest->at[0]) len++;
        skipped = len + 2;
    } else {
        while (len < rest->len && is_word(from[len])) len++;
        if (len == 0) len = 1;
        skipped = len;
    }
    struct bytes token = bytes_of(from, len);
    if (skipped > rest->len) skipped = rest->len;
    *rest = bytes_of(rest->at + skipped, rest->len - skipped);
    return token;
}

static bool is_any(struct bytes token, const char *one, const char *other) {
    return token.at != NULL && (bytes_equal_nocase(token, one) || bytes_equal_nocase(token, other));
}

/* The value that SET or set_config gives; at is NULL where there is none, as in RESET. */
static struct bytes value_of(struct bytes text) {
    struct bytes rest = text, token = next_token(&rest), value;
    if (is_any(token, "set", "set")) {
        for (unsigned i = 0; i < TOKENS_MAX && token.at != NULL; i++) {
            token = next_token(&rest);
            if (is_any(token, "=", "to")) return next_token(&rest);
        }
        return bytes_of(NULL, 0);
    }
    rest = text;
    while (cut_next_constant(&rest, &value))
        if (bytes_equal_nocase(value, NAME))
            return cut_next_constant(&rest, &value) ? value : bytes_of(NULL, 0);
    return bytes_of(NULL, 0);
}

static bool sets_route(const struct traits *traits) {
    return (traits->flags & TRAITS_SETS) != 0 && strcmp(traits->parameter, NAME) == 0;
}

/* ---- what is under way */

bool hint_start(struct client *client, struct bytes value) {
    if (!read_word(value, &client->hint.start)) return false;
    client->hint.now = client->hint.start;
    return true;
}

void hint_note(struct client *client, const struct traits *traits, struct bytes text) {
    struct hint *hint = &client->hint;
    bool is_reset = (traits->flags & TRAITS_RESETS_ALL) != 0;
    if (!is_reset && !sets_route(traits)) return;
    struct bytes value = is_reset ? bytes_of(NULL, 0) : value_of(text);
    hint->next = hint->start;
    hint->has_next = true;
    hint->is_answered = false;
    if (value.at == NULL || is_any(value, "default", "default")) return;
    if (read_word(value, &hint->next)) return;
    hint->has_next = false;
    hint->is_wrong = true;
}

bool hint_refuses(const struct client *client, struct bytes text, char room[HINT_VALUE_SIZE]) {
    unsigned char unused;
    if (text.at == NULL || !sets_route(client_traits(client, text))) return false;
    struct bytes value = value_of(text);
    if (value.at == NULL || read_word(value, &unused) || is_any(value, "default", "default"))
        return false;
    (void)snprintf(room, HINT_VALUE_SIZE, "%.*s", (int)value.len, value.at);
    for (char *c = room; *c != '\0'; c++)
        if (*c == '$') *c = '?'; /* the text that raises the error is quoted with it */
    return true;
}

bool hint_is_shown(const struct client *client, struct bytes text) {
    if (text.at == NULL || text.len > TEXT_MAX || !judge_is_on(client)) return false;
    struct bytes rest = text, token = next_token(&rest);
    if (!is_any(token, "show", "show")) return false;
    return is_any(next_token(&rest), NAME, NAME);
}

static struct bytes tracked(const struct client *client) {
    const struct text *settings = client->session->settings;
    return settings == NULL ? bytes_of("", 0) : bytes_of(settings->at, settings->len);
}

/* Reads the value out of a session's settings; false if it has none. */
static bool find(const struct client *client, unsigned char *hint) {
    struct bytes rest = tracked(client), name, value;
    while (settings_next(&rest, &name, &value))
        if (bytes_equal_text(name, NAME)) return read_word(value, hint);
    return false;
}

/* With tracked sessions the server has a value that was set already, perhaps in the transaction. */
void hint_bring(struct client *client) {
    char query[QUERY_SIZE];
    unsigned char unused;
    bool is_tracked = client->session != NULL;
    if (is_tracked && (client->transaction != 'I' || find(client, &unused))) return;
    (void)snprintf(query, sizeof query, "SET weir.route='%s'", words[hint_of(client)]);
    remember_send_ahead(client, bytes_of_text(query), OWN_QUERY_CONNECT);
}

enum route_hint hint_of(struct client *client) {
    struct hint *hint = &client->hint;
    if (client->session == NULL || client->session->settings == hint->seen)
        return (enum route_hint)hint->now;
    hint->now = ROUTE_HINT_NONE;
    (void)find(client, &hint->now);
    text_unref(client->set->texts, &hint->seen);
    hint->seen = text_ref(client->session->settings);
    return (enum route_hint)hint->now;
}

void hint_release(struct client *client) {
    text_unref(client->set->texts, &client->hint.seen);
}
