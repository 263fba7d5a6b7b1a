"""Logins by certificate, rules that depend on TLS, and SCRAM bound to the channel (…-PLUS)."""

import base64
import hashlib
import hmac
import os
import ssl
import struct

import psycopg
import pytest

import cluster as clusters
import tls
import wire
from certificates import Certificates
from pooler import ADMIN, MONITOR
from test_auth import entry, scram_secret
from test_hba import run, write_rules  # noqa: F401

pytestmark = pytest.mark.weir_only

SECRET = clusters.PASSWORDS["app"]
ADMINS = dict([ADMIN, MONITOR])
CERT_FAILED = "certificate authentication failed"


# Subject, alternative names, and the users that it lets in.
NAMES = {
    "common": ("/CN=app", [], ["app"]),
    "alternative": ("/CN=x", ["DNS:app"], ["app", "x"]),
    "both": ("/CN=app", ["DNS:guest"], ["app", "guest"]),
    "several": ("/CN=x", ["DNS:y", "DNS:guest", "DNS:app"], ["app", "guest", "x"]),
    "without-common": ("/O=guest", ["DNS:app"], ["app"]),
    "address": ("/CN=x", ["IP:10.1.2.3"], ["10.1.2.3", "x"]),
    "address-6": ("/CN=x", ["IP:fe80::1"], ["fe80::1", "x"]),
    "mail": ("/CN=x", ["email:app"], ["x"]),
    "uri": ("/CN=x", ["URI:app"], ["x"]),
    "first-of-two": ("/CN=app/CN=guest", [], ["app"]),
    "wildcard": ("/CN=x", ["DNS:*.test"], ["*.test", "x"]),
}


@pytest.fixture(scope="module")
def certificates(cluster):
    made = Certificates(os.path.join(cluster.folder, "tls-cert"))
    made.issue("server", names=["DNS:localhost", "IP:127.0.0.1"])
    made.issue("app")
    made.issue("guest", names=["email:app", "URI:app"])
    for name, (subject, names, _) in NAMES.items():
        made.issue(name, names=names, subject=subject)
    made.issue("nameless", subject="/O=app")
    made.issue("strange_app", subject="/CN=app", by="other_ca")
    return made


@pytest.fixture
def start_tls(start_pooler, certificates, cluster):
    def start(settings=None, **more):
        rows = {
            "client_tls_sslmode": "verify-full",
            "client_tls_cert_file": certificates.file("server.pem"),
            "client_tls_key_file": certificates.file("server.key"),
            "client_tls_ca_file": certificates.file("ca.pem"),
            **(settings or {}),
        }
        more.setdefault("databases", {"app": entry(cluster, user="app_trust"),
                                      "other": entry(cluster, user="app_trust")})  # fmt: skip
        more.setdefault("secrets", {"app": "", "guest": "", **ADMINS})
        return start_pooler(rows, **more)

    return start


def outcome(pooler, certificates, user, certificate, database="app", secret=None):
    """`ok`, the text of the error, or the name of TLS's refusal."""
    client = pooler.connect()
    try:
        tls.start_tls(client, certificates.client_context(certificate))
        client.login(user, secret, database)
        return "ok"
    except wire.LoginFailed as failure:
        return failure.fields["M"]
    except tls.SSL_ERRORS:
        return "no TLS"
    finally:
        client.drop()


# Certificates


def test_certificate(start_tls, certificates):
    """A name in it is the user's, who is known."""
    pooler = start_tls({"auth_type": "cert"})
    assert outcome(pooler, certificates, "app", "app") == "ok"
    assert outcome(pooler, certificates, "guest", "guest") == "ok"
    assert outcome(pooler, certificates, "app", "guest") == CERT_FAILED
    assert outcome(pooler, certificates, "app", "nameless") == CERT_FAILED
    assert outcome(pooler, certificates, "stranger", "app") == CERT_FAILED
    assert outcome(pooler, certificates, "app", "strange_app") == "no TLS"
    assert outcome(pooler, certificates, "app", None) in (CERT_FAILED, "no TLS")
    assert outcome(pooler, certificates, "app", "app", "nowhere") == "no such database: nowhere"
    with pytest.raises(wire.LoginFailed, match="SSL required"):
        pooler.client("app")
    with pytest.raises(wire.LoginFailed, match=CERT_FAILED):
        pooler.client("app", unix=True)


def test_names_as_pgbouncer_reads_them(start_both, certificates, cluster):
    """The common name and alternative ones. PgBouncer does not look at their case; for PostgreSQL
    users that differ in it are different users."""
    users = ["app", "guest", "10.1.2.3", "fe80::1", "*.test", "a.test", "x"]
    poolers = start_both(
        {
            "auth_type": "cert",
            "client_tls_sslmode": "verify-full",
            "client_tls_cert_file": certificates.file("server.pem"),
            "client_tls_key_file": certificates.file("server.key"),
            "client_tls_ca_file": certificates.file("ca.pem"),
        },
        secrets=dict.fromkeys([*users, "APP"], ""),
        databases={"app": entry(cluster, user="app_trust")},
    )
    wanted = {name: set(let_in) for name, (_, _, let_in) in NAMES.items()}
    for pooler in poolers:
        found = {
            name: {user for user in users if outcome(pooler, certificates, user, name) == "ok"}
            for name in NAMES
        }
        assert found == wanted, pooler.kind
    assert outcome(poolers[0], certificates, "APP", "common") == CERT_FAILED


def test_certificates_need_verify_full(start_tls, certificates):
    pooler = start_tls()
    for mode in ("disable", "require", "verify-ca"):
        with open(pooler.ini, encoding="utf-8") as file:
            text = file.read().replace("auth_type = trust", "auth_type = cert")
        path = os.path.join(pooler.folder, "other.ini")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("sslmode = verify-full", f"sslmode = {mode}"))
        status, text = run(pooler, "--check", path)
        assert status == 1 and "TLS setup failed: auth_type = cert: expected client_tls_sslmode = verify-full" in text


def test_set_of_certificates_without_tls(start_both):
    """SET tells nothing; nobody gets in."""
    for pooler in start_both({"auth_type": "md5"}, secrets={"app": "x", ADMIN[0]: ADMIN[1]}):
        with pooler.client(*ADMIN, database="pgbouncer") as console:
            assert not console.query("SET auth_type = cert").errors
            with pytest.raises(wire.LoginFailed) as raised:
                pooler.client("app", "x")
            assert raised.value.fields["M"] == CERT_FAILED
            assert not console.query("SET auth_type = md5").errors
        pooler.stop()


def test_rules_with_cert(start_tls, certificates, write_rules):
    """A map may make another user of a name; without TLS or certificate nobody gets in."""
    maps = write_rules("m guest app\nm nobody all\n", "ident.conf")
    rules = write_rules(
        "hostssl app all all cert\nhostssl other all all cert map=m\n"
        "hostnossl app all all cert\nhostnossl all all all md5\n"
    )
    pooler = start_tls(
        {"auth_type": "hba", "auth_hba_file": rules, "auth_ident_file": maps,
         "client_tls_sslmode": "verify-ca"}
    )  # fmt: skip
    assert outcome(pooler, certificates, "app", "app") == "ok"
    assert outcome(pooler, certificates, "app", "guest") == CERT_FAILED
    assert outcome(pooler, certificates, "app", "guest", "other") == "ok"
    assert outcome(pooler, certificates, "app", "app", "other") == CERT_FAILED
    assert outcome(pooler, certificates, "guest", "guest", "other") == CERT_FAILED


def test_rules_with_cert_where_nobody_is_verified(start_tls, certificates, write_rules):
    """A certificate that nobody asked for or looked at is none."""
    rules = write_rules("hostssl all all all cert\nhost all all all reject\n")
    settings = {"auth_type": "hba", "auth_hba_file": rules, "client_tls_sslmode": "prefer"}
    pooler = start_tls(settings)
    assert outcome(pooler, certificates, "app", "app") == CERT_FAILED
    with pytest.raises(wire.LoginFailed, match="login rejected"):
        pooler.client("app")


def test_rules_by_tls(start_tls, certificates, write_rules):
    rules = write_rules("hostssl app all all trust\nhostnossl other all all trust\n")
    settings = {"auth_type": "hba", "auth_hba_file": rules, "client_tls_sslmode": "prefer"}
    pooler = start_tls(settings)
    assert outcome(pooler, certificates, "app", None) == "ok"
    missing = "no authentication method is found"
    assert outcome(pooler, certificates, "app", None, "other") == missing
    pooler.client("app", database="other").close()
    with pytest.raises(wire.LoginFailed, match=missing):
        pooler.client("app")


def test_rules_for_physical_replication(start_tls, certificates, write_rules):
    """The word replication stands for it, and all does not."""
    rules = write_rules("host all app all trust\nhost replication guest all trust\n")
    settings = {"auth_type": "hba", "auth_hba_file": rules, "client_tls_sslmode": "disable"}
    pooler = start_tls(settings)
    missing = "no authentication method is found"
    for user, parameters, text in (
        ("app", {"replication": "true"}, missing),
        ("guest", {}, missing),
        ("app", {}, "ok"),
        ("app", {"replication": "database"}, "ok"),
        ("guest", {"replication": "true"}, "ok"),
    ):
        try:
            pooler.client(user, **parameters).close()
            assert text == "ok", (user, parameters)
        except wire.LoginFailed as failure:
            found = failure.fields["M"]
            assert (found == missing) == (text == missing), (user, parameters, found)


# SCRAM-SHA-256-PLUS towards clients


@pytest.fixture
def start_scram(start_tls):
    def start(**settings):
        rows = {"auth_type": "scram-sha-256", "client_tls_sslmode": "prefer", **settings}
        return start_tls(rows, secrets={"app": SECRET, **ADMINS})

    return start


def test_libpq_binds_the_channel(start_scram, certificates):
    pooler = start_scram()
    more = {"sslmode": "verify-full", "sslrootcert": certificates.file("ca.pem")}
    for binding in ("require", "prefer", "disable"):
        with pooler.psycopg("app", SECRET, host="localhost", hostaddr="127.0.0.1",
                            channel_binding=binding, **more) as connection:  # fmt: skip
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        pooler.psycopg("app", SECRET, channel_binding="require", sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        pooler.psycopg("app", "not it", channel_binding="require", host="localhost", **more)


def test_md5_with_a_scram_secret_binds_too(start_tls, certificates, cluster):
    pooler = start_tls(
        {"auth_type": "md5", "client_tls_sslmode": "prefer"},
        secrets={"app": scram_secret(cluster, SECRET)},
    )
    with pooler.psycopg("app", SECRET, channel_binding="require", sslmode="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def offer(pooler, certificates, is_tls=True):
    client = pooler.connect()
    if is_tls:
        tls.start_tls(client, certificates.client_context())
    client.send(wire.startup({"user": "app", "database": "app"}))
    return client, client.read().body[4:]


def test_the_offer(start_scram, certificates):
    pooler = start_scram()
    assert offer(pooler, certificates)[1] == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    assert offer(pooler, certificates, False)[1] == b"SCRAM-SHA-256\0\0"


# The mechanism, the header of the first message, what the log says
FIRSTS = [
    ("SCRAM-SHA-256", "y,,", "thinks that it was not offered"),  # somebody cut the offer
    ("SCRAM-SHA-256", "p=tls-server-end-point,,", "malformed SCRAM message"),
    ("SCRAM-SHA-256-PLUS", "n,,", "malformed SCRAM message"),
    ("SCRAM-SHA-256-PLUS", "y,,", "malformed SCRAM message"),
    ("SCRAM-SHA-256-PLUS", "p=tls-unique,,", "another kind of SCRAM channel binding"),
    ("SCRAM-SHA-256-PLUS", "p=,,", "another kind of SCRAM channel binding"),
]


@pytest.mark.parametrize("mechanism,header,reason", FIRSTS)
def test_wrong_first_messages(start_scram, certificates, mechanism, header, reason):
    pooler = start_scram()
    client, _ = offer(pooler, certificates)
    first = f"{header}n=,r=abcdefghijklmnopqrstuvwx".encode()
    client.send(wire.message("p", wire.text0(mechanism) + struct.pack("!I", len(first)) + first))
    assert client.read_to_end().error["M"] == "SASL authentication failed"
    pooler.wait_log(reason)


def log_in_bound(client, bound_to, secret=SECRET):
    """SCRAM-SHA-256-PLUS by hand, bound to that certificate; the last message."""
    header = b"p=tls-server-end-point,,"
    bare = b"n=,r=abcdefghijklmnopqrstuvwx"
    first = header + bare
    mechanism = wire.text0("SCRAM-SHA-256-PLUS")
    client.send(wire.message("p", mechanism + struct.pack("!I", len(first)) + first))
    challenge = client.read().body[4:].decode()
    parts = dict(part.split("=", 1) for part in challenge.split(","))
    binding = base64.b64encode(header + hashlib.sha256(bound_to).digest()).decode()
    final = f"c={binding},r={parts['r']}"
    signed = f"{bare.decode()},{challenge},{final}".encode()
    proof, _ = wire.scram_proof(secret, parts["s"], int(parts["i"]), signed)
    client.send(wire.message("p", f"{final},p={proof}".encode()))
    return client.read()


def test_somebody_in_between_is_noticed(start_scram, certificates):
    """The right password, bound to another certificate than the one that Weir shows."""
    pooler = start_scram()
    client, _ = offer(pooler, certificates)
    assert log_in_bound(client, client.socket.getpeercert(binary_form=True)).kind == "R"
    client, _ = offer(pooler, certificates)
    with open(certificates.file("app.pem"), encoding="ascii") as file:
        other = ssl.PEM_cert_to_DER_cert(file.read())
    assert log_in_bound(client, other).fields()["M"] == "SASL authentication failed"
    pooler.wait_log("SCRAM channel binding is for another connection")


# SCRAM-SHA-256-PLUS towards servers


class Impostor(Exception):
    pass


def serve_scram(connection, context, certificate, offered, seen):
    """A PostgreSQL that asks for SCRAM over TLS and writes down what Weir said."""
    tls.read_startup(connection)
    connection.sendall(b"S")
    connection = context.wrap_socket(connection, server_side=True)
    tls.read_startup(connection)
    names = b"".join(wire.text0(name) for name in offered) + b"\0"
    connection.sendall(wire.message("R", struct.pack("!I", 10) + names))
    first = read_message(connection)
    mechanism, _, rest = first.partition(b"\0")
    header, _, bare = rest[4:].partition(b"n=,")
    seen.append((mechanism.decode(), header.decode()))
    nonce = bare.partition(b"r=")[2] + b"server"
    challenge = b"r=" + nonce + b",s=" + base64.b64encode(b"salt of 16 bytes") + b",i=4096"
    connection.sendall(wire.message("R", struct.pack("!I", 11) + challenge))
    final, _, proof = read_message(connection).rpartition(b",p=")
    signed = b"n=," + bare + b"," + challenge + b"," + final
    salt = base64.b64encode(b"salt of 16 bytes")
    expected, signature = wire.scram_proof(SECRET, salt, 4096, signed)
    binding = header + (hashlib.sha256(certificate).digest() if header[:1] == b"p" else b"")
    said = base64.b64decode(final.partition(b",")[0][2:])
    if not hmac.compare_digest(expected.encode(), proof) or said != binding:
        raise Impostor(f"{final!r}")
    connection.sendall(wire.message("R", struct.pack("!I", 12) + f"v={signature}".encode()))
    connection.sendall(tls.GREETING)
    while read_message(connection) is not None:
        connection.sendall(wire.message("C", wire.text0("SELECT 0")) + wire.message("Z", b"I"))


def read_message(connection):
    """The body of the next message; None at the end."""
    if connection.recv(1) in (b"", b"X"):
        return None
    return tls.read_exactly(connection, struct.unpack("!I", tls.read_exactly(connection, 4))[0] - 4)


SERVERS = [
    (["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,")),
    (["SCRAM-SHA-256-PLUS"], ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,")),
    (["SCRAM-SHA-256"], ("SCRAM-SHA-256", "y,,")),
]


@pytest.mark.parametrize("offered,said", SERVERS)
def test_servers_that_can_bind(start_pooler, certificates, offered, said):
    """Weir binds wherever the server offers it, and says that it could where it does not, so
    that a real server notices who has cut its offer."""
    with open(certificates.file("server.pem"), encoding="ascii") as file:
        certificate = ssl.PEM_cert_to_DER_cert(file.read())
    seen = []
    context = certificates.server_context()

    def serve(connection):
        serve_scram(connection, context, certificate, offered, seen)

    with tls.Listener(serve) as listener:
        pooler = start_pooler(
            {"server_tls_sslmode": "require"},
            secrets={"app": SECRET},
            databases={"app": f"host=127.0.0.1 port={listener.port}"},
        )
        with pooler.client("app") as client:
            assert client.query("SELECT 1").tags == ["SELECT 0"]
    assert seen == [said]
    assert listener.errors == []
