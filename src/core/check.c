/* The end of a process whose own rules were broken; see core/check.h. */
#include "core/check.h"

#include "core/log.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *condition, const char *file, int line) {
    log_flush();
    (void)fprintf(stderr, "weir: bug: CHECK(%s) failed at %s:%d\n", condition, file, line);
    abort();
}
