/*
 * For tests of what must never happen: the act runs in a child process, whose last words go
 * nowhere, and the question is whether CHECK stopped it.
 */
#ifndef WEIR_TESTS_DIES_H
#define WEIR_TESTS_DIES_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* True if `act` ends in abort; false if it returns or ends otherwise. */
static inline bool dies(void (*act)(void)) {
    pid_t child = fork();
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (nowhere >= 0 && dup2(nowhere, STDERR_FILENO) >= 0) act();
        _exit(0);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGABRT;
}

#endif
