"""TLS towards servers: modes, verification, what a hostile server may say, reload, direct TLS."""

import contextlib
import os
import re
import subprocess
import time

import psycopg
import pytest

import cluster as clusters
import pooler as poolers
import tls
import wire
from certificates import Certificates
from console import wait_until

pytestmark = pytest.mark.weir_only

MINE = "SELECT ssl, version, cipher, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def certificates(cluster, request):
    """Those of one test file, each of which has a folder of its own."""
    made = Certificates(os.path.join(cluster.folder, f"tls-of-{request.module.__name__}"))
    made.issue("server", names=["DNS:localhost", "IP:127.0.0.1"])
    made.issue("by_name", names=["DNS:localhost"])
    made.issue("by_address", names=["IP:127.0.0.1"])
    made.issue("wildcard", names=["DNS:*.local.test"])
    made.issue("common_name", subject="/CN=localhost")
    made.issue("elsewhere", names=["DNS:elsewhere.test"], subject="/CN=localhost")
    made.issue("pooler")
    return made


@pytest.fixture(scope="module")
def secure(cluster, certificates):
    """`secure(node, certificate)` turns TLS on at a node; without a certificate off."""
    touched = set()

    def turn(node, certificate="server"):
        touched.add(node)
        rows = {"ssl": "off"}
        if certificate is not None:
            rows = {
                "ssl_cert_file": certificates.file(f"{certificate}.pem"),
                "ssl_key_file": certificates.file(f"{certificate}.key"),
                "ssl_ca_file": certificates.file("ca.pem"),
                "ssl": "on",
            }
        for name, value in rows.items():
            node.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        before = node.log_text().count("received SIGHUP")
        node.sql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        while node.log_text().count("received SIGHUP") == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        node.wait_for("SHOW ssl", rows["ssl"])

    yield turn
    for node in touched:
        turn(node, None)
        node.sql("ALTER SYSTEM RESET ALL")
        node.sql("SELECT pg_reload_conf()")


def settings_for(certificates, mode, **more):
    return {
        "server_tls_sslmode": mode,
        "server_tls_ca_file": certificates.file("ca.pem"),
        "server_login_retry": 0.1,
        **more,
    }


def ssl_of(pooler, **more):
    """Whether the server connection is encrypted, with what, and as whom."""
    with pooler.psycopg(**more) as connection:
        return connection.execute(MINE).fetchone()


def refused(pooler, **more):
    """The words of the error of a client whose server cannot be had."""
    with pytest.raises(psycopg.OperationalError) as error:
        pooler.psycopg(**more).close()
    return str(error.value)


# Modes

MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@pytest.mark.parametrize("mode", MODES)
def test_modes(cluster, start_pooler, certificates, secure, mode):
    secure(cluster.primary)
    pooler = start_pooler(settings_for(certificates, mode))
    is_encrypted = mode != "disable"
    with pooler.psycopg() as connection:
        found = connection.execute(MINE).fetchone()
        assert found[0] == is_encrypted
        shown = "TLSv1.3/TLS_AES_256_GCM_SHA384" if is_encrypted else ""
        assert {row["tls"] for row in pooler.admin("SHOW SERVERS")} == {shown}
    established = "LOG S-0x[0-9a-f]+: app/app_trust@127.0.0.1:[0-9]+ SSL established: " + shown
    if is_encrypted:
        pooler.wait_log(established)
    else:
        assert "SSL established" not in pooler.log_text()


@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-ca", "verify-full"])
def test_server_without_tls(cluster, start_pooler, certificates, secure, mode):
    secure(cluster.primary, None)
    pooler = start_pooler(settings_for(certificates, mode, query_wait_timeout=2))
    if mode in ("allow", "prefer"):
        assert ssl_of(pooler)[0] is False
        return
    refused(pooler)
    pooler.wait_log(r"LOG S-0x\S+: \S+ closing because: server refused SSL \(age=")


def test_unix_sockets_have_no_tls(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    place = f"host={cluster.folder} port={cluster.primary.port} dbname=app"
    pooler = start_pooler(settings_for(certificates, "verify-full"), databases={"app": place})
    assert ssl_of(pooler)[0] is False


def test_logins_over_tls(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    pooler = start_pooler(settings_for(certificates, "require", auth_type="scram-sha-256"))
    for user in ("app", "app_plain"):
        assert ssl_of(pooler, user=user, secret=poolers.SECRETS[user])[0] is True


def test_much_in_both_directions(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    pooler = start_pooler(settings_for(certificates, "require"))
    client = pooler.client()
    text = "x" * 3_000_000
    assert client.query(f"SELECT length('{text}')").value == "3000000"
    client.send(wire.query(tls.TEN_MEGABYTES))
    time.sleep(0.3)
    answer = client.answer()
    assert [row[0] for row in answer.rows] == [chr(97 + i % 26) * 100000 for i in range(1, 101)]
    parts = []
    for number in range(500):
        parts += [wire.parse("SELECT $1::int"), wire.bind([number]), wire.execute()]
    answer = client.ask(*parts, wire.SYNC)
    assert [int(row[0]) for row in answer.rows] == list(range(500))


# Verification

VERIFIED = [
    # certificate, host that is dialled, verify-full takes it
    ("by_name", "localhost", True),
    ("by_name", "127.0.0.1", False),
    ("by_address", "127.0.0.1", True),
    ("by_address", "localhost", False),
    ("server", "127.0.0.1", True),
    ("server", "localhost", True),
    ("common_name", "localhost", True),
    ("elsewhere", "localhost", False),  # an alternative name stands in for the common name
    ("wildcard", "localhost", False),
]


@pytest.mark.parametrize("certificate,host,is_taken", VERIFIED)
def test_names(cluster, start_pooler, certificates, secure, certificate, host, is_taken):
    secure(cluster.primary, certificate)
    place = f"host={host} port={cluster.primary.port} dbname=app"
    settings = settings_for(certificates, "verify-full", query_wait_timeout=2)
    pooler = start_pooler(settings, databases={"app": place})
    if is_taken:
        assert ssl_of(pooler)[0] is True
    else:
        refused(pooler)
        pooler.wait_log(
            r"\] WARNING TLS handshake error: handshake failed: the certificate is not for host "
            f'"{host}"'
        )
        pooler.wait_log(r"closing because: TLS startup failed \(age=")
        pooler.admin("SET server_tls_sslmode = 'verify-ca'")
        assert ssl_of(pooler)[0] is True


def test_each_host_of_a_list_by_its_own_name(cluster, start_pooler, certificates, secure):
    names = {node.name for node in cluster.nodes}
    for node, certificate in zip(cluster.nodes, ("by_name", "by_address", "server")):
        secure(node, certificate)
    ports = ",".join(str(node.port) for node in cluster.nodes)
    place = f"host=localhost,127.0.0.1,localhost port={ports} dbname=app"
    pooler = start_pooler(settings_for(certificates, "verify-full"), databases={"app": place})
    with contextlib.ExitStack() as ends:
        seen = set()
        for _ in range(6):
            connection = ends.enter_context(pooler.psycopg(autocommit=False))
            assert connection.execute(MINE).fetchone()[0] is True
            seen |= set(connection.execute("SHOW cluster_name").fetchone())
        assert seen == names
    assert "TLS handshake error" not in pooler.log_text()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_strange_authority(cluster, start_pooler, certificates, secure, mode):
    secure(cluster.primary)
    settings = settings_for(certificates, mode, query_wait_timeout=2)
    settings["server_tls_ca_file"] = certificates.file("other_ca.pem")
    pooler = start_pooler(settings)
    if mode == "require":
        assert ssl_of(pooler)[0] is True
        return
    refused(pooler)
    pooler.wait_log("TLS handshake error: handshake failed: certificate verify failed")
    pooler.wait_log(r"closing because: TLS startup failed \(age=")


def test_without_an_authority_the_systems_count(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    settings = settings_for(certificates, "verify-ca", query_wait_timeout=2)
    pooler = start_pooler({**settings, "server_tls_ca_file": None})
    refused(pooler)
    pooler.wait_log("TLS handshake error: handshake failed: certificate verify failed")


def test_client_certificates(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    files = {
        "server_tls_cert_file": certificates.file("pooler.pem"),
        "server_tls_key_file": certificates.file("pooler.key"),
    }
    pooler = start_pooler(settings_for(certificates, "require", **files))
    assert ssl_of(pooler)[3] == "/CN=pooler"
    without = start_pooler(settings_for(certificates, "require"))
    assert ssl_of(without)[3] is None


def test_protocols_and_ciphers(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    more = {
        "server_tls_protocols": "tlsv1.2",
        "server_tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
    }
    pooler = start_pooler(settings_for(certificates, "require", **more))
    assert ssl_of(pooler)[1:3] == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    pooler.wait_log("SSL established: TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256/ECDH=")
    pooler.admin("SET server_tls_protocols = 'tlsv1.3'")
    pooler.admin("SET server_tls13_ciphers = 'TLS_CHACHA20_POLY1305_SHA256'")
    assert ssl_of(pooler)[1:3] == ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256")


# What a server may say


def start_against(start_pooler, certificates, listener, mode="require", entry="", **more):
    place = f"host=127.0.0.1 port={listener.port} dbname=app {entry}"
    settings = settings_for(certificates, mode, query_wait_timeout=1, **more)
    return start_pooler(settings, databases={"app": place})


ANSWERS = [
    (b"Sx", "prefer", "received unencrypted data after SSL response"),
    (b"S\x16\x03\x03", "require", "received unencrypted data after SSL response"),
    (b"N", "require", "server refused SSL"),
    (b"NR", "prefer", "bad sslreq answer"),
    (b"x", "prefer", "bad sslreq answer"),
    (wire.message("E", b"SFATAL\0C53300\0Mtoo many\0\0"), "prefer", "bad sslreq answer"),
    (b"", "prefer", r"server conn crashed\?"),
]


@pytest.mark.parametrize("answer,mode,reason", ANSWERS)
def test_answers_to_the_request(start_pooler, certificates, answer, mode, reason):
    def serve(connection):
        assert tls.read_startup(connection) == wire.SSL_REQUEST
        connection.sendall(answer)
        if answer:
            while connection.recv(4096):
                pass

    with tls.Listener(serve) as listener:
        pooler = start_against(start_pooler, certificates, listener, mode)
        refused(pooler)
        pooler.wait_log(rf"closing because: {reason}")


def test_a_server_that_hangs_in_the_handshake(start_pooler, certificates):
    def serve(connection):
        tls.read_startup(connection)
        connection.sendall(b"S")
        while connection.recv(4096):
            pass

    with tls.Listener(serve) as listener:
        pooler = start_against(start_pooler, certificates, listener, server_connect_timeout=0.5)
        refused(pooler)
        pooler.wait_log("closing because: connect timeout")


def test_a_server_that_breaks_off_the_handshake(start_pooler, certificates):
    def serve(connection):
        tls.read_startup(connection)
        connection.sendall(b"S")
        connection.recv(100)

    with tls.Listener(serve) as listener:
        pooler = start_against(start_pooler, certificates, listener)
        refused(pooler)
        pooler.wait_log("closing because: TLS startup failed")


# Direct TLS


def test_direct(start_pooler, certificates):
    context = certificates.server_context()
    context.set_alpn_protocols(["postgresql"])
    seen = []

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secured:
            seen.append(secured.selected_alpn_protocol())
            tls.speak(secured)

    with tls.Listener(serve) as listener:
        pooler = start_against(
            start_pooler, certificates, listener, "verify-full", "sslnegotiation=direct"
        )
        client = pooler.client()
        assert client.query("SELECT 1").tags == ["SELECT 0"]
        assert seen == ["postgresql"]
        pooler.wait_log("SSL established: TLSv1.3")


def test_direct_needs_alpn(start_pooler, certificates):
    context = certificates.server_context()

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secured:
            tls.speak(secured)

    with tls.Listener(serve) as listener:
        pooler = start_against(
            start_pooler, certificates, listener, "require", "sslnegotiation=direct"
        )
        refused(pooler)
        pooler.wait_log("TLS handshake error: handshake failed: .*ALPN")


def test_direct_needs_a_mode_that_demands_tls(start_pooler, certificates):
    pooler = start_pooler()
    pooler.write_ini(
        {"server_tls_sslmode": "prefer"},
        databases={"app": "host=127.0.0.1 sslnegotiation=direct"},
    )
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        pooler.admin("RELOAD")
    assert "expected server_tls_sslmode = require, verify-ca or verify-full" in pooler.log_text()


def test_sessions_are_used_again(start_pooler, certificates):
    """By the next connection to the same host; a RELOAD verifies everything anew."""
    context = certificates.server_context()
    seen = []

    def serve(connection):
        tls.read_startup(connection)
        connection.sendall(b"S")
        with context.wrap_socket(connection, server_side=True) as secured:
            seen.append(secured.session_reused)
            tls.speak(secured)

    with tls.Listener(serve) as listener:
        pooler = start_against(start_pooler, certificates, listener, "verify-full")
        for reused in (False, True, True):
            assert pooler.client().query("SELECT 1").tags == ["SELECT 0"]
            assert seen[-1] is reused
            pooler.admin("RECONNECT")
        pooler.admin("RELOAD")
        assert pooler.client().query("SELECT 1").tags == ["SELECT 0"]
        assert seen[-1] is False


# Reload


# An idle server, and one that was at work.
REPLACED = r"closing because: (?:database configuration changed|close_needed) \(age="


def test_reload_recycles_what_changed(cluster, start_pooler, certificates, secure):
    """Each server once; where nothing of TLS changed, none."""
    secure(cluster.primary)
    settings = settings_for(certificates, "prefer")
    pooler = start_pooler(settings)
    with pooler.psycopg() as connection:
        def backend():
            return connection.execute("SELECT pg_backend_pid()").fetchone()

        first = backend()
        pooler.admin("RELOAD")
        pooler.write_ini({**settings, "client_tls_ciphers": "normal", "max_client_conn": 400})
        pooler.admin("RELOAD")
        assert backend() == first
        pooler.write_ini({**settings, "server_tls_sslmode": "verify-full"})
        pooler.admin("RELOAD")
        pooler.wait_log(r"closing because: database configuration changed \(age=")
        second = backend()
        assert second != first
        assert connection.execute(MINE).fetchone()[0] is True
        pooler.admin("RELOAD")
        assert backend() == second
    assert len(re.findall(REPLACED, pooler.log_text())) == 1


def test_a_busy_server_is_recycled_when_it_is_released(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    settings = settings_for(certificates, "disable")
    pooler = start_pooler(settings)
    with pooler.psycopg(autocommit=False) as connection:
        assert connection.execute(MINE).fetchone()[0] is False
        pooler.write_ini({**settings, "server_tls_sslmode": "require"})
        pooler.admin("RELOAD")
        assert connection.execute(MINE).fetchone()[0] is False
        connection.commit()
        assert connection.execute(MINE).fetchone()[0] is True
    assert len(re.findall(REPLACED, pooler.log_text())) == 1


@pytest.mark.timeout(90)
@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_load_while_settings_change(cluster, start_pooler, certificates, secure, protocol):
    """TLS on both sides; every RELOAD replaces all servers, and no client notices."""
    secure(cluster.primary)
    settings = settings_for(
        certificates,
        "verify-full",
        default_pool_size=4,
        client_tls_sslmode="require",
        client_tls_cert_file=certificates.file("server.pem"),
        client_tls_key_file=certificates.file("server.key"),
    )
    pooler = start_pooler(settings)
    script = os.path.join(pooler.folder, "script.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write("BEGIN;\nSELECT repeat('x', 20000);\nEND;\nSELECT 1;\n")
    place = pooler.conninfo(sslmode="verify-ca", sslrootcert=certificates.file("ca.pem"))
    command = [clusters.program("pgbench"), "-n", "-f", script, "-c", "8", "-T", "3"]
    command += ["-M", protocol, place]
    load = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=clusters.environment(),
    )  # fmt: skip
    for number in range(8):
        time.sleep(0.3)
        more = {"server_tls_protocols": "tlsv1.2"} if number % 2 else {}
        pooler.write_ini({**settings, **more})
        pooler.reload()
    text, _ = load.communicate(timeout=60)
    assert load.returncode == 0, text
    assert "number of failed transactions: 0 (0.000%)" in text
    assert len(re.findall(REPLACED, pooler.log_text())) >= 4


# Cancel and probes


def test_cancel_requests_are_encrypted_too(cluster, start_pooler, certificates, secure):
    secure(cluster.primary)
    with tls.Recorder(cluster.primary.port) as recorder:
        place = f"host=127.0.0.1 port={recorder.port} dbname=app"
        pooler = start_pooler(
            settings_for(certificates, "verify-full"), databases={"app": place}
        )
        client = pooler.client()
        client.send(wire.query("SELECT pg_sleep(30) /* encrypted cancel */"))
        cluster.primary.wait_for(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND query LIKE 'SELECT pg_sleep(30) /* encrypted cancel%'", "1",
        )  # fmt: skip
        wire.cancel(pooler.address, client.key)
        assert client.answer().code == "57014"
        assert recorder.firsts == [wire.SSL_REQUEST] * 2


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-full"])
def test_probes(cluster, start_pooler, certificates, secure, mode):
    """The prober's connections take the same settings, and so do reads and writes behind it."""
    for node in cluster.nodes:
        secure(node)
    pooler = start_pooler(
        settings_for(certificates, mode, routing="read_write"),
    )
    pooler.write_ini(
        settings_for(certificates, mode, routing="read_write"),
        databases={"app": pooler.node_string(*cluster.nodes)},
    )
    pooler.admin("RELOAD")
    sql = (
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE application_name = 'weir probe'"
    )
    cluster.primary.wait_for(sql, "f" if mode == "disable" else "t")
    with pooler.psycopg() as connection:
        assert connection.execute(MINE).fetchone()[0] == (mode != "disable")


def test_versions_of_probes(cluster, start_pooler, certificates, secure):
    """Those that the settings name, also once they have changed."""
    secure(cluster.primary)
    pooler = start_pooler()

    def settings(protocols):
        rows = {"routing": "read_write", "server_tls_protocols": protocols}
        return settings_for(certificates, "require", **rows)

    for protocols, version in [
        ("tlsv1.2", "TLSv1.2"),
        ("secure", "TLSv1.3"),
        ("tlsv1.1,tlsv1.2", "TLSv1.2"),
        ("tlsv1.3", "TLSv1.3"),
    ]:
        pooler.write_ini(settings(protocols))
        pooler.admin("RELOAD")
        cluster.primary.wait_for(
            "SELECT string_agg(version, ',') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'weir probe'", version,
        )  # fmt: skip
    # A server that takes none of them is down.
    cluster.primary.sql("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.2'")
    secure(cluster.primary)
    pooler.admin("SET server_tls_protocols = 'tlsv1.2'")
    pooler.admin("SET server_tls_protocols = 'tlsv1.3'")
    wait_until(lambda: pooler.admin("SHOW NODES")[0]["state"] == "down")


def test_probes_fall_back_to_plain(cluster, start_pooler, certificates, secure):
    for node in cluster.nodes:
        secure(node, None)
    pooler = start_pooler()
    pooler.write_ini(
        settings_for(certificates, "prefer", routing="read_write"),
        databases={"app": pooler.node_string(*cluster.nodes)},
    )
    pooler.admin("RELOAD")
    with pooler.psycopg() as connection:
        assert connection.execute(MINE).fetchone()[0] is False
    pooler.admin("SET server_tls_sslmode = 'require'")
    deadline = time.monotonic() + 10
    while True:
        states = {row["state"] for row in pooler.admin("SHOW NODES")}
        if states == {"down"}:
            break
        assert time.monotonic() < deadline, states
        time.sleep(0.05)
