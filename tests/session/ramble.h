/* Scripts made from a seed: what three clients may legally say, in any order and all at once. */
#ifndef WEIR_TESTS_SESSION_RAMBLE_H
#define WEIR_TESTS_SESSION_RAMBLE_H

#include "world.h"

/* How many settings there are to ramble under. */
#define RAMBLE_SETTINGS 6u
#define RAMBLE_PLAIN    4u /* the first of them, without routing */

/* The scenario of a seed under one of the settings; its script is valid until the next call. */
const struct scenario *ramble(unsigned settings, uint64_t seed);

/* Which settings a scenario has, RAMBLE_SETTINGS if it was not made here. */
unsigned ramble_settings(const struct scenario *scenario);

void ramble_forget(void);

#endif
