/* What happens before the loops run; see start.h. */
#include "start.h"

#include "core/log.h"
#include "net/endpoint.h"
#include "notify.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define PID_TEXT_SIZE 32

/* ---- who it is */

bool start_become(const char *user) {
    if (user != NULL && user[0] != '\0') {
        const struct passwd *entry = getpwnam(user);
        if (entry == NULL) {
            log_line(LOG_LEVEL_FATAL, "could not find user '%s' to switch to", user);
            return false;
        }
        bool is_other = geteuid() != entry->pw_uid;
        if (is_other && (initgroups(user, entry->pw_gid) != 0 || setgid(entry->pw_gid) != 0 ||
                         setuid(entry->pw_uid) != 0)) {
            log_line(LOG_LEVEL_FATAL, "failed to assume identity of user '%s': %s", user,
                     strerror(errno));
            return false;
        }
    }
    if (getuid() == 0 || geteuid() == 0) {
        log_line(LOG_LEVEL_FATAL, "PgBouncer should not run as root");
        return false;
    }
    return true;
}

/* ---- where the log goes */

static const int facilities[] = {
    [SYSLOG_FACILITY_AUTH] = LOG_AUTH,         [SYSLOG_FACILITY_AUTHPRIV] = LOG_AUTHPRIV,
    [SYSLOG_FACILITY_DAEMON] = LOG_DAEMON,     [SYSLOG_FACILITY_USER] = LOG_USER,
    [SYSLOG_FACILITY_LOCAL0] = LOG_LOCAL0,     [SYSLOG_FACILITY_LOCAL0 + 1] = LOG_LOCAL1,
    [SYSLOG_FACILITY_LOCAL0 + 2] = LOG_LOCAL2, [SYSLOG_FACILITY_LOCAL0 + 3] = LOG_LOCAL3,
    [SYSLOG_FACILITY_LOCAL0 + 4] = LOG_LOCAL4, [SYSLOG_FACILITY_LOCAL0 + 5] = LOG_LOCAL5,
    [SYSLOG_FACILITY_LOCAL0 + 6] = LOG_LOCAL6, [SYSLOG_FACILITY_LOCAL7] = LOG_LOCAL7,
};

bool process_open_log(const struct config *config, const struct process_options *options) {
    if (!log_open(config->logfile, options->is_quiet)) {
        log_line(LOG_LEVEL_ERROR, "logfile %s: %s", config->logfile, strerror(errno));
        return false;
    }
    if (config->syslog) {
        log_open_syslog(facilities[config->syslog_facility], config->syslog_ident);
    } else {
        log_close_syslog();
    }
    log_set_verbose(config->verbose > options->verbose ? config->verbose : options->verbose);
    return true;
}

/* ---- whether it is alone */

/* The process id in a pidfile; 0 if the file is not there, -1 if it holds none. */
static long read_pidfile(const char *path) {
    char text[PID_TEXT_SIZE] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    char *end;
    long pid = n <= 0 ? 0 : strtol(text, &end, 10);
    return pid > 0 ? pid : -1;
}

static bool pidfile_is_free(const char *path) {
    if (path[0] == '\0') return true;
    long pid = read_pidfile(path);
    if (pid == 0) return true;
    /* A container's processes get the same numbers at each start. */
    if (pid > 0 && pid != getpid() && (kill((pid_t)pid, 0) == 0 || errno == EPERM)) {
        log_line(LOG_LEVEL_FATAL, "pidfile '%s' exists, another instance running?", path);
        return false;
    }
    log_line(LOG_LEVEL_LOG, "stale pidfile, removing");
    if (unlink(path) == 0) return true;
    log_line(LOG_LEVEL_FATAL, "could not remove stale pidfile: %s", strerror(errno));
    return false;
}

bool start_is_alone(const struct config *config) {
    char path[ENDPOINT_TEXT_SIZE];
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", config->unix_socket_dir,
                   config->listen_port);
    if (notify_sockets() == 0 && config->unix_socket_dir[0] != '\0' &&
        endpoint_unix_answers(path)) {
        log_line(LOG_LEVEL_FATAL, "unix socket is in use, cannot continue");
        return false;
    }
    return pidfile_is_free(config->pidfile);
}

bool start_may_reboot(const struct config *config) {
    const char *why = NULL;
    if (notify_sockets() > 0) why = "cannot reboot under service manager";
    if (config->unix_socket_dir[0] == '\0') why = "cannot reboot if unix dir not configured";
    if (config->unix_socket_dir[0] == '@') why = "cannot reboot with abstract Unix socket";
    if (why != NULL) log_line(LOG_LEVEL_FATAL, "%s", why);
    return why == NULL;
}

/* ---- the background */

/* The original process: waits until the background one is up, or has ended. */
static void wait_ready(int fd) {
    char byte;
    ssize_t n;
    while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR) continue;
    _exit(n == 1 ? 0 : 1);
}

int start_daemon(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        log_line(LOG_LEVEL_FATAL, "daemon: %s", strerror(errno));
        return -1;
    }
    pid_t child = fork();
    if (child > 0) {
        (void)close(ends[1]);
        (void)waitpid(child, NULL, 0);
        wait_ready(ends[0]);
    }
    /* Not the leader of its session, it can get no terminal any more. */
    if (child == 0 && setsid() > 0) child = fork();
    if (child > 0) _exit(0);
    int null = child < 0 ? -1 : open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) {
        log_line(LOG_LEVEL_FATAL, "daemon: %s", strerror(errno));
        return -1;
    }
    (void)close(ends[0]);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) (void)dup2(null, fd);
    if (null > STDERR_FILENO) (void)close(null);
    return ends[1];
}

void start_tell_ready(int fd) {
    if (fd < 0) return;
    (void)!write(fd, "", 1); /* whoever waited may have gone */
    (void)close(fd);
}

/* ---- the pidfile */

bool start_write_pidfile(const char *path) {
    if (path[0] == '\0') return true;
    char text[PID_TEXT_SIZE];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    bool is_written = fd >= 0 && write(fd, text, (size_t)len) == len;
    if (!is_written)
        log_line(LOG_LEVEL_FATAL, "could not write pidfile '%s': %s", path, strerror(errno));
    if (fd >= 0) (void)close(fd);
    return is_written;
}

void start_remove_pidfile(const char *path) {
    if (path[0] != '\0' && read_pidfile(path) == getpid()) (void)unlink(path);
}
