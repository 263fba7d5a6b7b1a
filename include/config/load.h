/*
 * Where snapshots come from: a file, a text, a URL, or another snapshot.
 *
 * All errors of a source are collected and reported at once, each with file, line, key, value
 * and what would be right; a secret never stands in one. On any error there is no snapshot, and
 * whatever was in force stays in force. Warnings tell of what is legal and probably not meant.
 */
#ifndef WEIR_CONFIG_LOAD_H
#define WEIR_CONFIG_LOAD_H

#include "config/config.h"

#define CONFIG_ERRORS_MAX   100   /* further ones are counted, not kept */
#define CONFIG_LINE_BYTES   65536 /* longest line of a file */
#define CONFIG_FILE_BYTES   (16u << 20)
#define CONFIG_INCLUDES_MAX 10    /* depth of %include */
#define CONFIG_ENTRIES_MAX  10000 /* of each section */

/* Zeroed memory is an empty collection. Each text is whole lines, one for each error. */
struct config_errors {
    struct buf text;
    size_t count;
    struct buf warnings;
    size_t warnings_count;
    struct config *failed; /* what could be read in spite of errors, unfinished: it says where the
                            * log is; NULL: nothing */
    const char *notice;    /* what whoever did a SET is told beside its success; NULL: nothing */
};

/* Frees the texts; the collection is empty and may be used again. */
void config_errors_release(struct config_errors *errors);

/* Writes every line to the log: errors as ERROR, warnings as WARNING. */
void config_errors_log(const struct config_errors *errors);

/* Reads a file in PgBouncer's format, with its %include files; paths are relative to the working
 * directory. NULL with errors; otherwise the caller holds the snapshot (config_unref). */
struct config *config_load(const char *file, struct config_errors *errors);

/* The same from memory; `name` stands for the file in messages. %include is refused. */
struct config *config_load_text(const char *name, struct bytes text, struct config_errors *errors);

/* From postgres://user:secret@host:port,.../database?...: listens on 127.0.0.1:6432 and the Unix
 * socket, pool_mode = transaction, routing = read_write, and the URL's user logs in with the
 * URL's secret by SCRAM (config_user(...)->secret), nobody else. */
struct config *config_from_url(const char *url, struct config_errors *errors);

/* What RELOAD takes: the file named by old->conffile, read again, with the values of `old` for
 * all settings that cannot change while running. Without a file (a URL) it is `old` itself, held
 * once more. */
struct config *config_reload(struct config *old, struct config_errors *errors);

/* What SET makes: a copy with one setting of [pgbouncer] changed, or `old` itself, held once
 * more, if the setting cannot change while running. NULL with errors. */
struct config *config_with(struct config *old, const char *key, const char *value,
                           struct config_errors *errors);

/* Appends a line for each difference that matters while running: "default_pool_size 20 -> 30",
 * "database app: host, port", "database app: removed", "user joe: added". */
void config_diff(const struct config *from, const struct config *to, struct buf *text);

/* Whether server connections made for one entry do not fit the other: its place, name, login or
 * start-up parameters differ. */
bool config_is_reconnect_needed(const struct config_database *from,
                                const struct config_database *to);

#endif
