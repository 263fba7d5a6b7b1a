/*
 * The shared listener: one connection to the primary for each database and user that anybody
 * listens in, which hears notifications for all clients of the process (client/subscribe.h).
 *
 *      client's worker                      listener's worker                PostgreSQL
 *      WANT channel, UNWANT channel  ---->  LISTEN, UNLISTEN           ---->
 *      ASK id                        ---->  ... all of that is done
 *      READY id                      <----
 *      NOTE, MARK id                 <----                             <---- NotificationResponse
 *      LOST, DOWN, AGAIN             <----  lost, tried in vain, listening (again)
 *
 * It lives on the worker whose client was the first to want it, since that one has what it takes to
 * log in. All talk goes through the mailboxes of the workers, which keep the order: so what a
 * worker is told comes in the order of the connection. It needs no permit: it comes on top of
 * pool_size and max_db_connections, is there while somebody listens, and is opened again when it
 * was lost, with all its channels, before it is of use to anybody.
 */
#ifndef WEIR_POOL_LISTENER_H
#define WEIR_POOL_LISTENER_H

#include "net/loop.h"
#include "pool/pool_set.h"

enum listen_kind {
    /* to the listener; `worker` is the sender */
    LISTEN_WANT, /* text: the channel */
    LISTEN_UNWANT,
    LISTEN_ASK, /* answered by READY with the same id */
    /* from it */
    LISTEN_READY, /* it listens to all that was wanted before the ASK */
    LISTEN_NOTE,  /* text: the body of a NotificationResponse */
    LISTEN_MARK,  /* the notification of a listeners_append_mark with that id has come by */
    LISTEN_LOST,  /* it does not listen now */
    LISTEN_DOWN,  /* and could not be made to */
    LISTEN_AGAIN  /* it does, to all channels */
};

struct listen_mail {
    struct loop_mail mail;
    enum listen_kind kind;
    unsigned worker;
    uint32_t id;
    struct bytes key; /* of the pool */
    struct bytes text;
    char bytes[];
};
struct listen_mail *listen_mail_new(enum listen_kind kind, unsigned worker, struct bytes key,
                                    struct bytes text);

/* Which worker has which listener. */
struct listeners *listeners_new(void);
void listeners_free(struct listeners **listeners);

/* The worker that has, or from now on is to have, the listener for a pool's key. Each claim is
 * released once. Takes a lock. */
unsigned listeners_claim(struct listeners *listeners, struct bytes key, unsigned worker);
void listeners_release(struct listeners *listeners, struct bytes key);

/* The channel on which marks are sent, which nobody else can know. */
struct bytes listeners_mark_channel(const struct listeners *listeners);

/* Appends what a server runs so that it and the listener both hear a mark in the order of all
 * notifications; MARK then tells `worker`. The second one reads a mark's payload: its id, or 0. */
void listeners_append_mark(const struct listeners *listeners, struct buf *query, unsigned worker,
                           uint32_t id);
uint32_t listeners_mark_id(struct bytes payload, unsigned *worker);

/* Somebody listens, or is about to; whether anybody has done so since the process began. Any
 * thread. */
void listeners_note_ear(struct listeners *listeners);
bool listeners_are_heard(const struct listeners *listeners);

/* A client, known by the process id that it was given, sends what may notify to a server of its
 * worker. Then: who has notified, where a notification with the process id `pid` has come on a
 * server; `pid` itself if nobody is known. Both without a lock. */
void listeners_note_sender(struct listeners *listeners, const struct server *server,
                           uint32_t client_pid);
uint32_t listeners_sender(const struct listeners *listeners, const struct server *server,
                          uint32_t pid);

/* The parts of a NotificationResponse's body; false if it is malformed. */
struct notification {
    uint32_t pid;
    struct bytes channel, payload;
};
bool notification_read(struct bytes body, struct notification *notification);

/* Appends "LISTEN name;", with the words in front and the name quoted. */
void listener_append_command(struct buf *query, const char *words, struct bytes channel);

/* A message for a listener of this worker, which it does not own. */
void listener_take(struct pool_set *set, const struct listen_mail *mail);

/* Whether one belongs to that pool. */
bool listener_has_pool(const struct pool_set *set, const struct pool *pool);

/* Opens again what was lost, and what a PAUSE, RELOAD or RECONNECT ended. */
void listener_tick(struct pool_set *set);

/* PAUSE, when all else is at rest: closes the connections of a database, NULL: of all. */
void listener_pause(struct pool_set *set, const struct database *database, const char *reason);

/* Ends all. */
void listener_release(struct pool_set *set);

#endif
