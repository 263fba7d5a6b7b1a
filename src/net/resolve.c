/*
 * Names to addresses; see net/resolve.h. What is known at once is told at the end of the turn, so
 * that nobody is called back before his own call has returned.
 */
#include "net/resolve.h"

#include "core/memory.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/resolver.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define ERROR_SIZE (DNS_NAME_SIZE + 160)

struct resolve {
    struct resolver_wait wait;
    struct loop_hook hook; /* tells what needed no question */
    struct loop *loop;
    void (*done)(void *owner, const char *address, const char *error);
    void *owner;
    bool takes_turns;
    bool is_literal; /* the host is the address */
    enum dns_result result;
    struct dns_found found;
    char host[DNS_NAME_SIZE];
};

static bool is_literal(const char *host) {
    unsigned char address[16];
    return host[0] == '/' || host[0] == '@' || inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1;
}

/* Tells the result; the lookup ends. */
static void tell(struct resolve *resolve) {
    if (resolve->is_literal || resolve->result == DNS_FOUND) {
        resolve->done(resolve->owner, resolve->is_literal ? resolve->host : resolve->found.address,
                      NULL);
    } else {
        char error[ERROR_SIZE];
        (void)snprintf(error, sizeof error, "server DNS lookup failed: %s: %s", resolve->host,
                       resolve->found.why);
        resolve->done(resolve->owner, NULL, error);
    }
    memory_free(resolve);
}

static void tell_later(struct loop_hook *hook) {
    tell(LIST_OWNER(hook, struct resolve, hook));
}

static void tell_too_long(struct loop_hook *hook) {
    struct resolve *resolve = LIST_OWNER(hook, struct resolve, hook);
    resolve->done(resolve->owner, NULL, "server DNS lookup failed: the name is too long");
    memory_free(resolve);
}

static void tell_no_host(struct loop_hook *hook) {
    struct resolve *resolve = LIST_OWNER(hook, struct resolve, hook);
    resolve->done(resolve->owner, NULL, "connect failed: no host, and unix_socket_dir is empty");
    memory_free(resolve);
}

static void on_answer(struct resolver_wait *wait) {
    struct resolve *resolve = LIST_OWNER(wait, struct resolve, wait);
    struct dns *dns = resolver_dns(loop_resolver(resolve->loop));
    resolve->found.why = "its answer is forgotten";
    resolve->result =
        dns_take(dns, resolve->host, DNS_ANY_AGE, resolve->takes_turns, &resolve->found);
    tell(resolve);
}

struct resolve *resolve_begin(struct loop *loop, const char *host, bool takes_turns,
                              void (*done)(void *owner, const char *address, const char *error),
                              void *owner) {
    struct resolve *resolve = memory_new(sizeof *resolve);
    resolve->loop = loop;
    resolve->done = done;
    resolve->owner = owner;
    resolve->takes_turns = takes_turns;
    resolve->wait.done = on_answer;
    resolve->hook.run = tell_later;
    if (host[0] == '\0' || strlen(host) >= sizeof resolve->host) {
        resolve->hook.run = host[0] == '\0' ? tell_no_host : tell_too_long;
        loop_at_end(loop, &resolve->hook);
        return resolve;
    }
    (void)snprintf(resolve->host, sizeof resolve->host, "%s", host);
    resolve->is_literal = is_literal(host);
    struct resolver *resolver = loop_resolver(loop);
    if (!resolve->is_literal)
        resolve->result =
            dns_take(resolver_dns(resolver), host, loop_now_us(loop), takes_turns, &resolve->found);
    if (resolve->is_literal || resolve->result != DNS_UNKNOWN) {
        loop_at_end(loop, &resolve->hook);
    } else {
        resolver_ask(resolver, host, &resolve->wait);
    }
    return resolve;
}

void resolve_close(struct resolve **resolve_at) {
    struct resolve *resolve = *resolve_at;
    if (resolve == NULL) return;
    *resolve_at = NULL;
    resolver_leave(&resolve->wait);
    loop_not_at_end(resolve->loop, &resolve->hook);
    memory_free(resolve);
}
