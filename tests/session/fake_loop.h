/*
 * The test's side of the loop that stands in for net/loop.c: its clock moves only when the test
 * moves it, and one call runs one turn.
 */
#ifndef WEIR_TESTS_SESSION_FAKE_LOOP_H
#define WEIR_TESTS_SESSION_FAKE_LOOP_H

#include "net/loop.h"

/* What happens in a turn besides the sockets: mail, timers that are due. */
void fake_loop_begin(struct loop *loop);

/* The hooks at the end of a turn, after which the read buffer is overwritten, so that nobody gets
 * away with a pointer into it. */
void fake_loop_end(struct loop *loop);

void fake_loop_advance(struct loop *loop, uint64_t us);

/* How much of the read buffer was filled in this turn. */
void fake_loop_filled(struct loop *loop, size_t len);

#endif
