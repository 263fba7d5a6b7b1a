/* The service manager; see notify.h. */
#include "notify.h"

#include "core/check.h"
#include "core/clock.h"

#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

_Static_assert(NOTIFY_FIRST_DESCRIPTOR == SD_LISTEN_FDS_START, "systemd's own number");

void notify_ready(void) {
    (void)sd_notifyf(0, "READY=1\nMAINPID=%d", (int)getpid());
}

void notify_reloading(void) {
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)clock_monotonic_us());
}

void notify_stopping(void) {
    (void)sd_notify(0, "STOPPING=1");
}

void notify_status(const char *text) {
    (void)sd_notifyf(0, "STATUS=%s", text);
}

int notify_sockets(void) {
    int count = sd_listen_fds(0);
    return count > 0 ? count : 0;
}

bool notify_is_listening(int fd) {
    return sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0;
}
