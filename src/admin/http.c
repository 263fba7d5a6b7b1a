/*
 * The HTTP server: libmicrohttpd under our loop. It has no thread of its own; its epoll descriptor
 * is watched by the loop, and one timer follows what MHD_get_timeout says.
 *
 *      request -> page without census -> answered at once
 *              -> page with census    -> suspended -> workers count -> resumed -> answered
 *
 * A suspended connection is not watched, so its client may have gone in the meantime; the library
 * finds out when it writes. Connections are few and short-lived: people and scrapers.
 */
#include "http.h"

#include "core/memory.h"
#include "gather.h"
#include "net/poller.h"
#include "pages.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX         64u
#define CONNECTION_MEMORY_BYTES 16384u
#define CONNECTION_TIMEOUT_S    5u
#define BACKLOG                 64

struct page {
    const char *path;
    const char *type;
    bool needs_census;
    unsigned (*write)(struct admin *admin, const struct census *census, struct buf *out);
};

static const struct page pages[] = {
    {"/", "text/html; charset=utf-8", false, page_home},
    {"/api/pools", "application/json", true, page_pools},
    {"/health", "application/json", true, page_health},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", true, page_metrics},
    {"/ready", "application/json", false, page_ready},
};

struct http {
    struct admin *admin;
    struct MHD_Daemon *daemon;
    struct poller *poller;
    struct loop_timer timer;
    struct list suspended;
};

/* One request; lives from its head to its end. */
struct http_request {
    struct link link; /* while it is suspended */
    struct http *http;
    struct MHD_Connection *connection;
    const struct page *page;
    bool is_made; /* status and body are there */
    unsigned status;
    struct buf body;
};

/* ---- answers */

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *type,
                               struct bytes body) {
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body.len, (void *)(uintptr_t)body.at, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) return MHD_NO;
    const char *const headers[][2] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, type},
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src "
                                    "'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"},
        {status == MHD_HTTP_METHOD_NOT_ALLOWED ? MHD_HTTP_HEADER_ALLOW : NULL, "GET, HEAD"},
    };
    for (size_t i = 0; i < COUNT(headers); i++) {
        if (headers[i][0] == NULL) continue;
        (void)MHD_add_response_header(response, headers[i][0], headers[i][1]);
    }
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result respond_text(struct MHD_Connection *connection, unsigned status,
                                    const char *text) {
    return respond(connection, status, "text/plain; charset=utf-8", bytes_of_text(text));
}

/* ---- turns of the library */

static void run(struct http *http) {
    (void)MHD_run(http->daemon);
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    if (MHD_get_timeout(http->daemon, &timeout_ms) == MHD_YES)
        loop_timer_start(http->admin->workers[0].loop, &http->timer, timeout_ms, 0);
}

static void on_readable(void *owner) {
    run(owner);
}

static void on_timer(struct loop_timer *timer) {
    run(LIST_OWNER(timer, struct http, timer));
}

/* ---- requests */

static void count_part(struct gather_part *part) {
    gather_census(part);
}

static void resume(struct http_request *request) {
    list_remove(&request->http->suspended, &request->link);
    request->is_made = true;
    MHD_resume_connection(request->connection);
}

static void on_counted(struct gather *gather) {
    struct http_request *request = gather->owner;
    struct http *http = request->http;
    request->status = request->page->write(http->admin, gather_merge(gather), &request->body);
    resume(request);
    run(http);
}

static enum MHD_Result begin_page(struct http_request *request) {
    static const struct gather_plan plan = {count_part, on_counted};
    struct http *http = request->http;
    if (!request->page->needs_census) {
        request->status = request->page->write(http->admin, NULL, &request->body);
        request->is_made = true;
        return respond(request->connection, request->status, request->page->type,
                       buf_content(&request->body));
    }
    MHD_suspend_connection(request->connection);
    list_append(&http->suspended, &request->link);
    gather_send(gather_new(http->admin, &plan, request));
    return MHD_YES;
}

static const struct page *page_of(const char *path) {
    for (size_t i = 0; i < COUNT(pages); i++)
        if (strcmp(pages[i].path, path) == 0) return &pages[i];
    return NULL;
}

/* The library's signature of an access handler, which is longer than we would have it. */
#define ACCESS_HANDLER_PARAMETERS                                                                  \
    void *owner, struct MHD_Connection *connection, const char *url, const char *method,           \
        const char *version, const char *upload, size_t *upload_size, void **context

/* Called at the head of a request, at its end, and once more after it was resumed. */
static enum MHD_Result on_request(ACCESS_HANDLER_PARAMETERS) {
    (void)version;
    (void)upload;
    struct http_request *request = *context;
    if (request == NULL) {
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
            return respond_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                                "Only GET and HEAD are answered here.\n");
        request = *context = memory_new(sizeof *request);
        request->http = owner;
        request->connection = connection;
        request->page = page_of(url);
        return MHD_YES;
    }
    if (*upload_size > 0) { /* a body that nobody asked for */
        *upload_size = 0;
        return MHD_YES;
    }
    if (request->page == NULL)
        return respond_text(connection, MHD_HTTP_NOT_FOUND,
                            "There are /, /metrics, /health and /ready.\n");
    if (request->is_made)
        return respond(connection, request->status, request->page->type,
                       buf_content(&request->body));
    return begin_page(request);
}

static void on_completed(void *owner, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why) {
    (void)owner;
    (void)connection;
    (void)why;
    struct http_request *request = *context;
    if (request == NULL) return;
    *context = NULL;
    CHECK(!link_is_listed(&request->link));
    buf_release(&request->body);
    memory_free(request);
}

/* ---- beginning and end */

static void set_option(int fd, int level, int option) {
    const int on = 1;
    (void)setsockopt(fd, level, option, &on, sizeof on);
}

/* A listening socket on the first address that can be had; -1 with errno. */
static int listen_on(const struct addrinfo *found) {
    int error = EADDRNOTAVAIL;
    for (; found != NULL; found = found->ai_next) {
        int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            error = errno;
            continue;
        }
        set_option(fd, SOL_SOCKET, SO_REUSEADDR);
        if (found->ai_family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
        if (bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
        error = errno;
        (void)close(fd);
    }
    errno = error;
    return -1;
}

/* The same for HOST:PORT. */
static int open_socket(const char *address, struct buf *error) {
    struct bytes host;
    int port;
    if (!setting_split_address(bytes_of_text(address), &host, &port)) {
        buf_append_format(error, "http_listen %s: expected HOST:PORT or [IPV6]:PORT", address);
        return -1;
    }
    struct buf service = {0};
    char *name = memory_copy(host.at, host.len);
    buf_append_format(&service, "%d", port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(name, buf_text(&service), &hints, &found);
    int fd = -1;
    if (status != 0) {
        buf_append_format(error, "http_listen %s: %s", address, gai_strerror(status));
    } else if ((fd = listen_on(found)) < 0) {
        buf_append_format(error, "http_listen %s: %s", address, strerror(errno));
    }
    if (found != NULL) freeaddrinfo(found);
    buf_release(&service);
    memory_free(name);
    return fd;
}

struct http *http_open(struct admin *admin, const char *address, struct buf *error) {
    int fd = open_socket(address, error);
    if (fd < 0) return NULL;
    struct http *http = memory_new(sizeof *http);
    http->admin = admin;
    http->timer.run = on_timer;
    list_init(&http->suspended);
    http->daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, http,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
                         MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (http->daemon == NULL) {
        buf_append_format(error, "http_listen %s: the HTTP library cannot be started", address);
        (void)close(fd);
        memory_free(http);
        return NULL;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    CHECK(info != NULL && info->epoll_fd >= 0);
    http->poller = poller_open(admin->workers[0].loop, info->epoll_fd, on_readable, http);
    return http;
}

void http_close(struct http **http_at) {
    struct http *http = *http_at;
    if (http == NULL) return;
    *http_at = NULL;
    for (struct link *l = list_first(&http->suspended); l != NULL;
         l = list_first(&http->suspended)) {
        struct http_request *request = LIST_OWNER(l, struct http_request, link);
        request->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        resume(request);
    }
    poller_close(&http->poller);
    loop_timer_stop(&http->timer);
    MHD_stop_daemon(http->daemon);
    memory_free(http);
}
