/* Passwords that an LDAP directory judges; see auth/ldap_options.h for how it is found. */
#ifndef WEIR_AUTH_LDAP_H
#define WEIR_AUTH_LDAP_H

#include "auth/blocking.h"

/* The `check` of a job with LDAP options: binds as the user with the password, directly by a name
 * made from prefix and suffix, or by the name that a search finds. Blocks, at most some seconds. */
bool ldap_check(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]);

#endif
