"""TLS towards clients: modes, certificates, settings, hostile handshakes, and what is shown."""

import contextlib
import hashlib
import os
import shutil
import ssl
import subprocess
import time

import psycopg
import pytest

import cluster as clusters
import pooler as poolers
import tls
import wire
from certificates import Certificates

pytestmark = pytest.mark.weir_only


@pytest.fixture(scope="module")
def certificates(cluster):
    made = Certificates(os.path.join(cluster.folder, "tls-clients"))
    made.issue("server", names=["DNS:localhost", "IP:127.0.0.1"])
    made.issue("second", names=["DNS:localhost"])
    made.issue("app_trust")
    made.issue("stranger", by="other_ca")
    return made


@pytest.fixture
def start_tls_pooler(start_pooler, certificates):
    """Starts a pooler that shows the certificate `server`."""

    def start(settings=None, **more):
        rows = {
            "client_tls_sslmode": "prefer",
            "client_tls_cert_file": certificates.file("server.pem"),
            "client_tls_key_file": certificates.file("server.key"),
            "client_tls_ca_file": certificates.file("ca.pem"),
            **(settings or {}),
        }
        return start_pooler(rows, **more)

    return start


def connect(pooler, certificates, sslmode, certificate=None, **more):
    """A psycopg connection with that sslmode, verified against `ca` where the mode says so."""
    files = {"sslrootcert": certificates.file("ca.pem")}
    if certificate is not None:
        files["sslcert"] = certificates.file(f"{certificate}.pem")
        files["sslkey"] = certificates.file(f"{certificate}.key")
    return pooler.psycopg(sslmode=sslmode, **files, **more)


def tls_client(pooler, context, **login):
    """A wire.Client that is logged in over TLS."""
    client = tls.start_tls(pooler.connect(), context)
    client.login("app_trust", **login)
    return client


def console_login():
    """The arguments of a console's login."""
    user, secret = poolers.ADMIN
    return {"user": user, "secret": secret, "database": "pgbouncer"}


def shown_tls(pooler, user="app_trust"):
    """The column tls of that user's clients."""
    with pooler.psycopg(*poolers.ADMIN, database="pgbouncer", sslmode="prefer") as connection:
        rows = poolers.rows_of(connection, "SHOW CLIENTS")
    return {row["tls"] for row in rows if row["user"] == user}


# Modes

PLAIN = ("disable",)
ENCRYPTED = ("require", "verify-ca", "verify-full")


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_modes(start_tls_pooler, certificates, mode):
    pooler = start_tls_pooler({"client_tls_sslmode": mode})
    for sslmode in PLAIN:
        if mode == "require":
            with pytest.raises(psycopg.OperationalError, match="FATAL:  SSL required"):
                connect(pooler, certificates, sslmode)
            continue
        with connect(pooler, certificates, sslmode) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert shown_tls(pooler) == {""}
    for sslmode in ENCRYPTED:
        if mode == "disable":
            with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
                connect(pooler, certificates, sslmode)
            continue
        with connect(pooler, certificates, sslmode) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert shown_tls(pooler) == {"TLSv1.3/TLS_AES_256_GCM_SHA384"}
    with connect(pooler, certificates, "prefer"):
        shown = "" if mode == "disable" else "TLSv1.3/TLS_AES_256_GCM_SHA384"
        assert shown_tls(pooler) == {shown}


def test_required_tls_is_told_before_anything_else(start_tls_pooler):
    """Also where the database does not exist and the user neither."""
    pooler = start_tls_pooler({"client_tls_sslmode": "require", "auth_type": "scram-sha-256"})
    client = pooler.connect()
    with pytest.raises(wire.LoginFailed) as refused:
        client.login("nobody", "x", database="nothing")
    assert refused.value.fields["M"] == "SSL required"
    assert refused.value.fields["C"] == "08P01"
    assert "sslmode" in refused.value.fields["H"]
    pooler.wait_log(r"\(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ pooler error: SSL required")


def test_unix_sockets_have_no_tls(start_tls_pooler):
    pooler = start_tls_pooler({"client_tls_sslmode": "require"})
    client = pooler.connect(unix=True)
    client.send(wire.SSL_REQUEST)
    assert client.read_bytes(1) == b"N"
    assert client.login("app_trust").status == "I"
    assert client.query("SELECT 1").value == "1"
    with pooler.connect(unix=True) as other:
        other.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03")
        assert other.read_to_end().error["M"].startswith("bad packet header")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_client_certificates(start_tls_pooler, certificates, mode):
    """The CA must have signed it; whose name is in it is for auth_type = cert to judge."""
    pooler = start_tls_pooler({"client_tls_sslmode": mode})
    for user in ("app_trust", "app"):
        with connect(pooler, certificates, "verify-full", "app_trust", user=user) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="SSL error|closed|certificate"):
        connect(pooler, certificates, "require")
    pooler.wait_log(
        r"\] WARNING TLS handshake error: handshake failed: peer did not return a certificate\n"
    )
    pooler.wait_log(
        r"C-0x[0-9a-f]+: \(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ closing because: client unexpected eof"
    )
    with pytest.raises(psycopg.OperationalError, match="SSL error|closed|certificate|unknown ca"):
        connect(pooler, certificates, "require", "stranger")
    pooler.wait_log("TLS handshake error: handshake failed: certificate verify failed")
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        connect(pooler, certificates, "disable")


def test_no_names_of_authorities_are_sent(start_tls_pooler, certificates):
    settings = {"client_tls_sslmode": "verify-ca", "client_tls_protocols": "tlsv1.2"}
    pooler = start_tls_pooler(settings)
    done = subprocess.run(
        ["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{pooler.port}"],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "No client certificate CA names sent" in done.stdout, done.stdout


# What a client may say before and around the handshake


def test_bytes_behind_the_request(start_tls_pooler, certificates):
    """What stood in clear text before the handshake must never count as encrypted."""
    pooler = start_tls_pooler()
    client = pooler.connect()
    client.send(wire.SSL_REQUEST, wire.startup({"user": "app_trust", "database": "app"}))
    answer = client.read_to_end()
    assert answer.error["M"] == "received unencrypted data after SSL request"


def test_a_second_request(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    client = tls.start_tls(pooler.connect(), certificates.client_context())
    client.send(wire.SSL_REQUEST)
    assert client.read_to_end().error["M"] == "SSL req inside SSL"
    other = tls.start_tls(pooler.connect(), certificates.client_context())
    other.send(wire.GSS_REQUEST)
    assert other.read_bytes(1) == b"N"
    assert other.login("app_trust").status == "I"


def test_a_gss_request_before(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    client = pooler.connect()
    client.send(wire.GSS_REQUEST)
    assert client.read_bytes(1) == b"N"
    tls.start_tls(client, certificates.client_context())
    assert client.login("app_trust").status == "I"


def test_startup_that_follows_the_handshake_at_once(start_tls_pooler, certificates):
    """Both come with one packet, so that no event announces the second."""
    pooler = start_tls_pooler()
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = certificates.client_context()
    machine = context.wrap_bio(inward, outward, server_hostname="localhost")
    client = pooler.connect()
    client.send(wire.SSL_REQUEST)
    assert client.read_bytes(1) == b"S"
    while True:
        try:
            machine.do_handshake()
            break
        except ssl.SSLWantReadError:
            if outward.pending:
                client.socket.sendall(outward.read())
            inward.write(client.socket.recv(65536))
    machine.write(wire.startup({"user": "app_trust", "database": "app"}))
    machine.write(wire.query("SELECT 'both'"))
    client.socket.sendall(outward.read())
    seen = b""
    deadline = time.monotonic() + 10
    while b"both" not in seen and time.monotonic() < deadline:
        inward.write(client.socket.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                seen += machine.read(65536)
    assert b"both" in seen


# Direct TLS


def test_direct(start_tls_pooler, certificates):
    pooler = start_tls_pooler({"client_tls_sslmode": "require"})
    context = certificates.client_context(alpn="postgresql")
    client = tls.wrap(pooler.connect(), context)
    assert client.socket.selected_alpn_protocol() == "postgresql"
    assert client.login("app_trust").status == "I"
    assert client.query("SELECT 1").value == "1"
    assert shown_tls(pooler) == {"TLSv1.3/TLS_AES_256_GCM_SHA384"}


def test_direct_with_the_hello_in_pieces(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = certificates.client_context(alpn="postgresql")
    machine = context.wrap_bio(inward, outward, server_hostname="localhost")
    client = pooler.connect()
    done = False
    while not done:
        try:
            machine.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        hello = outward.read()
        for at in range(0, len(hello), 50):
            client.socket.sendall(hello[at : at + 50])
            time.sleep(0.005)
        if not done:
            inward.write(client.socket.recv(65536))
    assert machine.version() == "TLSv1.3"


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_direct_needs_its_protocol(start_tls_pooler, certificates, alpn):
    pooler = start_tls_pooler()
    context = certificates.client_context(alpn=alpn)
    with pytest.raises(tls.SSL_ERRORS):
        tls.wrap(pooler.connect(), context).login("app_trust")
    pooler.wait_log("TLS handshake error: handshake failed: .*(ALPN|alpn|application protocol)")


def test_direct_where_tls_is_off(pooler):
    client = pooler.connect()
    client.send(bytes.fromhex("16030102000100"))
    error = client.read_to_end().error
    assert error["M"].startswith("bad packet header: '1603")


# Hostile handshakes


def test_garbage_instead_of_a_handshake(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, bytes(100)):
        client = pooler.connect()
        client.send(wire.SSL_REQUEST)
        assert client.read_bytes(1) == b"S"
        with contextlib.suppress(wire.Closed):
            client.send(garbage)
        with contextlib.suppress(wire.Closed, OSError):
            while client.socket.recv(4096):
                pass
    pooler.wait_log("TLS handshake error: handshake failed: ")
    assert "pooler error" not in pooler.log_text()
    assert tls_client(pooler, certificates.client_context()).query("SELECT 1").value == "1"


def test_handshakes_that_hang_hold_up_nobody(start_tls_pooler, certificates):
    pooler = start_tls_pooler({"client_login_timeout": 2})
    hanging = [pooler.connect() for _ in range(20)]
    for number, client in enumerate(hanging):
        client.send(wire.SSL_REQUEST)
        assert client.read_bytes(1) == b"S"
        if number % 2:
            client.send(b"\x16\x03\x01\x02\x00\x01\x00")
    started = time.monotonic()
    assert tls_client(pooler, certificates.client_context()).query("SELECT 1").value == "1"
    assert time.monotonic() - started < 1.8 * poolers.PATIENCE
    for client in hanging:
        with contextlib.suppress(wire.Closed, OSError):
            assert client.socket.recv(4096) == b""
    pooler.wait_log("closing because: client_login_timeout")
    assert time.monotonic() - started < 6 * poolers.PATIENCE


def test_clients_that_vanish_in_the_handshake(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    before = pooler.descriptors()
    for number in range(20):
        client = pooler.connect()
        client.send(wire.SSL_REQUEST)
        assert client.read_bytes(1) == b"S"
        if number % 2:
            client.send(b"\x16\x03\x01\x02\x00\x01\x00")
        if number % 4 < 2:
            client.drop()
        else:
            client.reset()
    deadline = time.monotonic() + 5
    while pooler.descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pooler.descriptors() <= before
    assert "TLS handshake error" not in pooler.log_text()


# Bytes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_much_in_both_directions(start_tls_pooler, certificates, version):
    """The client reads late, so that writes are refused in the middle of records."""
    pooler = start_tls_pooler()
    context = certificates.client_context()
    context.maximum_version = version
    client = tls_client(pooler, context)
    text = "".join(chr(ord("a") + i % 26) * (i % 97) for i in range(60000))
    expected = hashlib.md5(text.encode()).hexdigest()
    assert client.query(f"SELECT md5('{text}')").value == expected
    client.send(wire.query(tls.TEN_MEGABYTES))
    time.sleep(0.3)
    answer = client.answer()
    assert [len(row[0]) for row in answer.rows] == [100000] * 100
    assert [row[0][0] for row in answer.rows] == [chr(97 + i % 26) for i in range(1, 101)]
    assert client.query("SELECT 1").value == "1"


def test_many_statements_at_once(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    client = tls_client(pooler, certificates.client_context())
    parts = []
    for number in range(500):
        parts += [wire.parse("SELECT $1::int"), wire.bind([number]), wire.execute()]
    answer = client.ask(*parts, wire.SYNC)
    assert [int(row[0]) for row in answer.rows] == list(range(500))


def test_copy_in(start_tls_pooler, certificates, make_table):
    make_table("tls_copy", "line text")
    pooler = start_tls_pooler()
    with connect(pooler, certificates, "require") as connection:
        with connection.cursor().copy("COPY tls_copy FROM STDIN") as copy:
            for number in range(20000):
                copy.write(f"line {number} {'x' * 100}\n")
        found = connection.execute("SELECT count(*), max(length(line)) FROM tls_copy").fetchone()
        assert found == (20000, 111)


def test_cancel(start_tls_pooler, certificates, cluster):
    """Of a client on TLS; the request itself comes in clear text, as libpq sends it."""
    pooler = start_tls_pooler({"client_tls_sslmode": "require"})
    client = tls_client(pooler, certificates.client_context())
    client.send(wire.query("SELECT pg_sleep(30) /* tls cancel */"))
    cluster.primary.wait_for(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE 'SELECT pg_sleep(30) /* tls cancel%'", "1",
    )  # fmt: skip
    wire.cancel(pooler.address, client.key)
    assert client.answer().code == "57014"
    client.send(wire.query("SELECT pg_sleep(30) /* tls cancel again */"))
    time.sleep(0.2)
    other = tls.start_tls(pooler.connect(), certificates.client_context())
    other.send(wire.cancel_request(client.key))
    assert other.read_to_end().messages == []
    assert client.answer().code == "57014"


def test_the_console(start_tls_pooler, certificates):
    """With several workers the connection moves to another one with its TLS."""
    pooler = start_tls_pooler()
    for _ in range(2 * poolers.WORKERS):
        client = tls.start_tls(pooler.connect(), certificates.client_context())
        client.login("admin", "secret of admin", database="pgbouncer")
        answer = client.query("SHOW CLIENTS")
        place = answer.of("T")[0].columns().index("tls")
        assert "TLSv1.3/TLS_AES_256_GCM_SHA384" in [row[place] for row in answer.rows]


# Settings


def test_the_log(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    with connect(pooler, certificates, "require"):
        pooler.wait_log(
            "login attempt: db=app user=app_trust tls=TLSv1.3/TLS_AES_256_GCM_SHA384 replication=no"
        )
    context = certificates.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls_client(pooler, context)
    pooler.wait_log(r"tls=TLSv1.2/ECDHE-ECDSA-\S+/ECDH=\w+ replication=no")


def test_protocols(start_tls_pooler, certificates):
    pooler = start_tls_pooler({"client_tls_protocols": "tlsv1.2"})
    context = certificates.client_context()
    assert tls_client(pooler, context).socket.version() == "TLSv1.2"
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError):
        tls_client(pooler, context)
    for value, version in (
        ("tlsv1.3", "TLSv1.3"),
        ("all", "TLSv1.3"),
        ("secure", "TLSv1.3"),
        ("all,!tlsv1.3", "TLSv1.2"),
        ("tlsv1.0, tlsv1.1, tlsv1.2", "TLSv1.2"),
    ):
        pooler.admin(f"SET client_tls_protocols = '{value}'")
        assert tls_client(pooler, certificates.client_context()).socket.version() == version


def test_ciphers(start_tls_pooler, certificates):
    pooler = start_tls_pooler(
        {
            "client_tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
            "client_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256",
        }
    )
    context = certificates.client_context()
    assert tls_client(pooler, context).socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert tls_client(pooler, context).socket.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    weak = certificates.client_context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0")
    for words, takes_weak in (("default", True), ("secure", False), ("fast", True),
                              ("normal", True), ("all", True)):  # fmt: skip
        pooler.admin(f"SET client_tls_ciphers = '{words}'")
        assert tls_client(pooler, context).query("SELECT 1").value == "1"
        if takes_weak:
            assert tls_client(pooler, weak).socket.cipher()[0] == "ECDHE-ECDSA-AES256-SHA"
        else:
            with pytest.raises(ssl.SSLError):
                tls_client(pooler, weak)


def test_curves(start_tls_pooler, certificates):
    pooler = start_tls_pooler({"client_tls_ecdhcurve": "secp384r1"})
    context = certificates.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls_client(pooler, context)
    pooler.wait_log("tls=TLSv1.2/ECDHE-ECDSA-.*/ECDH=secp384r1 ")
    pooler.admin("SET client_tls_ecdhcurve = 'none'")
    with pytest.raises(ssl.SSLError):
        tls_client(pooler, context)  # an ECDSA certificate, and no exchange to go with it
    assert tls_client(pooler, certificates.client_context()).socket.version() == "TLSv1.3"
    pooler.admin("SET client_tls_ecdhcurve = 'auto'")
    assert tls_client(pooler, context).query("SELECT 1").value == "1"


def test_dheparams(start_tls_pooler, certificates, cluster):
    """Exchanges in finite fields need a certificate that can sign for them."""
    key, pem = certificates.file("rsa.key"), certificates.file("rsa.pem")
    certificates.openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem,
        "-subj", "/CN=localhost", "-days", "2",
    )  # fmt: skip
    certificates.give_away()
    files = {"client_tls_cert_file": pem, "client_tls_key_file": key}
    pooler = start_tls_pooler(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    tls_client(pooler, context)
    pooler.wait_log("tls=TLSv1.2/DHE-RSA-AES256-GCM-SHA384 ")
    pooler.admin("SET client_tls_dheparams = 'none'")
    with pytest.raises(ssl.SSLError):
        tls_client(pooler, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets(start_tls_pooler, certificates, version):
    """A client that comes again has a shorter handshake, unless its certificate counts."""
    pooler = start_tls_pooler()
    context = certificates.client_context("app_trust")
    context.maximum_version = version
    for mode, is_reused in (("prefer", True), ("verify-full", False)):
        with connect(pooler, certificates, "require", "app_trust", **console_login()) as console:
            console.execute(f"SET client_tls_sslmode = '{mode}'")
        first = tls_client(pooler, context)
        assert first.query("SELECT 1").value == "1"
        second = pooler.connect()
        second.send(wire.SSL_REQUEST)
        assert second.read_bytes(1) == b"S"
        tls.wrap(second, context, session=first.socket.session)
        assert second.login("app_trust").status == "I"
        assert second.socket.session_reused is is_reused


# Wrong files, and files that change

BROKEN = [
    (
        {"client_tls_cert_file": "/nowhere/cert.pem"},
        'TLS setup failed: failed to load certificate file "/nowhere/cert.pem": '
        "No such file or directory (client_tls_cert_file)",
    ),
    (
        {"client_tls_key_file": "/nowhere/key.pem"},
        'TLS setup failed: failed to load private key file "/nowhere/key.pem": '
        "No such file or directory (client_tls_key_file)",
    ),
    ({"client_tls_key_file": "KEY OF second"}, "key values mismatch (client_tls_key_file)"),
    ({"client_tls_key_file": ""}, "requires both client_tls_key_file and client_tls_cert_file"),
    ({"client_tls_cert_file": ""}, "requires both client_tls_key_file and client_tls_cert_file"),
    (
        {"client_tls_sslmode": "verify-ca", "client_tls_ca_file": ""},
        "client_tls_sslmode requires client_tls_ca_file",
    ),
    (
        {"client_tls_sslmode": "verify-full", "client_tls_ca_file": "/nowhere/ca.pem"},
        'failed to load CA file "/nowhere/ca.pem": No such file or directory (client_tls_ca_file)',
    ),
    ({"client_tls_protocols": "tlsv1.4"}, '"tlsv1.4" (client_tls_protocols)'),
    ({"client_tls_ciphers": "nonsense"}, '"nonsense" (client_tls_ciphers)'),
    (
        {"client_tls13_ciphers": "nonsense"},
        'failed to set the TLSv1.3 cipher suites: "nonsense" (client_tls13_ciphers)',
    ),
    ({"client_tls_ecdhcurve": "nonsense"}, '"nonsense" (client_tls_ecdhcurve)'),
    ({"client_tls_dheparams": "nonsense"}, '"nonsense" (client_tls_dheparams)'),
    (
        {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": "/nowhere/ca.pem"},
        "No such file or directory (server_tls_ca_file)",
    ),
    (
        {"server_tls_sslmode": "prefer", "server_tls_cert_file": "/nowhere/cert.pem"},
        "server_tls_key_file and server_tls_cert_file require each other",
    ),
]


def name_files(settings, certificates):
    found = settings.items()
    return {k: certificates.file(f"{v[7:]}.key") if v[:7] == "KEY OF " else v for k, v in found}


@pytest.mark.parametrize("settings,words", BROKEN)
def test_wrong_settings_at_start_and_at_reload(
    start_tls_pooler, certificates, cluster, settings, words
):
    pooler = start_tls_pooler()
    good = {
        "client_tls_sslmode": "prefer",
        "client_tls_cert_file": certificates.file("server.pem"),
        "client_tls_key_file": certificates.file("server.key"),
        "client_tls_ca_file": certificates.file("ca.pem"),
    }
    connection = connect(pooler, certificates, "require")
    pooler.write_ini({**good, **name_files(settings, certificates), "max_client_conn": 77})
    done = subprocess.run(
        [poolers.BINARY, "--check", pooler.ini], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    with pytest.raises(psycopg.Error, match="RELOAD failed, see logs"):
        pooler.admin("RELOAD")
    text = pooler.log_text()
    assert words in text
    assert "ERROR TLS configuration could not be reloaded, keeping old configuration" in text
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connect(pooler, certificates, "require").close()
    (row,) = [row for row in pooler.admin("SHOW CONFIG") if row["key"] == "max_client_conn"]
    assert row["value"] == "500"


def test_wrong_files_end_the_start(start_tls_pooler, certificates):
    pooler = start_tls_pooler({"client_tls_cert_file": "/nowhere/cert.pem"}, wait=False)
    assert pooler.process.wait(10 * poolers.PATIENCE) == 1
    words = 'ERROR TLS setup failed: failed to load certificate file "/nowhere/cert.pem": No such'
    assert words in pooler.log_text()
    pooler.write_ini({})
    pooler.start()
    pooler.wait_ready()


def serial_of(pooler, certificates):
    client = tls_client(pooler, certificates.client_context())
    return client.socket.getpeercert()["serialNumber"]


def test_reload_takes_new_certificates(start_tls_pooler, certificates, cluster):
    """For new connections, also where only the files changed; nobody is dropped."""
    made = certificates
    for kind in ("pem", "key"):
        made.openssl("version")
        with open(made.file(f"server.{kind}"), "rb") as source:
            with open(made.file(f"current.{kind}"), "wb") as target:
                target.write(source.read())
    made.give_away()
    files = {
        "client_tls_cert_file": made.file("current.pem"),
        "client_tls_key_file": made.file("current.key"),
    }
    pooler = start_tls_pooler(files)
    old = tls_client(pooler, made.client_context())
    first = serial_of(pooler, made)
    for kind in ("pem", "key"):
        with open(made.file(f"second.{kind}"), "rb") as source:
            with open(made.file(f"current.{kind}"), "wb") as target:
                target.write(source.read())
    assert serial_of(pooler, made) == first
    pooler.admin("RELOAD")
    assert serial_of(pooler, made) != first
    assert old.query("SELECT 1").value == "1"


def notices_of(pooler, command):
    """What the console says beside the answer."""
    found = []
    with pooler.psycopg(*poolers.ADMIN, database="pgbouncer") as connection:
        connection.add_notice_handler(lambda notice: found.append(notice.message_primary))
        cursor = connection.execute(command)
        assert cursor.statusmessage.startswith("SET client_tls_")
        return found


NOT_YET = "TLS settings could not be applied, still using old configuration"


def test_set_passes_through_what_does_not_fit(start_tls_pooler, certificates):
    pooler = start_tls_pooler()
    first = serial_of(pooler, certificates)
    other = certificates.file("second.pem")
    command = f"SET client_tls_cert_file = '{other}'"
    assert notices_of(pooler, command) == [NOT_YET]
    pooler.wait_log("ERROR TLS setup failed: .*mismatch")
    assert serial_of(pooler, certificates) == first
    (row,) = [row for row in pooler.admin("SHOW CONFIG") if row["key"] == "client_tls_cert_file"]
    assert row["value"] == other
    key = certificates.file("second.key")
    assert notices_of(pooler, f"SET client_tls_key_file = '{key}'") == []
    assert serial_of(pooler, certificates) != first
    assert notices_of(pooler, "SET client_tls_ciphers = 'nonsense'") == [NOT_YET]
    pooler.admin("RELOAD")
    assert serial_of(pooler, certificates) == first
    assert notices_of(pooler, "SET client_tls_sslmode = 'require'") == []
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        pooler.admin("SHOW VERSION")


# Memory


@pytest.mark.release_only
def test_idle_clients_own_little(start_tls_pooler, certificates):
    """No buffers of OpenSSL stay; figures for 5,000 stand in ARCHITECTURE.md."""
    count = 300
    pooler = start_tls_pooler({"max_client_conn": 1000})
    context = certificates.client_context()
    clients = [tls_client(pooler, context) for _ in range(50)]
    before = pooler.memory()
    clients += [tls_client(pooler, context) for _ in range(count)]
    for client in clients:
        assert client.query("SELECT 1").value == "1"
    each = (pooler.memory() - before) / count
    assert each < 24 * 1024, f"{each:.0f} bytes for each idle client"


# Side by side with PgBouncer

SAME_FILE = """
[databases]
app = host=127.0.0.1 port={server_port} dbname=app

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {auth_file}
admin_users = app_trust
client_tls_sslmode = {mode}
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
server_tls_sslmode = prefer
"""


def shown_to(port, certificates, sslmode, version):
    """What a client of the console sees of its own TLS, or the error of its login."""
    info = psycopg.conninfo.make_conninfo(
        host="127.0.0.1", port=port, user="app_trust", dbname="pgbouncer", sslmode=sslmode,
        sslrootcert=certificates.file("ca.pem"), ssl_max_protocol_version=version,
    )  # fmt: skip
    try:
        with psycopg.connect(info, autocommit=True) as connection:
            notices = []
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            (row,) = poolers.rows_of(connection, "SHOW CLIENTS")
            status = connection.execute("SET client_tls_ciphers = 'nonsense'").statusmessage
            connection.execute("SET client_tls_ciphers = 'ECDHE-ECDSA-AES128-GCM-SHA256'")
            return row["tls"], status, notices
    except psycopg.OperationalError as error:
        return str(error).replace(str(port), "PORT").split("\n")[0]


def observe(port, certificates):
    found = []
    for sslmode in ("disable", "prefer", "require", "verify-full"):
        for version in ("TLSv1.3", "TLSv1.2"):
            found.append(shown_to(port, certificates, sslmode, version))
    for request in (wire.SSL_REQUEST + b"more", wire.SSL_REQUEST):
        client = wire.Client(("127.0.0.1", port))
        client.send(request)
        if request == wire.SSL_REQUEST:
            found.append(client.read_bytes(1))
            client.drop()
        else:
            error = client.read_to_end().error
            found.append([error[field] for field in "SCM"])
    return found


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_side_by_side(cluster, start_pooler, certificates, mode):
    """The same file, the same clients, the same answers."""
    seen = {}
    pooler = start_pooler()
    for name, binary in (("weir", poolers.BINARY), ("pgbouncer", "/usr/sbin/pgbouncer")):
        folder = os.path.join(pooler.folder, name)
        os.mkdir(folder)
        clusters.give_away(folder)
        ini = os.path.join(folder, "same.ini")
        port = clusters.free_port()
        with open(ini, "w", encoding="utf-8") as file:
            file.write(
                SAME_FILE.format(
                    server_port=cluster.primary.port, port=port, folder=folder, mode=mode,
                    auth_file=pooler.auth_file, certificate=certificates.file("server.pem"),
                    key=certificates.file("server.key"),
                )
            )  # fmt: skip
        copy = os.path.join(cluster.folder, os.path.basename(binary) + ".side")
        if not os.path.exists(copy):
            shutil.copy(binary, copy)
        process = cluster.guarded([copy, "-q", ini])
        try:
            wait_for_port(port)
            seen[name] = observe(port, certificates)
        finally:
            process.kill()
            process.wait()
    assert seen["weir"] == seen["pgbouncer"]


def wait_for_port(port):
    deadline = time.monotonic() + 10 * poolers.PATIENCE
    while True:
        try:
            wire.Client(("127.0.0.1", port)).drop()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
