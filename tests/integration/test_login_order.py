"""Of several things that are wrong with a login, which one the client is told; beside PgBouncer."""

import os
import struct

import pytest

from certificates import Certificates
from pooler import ADMIN
from test_login import assert_refused
from wire import Closed, message, password, startup, text0

pytestmark = pytest.mark.weir_only

LONG = "u" * 128
NONSENSE = {"nonsense": "1"}


def cut(parameters):
    """A startup packet without the terminator."""
    body = struct.pack("!I", 196608) + b"".join(map(text0, parameters))
    return struct.pack("!I", len(body) + 4) + body


PACKETS = {
    "nobody": startup({"database": "app"}),
    "empty": startup({"user": "", "database": "app"}),
    "nobody, parameter": startup({"database": "app", **NONSENSE}),
    "parameter": startup({"user": "app_trust", "database": "app", **NONSENSE}),
    "parameter first": startup({**NONSENSE, "user": "app_trust", "database": "app"}),
    "two parameters": startup({"user": "app_trust", "other": "1", **NONSENSE}),
    "long": startup({"user": LONG, "database": "app"}),
    "long, parameter": startup({"user": LONG, "database": "app", **NONSENSE}),
    "long, unknown database": startup({"user": LONG, "database": "nowhere"}),
    "127 bytes": startup({"user": LONG[1:], "database": "app"}),
    "protocol 2": struct.pack("!II", 8, 2 << 16),
    "unknown database": startup({"user": "app_trust", "database": "nowhere"}),
    "unknown user": startup({"user": "stranger", "database": "app"}),
    "unknown user and database": startup({"user": "stranger", "database": "nowhere"}),
    "console, nobody": startup({"database": "pgbouncer"}),
    "console, long": startup({"user": LONG, "database": "pgbouncer"}),
    "console, parameter": startup({"user": ADMIN[0], "database": "pgbouncer", **NONSENSE}),
    "console, not allowed": startup({"user": "app_trust", "database": "pgbouncer"}),
    "console": startup({"user": ADMIN[0], "database": "pgbouncer"}),
    "good": startup({"user": "app_trust", "database": "app"}),
}  # fmt: skip

SSL, V2, FULL, USER, TOO_LONG, PARAMETER, OTHER, TRUST, NOWHERE, CONSOLE = (
    "SSL required",
    "old V2 protocol not supported",
    "no more connections allowed (max_client_conn)",
    "no username supplied",
    "username too long",
    "unsupported startup parameter: nonsense",
    "unsupported startup parameter: other",
    '"trust" authentication failed',
    "no such database: nowhere",
    "not allowed",
)

# What each is told: by a pooler that takes everybody, by one that is full, and by one that demands
# TLS, which says nothing else. Empty: welcome.
TOLD = {
    "nobody": (USER, USER, SSL),
    "empty": (USER, USER, SSL),
    "nobody, parameter": (PARAMETER, PARAMETER, SSL),
    "parameter": (PARAMETER, PARAMETER, SSL),
    "parameter first": (PARAMETER, PARAMETER, SSL),
    "two parameters": (OTHER, OTHER, SSL),
    "long": (TOO_LONG, FULL, SSL),
    "long, parameter": (PARAMETER, PARAMETER, SSL),
    "long, unknown database": (TOO_LONG, FULL, SSL),
    "127 bytes": (TRUST, FULL, SSL),
    "protocol 2": (V2, V2, V2),
    "unknown database": (NOWHERE, FULL, SSL),
    "unknown user": (TRUST, FULL, SSL),
    "unknown user and database": (TRUST, FULL, SSL),
    "console, nobody": (USER, USER, SSL),
    "console, long": (TOO_LONG, TOO_LONG, SSL),
    "console, parameter": (PARAMETER, PARAMETER, SSL),
    "console, not allowed": (CONSOLE, CONSOLE, SSL),
    "console": ("", "", SSL),
    "good": ("", FULL, SSL),
}

POOLERS = ["open", "full", "secure"]


@pytest.fixture(scope="module")
def certificates(cluster):
    made = Certificates(os.path.join(cluster.folder, "tls-of-order"))
    made.issue("server", names=["DNS:localhost"])
    return made


def settings_of(name, certificates):
    if name == "full":
        return {"max_client_conn": 0}
    if name == "open":
        return {}
    return {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": certificates.file("server.pem"),
        "client_tls_key_file": certificates.file("server.key"),
        "max_client_conn": 0,
    }


def told(pooler, packet):
    with pooler.connect() as client:
        client.send(packet)
        return client.answer().error.get("M", "")


@pytest.mark.parametrize("name", POOLERS)
def test_what_is_told_first(start_both, certificates, name):
    weir, pgbouncer = start_both(settings_of(name, certificates))
    wanted = {row: texts[POOLERS.index(name)] for row, texts in TOLD.items()}
    assert {row: told(weir, packet) for row, packet in PACKETS.items()} == wanted
    assert {row: told(pgbouncer, packet) for row, packet in PACKETS.items()} == wanted
    # Who is refused before that is logged without a name, and without an attempt.
    for text in {USER, TOO_LONG, FULL, SSL, PARAMETER} & set(wanted.values()):
        for pooler in (weir, pgbouncer):
            pooler.wait_log(rf"\(nodb\)/\(nouser\)@127.0.0.1:\d+ pooler error: {escaped(text)}")
    named = {row for row, text in wanted.items() if text not in (USER, TOO_LONG, FULL, SSL)}
    attempts = len(named - {"protocol 2"} - {row for row in named if "parameter" in row})
    attempts += 0 if name == "secure" else 1  # wait_ready never logs in; SHOW below does
    for pooler in (weir, pgbouncer):
        if name != "secure":
            pooler.admin("SHOW VERSION")
        assert pooler.log_text().count("login attempt: ") == attempts


def escaped(text):
    return text.replace("(", r"\(").replace(")", r"\)")


LAYOUT = "invalid startup packet layout: expected terminator as last byte"
GOOD = ["user", "app_trust", "database", "app"]


@pytest.mark.parametrize("packet", [
    cut(GOOD),
    cut(["user", "app_trust", "database", ""]),
    cut([*GOOD, "", "more"]),
    cut([*GOOD[:3], ""]),
])  # fmt: skip
def test_a_packet_without_its_terminator(pooler, packet):
    """1.18 takes them."""
    assert told(pooler, packet) == LAYOUT


def test_tls_is_demanded_before_the_packet_is_read(start_pooler, certificates):
    pooler = start_pooler(settings_of("secure", certificates))
    assert told(pooler, cut(GOOD)) == SSL
    assert told(pooler, startup({"user": "x", "replication": "maybe"})) == SSL


def test_options_of_the_console(pooler):
    """Clients of the console have parameters like all others."""
    client = pooler.connect()
    with client:
        client.login(*ADMIN, "pgbouncer", application_name="who asks", options="-c datestyle=iso")
        answer = client.query("SHOW CLIENTS")
        (name,) = (row[answer.of("T")[0].columns().index("application_name")] for row in answer.rows)
        assert name == "who asks"
    refused = startup({"user": ADMIN[0], "database": "pgbouncer", "options": "-c work_mem=1MB"})
    assert told(pooler, refused) == "unsupported startup parameter in options: work_mem"


def test_the_name_of_a_console(start_both):
    for pooler in start_both():
        with pooler.connect() as client:
            client.login(*ADMIN, "pgbouncer", application_name="who asks")
            answer = client.query("SHOW CLIENTS")
            column = answer.of("T")[0].columns().index("application_name")
            assert [row[column] for row in answer.rows] == ["who asks"]


# Answers that are too long

METHODS = [
    ("plain", "password authentication failed"),
    ("md5", "password authentication failed"),
    ("scram-sha-256", "SASL authentication failed"),
]


def answer_of(method, length):
    """An answer to a challenge with a secret of that many bytes."""
    secret = b"p" * length
    if method != "scram-sha-256":
        return password(secret)
    first = b"n,,n=,r=" + secret
    return message("p", text0("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first)


@pytest.mark.parametrize("length", [65531, 131000, 131072, 1 << 20, 1 << 29])
@pytest.mark.parametrize("method,text", METHODS)
def test_too_long_a_password(start_pooler, method, text, length):
    """It is as wrong as any other, whatever its length, and what is no secret is not waited for."""
    pooler = start_pooler({"auth_type": method})
    for user in ("app", "stranger"):
        with pooler.connect() as client:
            client.send(startup({"user": user, "database": "app"}))
            client.read_until("R")
            sent = answer_of(method, length if length <= 131000 else 1000)
            missing = 0 if length <= 131000 else length - 1000
            client.send(b"p", struct.pack("!I", len(sent) - 1 + missing), sent[5:])
            assert_refused(client.read_until("E").error, text)
            with pytest.raises(Closed):
                client.read()


def test_a_message_that_is_no_password(start_pooler):
    pooler = start_pooler({"auth_type": "plain"})
    with pooler.connect() as client:
        client.send(startup({"user": "app", "database": "app"}))
        client.read_until("R")
        client.send(message("Q", text0("SELECT 1")))
        assert_refused(client.read_until("E").error, "failed to parse packet")
