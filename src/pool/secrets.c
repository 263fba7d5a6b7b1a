/* What a pool logs in to its servers with; see pool/secrets.h. */
#include "pool/secrets.h"

#include "auth/users.h"
#include "core/memory.h"

struct user *pool_login(const struct pool *pool) {
    struct bytes name = bytes_of_text(pool->user);
    struct user *user = pool->set->users == NULL ? NULL : users_find(pool->set->users, name);
    if (user != NULL || pool->met == NULL) return user;
    return users_find(pool->met, name);
}

void pool_take_met(struct pool *pool, struct users **met) {
    struct bytes name = bytes_of_text(pool->user);
    const struct user *old = pool->met == NULL ? NULL : users_find(pool->met, name);
    const struct user *new = users_find(*met, name);
    bool is_same = old != NULL && new != NULL &&bytes_equal(old->secret, new->secret);
    if (!is_same) memory_wipe(&pool->scram, sizeof pool->scram);
    users_free(&pool->met);
    pool->met = *met;
    *met = NULL;
}

void pool_take_password(struct pool *pool, const char *password) {
    if (pool->password != NULL && strcmp(pool->password, password) == 0) return;
    memory_free_secret(pool->password);
    pool->password = memory_copy_text(password);
    memory_wipe(&pool->scram, sizeof pool->scram);
    pool->has_proved_keys = false;
}

void pool_take_keys(struct pool *pool, const struct scram_client_cache *keys) {
    pool->scram = *keys;
    pool->has_proved_keys = true;
}

void pool_review_keys(struct pool *pool) {
    struct user *user = users_find(pool->set->users, bytes_of_text(pool->user));
    if (pool->has_proved_keys && (user == NULL || user->kind != USER_SECRET_PLAIN)) return;
    memory_wipe(&pool->scram, sizeof pool->scram);
    pool->has_proved_keys = false;
}
