/*
 * What a pool logs in to its servers with.
 */
#ifndef WEIR_POOL_SECRETS_H
#define WEIR_POOL_SECRETS_H

#include "pool/pool.h"

/* Keys that a client of this pool has proved, to log in to its servers with. They are kept until
 * another client proves others, or a reload brings a plain secret. */
void pool_take_keys(struct pool *pool, const struct scram_client_cache *keys);

/* The password that a client of this pool has been let in with, to log in to its servers. Copied.
 */
void pool_take_password(struct pool *pool, const char *password);

/* The files of users have been read anew: such keys go where a plain secret is there. */
void pool_review_keys(struct pool *pool);

/* What is known of the pool's user: from the auth_file, else from auth_query; NULL if nothing. */
struct user *pool_login(const struct pool *pool);

/* Takes over a user list of one, which auth_query has made of the pool's user. */
void pool_take_met(struct pool *pool, struct users **met);

#endif
