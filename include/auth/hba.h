/*
 * HBA rules: which method a connection has to log in with, from a file in PostgreSQL's format as
 * far as PgBouncer reads it. The first rule that matches counts.
 *
 *      local                      DATABASES USERS           METHOD [map=NAME]
 *      host|hostssl|hostnossl     DATABASES USERS ADDRESS   METHOD [map=NAME | LDAP options]
 *
 *      DATABASES  all, sameuser, replication, names, @FILE; a list divided by commas
 *      USERS      all, names, @FILE; likewise
 *      ADDRESS    all, ADDRESS/BITS, or ADDRESS MASK
 *      METHOD     trust reject md5 password scram-sha-256 peer cert ldap
 *
 * `replication` stands for physical replication, which nothing else matches. Files are read through
 * a callback, so that this is pure.
 */
#ifndef WEIR_AUTH_HBA_H
#define WEIR_AUTH_HBA_H

#include "auth/ident.h"

#define HBA_FILES_MAX 100 /* that one list may lead to */

enum hba_method {
    HBA_NONE, /* no rule matched */
    HBA_TRUST,
    HBA_REJECT,
    HBA_MD5,
    HBA_PASSWORD,
    HBA_SCRAM,
    HBA_PEER,
    HBA_CERT,
    HBA_LDAP
};

struct hba;

/* What a rule says about a connection; the texts live as long as the rules. */
struct hba_verdict {
    enum hba_method method;
    const char *map;  /* ident map, or NULL */
    const char *ldap; /* LDAP options, or NULL */
    unsigned line;    /* of the file */
};

/* Where the rules come from. */
struct hba_source {
    const char *file;          /* its name for reports; @FILE is relative to its folder */
    const struct ident *ident; /* NULL: there are no maps */
    /* Reads another file whole; false if it cannot be. */
    bool (*read)(const char *path, struct buf *text);
    /* Whether LDAP options make sense; a sentence in `why` where they do not. */
    bool (*judge_ldap)(const char *options, struct buf *why);
};

/* Reads the text of a file. Freed by hba_free; NULL is legal there. */
struct hba *hba_new(struct bytes text, const struct hba_source *source,
                    struct rules_report *report);
void hba_free(struct hba **hba);
size_t hba_count(const struct hba *hba);

/* A connection as rules see it. */
struct hba_connection {
    bool is_unix;
    bool is_tls;
    bool is_physical;          /* physical replication */
    unsigned address_bytes;    /* 4 or 16; 0 for a Unix socket */
    unsigned char address[16]; /* in network order */
    struct bytes database;
    struct bytes user;
};

/* The first rule that matches; HBA_NONE if there is none, or if `hba` is NULL. */
struct hba_verdict hba_judge(const struct hba *hba, const struct hba_connection *connection);

#endif
