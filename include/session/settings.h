/*
 * Settings: what a client has set in its session, beyond the parameters that servers report
 * (session/parameters.h), against what the server at hand has been set to. On with
 * session_state = track.
 *
 * All settings of a session are one interned text, so that a client and a server have the same
 * where the pointers are equal: no gap, no cost. What a statement set is asked from the server
 * when its transaction has ended, by the names that its traits tell: so it does not matter which
 * way a value took, nor what a ROLLBACK or a savepoint undid.
 */
#ifndef WEIR_SESSION_SETTINGS_H
#define WEIR_SESSION_SETTINGS_H

#include "core/buf.h"
#include "core/text.h"
#include "pool/pool.h"
#include "session/parameters.h"
#include "session/pins.h"

/* The session of one client. */
struct session {
    struct text *settings; /* what it has set; NULL: nothing */
    struct text *startup;  /* what it asked for at login, and gets back by RESET */
    struct buf touched;    /* names that the transaction may have set, each with its NUL */
    struct buf learned;    /* what the question has told so far: settings of the server */
    struct buf reset;      /* those that may have their defaults again, written likewise */
    bool is_noted_since;   /* something was, after a DISCARD ALL that is not answered yet */
    bool is_unknown;       /* the transaction may have set what nobody knows */
    uint32_t unknown_on;   /* the server that has it, while the client uses no other; 0: none */
    bool is_context_open;  /* it may have set what decides how a statement is parsed */
    bool changes_schema;   /* it has run DDL */
    uint32_t seen;         /* traits of the transaction's statements that have to do with pins */
    unsigned pins;         /* what its server alone can keep: a set of enum pin */
    unsigned counted;      /* those of them that its pool counts */
    unsigned asked;        /* pins that the question is about */
    unsigned found;        /* those that it has found */
    struct buf ran;        /* functions of which nothing is known, each with its NUL */
    struct buf programs;   /* and programs */
    const struct traces *traces;       /* of its database, once they were needed; the worker's */
    bool checks_traces;                /* they are to be looked at when the transaction ends */
    bool runs_hidden;                  /* it may have run functions that no statement names */
    bool asks_traces;                  /* the question is also about functions (session/traces.h) */
    uint64_t pinned_us;                /* since when it keeps its server, 0: not */
    struct pool_shared *pinned_in;     /* where it is counted for that; a reference */
    bool is_asking;                    /* the question is under way */
    bool has_failed;                   /* it was not answered */
    unsigned tries;                    /* how often it has been asked */
    struct session_bind *bind;         /* of the statement being noted, or NULL */
    struct buf named;                  /* names of prepared statements in the statement at hand */
    struct buf prepared;               /* those that the transaction may have made or ended */
    struct buf prepared_context;       /* the parse context of those it made */
    uint32_t used;                     /* the server that was lent to it last */
    bool is_at_same;                   /* it has that again, which nobody else has used since */
    bool has_written;                  /* since it was lent its server */
    enum fault_id refusal;             /* why the statement at hand must not run */
    bool has_failed_name;              /* one could not be prepared under the client's name */
    struct buf channels;               /* that the question has told, each with its NUL */
    struct subscription *subscription; /* its client's part in the shared listener, or NULL */
};

struct session *session_new(void);
void session_free(struct session **session, struct texts *texts);

/* Adds a setting that the client asks for at login. */
void session_start_with(struct session *session, struct texts *texts, struct bytes name,
                        struct bytes value);

void session_begin(struct session *session); /* the login is done: it has what it asked for */

/* Settings are written one behind the other, "name\0value\0", by name. Takes the first one out of
 * `rest`; false at the end. */
bool settings_next(struct bytes *rest, struct bytes *name, struct bytes *value);

/* Sets one of the settings in `settings`; value.at NULL takes it out. The name is in lower case. */
void settings_put(struct buf *settings, struct bytes name, struct bytes value);

/* What has to be sent to a server before a client's statement. */
struct settings_gap {
    enum parameters_step step;
    bool is_scrubbed; /* SETTINGS_SCRUB goes first */
    struct buf query; /* then this, unless empty */
};
#define SETTINGS_SCRUB "RESET ROLE;RESET SESSION AUTHORIZATION;RESET ALL;"

/* Finds the gap between the client's parameters and settings and the server's, and counts it as
 * closed: the server is taken to have all that is sent. A server that ran something whose effect is
 * not known is scrubbed before another client, of another `id`, uses it. The caller releases the
 * query. */
void settings_find_gap(struct settings_gap *gap, const struct parameters *parameters,
                       const struct session *session, uint32_t id, struct server *server);

/* Whether the server has been set to what the session has, and has run nothing unknown: what is
 * left to compare is what servers report. */
static inline bool session_is_at_home(const struct session *session, const struct server *server) {
    const struct server_memory *memory = server->memory;
    return session->settings == memory->settings && !memory->is_unknown && session->unknown_on == 0;
}

/* Takes all that clients have set on the server for undone; false if there is nothing. */
bool settings_scrub(struct server *server);

/* The server has accepted everything in that gap. */
void settings_accepted(const struct parameters *parameters, const struct session *session,
                       struct server *server);

/* Whether its transactions are SERIALIZABLE, which standbys refuse. */
bool session_is_serializable(const struct session *session);

/* Whether backslash_quote is as statements are read here, and the settings on which the parse of a
 * statement may depend, appended as text: all but those of applications, which have a dot. */
bool session_quotes_safely(const struct session *session);
void session_parse_context(const struct session *session, struct buf *context);

#endif
