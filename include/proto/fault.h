/*
 * Everything that can go wrong on a connection, one row each, and the ErrorResponse and
 * NoticeResponse messages made from it. A row says what the client reads (SQLSTATE, text, DETAIL,
 * HINT), whether its connection survives, and which counter notices it. The texts that PgBouncer
 * has are PgBouncer's to the letter, since scripts match on them; its SQLSTATE is 08P01.
 *
 * The other direction stands here too: reading what a PostgreSQL server says in an ErrorResponse,
 * and judging whether a statement that a replica refused may be tried on another node.
 * Message fields: PostgreSQL manual, "Error and Notice Message Fields".
 */
#ifndef WEIR_PROTO_FAULT_H
#define WEIR_PROTO_FAULT_H

#include "core/buf.h"
#include "proto/fault_id.h"

/* What happens to the client's connection once the message is written: it is closed after a FATAL
 * error, and goes on after an ERROR. */
enum fault_effect { FAULT_EFFECT_CLOSE, FAULT_EFFECT_KEEP };

/* What a fault counts as; several rows share a counter. */
enum fault_counter {
    FAULT_COUNTER_STARTUP,
    FAULT_COUNTER_LIMIT,
    FAULT_COUNTER_LOGIN,
    FAULT_COUNTER_DATABASE,
    FAULT_COUNTER_TIMEOUT,
    FAULT_COUNTER_SERVER,
    FAULT_COUNTER_NODE,
    FAULT_COUNTER_PROTOCOL,
    FAULT_COUNTER_STATEMENT,
    FAULT_COUNTER_CONSOLE,
    FAULT_COUNTER_SHUTDOWN,
    FAULT_COUNTER_COUNT
};

/* Texts may hold one %s, which stands for the argument; `detail` and `hint` may be NULL. */
struct fault {
    enum fault_counter counter;
    enum fault_effect effect;
    const char *sqlstate;
    const char *text;
    const char *detail;
    const char *hint;
};

/* The row of a fault; `id` is neither FAULT_NONE nor FAULT_COUNT. */
const struct fault *fault_of(enum fault_id id);

/* The counter's name as it stands in SHOW and metrics, such as "login". */
const char *fault_counter_name(enum fault_counter counter);

/* Appends the text alone, for the log; `argument` may be NULL where the row wants none. */
void fault_append_text(struct buf *out, enum fault_id id, const char *argument);

/* Appends a whole ErrorResponse with the fields S C M and, where the row has them, D H. The
 * argument may come from a peer: it is cut after FAULT_ARGUMENT_BYTES_MAX bytes and its control
 * characters become '?'. ReadyForQuery, where the connection is kept, is the caller's to write. */
#define FAULT_ARGUMENT_BYTES_MAX 1024u
void fault_write(struct buf *out, enum fault_id id, const char *argument);

/* The fields of an ErrorResponse or NoticeResponse; a field that was not sent is empty. */
struct fault_fields {
    struct bytes severity; /* the untranslated one (V) where the server sent it */
    struct bytes sqlstate;
    struct bytes message;
    struct bytes detail;
    struct bytes hint;
    struct bytes routine;
};

/* Appends a whole ErrorResponse in someone else's words, as when a server's refusal is passed on
 * to a client. Empty fields get defaults: severity FATAL, SQLSTATE 08P01, message "unknown
 * error"; the others are left out. Views may point into any buffer but `out`. */
void fault_write_custom(struct buf *out, const struct fault_fields *fields);

/* Appends a whole NoticeResponse with severity NOTICE and SQLSTATE 00000; `detail` may be NULL. */
void fault_notice_write(struct buf *out, const char *message, const char *detail);

/* Reads the body (behind type and length) of an ErrorResponse or NoticeResponse. Unknown fields
 * are passed over. False, with the fields read so far, if a field or the list does not end. */
bool fault_read(struct bytes body, struct fault_fields *fields);

/* Whether a statement refused with these fields may be sent again. It judges the error alone: the
 * caller makes sure that no explicit transaction is open, that the client has seen nothing of the
 * answer, that the statement cannot have written, and that the error came from a replica. */
enum fault_refusal {
    FAULT_REFUSAL_NOT,      /* the error is the client's */
    FAULT_REFUSAL_PRIMARY,  /* only a primary can run it: send it there, and remember */
    FAULT_REFUSAL_SESSION,  /* the same of all that the session says: it is SERIALIZABLE */
    FAULT_REFUSAL_MISSING,  /* what the primary says counts, and nothing is remembered */
    FAULT_REFUSAL_CONFLICT, /* it was in the way of replay: any other node will do */
    FAULT_REFUSAL_LOST      /* the node was, or is going, away: the same */
};
enum fault_refusal fault_refusal_of(const struct fault_fields *fields);

/* Whether it tells of the node: a conflict or a loss that nobody has asked for. */
bool fault_is_of_node(const struct fault_fields *fields);

#endif
