"""Versions of the protocol: what libpq 18 asks for, and what a newer server may answer."""

import os
import struct

import pytest

import cluster as clusters
import wire
from certificates import Certificates
from pooler import ADMIN
from test_attacks import READY, WELCOME, Impostor
from test_auth_query import NEW_DEFAULT
from tls import start_tls
from tools import wait_running
from wire import message, query, startup, text0

pytestmark = pytest.mark.weir_only

THREE = 196608
# What libpq 18 sends: 3.2 where it is told so, and a version that will never be, with an extension
# that will never be, to find out who answers them wrongly.
ASKED = {
    "3.2": (THREE + 2, {}),
    "grease": (THREE + 9999, {"_pq_.test_protocol_negotiation": ""}),
    "an extension": (THREE, {"_pq_.command": "1"}),
}


@pytest.fixture(scope="module")
def certificates(cluster):
    made = Certificates(os.path.join(cluster.folder, "tls-of-versions"))
    made.issue("server", names=["DNS:localhost"])
    return made


def assert_negotiated(answer, extra):
    """Told once, ahead of all else, and then a login as of 3.0."""
    assert answer.kinds.count("v") == 1 and answer.kinds.startswith("vR")
    (told,) = answer.of("v")
    assert told.body == struct.pack("!II", THREE, len(extra)) + b"".join(map(text0, extra))
    (key,) = answer.of("K")
    assert len(key.body) == 8 and answer.status == "I"


def log_in(client, version, extra, user="app", database="app"):
    client.send(startup({"user": user, "database": database, **extra}, version=version))
    secret = ADMIN[1] if user == ADMIN[0] else clusters.PASSWORDS["app"]
    answer = client.authenticate(user, secret)
    assert_negotiated(answer, extra)
    return answer


@pytest.mark.parametrize("version,extra", ASKED.values(), ids=ASKED)
def test_where_users_are_asked_for(start_pooler, version, extra):
    """Also for those who wait for the answer of an auth_query meanwhile."""
    rows = {"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query": NEW_DEFAULT}
    pooler = start_pooler(rows, secrets={"postgres": ""})
    with pooler.connect() as client:
        log_in(client, version, extra)
        assert client.query("SELECT current_user").value == "app"


@pytest.mark.parametrize("version,extra", ASKED.values(), ids=ASKED)
def test_over_tls(start_pooler, certificates, version, extra):
    pooler = start_pooler({
        "auth_type": "scram-sha-256",
        "client_tls_sslmode": "require",
        "client_tls_cert_file": certificates.file("server.pem"),
        "client_tls_key_file": certificates.file("server.key"),
    })  # fmt: skip
    with start_tls(pooler.connect(), certificates.client_context()) as client:
        log_in(client, version, extra)
        assert client.query("SELECT current_user").value == "app"


@pytest.mark.parametrize("version,extra", ASKED.values(), ids=ASKED)
def test_at_the_console(pooler, version, extra):
    with pooler.connect() as client:
        log_in(client, version, extra, ADMIN[0], "pgbouncer")
        assert client.query("SHOW VERSION").value == "PgBouncer 1.25.2"


@pytest.mark.parametrize("version,extra", ASKED.values(), ids=ASKED)
def test_for_replication(start_pooler, cluster, version, extra):
    pooler = start_pooler()
    with pooler.connect() as client:
        parameters = {"user": "postgres", "database": "app", "replication": "database", **extra}
        client.send(startup(parameters, version=version))
        assert_negotiated(client.authenticate("postgres", None), extra)
        assert client.query("IDENTIFY_SYSTEM").rows[0][3] == "app"


def test_the_key_cancels(pooler, cluster):
    with pooler.connect() as client:
        client.send(startup({"user": "app_trust", "database": "app"}, version=THREE + 2))
        (key,) = client.authenticate("app_trust", None).of("K")
        client.send(query("SELECT pg_sleep(30), 'victim'"))
        wait_running(cluster, "victim")
        wire.cancel(pooler.address, key.body)
        assert client.answer().code == "57014"


@pytest.mark.parametrize("length", [0, 1, 3, 5, 32, 256, 9000])
def test_keys_of_another_length(pooler, length):
    """3.2 allows 4 to 256 bytes. None of ours is like that, so they stop nobody."""
    body = struct.pack("!II", 80877102, 1) + b"x" * length
    with pooler.connect() as client:
        client.send(struct.pack("!I", 4 + len(body)), body)
        assert client.read_to_end().kinds == ""
    pooler.wait_log("closing because: bad cancel request")
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_keys_cannot_be_guessed(start_pooler):
    """All bytes but those that tell worker, process and hops differ, and none follows another."""
    pooler = start_pooler({"peer_id": 5})
    clients = [pooler.client() for _ in range(64)]
    keys = [client.key for client in clients]
    assert {key[1] | key[2] << 8 for key in keys} == {5}
    assert {key[7] & 3 for key in keys} == {3}
    for at in range(3, 8):
        assert len({key[at] for key in keys}) > 30, at
    numbers = [int.from_bytes(key[3:], "big") for key in keys]
    steps = {two - one for one, two in zip(numbers, numbers[1:])}
    assert len(steps) == len(numbers) - 1
    for client in clients:
        client.close()


# Servers

PID = struct.pack("!I", 77)
ROW = message("T", b"\0\0") + message("C", text0("SELECT 0")) + READY
SERVERS = {
    "a key of 256 bytes": WELCOME.replace(
        message("K", struct.pack("!II", 1, 2)), message("K", PID + b"k" * 256)
    ),
    "a version": message("v", struct.pack("!II", THREE, 0)) + WELCOME,
    "a version and extensions": message("v", struct.pack("!II", THREE, 1) + b"_pq_.x\0") + WELCOME,
}


@pytest.mark.parametrize("greeting", SERVERS.values(), ids=SERVERS)
def test_a_newer_server(start_pooler, greeting):
    """It is asked for 3.0; what it adds is nothing to the clients."""
    with Impostor(greeting, ROW) as impostor:
        place = f"host=127.0.0.1 port={impostor.port} dbname=app"
        pooler = start_pooler(databases={"app": place})
        with pooler.connect() as client:
            answer = client.login("app_trust")
            assert "v" not in answer.kinds and len(client.key) == 8
            assert client.query("SELECT 1").tags == ["SELECT 0"]


TOO_MUCH = {
    "a key of 7 bytes": message("K", b"k" * 7),
    "half a version": message("v", b"\0\3\0"),
}


@pytest.mark.parametrize("nonsense", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_server_that_says_nonsense_of_it(start_pooler, nonsense):
    ok = message("R", struct.pack("!I", 0))
    with Impostor(ok + nonsense + READY) as impostor:
        place = f"host=127.0.0.1 port={impostor.port} dbname=app"
        pooler = start_pooler(databases={"app": place})
        with pooler.connect() as client:
            client.send(startup({"user": "app_trust", "database": "app"}))
            pooler.wait_log("S-0x.* closing because: unknown pkt from server")
            assert client.is_silent(0.1)
