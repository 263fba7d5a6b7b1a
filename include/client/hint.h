/*
 * weir.route: the node that a session's statements are to run on, as a parameter of its own.
 *
 *      SET weir.route = 'replica' | 'primary' | 'auto'; RESET weir.route; SHOW weir.route
 *
 * To PostgreSQL it is one of the custom parameters that any session may set, so that the server
 * answers the statement as any other; here its value is noted when the server has answered, and
 * counts once its transaction is over, or is forgotten where that is rolled back. With
 * session_state = track the session knows the value, savepoints included; otherwise what the
 * statement said counts. A value that is none of the three is refused. Only where a database is
 * routed.
 */
#ifndef WEIR_CLIENT_HINT_H
#define WEIR_CLIENT_HINT_H

#include "cluster/route.h"
#include "core/text.h"

struct client;
struct traits;

struct hint {
    unsigned char now, start, next; /* enum route_hint: in force, at login, when this has ended */
    bool has_next, is_answered;     /* one is under way, and was accepted */
    bool is_wrong;                  /* some text sets what is no value */
    struct text *seen;              /* the tracked settings that `now` was read from */
};

/* What the client asked for at login; false if that is no value. */
bool hint_start(struct client *client, struct bytes value);

/* A text is about to be sent, or a statement with this text executed. */
void hint_note(struct client *client, const struct traits *traits, struct bytes text);

/* Whether the text sets weir.route to what is no value; with that in `room`. */
#define HINT_VALUE_SIZE 64
bool hint_refuses(const struct client *client, struct bytes text, char room[HINT_VALUE_SIZE]);

/* Whether the text is SHOW weir.route, which wants the server to have the value; and gives it.
 * Nearly all texts are told apart by their first letters. */
bool hint_is_shown(const struct client *client, struct bytes text);
void hint_bring(struct client *client);

static inline bool hint_may_be_shown(struct bytes text) {
    return text.len > 2 && (text.at[0] | 0x20) == 's' && (text.at[1] | 0x20) == 'h';
}

void hint_release(struct client *client);

/* A command was answered; the transaction at hand failed or is rolled back; it is over. */
static inline void hint_answered(struct hint *hint) {
    hint->is_answered = hint->has_next;
}

static inline void hint_undone(struct hint *hint) {
    hint->has_next = hint->is_answered = hint->is_wrong = false;
}

static inline void hint_ended(struct hint *hint) {
    if (hint->is_answered) hint->now = hint->next;
    hint_undone(hint);
}

/* What counts for the group at hand. */
enum route_hint hint_of(struct client *client);

#endif
