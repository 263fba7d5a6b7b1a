/*
 * Connection URLs, as libpq understands them:
 *
 *      postgres://user:secret@host1:5432,[fe80::1]:5433,%2Frun%2Fpostgresql/database?sslmode=prefer
 *      postgresql://...
 *
 * Every part may be percent-encoded. User, secret and at least one host are required, since Weir
 * guesses nothing; the database defaults to the user's name and a port to 5432. Parameters:
 * sslmode, sslrootcert (the file of the CA), application_name, connect_timeout (whole seconds).
 * Errors quote nothing but a parameter's name, and not even that where a secret that was not
 * encoded could have strayed into it. See section 34.1.1.2 of PostgreSQL's manual.
 *
 * This file is pure.
 */
#ifndef WEIR_CONFIG_URL_H
#define WEIR_CONFIG_URL_H

#include "config/entry.h"

#define URL_BYTES_MAX 16384

struct url {
    char *user;
    char *secret;
    char *database;
    char *application_name; /* NULL: not given */
    char *sslrootcert;      /* NULL: not given */
    struct config_host hosts[CONFIG_HOSTS_MAX];
    size_t hosts_count;
    enum sslmode sslmode;
    int connect_timeout_s; /* 0: not given */
};

/* Whether a text begins like a connection URL. */
bool url_is_url(const char *text);

/* Reads a URL into `url`, which the caller gives to url_release afterwards, whatever was
 * answered. False with the reason appended to `why`. */
bool url_parse(const char *text, struct url *url, struct buf *why);

/* Frees all texts and wipes them; `url` is zeroed. */
void url_release(struct url *url);

#endif
