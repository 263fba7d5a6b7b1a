/*
 * What a transaction has done to its session: noted as its statements go to the server, and asked
 * about when it has ended.
 */
#ifndef WEIR_SESSION_QUESTION_H
#define WEIR_SESSION_QUESTION_H

#include "session/settings.h"

/* Notes the names that the traits of a statement tell. Parameters that the server reports are left
 * out: these tell themselves. */
void session_note(struct session *session, const struct traits *traits,
                  const struct server *server);

/* A statement ran whose effect on the session is not known. */
void session_note_unknown(struct session *session);

/* Something was rolled back: it may have been a RESET, after which the client would have what it
 * had after its login. What it then has is what the server has. */
void session_undone(struct session *session);

/* A parameter of that name may have been set. */
void session_touch(struct session *session, struct bytes name);

/* A statement ran that may have run functions which it does not name, of these kinds
 * (session/facts.h). */
void session_note_hidden(struct session *session, unsigned kinds);

/* A function was run. */
void session_note_ran(struct session *session, struct bytes name);

/* A statement may make or end a prepared statement of that name; whether one has. Up to the end of
 * the transaction the server alone knows what the name stands for. */
void session_touch_prepared(struct session *session, struct bytes name);
bool session_has_touched_prepared(const struct session *session, struct bytes name);

/* Begins the first column of a row about such a name, which follows; the second is NULL, or 's' or
 * 'p' for SQL's or the protocol's, its types as "{OID,...}", and its text. */
#define SESSION_PREPARED_MARK " s"

/* Whether nothing has to be done when the transaction ends. */
static inline bool session_is_untouched(const struct session *session) {
    return session->seen == 0 && session->pins == 0 && session->pinned_us == 0 &&
           !session->is_unknown && !session->is_context_open && !session->checks_traces &&
           buf_length(&session->touched) == 0 && buf_length(&session->prepared) == 0;
}

/* Appends the question about all that was touched and may pin; false if there is none, or it has
 * failed too often. */
bool session_question(struct session *session, struct buf *query);
bool session_has_question(const struct session *session);

/* One row of the answer: the body of a DataRow. False if it is malformed. */
bool session_row(struct session *session, struct bytes body);

/* The answer is complete: client and server have what it says. */
void session_learned(struct session *session, struct server *server, uint32_t id);

/* DISCARD ALL: the server is as after its login, the client as after its own. */
void session_discarded(struct session *session, struct server *server);

/* The client is leaving its server, perhaps before the question was answered; or it was lost. */
void session_left(struct session *session, struct server *server, uint32_t id);
void session_lost(struct session *session);

#endif
