/*
 * A count of references that any thread may change, for things that never change once made.
 */
#ifndef WEIR_CORE_SHARED_H
#define WEIR_CORE_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>

struct shared {
    atomic_uint references;
};

/* The first reference is the maker's. */
static inline void shared_begin(struct shared *shared) {
    atomic_init(&shared->references, 1);
}

/* One more; whoever takes it has a reference already, so nothing has to be ordered. */
static inline void shared_take(struct shared *shared) {
    (void)atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
}

/* One less; true if it was the last: what the others did with the thing is over, and it is free. */
static inline bool shared_drop(struct shared *shared) {
    return atomic_fetch_sub_explicit(&shared->references, 1, memory_order_acq_rel) == 1;
}

#endif
