/*
 * BEGIN held back, with routing = read_write and defer_begin: a BEGIN that comes alone is answered
 * by Weir. It goes to a server together with the first statement behind it, which tells the node
 * and may still be sent again elsewhere. For the files of client/.
 *
 *      NONE --BEGIN--> HELD --statement--> SENT --its answer is passed on--> NONE
 *                      |  ^                  `--it is sent again--> HELD
 *      NONE <--COMMIT--'  `--AND CHAIN-- HELD, FAILED
 *      HELD --cancelled in line--> FAILED --ROLLBACK--> NONE
 *
 * While it is HELD or FAILED the client has no server and is in a transaction all the same.
 */
#ifndef WEIR_CLIENT_BEGIN_H
#define WEIR_CLIENT_BEGIN_H

#include "core/buf.h"

struct client;
struct pipeline_match;
struct request;
struct unpack;

enum begin_state {
    BEGIN_NONE,
    BEGIN_HELD,
    BEGIN_SENT,  /* with the first statement, which may have to be sent again */
    BEGIN_FAILED /* the transaction has failed before anything of it was sent */
};

struct client_begin {
    struct buf texts; /* BEGIN, and each SET TRANSACTION behind it, with its NUL */
    uint32_t flags;   /* TRAITS_BEGINS and what they say of the transaction's modes */
    uint8_t state;    /* enum begin_state */
};

/* A client without a server has a group at the front of `rest`: it is answered here (`taken`
 * bytes), or is a matter for a server, or more of it has to be in hand. */
enum begin_verdict { BEGIN_PASS, BEGIN_TAKEN, BEGIN_WAIT };
enum begin_verdict begin_take(struct client *client, struct bytes rest, size_t *taken);

/* A group is next for a client in a transaction on a replica: if it ends that and goes on behind
 * it, as `COMMIT; INSERT ...` does, the transaction ends there now, and one like it is held for the
 * group to end, wherever that may run. TAKEN: the group waits for it. */
enum begin_verdict begin_move(struct client *client, struct bytes rest);
void begin_moved(struct client *client);

/* The traits of a group, with those of the BEGIN that goes ahead of it. */
uint32_t begin_join(const struct client *client, uint32_t flags);

/* Whether the BEGIN that is held declares its transaction READ ONLY, and one that replicas take. */
bool begin_is_read_only(const struct client *client);

/* The traits of one statement: BEGIN is READ ONLY where that is the session's default. */
uint32_t begin_as_default(const struct client *client, uint32_t flags);

/* Sends what is held ahead of the request: answers are swallowed, and an error is the error of what
 * the client sends next, which the server then skips. */
void begin_send(const struct request *request);

/* Whether the answers to it are the last that are owed: they come with those to what follows, so
 * that nothing may wait for them. */
bool begin_is_last(struct client *client);

/* An error has come, and what it skips is out of the pipeline: if it was the BEGIN's, the server is
 * told where to go on. */
void begin_note_error(struct client *client, const struct pipeline_match *match);

/* The first statement will not be sent again; or is about to be. */
void begin_settle(struct client *client);
void begin_again(struct client *client);

/* The first statement was cancelled while it stood in line. */
void begin_cancelled(struct client *client);

/* For client_move.c. */
void begin_pack(const struct client *client, struct buf *out);
void begin_unpack(struct client *client, struct unpack *in);

#endif
