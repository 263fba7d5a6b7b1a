/*
 * Where connections come from and go to: listening sockets, dialling.
 *
 * Hosts are written as in PostgreSQL: a name, an IPv4 or IPv6 address, or a directory ("/run/x")
 * that holds the Unix socket .s.PGSQL.PORT ("@x" is an abstract one).
 */
#ifndef WEIR_NET_ENDPOINT_H
#define WEIR_NET_ENDPOINT_H

#include "core/bytes.h"

struct loop;

#define ENDPOINT_TEXT_SIZE 160

/* What to set on a TCP connection; seconds, counts, milliseconds; 0 leaves the system's value. */
struct endpoint_options {
    bool keepalive;
    int keepalive_count;
    int keepalive_idle_s;
    int keepalive_interval_s;
    int user_timeout_ms;
    int buffer_bytes;  /* of the kernel, each way */
    bool defer_accept; /* only of listening sockets: show a connection when it has sent something */
};

/* Where to; `options` may be NULL. Only read during the call. */
struct endpoint_target {
    const char *host;
    unsigned port;
    const struct endpoint_options *options;
    bool takes_turns; /* of a name with several addresses the next one, not the first */
};

/* One attempt to connect. `done` is called once, never from within endpoint_dial: with a
 * connected descriptor (error NULL) which the callee owns, or with -1 and, as a literal, what went
 * wrong: "server DNS lookup failed" or "connect failed". The log has more at level DEBUG. */
struct endpoint_dial;
struct endpoint_dial *endpoint_dial(struct loop *loop, const struct endpoint_target *target,
                                    void (*done)(void *owner, int fd, const char *error),
                                    void *owner);

/* Gives up an attempt whose `done` was not called; *dial becomes NULL. Idempotent. */
void endpoint_dial_close(struct endpoint_dial **dial);

/* A listening socket on a numeric address or a name; `on_accept` owns each descriptor. NULL, with a
 * reason in `error` and in errno, if the address cannot be had; ENXIO: the name has none. */
struct endpoint_listener;
struct endpoint_tcp {
    const char *host;
    unsigned port;
    int backlog;
    bool is_shared; /* other processes may listen there too (SO_REUSEPORT) */
};
struct endpoint_listener *endpoint_listen_tcp(struct loop *loop, const struct endpoint_tcp *where,
                                              char error[ENDPOINT_TEXT_SIZE]);

/* The same on a Unix socket, "@NAME" being an abstract one; errno is 0 where no call failed. A
 * socket that nobody listens on any more is replaced, never one that answers, nor a file of another
 * kind. */
struct endpoint_unix {
    const char *path;
    int backlog;
    unsigned mode;
    const char *group; /* name or number; empty: as the process has it */
};
struct endpoint_listener *endpoint_listen_unix(struct loop *loop, const struct endpoint_unix *where,
                                               char error[ENDPOINT_TEXT_SIZE]);

/* Takes over a socket that listens already, and does not remove a Unix socket's file at the end. */
struct endpoint_listener *endpoint_listen_on(struct loop *loop, int fd);

/* Whether somebody listens on the Unix socket. */
bool endpoint_unix_answers(const char *path);

const char *endpoint_listener_path(const struct endpoint_listener *listener);
bool endpoint_listener_is_unix(const struct endpoint_listener *listener);
int endpoint_listener_descriptor(const struct endpoint_listener *listener);
/* The Unix socket's file that is removed at the end; empty: none, another process has it. */
void endpoint_listener_own(struct endpoint_listener *listener, const char *path);

/* Accepted connections have these options from then on: they inherit them from the listening
 * socket, which saves several system calls for each login. */
void endpoint_listener_set(struct endpoint_listener *listener,
                           const struct endpoint_options *options);
/* Accepts from now on; until endpoint_listener_stop, after which it can be started again. */
void endpoint_listener_start(struct endpoint_listener *listener,
                             void (*on_accept)(void *owner, int fd), void *owner);
void endpoint_listener_stop(struct endpoint_listener *listener);
/* Gives on what has connected and was not accepted yet; a close would reset it. */
void endpoint_listener_drain(struct endpoint_listener *listener);
/* Stops listening; a Unix socket's file is removed. *listener becomes NULL. */
void endpoint_listener_close(struct endpoint_listener **listener);

/* Sets the options on a TCP descriptor; does nothing on a Unix one. */
void endpoint_apply_options(int fd, const struct endpoint_options *options);

/* The peer's or this side's address as "127.0.0.1", "::1" or "unix", and its port (0 for Unix). */
void endpoint_describe(int fd, bool is_peer, char address[ENDPOINT_TEXT_SIZE], unsigned *port);

/* The peer's address in network order: 4 bytes, or 16 for IPv6; returns how many, 0 where
 * there is none: on a Unix socket, or when the peer has gone. */
unsigned endpoint_peer_address(int fd, unsigned char address[16]);

/* One end of a TCP connection: an address in network order of 4 or 16 bytes. `size` 0: there is
 * none, on a Unix socket, or of a peer that has gone. */
struct endpoint_end {
    unsigned char address[16];
    unsigned char size;
    uint16_t port;
};
struct endpoint_end endpoint_end_of(int fd, bool is_peer);

/* An end that there is, as the log names it: "127.0.0.1:5432" or "[::1]:5432". */
void endpoint_end_text(const struct endpoint_end *end, char text[ENDPOINT_TEXT_SIZE]);

/* The same of the other side of a Unix socket: "unix(PID):PORT", or "unix:PORT" where the process
 * is not known. */
void endpoint_unix_text(int fd, unsigned port, char text[ENDPOINT_TEXT_SIZE]);

/* True for a Unix socket; `peer_uid` and `peer_pid` are then the other process's. */
bool endpoint_is_unix(int fd, unsigned *peer_uid, int *peer_pid);

#endif
