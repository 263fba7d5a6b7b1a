/*
 * Ident maps: which users a name from outside (the owner of a Unix socket's other end, a
 * certificate) may log in as. The file has lines of three words
 *
 *      MAP  SYSTEM-NAME  DATABASE-USER
 *
 * where `all` as database user, not in quotes, is everybody. Lines of one map add up. Pure.
 */
#ifndef WEIR_AUTH_IDENT_H
#define WEIR_AUTH_IDENT_H

#include "auth/rules.h"

struct ident;

/* Reads the text of a file; `file` is its name for reports. Freed by ident_free. */
struct ident *ident_new(struct bytes text, const char *file, struct rules_report *report);
void ident_free(struct ident **ident);

/* Whether the map has a line at all. `ident` may be NULL. */
bool ident_has_map(const struct ident *ident, const char *map);

/* Whether the map lets `system_name` be `user`. Without a map (NULL) both must be the same. */
bool ident_allows(const struct ident *ident, const char *map, struct bytes system_name,
                  struct bytes user);

#endif
