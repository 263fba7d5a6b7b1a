/*
 * The files that decide who gets in, read together: auth_file, auth_hba_file, auth_ident_file.
 */
#ifndef WEIR_AUTH_ACCESS_H
#define WEIR_AUTH_ACCESS_H

#include "auth/rules.h"
#include "auth/users.h"
#include "config/config.h"

/* Reads what the settings name; the HBA and the ident file only where auth_type = hba. The result
 * has one reference, the caller's, and holds what could be read. What was wrong goes to `report`,
 * a text of whole lines, each with file, line and what would be right; no secret stands in one. */
struct users *access_load(const struct config *config, const struct users_scram *scram,
                          struct rules_report *report);

enum access_part {
    ACCESS_USERS = 1 << 0, /* auth_file */
    ACCESS_RULES = 1 << 1  /* auth_hba_file, auth_ident_file */
};

/* Whether a SET of that setting makes other users; which files are then read (enum access_part). */
bool access_is_setting(const char *name, unsigned *parts);

/* The same after such a SET: only `parts` are read; the rest, and what is not set or cannot be
 * read, is as it was in `from`. */
struct users *access_load_parts(const struct config *config, const struct users_scram *scram,
                                const struct users *from, unsigned parts,
                                struct rules_report *report);

/* Whether such a report stops a start, a SET or a reload: always where hba_strict = 1; a reload
 * also when a file could not be read, since the old rules and users are then better. */
bool access_is_refused(const struct config *config, const struct rules_report *report,
                       bool is_reload);

/* Writes every line to the log. */
void access_log(const struct rules_report *report);

#endif
