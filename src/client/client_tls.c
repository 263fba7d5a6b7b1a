/*
 * How a client's connection comes to be encrypted; see client/parts.h.
 *
 *      SSLRequest   -> 'N'                where client_tls_sslmode is disable, or on a Unix socket
 *                   -> 'S', handshake     the next bytes are a StartupMessage again
 *      ClientHello  -> handshake          direct TLS, as from PostgreSQL 17 on
 *
 * Nothing may stand behind the request before the handshake: whoever sits on the wire could have
 * put it there, and it would pass for encrypted. client_login_timeout counts on meanwhile.
 */
#include "client/parts.h"
#include "net/tls.h"
#include "pool/transport.h"

static bool is_offered(const struct client *client) {
    unsigned uid;
    int pid;
    return client->set->pools->transport->clients != NULL &&
           !endpoint_is_unix(stream_descriptor(&client->stream), &uid, &pid);
}

/* `ahead` is what came of the handshake already. */
static void secure(struct client *client, struct bytes ahead) {
    client->doing = "making TLS";
    stream_secure(&client->stream, tls_accept(client->set->pools->transport->clients, ahead));
}

bool client_tls_is_missing(const struct client *client) {
    const struct transport *transport = client->set->pools->transport;
    return transport->config->client_tls_sslmode >= SSLMODE_REQUIRE &&
           stream_tls(&client->stream) == NULL && is_offered(client);
}

bool client_tls_take_hello(struct client *client) {
    struct bytes kept = buf_content(&client->kept);
    if (kept.len == 0 || kept.at[0] != TLS_RECORD_HANDSHAKE) return false;
    if (stream_tls(&client->stream) != NULL || !is_offered(client)) return false;
    secure(client, kept);
    buf_release(&client->kept);
    return true;
}

void client_tls_request(struct client *client, bool is_more_behind) {
    if (is_more_behind) {
        client_fail(client, FAULT_BYTES_AFTER_SSL_REQUEST, NULL);
    } else if (stream_tls(&client->stream) != NULL) {
        client_fail(client, FAULT_SSL_AGAIN, NULL);
    } else if (!is_offered(client)) {
        stream_write_bytes(&client->stream, bytes_of("N", 1));
    } else {
        stream_write_bytes(&client->stream, bytes_of("S", 1));
        if (stream_queued(&client->stream) == 0)
            secure(client, bytes_of(NULL, 0));
        else
            client_close(client, "client does not take a byte");
    }
}
