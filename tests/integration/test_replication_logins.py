"""Replication connections that log in by auth_query, and over TLS on both sides."""

import os
import subprocess

import pytest

import cluster as clusters
from pooler import ADMIN, PATIENCE
from test_replication import slot
from test_tls_servers import certificates, secure  # noqa: F401, fixtures

pytestmark = pytest.mark.weir_only

SECRET = "flows"


@pytest.fixture(scope="module", autouse=True)
def streamer(cluster):
    """A user of whom the auth_file does not know, and who may stream."""
    cluster.primary.sql(f"CREATE ROLE streamer LOGIN REPLICATION SUPERUSER PASSWORD '{SECRET}'")
    yield
    cluster.primary.sql("DROP ROLE streamer")


@pytest.fixture
def streaming(start_pooler, cluster):
    """A pooler that asks PostgreSQL for its users."""

    def start(**settings):
        entry = f"host=localhost port={cluster.primary.port}"
        rows = {"auth_type": "scram-sha-256", "auth_user": "postgres", **settings}
        return start_pooler(
            rows,
            secrets=dict([("postgres", ""), ADMIN]),
            databases={"app": f"{entry} dbname=app", "replication": f"{entry} dbname=postgres"},
        )

    return start


@pytest.fixture
def both_sides(cluster, certificates, secure):  # noqa: F811
    """Settings for TLS that is verified towards clients and servers."""
    secure(cluster.primary)
    return {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": certificates.file("server.pem"),
        "client_tls_key_file": certificates.file("server.key"),
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": certificates.file("ca.pem"),
    }


def run(pooler, tool, *options, user="streamer", **variables):
    command = [clusters.program(tool), "-h", "localhost", "-p", str(pooler.port), "-U", user]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
        env=clusters.environment(PGPASSWORD=SECRET, **variables),
    )
    assert done.returncode == 0, done.stderr + pooler.log_text()[-3000:]
    return done


def stream_changes(pooler, cluster, make_table, name, **variables):
    """Three rows through pg_recvlogical."""
    make_table("changes", "id int")
    with slot(cluster, name):
        cluster.primary.sql("INSERT INTO changes SELECT generate_series(1, 3)", "app")
        end = cluster.primary.sql("SELECT pg_current_wal_lsn()")
        cluster.primary.sql("INSERT INTO changes VALUES (4)", "app")
        options = ["-d", "app", "--slot", name, "--start", "-f", "-", "--endpos", end, "--no-loop"]
        assert run(pooler, "pg_recvlogical", *options, **variables).stdout.count("INSERT") == 3


def test_auth_query(streaming, cluster, make_table):
    """The auth_query runs on a usual server; what the client proved logs in to its own."""
    pooler = streaming()
    stream_changes(pooler, cluster, make_table, "by_query", PGSSLMODE="disable")
    assert "db=app user=streamer" in pooler.log_text()
    with pooler.client("streamer", SECRET, replication="database") as client:
        assert client.query("IDENTIFY_SYSTEM").rows[0][3] == "app"
        rows = {row["replication"]: row for row in pooler.admin("SHOW SERVERS")}
        assert rows["logical"]["user"] == "streamer" and rows["none"]["user"] == "postgres"


def test_auth_query_and_tls(streaming, cluster, make_table, both_sides, certificates):  # noqa: F811
    pooler = streaming(**both_sides)
    verified = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": certificates.file("ca.pem")}
    stream_changes(pooler, cluster, make_table, "over_tls", **verified)
    text = pooler.log_text()
    assert "user=streamer tls=TLSv1.3" in text and "tls=no" not in text
    # One server for auth_query, one for the walsender.
    assert text.count("new connection to server") == text.count("SSL established") >= 2


def test_a_backup_over_tls(streaming, both_sides, certificates, tmp_path):  # noqa: F811
    """Physical connections too, each with TLS on both sides."""
    pooler = streaming(**both_sides, auth_type="trust")
    verified = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": certificates.file("ca.pem")}
    target = os.path.join(tmp_path, "copy")
    options = ["-D", target, "-X", "stream", "-c", "fast"]
    run(pooler, "pg_basebackup", *options, user="postgres", **verified)
    assert os.path.exists(os.path.join(target, "backup_manifest"))
    text = pooler.log_text()
    assert text.count("replication=yes") == text.count("user=postgres tls=TLSv1.3") == 2
    assert text.count("new connection to server") == text.count("SSL established") == 2
