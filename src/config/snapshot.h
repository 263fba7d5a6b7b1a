/*
 * Making snapshots: what the readers of files and URLs build one with. Until snapshot_finish has
 * said yes, a snapshot belongs to one thread and may be changed.
 */
#ifndef WEIR_CONFIG_SNAPSHOT_H
#define WEIR_CONFIG_SNAPSHOT_H

#include "config/load.h"

/* An empty snapshot with all defaults, held once. */
struct config *snapshot_new(void);

/* An unfinished copy, held once. */
struct config *snapshot_copy(const struct config *from);

/* A new entry with all defaults, which snapshot_add or snapshot_entry_free takes. `scope` is not
 * the pooler's; `where` is FILE:LINE. */
struct config_entry *snapshot_entry_new(enum setting_scope scope, struct bytes name,
                                        const char *where);
void snapshot_entry_free(enum setting_scope scope, struct config_entry *entry);

/* Puts an entry in; one of the same name is replaced, in its place. False if the section is
 * full, the entry then is freed. */
bool snapshot_add(struct config *config, enum setting_scope scope, struct config_entry *entry);

/* Checks what takes more than one value to judge and derives what the values imply. */
bool snapshot_finish(struct config *config, struct config_errors *errors);

/* Adds one error or warning, a line without its end. */
void errors_add(struct config_errors *errors, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void errors_warn(struct config_errors *errors, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends text from outside between double quotes: bytes that are no printable text as '?', and
 * long texts cut with "...". A secret's place is taken by "****". */
void errors_quote(struct buf *text, struct bytes quoted, bool is_secret);

#endif
