"""Servers that say other things than before, or nothing good: a fake one plays them."""

import contextlib
import socket
import struct
import threading
import time

import pytest

import pooler as poolers
from wire import LoginFailed, message


class FakeServer(threading.Thread):
    """Lets everybody in with `version` as its server_version, or refuses with (SQLSTATE, text);
    answers each query with nothing. Counts the attempts to log in."""

    def __init__(self, version="14.1", refusal=None):
        super().__init__(daemon=True)
        self.version = version
        self.refusal = refusal
        self.attempts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.entry = f"host=127.0.0.1 port={self.listener.getsockname()[1]} dbname=app"
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[one], daemon=True).start()

    def serve(self, one):
        with contextlib.suppress(OSError, struct.error), one, one.makefile("rb") as stream:
            (length,) = struct.unpack("!I", stream.read(4))
            stream.read(length - 4)
            self.attempts += 1
            if self.refusal is not None:
                fields = b"SFATAL\0C%s\0M%s\0\0" % tuple(map(str.encode, self.refusal))
                one.sendall(message("E", fields))
                return
            version = b"server_version\0" + self.version.encode() + b"\0"
            one.sendall(message("R", struct.pack("!I", 0)) + message("S", version))
            one.sendall(message("K", struct.pack("!II", 1, 2)) + message("Z", b"I"))
            while head := stream.read(5):
                stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
                if head[:1] == b"Q":
                    one.sendall(message("I") + message("Z", b"I"))


def version_of(pooler):
    with pooler.client() as client:
        return client.parameters["server_version"]


@pytest.mark.parametrize("command", ["RECONNECT", "RECONNECT app"])
def test_reconnect_forgets_what_servers_said(start_both, command):
    """Logins are greeted with the parameters of the first server, until RECONNECT."""
    with FakeServer() as server:
        for pooler in start_both(databases={"app": server.entry}):
            server.version = "14.1"
            assert version_of(pooler) == "14.1"
            server.version = "15.2"
            assert version_of(pooler) == "14.1"
            pooler.admin(command)
            assert version_of(pooler) == "15.2", pooler.kind
            server.version = "16.3"
            assert version_of(pooler) == "15.2"
            pooler.stop()


def test_reconnect_of_another_database(start_pooler):
    with FakeServer() as server:
        pooler = start_pooler(databases={"app": server.entry, "other": server.entry})
        assert version_of(pooler) == "14.1"
        with pooler.client(database="other"):
            server.version = "15.2"
        pooler.admin("RECONNECT other")
        assert version_of(pooler) == "14.1"


def test_many_reconnects_under_logins(start_pooler):
    """Logins that come while servers are replaced all succeed."""
    with FakeServer() as server:
        pooler = start_pooler(databases={"app": server.entry})
        failures = []

        def work():
            try:
                for _ in range(30):
                    assert version_of(pooler).startswith("1")
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        number = 0
        while any(thread.is_alive() for thread in threads):
            number += 1
            server.version = f"1{number % 7}"
            pooler.admin("RECONNECT")
        for thread in threads:
            thread.join()
        assert failures == []


def test_no_server_login_retry(start_both):
    """With no time between attempts, clients are told of a refusal all the same, and the server is
    not asked without end."""
    with FakeServer(refusal=("28P01", "not you")) as server:
        for pooler in start_both({"server_login_retry": 0}, databases={"app": server.entry}):
            server.attempts = 0
            began = time.monotonic()
            for _ in range(3):
                with pytest.raises(LoginFailed) as raised:
                    pooler.client()
                assert "not you" in raised.value.fields["M"]
                time.sleep(0.15)
            assert time.monotonic() - began < 6 * poolers.PATIENCE
            assert 1 <= server.attempts <= 6, pooler.kind
            pooler.stop()


@pytest.mark.weir_only  # PgBouncer asks as often as it can
def test_no_server_login_retry_while_the_server_starts(start_pooler):
    """Clients wait for a server that is starting; it is asked again after pauses."""
    with FakeServer(refusal=("57P03", "the database system is starting up")) as server:
        settings = {"server_login_retry": 0, "query_wait_timeout": 1}
        pooler = start_pooler(settings, databases={"app": server.entry})
        with pytest.raises(LoginFailed) as raised:
            pooler.client()
        assert raised.value.fields["M"] == "query_wait_timeout"
        assert 2 <= server.attempts <= 12 * poolers.WORKERS
