/*
 * Assertions that stay on, and the two constants every file needs.
 *
 * CHECK is for our own bugs only: a false condition prints where and stops the process.
 * What a peer, a file or the network sends is judged with `if`, never asserted.
 * CHECK_SLOW costs more than a few instructions and exists in debug builds only.
 */
#ifndef WEIR_CORE_CHECK_H
#define WEIR_CORE_CHECK_H

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) check_failed(#condition, __FILE__, __LINE__);       \
    } while (0)

#ifdef WEIR_DEBUG
#define CHECK_SLOW(condition) CHECK(condition)
#else
#define CHECK_SLOW(condition)                                                                      \
    do {                                                                                           \
        (void)sizeof(condition);                                                                   \
    } while (0)
#endif

/* Prints the failed condition on standard error and aborts. */
_Noreturn void check_failed(const char *condition, const char *file, int line);

#endif
