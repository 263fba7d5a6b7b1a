/*
 * Chance from a seed (splitmix64): the same seed gives the same run on every machine.
 */
#ifndef WEIR_TESTS_SESSION_DICE_H
#define WEIR_TESTS_SESSION_DICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *dice) {
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* A number below `sides`, which is not 0. */
static inline size_t dice_roll(struct dice *dice, size_t sides) {
    return (size_t)(dice_next(dice) % sides);
}

/* True once in `sides` rolls. */
static inline bool dice_hits(struct dice *dice, size_t sides) {
    return dice_roll(dice, sides) == 0;
}

#endif
