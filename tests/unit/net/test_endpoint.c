/*
 * Listening and dialling, with real sockets on the loopback and in a folder of their
 * own. Nothing leaves the machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/check.h"
#include "core/log.h"
#include "net/endpoint.h"
#include "resolving.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000, UNIX_PORT = 5432, ACCEPTED_MAX = 200 };

static char folder[] = "/tmp/weir-test-endpoint-XXXXXX";
static char socket_path[64];
static char abstract[32]; /* named for the process, since all processes share these names */

static int set_up(void **unused) {
    (void)unused;
    if (mkdtemp(folder) == NULL) return -1;
    (void)snprintf(socket_path, sizeof socket_path, "%s/.s.PGSQL.%d", folder, UNIX_PORT);
    (void)snprintf(abstract, sizeof abstract, "@weir-test-%d", (int)getpid());
    return log_open(NULL, true) ? 0 : -1;
}

static int tear_down(void **unused) {
    (void)unused;
    return log_open(NULL, false) && rmdir(folder) == 0 ? 0 : -1;
}

struct world {
    struct loop *loop;
    struct dns *dns;
    struct resolver *resolver;
    struct loop_timer tick;
    bool (*is_done)(const struct world *world);
    unsigned ticks;
    struct endpoint_listener *listener;
    int accepted[ACCEPTED_MAX];
    unsigned accepted_count;
    bool closes_on_accept;
    struct endpoint_dial *dial;
    unsigned dialled;
    int fd;
    char text[400]; /* an error */
};

static void on_accept(void *owner, int fd) {
    struct world *world = owner;
    if (world->accepted_count == ACCEPTED_MAX) fail();
    world->accepted[world->accepted_count++] = fd;
    if (world->closes_on_accept) endpoint_listener_close(&world->listener);
}

static void on_dialled(void *owner, int fd, const char *error) {
    struct world *world = owner;
    world->dial = NULL;
    world->dialled++;
    world->fd = fd;
    (void)snprintf(world->text, sizeof world->text, "%s", error == NULL ? "" : error);
}

static void world_init(struct world *world) {
    *world = (struct world){.loop = loop_new(), .dns = dns_new(), .fd = -1};
    world->resolver = resolving_new(world->loop, world->dns);
}

static void world_release(struct world *world) {
    endpoint_dial_close(&world->dial);
    endpoint_listener_close(&world->listener);
    endpoint_listener_close(&world->listener);
    if (world->fd >= 0) assert_int_equal(close(world->fd), 0);
    for (unsigned i = 0; i < world->accepted_count; i++)
        assert_int_equal(close(world->accepted[i]), 0);
    resolver_close(&world->resolver);
    loop_free(&world->loop);
    dns_free(&world->dns);
}

static void on_tick(struct loop_timer *timer) {
    struct world *world = LIST_OWNER(timer, struct world, tick);
    if (world->is_done(world) || ++world->ticks > PATIENCE_MS) loop_stop(world->loop);
}

static void run_until(struct world *world, bool (*is_done)(const struct world *world)) {
    world->is_done = is_done;
    world->ticks = 0;
    world->tick.run = on_tick;
    loop_timer_start(world->loop, &world->tick, 0, 1);
    loop_run(world->loop);
    loop_timer_stop(&world->tick);
    assert_true(world->ticks <= PATIENCE_MS);
}

static bool some_time_has_passed(const struct world *world) {
    return world->ticks >= 10;
}

static bool is_dialled(const struct world *world) {
    return world->dialled > 0;
}

static bool is_connected(const struct world *world) {
    return world->dialled > 0 && (world->fd < 0 || world->accepted_count > 0);
}

static void dial(struct world *world, const char *host, unsigned port,
                 const struct endpoint_options *options) {
    struct endpoint_target target = {.host = host, .port = port, .options = options};
    world->dial = endpoint_dial(world->loop, &target, on_dialled, world);
}

/* A port where nobody listens; somebody may take it, but nobody here does. */
static unsigned free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *any = (struct sockaddr *)(void *)&address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, any, sizeof address), 0);
    assert_int_equal(getsockname(fd, any, &size), 0);
    assert_int_equal(close(fd), 0);
    return ntohs(address.sin_port);
}

static struct endpoint_listener *open_tcp(struct loop *loop, const char *host, unsigned port,
                                          char *error) {
    return endpoint_listen_tcp(loop, &(struct endpoint_tcp){host, port, 128, false}, error);
}

static struct endpoint_listener *open_unix(struct loop *loop, const char *path, unsigned mode,
                                           char *error) {
    return endpoint_listen_unix(loop, &(struct endpoint_unix){path, 128, mode, ""}, error);
}

/* Listens, and returns the port. */
static unsigned listen_tcp(struct world *world, const char *host) {
    char error[ENDPOINT_TEXT_SIZE] = "";
    for (int attempt = 0; attempt < 10 && world->listener == NULL; attempt++) {
        unsigned port = free_port();
        world->listener = open_tcp(world->loop, host, port, error);
        if (world->listener == NULL) continue;
        endpoint_listener_start(world->listener, on_accept, world);
        return port;
    }
    fail_msg("%s", error);
    return 0;
}

static void listen_unix(struct world *world, const char *path) {
    char error[ENDPOINT_TEXT_SIZE] = "";
    world->listener = open_unix(world->loop, path, 0600, error);
    if (world->listener == NULL) fail_msg("%s", error);
    endpoint_listener_start(world->listener, on_accept, world);
}

/* ---- connections */

static const struct {
    const char *listen; /* an address, or NULL: the folder; "@..." is an abstract socket */
    const char *dial;
    const char *address; /* of the peer, as it is described */
} pairs[] = {
    {"127.0.0.1", "127.0.0.1", "127.0.0.1"},
    {"0.0.0.0", "127.0.0.1", "127.0.0.1"},
    {"127.0.0.1", "localhost", "127.0.0.1"},
    {NULL, folder, "unix"},
    {abstract, abstract, "unix"},
};

static unsigned listen_for(struct world *world, const char *where) {
    char path[64];
    if (where != NULL && where[0] != '@') return listen_tcp(world, where);
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", where == NULL ? folder : where, UNIX_PORT);
    listen_unix(world, path);
    return UNIX_PORT;
}

static void check_connection(const struct world *world, size_t row, unsigned port) {
    char address[ENDPOINT_TEXT_SIZE], byte = 0;
    unsigned given, uid = 77777;
    int pid = 0;
    bool is_unix = strcmp(pairs[row].address, "unix") == 0;
    assert_int_equal(write(world->fd, "x", 1), 1);
    assert_int_equal(read(world->accepted[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    endpoint_describe(world->fd, true, address, &given);
    assert_string_equal(address, pairs[row].address);
    assert_int_equal(given, is_unix ? 0 : port);
    endpoint_describe(world->accepted[0], false, address, &given);
    assert_string_equal(address, pairs[row].address);
    assert_int_equal(given, is_unix ? 0 : port);
    assert_int_equal(endpoint_is_unix(world->accepted[0], &uid, &pid), is_unix);
    assert_int_equal(uid, is_unix ? getuid() : 77777);
    assert_int_equal(pid, is_unix ? getpid() : 0);
    int flags = fcntl(world->fd, F_GETFL) & fcntl(world->accepted[0], F_GETFL);
    assert_true(flags & O_NONBLOCK);
    flags = fcntl(world->fd, F_GETFD) & fcntl(world->accepted[0], F_GETFD);
    assert_true(flags & FD_CLOEXEC);
}

static void dials_find_listeners(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        struct world world;
        world_init(&world);
        unsigned port = listen_for(&world, pairs[i].listen);
        dial(&world, pairs[i].dial, port, NULL);
        assert_int_equal(world.dialled, 0); /* never within the call */
        run_until(&world, is_connected);
        run_until(&world, some_time_has_passed);
        if (world.fd < 0) fail_msg("row %zu: %s", i, world.text);
        assert_string_equal(world.text, "");
        assert_int_equal(world.dialled, 1);
        assert_int_equal(world.accepted_count, 1);
        check_connection(&world, i, port);
        world_release(&world);
    }
}

static const struct {
    const char *host; /* NULL: a folder that is too long for a socket's address */
    unsigned port;
    const char *error;
} failures[] = {
    {"127.0.0.1", 1, "connect failed"},
    {"/no/such/folder", 5432, "connect failed"},
    {"@nobody-listens-here", 5432, "connect failed"},
    {"no.such.host.invalid", 5432, "server DNS lookup failed"},
    {NULL, 5432, "connect failed"},
};

static void failures_are_told_once(void **unused) {
    (void)unused;
    char long_folder[120] = "/";
    memset(long_folder + 1, 'x', sizeof long_folder - 2);
    for (size_t i = 0; i < COUNT(failures); i++) {
        struct world world;
        world_init(&world);
        dial(&world, failures[i].host == NULL ? long_folder : failures[i].host, failures[i].port,
             NULL);
        assert_int_equal(world.dialled, 0);
        run_until(&world, is_dialled);
        run_until(&world, some_time_has_passed);
        assert_int_equal(world.dialled, 1);
        assert_int_equal(world.fd, -1);
        assert_string_equal(world.text, failures[i].error);
        world_release(&world);
    }
}

/* At once, and after a while, in every state that a dial may be in. */
static void a_closed_dial_is_silent(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(failures) * 2; i++) {
        struct world world;
        world_init(&world);
        unsigned port = listen_tcp(&world, "127.0.0.1");
        const char *host = failures[i / 2].host;
        dial(&world, host == NULL || i / 2 == 0 ? "127.0.0.1" : host, port, NULL);
        endpoint_dial_close(&world.dial);
        assert_null(world.dial);
        endpoint_dial_close(&world.dial);
        if (i % 2 == 1) run_until(&world, some_time_has_passed);
        assert_int_equal(world.dialled, 0);
        world_release(&world);
    }
}

/* ---- options */

static int option_of(int fd, int level, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(fd, level, option, &value, &size), 0);
    return value;
}

static void options_are_set(void **unused) {
    (void)unused;
    static const struct endpoint_options rows[] = {
        {0},
        {.keepalive = true},
        {.keepalive = true, .keepalive_count = 3, .keepalive_idle_s = 60},
        {.keepalive = true, .keepalive_interval_s = 7, .user_timeout_ms = 9000},
        {.keepalive_count = 3}, /* without keepalive it means nothing */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world world;
        int plain = socket(AF_INET, SOCK_STREAM, 0);
        int count = option_of(plain, IPPROTO_TCP, TCP_KEEPCNT);
        int idle = option_of(plain, IPPROTO_TCP, TCP_KEEPIDLE);
        int interval = option_of(plain, IPPROTO_TCP, TCP_KEEPINTVL);
        assert_int_equal(close(plain), 0);
        if (rows[i].keepalive && rows[i].keepalive_count > 0) count = rows[i].keepalive_count;
        if (rows[i].keepalive && rows[i].keepalive_idle_s > 0) idle = rows[i].keepalive_idle_s;
        if (rows[i].keepalive_interval_s > 0) interval = rows[i].keepalive_interval_s;
        world_init(&world);
        dial(&world, "127.0.0.1", listen_tcp(&world, "127.0.0.1"), &rows[i]);
        run_until(&world, is_connected);
        assert_int_equal(option_of(world.fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option_of(world.fd, SOL_SOCKET, SO_KEEPALIVE), rows[i].keepalive);
        assert_int_equal(option_of(world.fd, IPPROTO_TCP, TCP_KEEPCNT), count);
        assert_int_equal(option_of(world.fd, IPPROTO_TCP, TCP_KEEPIDLE), idle);
        assert_int_equal(option_of(world.fd, IPPROTO_TCP, TCP_KEEPINTVL), interval);
        assert_int_equal(option_of(world.fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
                         rows[i].user_timeout_ms);
        world_release(&world);
    }
}

/* ---- listeners */

static void listening_fails_with_a_reason(void **unused) {
    (void)unused;
    struct world world;
    char error[ENDPOINT_TEXT_SIZE], expected[ENDPOINT_TEXT_SIZE];
    world_init(&world);
    unsigned port = listen_tcp(&world, "127.0.0.1");
    assert_null(open_tcp(world.loop, "127.0.0.1", port, error));
    (void)snprintf(expected, sizeof expected, "cannot listen on 127.0.0.1:%u: %s", port,
                   strerror(EADDRINUSE));
    assert_string_equal(error, expected);
    assert_null(open_tcp(world.loop, "no.such.host.invalid", 6432, error));
    assert_memory_equal(error, "cannot listen on no.such.host.invalid:6432: ", 44);
    assert_null(open_unix(world.loop, "/no/such/folder/s", 0600, error));
    assert_string_equal(error,
                        "cannot listen on unix:/no/such/folder/s: No such file or directory");
    char long_path[120] = "/";
    memset(long_path + 1, 'x', sizeof long_path - 2);
    assert_null(open_unix(world.loop, long_path, 0600, error));
    assert_memory_equal(error, "cannot listen on unix:/xxx", 26);
    assert_non_null(strstr(error, "File name too long"));
    world_release(&world);
}

static struct sockaddr_un unix_address(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    return address;
}

static int bound_socket(void) {
    struct sockaddr_un address = unix_address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof address), 0);
    return fd;
}

static void a_stale_file_is_replaced(void **unused) {
    (void)unused;
    static const unsigned modes[] = {0600, 0777, 0750};
    for (size_t i = 0; i < COUNT(modes); i++) {
        struct world world;
        struct stat status;
        char error[ENDPOINT_TEXT_SIZE];
        assert_int_equal(close(bound_socket()), 0); /* its file stays */
        world_init(&world);
        world.listener = open_unix(world.loop, socket_path, modes[i], error);
        assert_non_null(world.listener);
        assert_int_equal(stat(socket_path, &status), 0);
        assert_int_equal(status.st_mode & 0777, modes[i]);
        endpoint_listener_start(world.listener, on_accept, &world);
        dial(&world, folder, UNIX_PORT, NULL);
        run_until(&world, is_connected);
        assert_true(world.fd >= 0);
        endpoint_listener_close(&world.listener);
        assert_int_equal(stat(socket_path, &status), -1);
        world_release(&world);
    }
}

/* Neither a file of another kind nor its content is touched, and a group has to be one. */
static void what_is_no_socket_stays(void **unused) {
    (void)unused;
    struct world world;
    struct stat status;
    char error[ENDPOINT_TEXT_SIZE] = "";
    world_init(&world);
    int fd = open(socket_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, "mine", 4) == 4 && close(fd) == 0);
    assert_null(open_unix(world.loop, socket_path, 0600, error));
    assert_non_null(strstr(error, "Address already in use"));
    assert_int_equal(stat(socket_path, &status), 0);
    assert_int_equal(status.st_size, 4);
    assert_int_equal(unlink(socket_path), 0);
    struct endpoint_unix where = {socket_path, 5, 0600, "no such group"};
    assert_null(endpoint_listen_unix(world.loop, &where, error));
    assert_string_equal(error, "could not find group 'no such group'");
    assert_int_equal(stat(socket_path, &status), -1);
    char number[16];
    (void)snprintf(number, sizeof number, "%u", (unsigned)getegid());
    where.group = number;
    world.listener = endpoint_listen_unix(world.loop, &where, error);
    assert_non_null(world.listener);
    assert_true(endpoint_listener_is_unix(world.listener));
    world_release(&world);
}

/* Two that agree to it listen on one port. */
static void a_port_is_shared(void **unused) {
    (void)unused;
    struct world world;
    char error[ENDPOINT_TEXT_SIZE] = "";
    world_init(&world);
    struct endpoint_tcp where = {"127.0.0.1", free_port(), 5, true};
    struct endpoint_listener *one = endpoint_listen_tcp(world.loop, &where, error);
    struct endpoint_listener *other = endpoint_listen_tcp(world.loop, &where, error);
    assert_true(one != NULL && other != NULL);
    where.is_shared = false;
    assert_null(endpoint_listen_tcp(world.loop, &where, error));
    endpoint_listener_close(&one);
    endpoint_listener_close(&other);
    world_release(&world);
}

/* Somebody listens there, and may be too busy to accept: his socket stays, and nobody waits. */
static void a_socket_in_use_stays(void **unused) {
    (void)unused;
    struct world world;
    struct sockaddr_un address = unix_address();
    int waiting[8];
    int fd = bound_socket();
    world_init(&world);
    assert_int_equal(listen(fd, 1), 0);
    (void)alarm(10); /* ends this test if the call below hangs */
    for (size_t i = 0; i <= COUNT(waiting); i++) {
        char error[ENDPOINT_TEXT_SIZE] = "";
        assert_null(open_unix(world.loop, socket_path, 0600, error));
        assert_string_equal(error, "unix socket is in use, cannot continue");
        if (i == COUNT(waiting)) break;
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(waiting[i], (struct sockaddr *)(void *)&address, sizeof address);
    }
    (void)alarm(0);
    for (size_t i = 0; i < COUNT(waiting); i++) assert_int_equal(close(waiting[i]), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(socket_path), 0);
    world_release(&world);
}

static void connect_many(int *fds, unsigned count, unsigned port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0; i < count; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)(void *)&address, sizeof address), 0);
    }
}

enum { MANY = 100 };

static bool all_are_accepted(const struct world *world) {
    return world->accepted_count >= MANY;
}

static void a_flood_is_accepted(void **unused) {
    (void)unused;
    struct world world;
    int fds[MANY];
    world_init(&world);
    connect_many(fds, MANY, listen_tcp(&world, "127.0.0.1"));
    run_until(&world, all_are_accepted);
    run_until(&world, some_time_has_passed);
    assert_int_equal(world.accepted_count, MANY);
    for (unsigned i = 0; i < MANY; i++) assert_int_equal(close(fds[i]), 0);
    world_release(&world);
}

static bool one_is_accepted(const struct world *world) {
    return world->accepted_count > 0;
}

static void a_listener_may_close_itself(void **unused) {
    (void)unused;
    struct world world;
    int fds[5];
    world_init(&world);
    world.closes_on_accept = true;
    connect_many(fds, COUNT(fds), listen_tcp(&world, "127.0.0.1"));
    run_until(&world, one_is_accepted);
    run_until(&world, some_time_has_passed);
    assert_int_equal(world.accepted_count, 1);
    for (unsigned i = 0; i < COUNT(fds); i++) assert_int_equal(close(fds[i]), 0);
    world_release(&world);
}

/* Without descriptors a connection waits, the loop rests, and later it is taken. */
static void it_rests_without_descriptors(void **unused) {
    (void)unused;
    struct world world;
    struct rlimit limit, none;
    struct rusage before, after;
    int fd;
    world_init(&world);
    connect_many(&fd, 1, listen_tcp(&world, "127.0.0.1"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    run_until(&world, some_time_has_passed);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(world.accepted_count, 0);
    assert_true(after.ru_nvcsw - before.ru_nvcsw >= 5); /* it slept between its ticks */
    run_until(&world, one_is_accepted);
    assert_int_equal(close(fd), 0);
    world_release(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dials_find_listeners),
        cmocka_unit_test(failures_are_told_once),
        cmocka_unit_test(a_closed_dial_is_silent),
        cmocka_unit_test(options_are_set),
        cmocka_unit_test(listening_fails_with_a_reason),
        cmocka_unit_test(a_stale_file_is_replaced),
        cmocka_unit_test(what_is_no_socket_stays),
        cmocka_unit_test(a_port_is_shared),
        cmocka_unit_test(a_socket_in_use_stays),
        cmocka_unit_test(a_flood_is_accepted),
        cmocka_unit_test(a_listener_may_close_itself),
        cmocka_unit_test(it_rests_without_descriptors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
