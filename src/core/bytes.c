/* Comparing and hashing views of memory; see core/bytes.h. */
#include "core/bytes.h"

#include <stdatomic.h>
#include <sys/random.h>
#include <xxhash.h>

/* The seed is set once, by whichever thread asks first; all others wait for nobody: a second
 * writer loses the exchange and uses the winner's value. 0 means not set yet. */
static _Atomic uint64_t hash_seed;

static uint64_t seed_of_process(void) {
    uint64_t seed = atomic_load_explicit(&hash_seed, memory_order_relaxed);
    if (seed != 0) return seed;
    uint64_t fresh = 0;
    if (getrandom(&fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh) fresh = (uintptr_t)&fresh;
    fresh |= 1;
    uint64_t none = 0;
    return atomic_compare_exchange_strong(&hash_seed, &none, fresh) ? fresh : none;
}

uint64_t bytes_hash(struct bytes b) {
    return XXH3_64bits_withSeed(b.at, b.len, seed_of_process());
}

bool bytes_equal_nocase(struct bytes a, const char *text) {
    if (a.len != strlen(text)) return false;
    for (size_t i = 0; i < a.len; i++) {
        if (char_lower(a.at[i]) != char_lower(text[i])) return false;
    }
    return true;
}
