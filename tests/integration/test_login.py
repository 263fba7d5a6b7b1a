"""Who gets in, how, and what everybody else is told; and what comes before a login."""

import contextlib
import random
import re
import struct
import time

import psycopg
import pytest

import cluster as clusters
from pooler import KIND, PATIENCE
from wire import (
    GSS_REQUEST,
    SSL_REQUEST,
    SYNC,
    Closed,
    Late,
    LoginFailed,
    bind,
    execute,
    message,
    parse,
    password,
    query,
    startup,
    text0,
)

# So that a connection is seen before it has sent something.
AT_ONCE = {"tcp_defer_accept": 0}

SECRET = clusters.PASSWORDS["app"]


def refusal(pooler, user, secret=None, database="app", **parameters):
    """The fields of the error that ends a login."""
    client = pooler.connect()
    with pytest.raises(LoginFailed) as raised:
        client.login(user, secret, database, **parameters)
    with pytest.raises(Closed):
        client.read()
    return raised.value.fields


def assert_refused(fields, text):
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", text)


def assert_serves(pooler):
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


# Methods


def test_trust(pooler):
    answer = pooler.connect().login("app_trust")
    assert answer.kinds.startswith("R") and answer.kinds.endswith("KZ")
    assert answer.status == "I"


def test_trust_of_an_unknown_user(pooler):
    assert_refused(refusal(pooler, "stranger"), '"trust" authentication failed')


@pytest.mark.parametrize("method", ["plain", "scram-sha-256"])
def test_right_password(start_pooler, method):
    pooler = start_pooler({"auth_type": method})
    with pooler.client("app", SECRET) as client:
        assert client.query("SELECT current_user").value == "app"
    with pooler.psycopg("app", SECRET) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)
    assert pooler.psql("SELECT current_user", "app", SECRET).stdout == "app\n"


WRONG = [
    ("plain", "password authentication failed"),
    ("scram-sha-256", "SASL authentication failed"),
]


@pytest.mark.parametrize("method,text", WRONG)
def test_wrong_password_and_unknown_user_look_alike(start_pooler, method, text):
    pooler = start_pooler({"auth_type": method})
    wrong = refusal(pooler, "app", "not it")
    unknown = refusal(pooler, "stranger", "not it")
    assert_refused(wrong, text)
    assert unknown == wrong
    assert refusal(pooler, "app", SECRET + " ") == wrong
    with pooler.client("app", SECRET) as client:
        assert client.query("SELECT 1").value == "1"


def test_empty_password(start_pooler):
    pooler = start_pooler({"auth_type": "plain"})
    assert_refused(refusal(pooler, "app", ""), "empty password returned by client")
    assert refusal(pooler, "postgres", "x")["M"] == "password authentication failed"


@pytest.mark.weir_only
@pytest.mark.parametrize("method", ["plain", "scram-sha-256"])
def test_a_very_long_password(start_pooler, method):
    """Every byte of it counts."""
    longest = "p" * 60000
    secrets = {"app": longest, "app_trust": "p"}
    pooler = start_pooler({"auth_type": method}, secrets=secrets)
    assert "authentication failed" in refusal(pooler, "app", "p" * 60001)["M"]
    with pytest.raises(LoginFailed, match="password authentication failed for user"):
        # The pooler lets it in; the server, which has another secret, does not.
        pooler.client("app", longest)


def scram_challenge(pooler, user):
    """Salt and iterations which the pooler tells to `user`."""
    client = pooler.connect()
    client.send(startup({"user": user, "database": "app"}))
    assert client.read().body == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
    first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
    body = text0("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first
    client.send(message("p", body))
    parts = client.read().body[4:].decode().split(",")
    client.drop()
    return parts[1], parts[2]


def test_scram_challenge_does_not_tell_who_exists(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    known = scram_challenge(pooler, "app")
    stranger = scram_challenge(pooler, "stranger")
    assert known[1] == stranger[1]
    assert len(known[0]) == len(stranger[0])
    if KIND == "weir":
        assert scram_challenge(pooler, "stranger") == stranger
        assert scram_challenge(pooler, "app") == known


def test_scram_secret_in_auth_file(start_pooler, cluster):
    """A verifier as PostgreSQL stores it; what the client proves serves for the server too."""
    stored = cluster.primary.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    pooler = start_pooler({"auth_type": "scram-sha-256"}, secrets={"app": stored})
    with pooler.client("app", SECRET) as client:
        assert client.query("SELECT current_user").value == "app"
    assert_refused(refusal(pooler, "app", "not it"), "SASL authentication failed")


SCRAM_NONSENSE = [
    message("p", b""),
    message("p", b"\0"),
    message("p", b"SCRAM-SHA-256"),
    message("p", text0("SCRAM-SHA-256")),
    pytest.param(
        message("p", text0("SCRAM-SHA-256") + struct.pack("!i", -1)),
        marks=pytest.mark.weir_only,  # PgBouncer 1.18 crashes
    ),
    message("p", text0("SCRAM-SHA-256") + struct.pack("!i", 1 << 30)),
    message("p", text0("SCRAM-SHA-256") + struct.pack("!I", 3) + b"n,,"),
    message("p", text0("SCRAM-SHA-256") + struct.pack("!I", 9) + b"n,,x=,r=a"),
    message("p", text0("SCRAM-SHA-256-PLUS") + struct.pack("!I", 13) + b"p=x,,n=,r=abcd"),
    message("p", text0("MD5") + struct.pack("!I", 0)),
    query("SELECT 1"),
    startup({"user": "app"}),
]


@pytest.mark.parametrize("nonsense", SCRAM_NONSENSE, ids=range(len(SCRAM_NONSENSE)))
def test_nonsense_in_the_middle_of_scram(start_pooler, nonsense):
    pooler = start_pooler({"auth_type": "scram-sha-256", "client_login_timeout": 2 * PATIENCE})
    client = pooler.connect()
    client.send(startup({"user": "app", "database": "app"}))
    assert client.read().kind == "R"
    client.send(nonsense)
    answer = client.read_to_end()
    assert "R" not in answer.kinds and "Z" not in answer.kinds
    if KIND == "weir":
        assert answer.error["S"] == "FATAL"
    with pooler.client("app", SECRET) as other:
        assert other.query("SELECT 1").value == "1"


@pytest.mark.parametrize("user", ["app_trust", "app", "app_plain"])
def test_login_to_the_server(pooler, user):
    """The server asks these users for nothing, for SCRAM and for a clear password."""
    with pooler.client(user) as client:
        assert client.query("SELECT current_user").value == user


def test_forced_user(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} user=app password='{SECRET}'"
    pooler = start_pooler(databases={"app": entry})
    with pooler.client("app_trust") as client:
        assert client.query("SELECT current_user").value == "app"


# Databases, limits


def test_unknown_database(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    assert_refused(refusal(pooler, "app", SECRET, "nowhere"), "no such database: nowhere")


@pytest.mark.weir_only
def test_unknown_database_is_told_after_the_password_only(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    assert_refused(refusal(pooler, "app", "not it", "nowhere"), "SASL authentication failed")


def test_database_defaults_to_the_user(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(databases={"app_trust": entry})
    client = pooler.connect()
    client.send(startup({"user": "app_trust"}))
    assert client.authenticate("app_trust", None).status == "I"


def test_max_client_conn(start_pooler):
    pooler = start_pooler({"max_client_conn": 3})
    clients = [pooler.client() for _ in range(3)]
    text = "no more connections allowed (max_client_conn)"
    assert_refused(refusal(pooler, "app_trust"), text)
    assert pooler.admin("SHOW POOLS")
    clients.pop().close()
    deadline = time.monotonic() + 5 * PATIENCE
    while True:
        try:
            clients.append(pooler.client())
            break
        except LoginFailed:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for client in clients:
        assert client.query("SELECT 1").value == "1"


# Servers that cannot be had


def test_wrong_password_at_the_server(start_pooler):
    """The client is let in by trust; then the server's own words and SQLSTATE reach it."""
    pooler = start_pooler(secrets={"app": "not it", "app_trust": ""})
    fields = refusal(pooler, "app")
    assert fields["M"] == 'password authentication failed for user "app"'
    if KIND == "weir":
        assert fields["C"] == "28P01"
        pooler.wait_log('password authentication failed for user "app"')
    assert_serves(pooler)


def test_database_unknown_at_the_server(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=missing"
    pooler = start_pooler(databases={"app": entry})
    fields = refusal(pooler, "app_trust")
    assert fields["M"] == 'database "missing" does not exist'
    if KIND == "weir":
        assert fields["C"] == "3D000"


UNREACHABLE = [
    ("host=127.0.0.1 port={free}", "connect failed"),
    ("host=does-not-exist.invalid", "server DNS lookup failed"),
]


@pytest.mark.parametrize("entry,reason", UNREACHABLE)
def test_unreachable_server(start_pooler, entry, reason):
    """The client waits for it, as it may be back soon, until its time is over."""
    entry = entry.format(free=clusters.free_port())
    settings = {"server_login_retry": 0.3, "client_login_timeout": 1.5}
    pooler = start_pooler(settings, databases={"app": entry})
    fields = refusal(pooler, "app_trust")
    assert (fields["C"], fields["M"]) == ("08P01", "client_login_timeout (server down)")
    assert len(re.findall(rf"closing because: {reason} \(", pooler.log_text())) >= 2
    assert pooler.admin("SHOW POOLS")


# Before a login


def test_tls_and_gss_are_refused(pooler):
    client = pooler.connect()
    for request in (SSL_REQUEST, GSS_REQUEST):
        client.send(request)
        assert client.read_bytes(1) == b"N"
    assert client.login("app_trust").status == "I"


@pytest.mark.weir_only
@pytest.mark.parametrize(
    "request_bytes,name", [(SSL_REQUEST, "SSL request"), (GSS_REQUEST, "GSSAPI encryption request")]
)
def test_bytes_behind_a_request_for_encryption(pooler, request_bytes, name):
    """What stood in clear text before the handshake must never count as encrypted."""
    client = pooler.connect()
    client.send(request_bytes, startup({"user": "app_trust", "database": "app"}))
    answer = client.read_to_end()
    assert answer.error["M"] == f"received unencrypted data after {name}"


@pytest.mark.weir_only
def test_startup_byte_by_byte(pooler):
    client = pooler.connect()
    for byte in startup({"user": "app_trust", "database": "app"}):
        client.send(bytes([byte]))
    assert client.authenticate("app_trust", None).status == "I"


def test_login_and_query_in_one_write(start_pooler):
    """A client that knows it will be trusted need not wait for the welcome."""
    pooler = start_pooler()
    client = pooler.connect()
    client.send(startup({"user": "app_trust", "database": "app"}), query("SELECT 'early'"))
    client.authenticate("app_trust", None)
    assert client.answer().value == "early"


PROTOCOL_2 = struct.pack("!II", 296, 131072) + b"app".ljust(64, b"\0") + b"\0" * 224

# What is sent, the text of the error
BROKEN = [
    (PROTOCOL_2, "old V2 protocol not supported"),
    (startup({"database": "app"}), "no username supplied"),
    (startup({}), "no username supplied"),
    (startup({"user": "app_trust", "nonsense": "1"}), "unsupported startup parameter: nonsense"),
    (password("too early"), None),
    (struct.pack("!I", 0x40000000) + struct.pack("!I", 196608), None),
    (struct.pack("!I", 0xFFFFFFFF) + struct.pack("!I", 196608), None),
    (struct.pack("!I", 0) + b"\0\0\0\0", None),
    (struct.pack("!I", 4) + b"\0\0\0\0", None),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, None),
    (struct.pack("!II", 9, 196608) + b"x", None),
    (struct.pack("!II", 20, 196608) + b"user\0app_tru", None),
]


@pytest.mark.parametrize("data,text", BROKEN, ids=range(len(BROKEN)))
def test_broken_first_packet(start_pooler, data, text):
    pooler = start_pooler({"client_login_timeout": 2})
    client = pooler.connect()
    client.send(data)
    answer = client.read_to_end(seconds=8 * PATIENCE)
    assert set(answer.kinds) <= {"E"}
    if text is not None:
        assert_refused(answer.error, text)
    elif KIND == "weir":
        assert (answer.error["S"], answer.error["C"]) == ("FATAL", "08P01")
    assert_serves(pooler)


@pytest.mark.weir_only
def test_newer_protocol_is_negotiated_down(pooler):
    client = pooler.connect()
    parameters = {"user": "app_trust", "database": "app", "_pq_.odd": "1"}
    client.send(startup(parameters, version=196608 + 2))
    offer = client.read()
    assert offer.kind == "v"
    assert offer.body == struct.pack("!II", 196608, 1) + b"_pq_.odd\0"
    assert client.authenticate("app_trust", None).status == "I"


SILENT = {
    "nothing": b"",
    "half a length": b"\0\0",
    "half a packet": startup({"user": "app_trust", "database": "app"})[:20],
    "no password": startup({"user": "app", "database": "app"}),
}


@pytest.mark.weir_only  # PgBouncer 1.18 refuses a first packet that comes in pieces
@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT.keys())
def test_login_timeout(start_pooler, sent):
    pooler = start_pooler({"auth_type": "scram-sha-256", "client_login_timeout": 1, **AT_ONCE})
    client = pooler.connect()
    client.send(sent)
    began = time.monotonic()
    answer = client.read_to_end()
    assert 0.5 < time.monotonic() - began < 4 * PATIENCE
    assert_refused(answer.error, "client_login_timeout")


def test_many_silent_connections_take_little_memory(start_pooler):
    pooler = start_pooler({"client_login_timeout": 2, **AT_ONCE})
    assert_serves(pooler)
    before = pooler.memory()
    silent = [pooler.connect() for _ in range(400)]
    for client in silent[::2]:
        client.send(struct.pack("!I", 1 << 13))
    time.sleep(0.3)
    assert pooler.memory() - before < 8_000_000 * PATIENCE
    for client in silent:
        client.read_to_end(seconds=8 * PATIENCE)
    assert_serves(pooler)


def test_random_bytes(start_pooler):
    """A thousand strangers who talk nonsense; each is closed, and the pooler goes on."""
    pooler = start_pooler({"client_login_timeout": 1})
    source = random.Random(7)
    for _ in range(10):
        strangers = []
        for _ in range(100):
            client = pooler.connect()
            data = bytes(source.randrange(256) for _ in range(source.randrange(1, 200)))
            if source.random() < 0.5:
                data = struct.pack("!II", len(data) + 8, 196608) + data
            try:
                client.send(data)
                strangers.append(client)
            except Closed:
                continue
        for client in strangers:
            assert set(client.read_to_end(seconds=8 * PATIENCE).kinds) <= {"E"}
        assert_serves(pooler)


# After a login


# What is sent, whether the text of the error is known
VIOLATIONS = [
    (message("z"), "unknown pkt"),
    (message("\0"), "unknown pkt"),
    (b"Q\0\0\0\3", None),
    (b"Q\0\0\0\0SELECT", None),
    (b"S\xff\xff\xff\xff", None),
    (startup({"user": "app_trust"}), None),
]


MALFORMED = [
    message("Q", b"SELECT 1"),
    message("P", b"no end") + SYNC,
    message("P", text0("s") + text0("SELECT 1") + b"\0\2") + SYNC,
    message("B", b"") + SYNC,
    message("B", text0("") + b"no end") + SYNC,
    message("B", text0("") + text0("s") + b"\0\7") + SYNC,
    message("D", b"X" + text0("s")) + SYNC,
    message("E", text0("") + b"\0") + SYNC,
    message("C", b"") + SYNC,
    message("F", b"\0") + SYNC,
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_message_after_login(pooler, data):
    """An error, from the pooler or from the server; the connection may end or go on."""
    with pooler.client() as client:
        client.query("SELECT 1")
        client.send(data, query("SELECT 'after'"))
        assert client.read_until("E").code in ("08P01", "26000")
        with contextlib.suppress(Closed):
            assert client.read_until("D").rows == [("after",)]
    assert_serves(pooler)


@pytest.mark.weir_only
@pytest.mark.parametrize("data,text", VIOLATIONS, ids=range(len(VIOLATIONS)))
def test_violation_after_login(pooler, data, text):
    """An error that says so, then the end."""
    with pooler.client() as client:
        client.query("SELECT 1")
        client.send(data, query("SELECT 'after'"))
        answer = client.read_to_end()
        assert answer.error["C"] == "08P01" and "D" not in answer.kinds
        assert text is None or answer.error["M"] == text
    assert_serves(pooler)


def test_a_gigabyte_that_never_comes(pooler):
    """A message announced with 1 GB takes no memory before it is there."""
    assert_serves(pooler)
    before = pooler.memory()
    clients = [pooler.client() for _ in range(5)]
    for client in clients:
        client.send(b"Q" + struct.pack("!I", 1 << 30) + b"SELECT '" + b"x" * 100_000)
    time.sleep(0.3)
    assert pooler.memory() - before < 20_000_000 * PATIENCE
    for client in clients:
        client.drop()
    assert_serves(pooler)


def test_messages_of_every_type(pooler):
    """Any type with any short body: an answer or an end, never a hang or a crash."""
    source = random.Random(11)
    silent = []
    for number in range(256):
        body = bytes(source.randrange(256) for _ in range(source.randrange(0, 40)))
        with pooler.client() as client:
            client.seconds = 2 * PATIENCE
            try:
                client.send(bytes([number]), struct.pack("!I", len(body) + 4), body, SYNC)
                client.send(parse("SELECT 1"), bind(), execute(), SYNC, message("X"))
                client.read_to_end()
            except Closed:
                continue
            except Late:
                silent.append((number, body))
    assert silent == []
    assert_serves(pooler)


def test_psycopg_names_the_reason(pooler):
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        pooler.psycopg("stranger")
