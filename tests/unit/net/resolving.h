/* A loop's resolver for unit tests: its name server is an address of the loopback where nobody
 * listens, so that each question but those of /etc/hosts fails at once. */
#ifndef WEIR_TEST_RESOLVING_H
#define WEIR_TEST_RESOLVING_H

#include "core/check.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/resolver.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline struct resolver *resolving_new(struct loop *loop, struct dns *dns) {
    static const char server[] = "nameserver 127.0.0.255\n";
    char path[] = "/tmp/weir-test-resolv-XXXXXX";
    const char *error = "";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, server, sizeof server - 1) == sizeof server - 1 && close(fd) == 0);
    struct resolver *resolver = resolver_new(loop, dns, path, &error);
    CHECK(unlink(path) == 0); /* it is read once */
    CHECK(resolver != NULL);
    return resolver;
}

#endif
