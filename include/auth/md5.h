/*
 * PostgreSQL's MD5 passwords, in both directions (manual, "Protocol Flow",
 * AuthenticationMD5Password):
 *
 *      secret = "md5" hex(md5(password user))                 what is stored
 *      answer = "md5" hex(md5(hex(md5(password user)) salt))  what travels
 *
 * Where the library refuses MD5 (a system in FIPS mode) every function returns false and nobody
 * logs in by it.
 */
#ifndef WEIR_AUTH_MD5_H
#define WEIR_AUTH_MD5_H

#include "core/bytes.h"

#define MD5_SECRET_LEN 35u /* "md5" and 32 hex digits */
#define MD5_SALT_BYTES 4u

/* Whether a secret is a hash; capital digits do not count, as in PostgreSQL. */
bool md5_is_secret(struct bytes secret);

/* Writes the hash of a password with a NUL behind it. */
bool md5_secret(char secret[MD5_SECRET_LEN + 1], struct bytes password, struct bytes user);

/* Writes the answer to a challenge, from the hash that md5_secret gives. */
bool md5_answer(char answer[MD5_SECRET_LEN + 1], const char secret[MD5_SECRET_LEN],
                const char salt[MD5_SALT_BYTES]);

/* Fills a salt with random bytes. */
void md5_salt(char salt[MD5_SALT_BYTES]);

#endif
