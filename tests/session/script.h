/*
 * The script of a run: lines, each a client's letter and what it does, or `-` and what befalls the
 * world. A line waits until all that its client said is answered, unless `&` follows the letter.
 *
 *      A login [NAME=VALUE ...] [PASSWORD]      A cancel        asks to cancel what it runs
 *      A MESSAGES    see application.h          A stall, go     stops reading, goes on
 *      A wait        for all answers            A drop, break   ends or resets its connection
 *      A errs CODE   an error in place of the answer, after which it goes on
 *      A ends CODE   an error, and its connection is closed
 *      - time MS     the clock goes on          - kill          resets all servers' connections
 *      - refuse, hang, up                       what becomes of new connections to servers
 *      - stall, go   servers stop reading, go on
 */
#ifndef WEIR_TESTS_SESSION_SCRIPT_H
#define WEIR_TESTS_SESSION_SCRIPT_H

#include "world.h"

/* Goes on with the world's script as far as it can now. True if a line was begun or left. */
bool script_step(struct world *world);

/* The line that it stands at, without its end. */
struct bytes script_line(const struct world *world);

#endif
