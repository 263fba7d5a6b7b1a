/* The scripts that the driver runs in every mood, and a maker of others from a seed. */
#ifndef WEIR_TESTS_SESSION_SCENARIOS_H
#define WEIR_TESTS_SESSION_SCENARIOS_H

#include "world.h"

extern const struct scenario scenarios[];
extern const size_t scenarios_count;

#endif
