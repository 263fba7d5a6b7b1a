/*
 * What the files of client/ offer to each other; nobody else includes this.
 *
 *      client.c        life, lists, time         client_login.c  startup packet to welcome
 *      client_tls.c    TLS ahead of that         client_method.c how it has to log in
 *      relay.c         lending and its end       request.c       what the client sends
 *      judge.c         where a group may run     reply.c         what the server answers
 *      remember.c      what it leaves behind     prepare.c       its prepared statements
 *      effects.c       what stands of these      request_cancel.c  cancel requests
 *      retry.c         reads sent again
 */
#ifndef WEIR_CLIENT_PARTS_H
#define WEIR_CLIENT_PARTS_H

#include "client/client.h"
#include "client/relay.h"

/* A run of bytes to be written at once: slices of the read buffer, and copies of what was made up
 * or rewritten, in order. It lives during one callback and uses the set's scratch buffer. */
#define OUTGOING_PARTS_MAX 64

struct outgoing {
    struct stream *stream;
    struct buf *scratch;
    size_t count;
    struct {
        const char *at; /* NULL: in the scratch buffer, at `offset` */
        uint32_t offset;
        size_t len;
    } parts[OUTGOING_PARTS_MAX];
};

void outgoing_begin(struct outgoing *out, struct client_set *set, struct stream *stream);
void outgoing_add(struct outgoing *out, const char *at, size_t len);
void outgoing_copy(struct outgoing *out, const char *at, size_t len);
void outgoing_flush(struct outgoing *out);

/* Fills in how the client has to log in; what `request` points to lives in the client, in its
 * set's users and in `room`, an empty buffer. */
void client_method(struct client *client, struct verify_request *request, struct buf *room);

/* Whether the client keeps its server when a transaction ends. */
static inline bool client_keeps_server(const struct client *client) {
    return client->pool->mode == POOL_MODE_SESSION ||
           client->replication != STARTUP_REPLICATION_NONE;
}

/* Bytes of the login; in WELCOME, that there is a greeting, or that its own server is there. */
void client_login_bytes(struct client *client, const char *at, size_t len);
void client_login_welcome(struct client *client);
void client_login_own(struct client *client, struct bytes greeting);
/* A server was lent to take what the client asks for; it has taken it, or refused it in its last
 * words. */
void client_login_check(struct client *client, struct server *server);
void client_login_checked(struct client *client);
/* A client in STARTUP that has no cancel key yet. */
struct client *client_new(struct client_set *set, int fd);
/* Has the client's key name a server's process, if that is a number which no key of ours has. */
#define CLIENT_PID_END (1u << 24)
void client_take_pid(struct client *client, uint32_t pid);

/* Handles `bytes` from the client as far as it can; returns how much was taken. */
size_t request_process(struct client *client, struct bytes bytes);

/* Closes a client that sent a simple Query in spite of disable_pqexec. */
void request_refuse_simple(struct client *client);

/* Borrows a server for the judged group. False if the client has to wait, for a server or for its
 * parameters. */
bool relay_borrow(struct client *client);

/* A server was lent for the login's sake. */
void relay_bind_check(struct client *client, struct server *server);

/* The server that was made for a replication client is its own now. */
void relay_bind_own(struct client *client, struct server *server);

/* Handles `len` bytes from the client's server. */
void reply_process(struct client *client, const char *at, size_t len);

/* Passes made-up answers on whose turn has come. */
void reply_make_up(struct client *client, struct outgoing *out);

/* What is to become of the first group in `bytes`, for a client without a server. */
enum judgement {
    JUDGE_MORE,  /* the group is not complete, and small enough to wait for the rest */
    JUDGE_READY, /* client->route is set; client->group_left bytes belong to it */
};
enum judgement judge_group(struct client *client, struct bytes bytes);

/* Judges client->route anew from the facts that judge_group gathered. */
void judge_again(struct client *client);

/* How the client's statements are read, the traits of one (only with client->set->traits; as
 * traits_of), and what their parse depends on, appended as text. */
struct traits_context client_context(const struct client *client);
const struct traits *client_traits(const struct client *client, struct bytes text);
void client_parse_context(const struct client *client, struct buf *context);

/* One more message of a transaction that has its server: notes what it may write or set. `text`
 * is a Query's or Parse's text, or has at == NULL if it is not in hand. */
void judge_text(struct client *client, struct bytes text);

/* A statement with these traits is part of the transaction at hand: notes what it reads and may
 * write. */
void judge_note_reach(struct client *client, const struct traits *traits);

/* A statement's traits by what the catalog says now. */
const struct traits *judge_traits(const struct client *client, struct statement *statement);

/* The replica said no: its statements need the primary from now on. */
void judge_correct(struct client *client, struct bytes group);

/* The session reads from the primary from now on; `what` is the reason that is shown. */
void judge_keep_primary(struct client *client, const char *what);

/* Whether the client's database is routed by statement. */
bool judge_is_on(const struct client *client);

/* Length of the first group in `bytes`: one Query or FunctionCall, or everything up to a Sync. 0
 * if it is not complete; *has_flush tells whether a Flush is among what is there. */
size_t judge_group_length(struct bytes bytes, bool *has_flush);

/* The client may have written: raises the floors before its answer is passed on. */
void relay_raise_floor(struct client *client);

/* The transaction has ended: the server goes back, once all is known that it has set. */
void relay_end(struct client *client);

/* The server goes back to its pool; the client goes on with what it has sent meanwhile. */
void relay_release(struct client *client);

/* Goes on at the end of the turn with what was kept. */
void relay_resume_later(struct client *client);

/* Takes a waiting client out of the line: its request is answered with an error and dropped. */
void relay_cancel_waiting(struct client *client);

/* Sends an error of our own and ReadyForQuery for what is owed, and keeps the connection. */
void relay_answer_error(struct client *client, enum fault_id fault, const char *argument);

/* In client_tls.c: an SSLRequest came; the first bytes may be a ClientHello (true: they were, and
 * are taken); a login came in clear text where TLS is demanded. */
void client_tls_request(struct client *client, bool is_more_behind);
bool client_tls_take_hello(struct client *client);
bool client_tls_is_missing(const struct client *client);

#endif
