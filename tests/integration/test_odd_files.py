"""Files that are odd and that PgBouncer starts with: so does Weir. Side by side."""

import socket
import time

import pytest

import wire
from pooler import PATIENCE

pytestmark = pytest.mark.weir_only


def wait_tcp(pooler, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(pooler.address, 1).close()
            return
        except OSError:
            assert pooler.is_running() and time.monotonic() < deadline, pooler.log_text()
            time.sleep(0.02)


def assert_serves(pooler):
    wait_tcp(pooler)
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_no_host_and_no_unix_socket(start_both, cluster):
    """What lacks a host cannot be reached then; all else can."""
    node = cluster.primary
    for pooler in start_both(
        {"unix_socket_dir": "", "server_login_retry": 1, "query_wait_timeout": 2},
        databases={
            "app": f"host={node.host} port={node.port} dbname=app",
            "nowhere": "dbname=app",
        },
        wait=False,
    ):
        assert_serves(pooler)
        with pytest.raises((wire.LoginFailed, wire.Closed)):
            pooler.client(database="nowhere")
        assert_serves(pooler)


def test_a_directory_of_the_unix_socket_that_is_not_there(start_both):
    """At boot, for one, before whoever makes it has started."""
    for pooler in start_both({"unix_socket_dir": "/nowhere/at/all"}, wait=False):
        assert_serves(pooler)
        pooler.wait_log("WARNING cannot listen on unix:/nowhere/at/all/.s.PGSQL.")
