"""Attacks on poolers that are known from the past, from either side: an error or an end, and the
pooler goes on for everybody else. Those against a login's secrets stand with the logins."""

import socket
import struct
import threading

import pytest

from pooler import ADMIN, MONITOR, PATIENCE
from wire import SYNC, Closed, LoginFailed, bind, execute, message, parse, query, startup, text0

pytestmark = pytest.mark.weir_only

READY = message("Z", b"I")
WELCOME = (
    message("R", struct.pack("!I", 0))
    + message("S", text0("client_encoding") + text0("UTF8"))
    + message("S", text0("server_version") + text0("15.0"))
    + message("K", struct.pack("!II", 1, 2))
    + READY
)


class Impostor:
    """A server that answers each packet with what it was told to, and nothing else."""

    def __init__(self, *answers):
        self.answers = answers
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        try:
            for answer in self.answers:
                if connection.recv(65536) == b"":
                    return
                connection.sendall(answer)
            while connection.recv(65536) != b"":
                pass
        except OSError:
            pass


@pytest.fixture
def against(start_pooler, cluster):
    """A pooler whose database `app` is an impostor; `real` is the cluster's primary."""

    def start(impostor, **settings):
        entries = {
            "app": f"host=127.0.0.1 port={impostor.port} dbname=app",
            "real": f"host=127.0.0.1 port={cluster.primary.port} dbname=app",
        }
        return start_pooler({"server_login_retry": 1, **settings}, databases=entries)

    return start


def assert_goes_on(pooler):
    assert pooler.is_running()
    with pooler.client(database="real") as client:
        assert client.query("SELECT 'still here'").value == "still here"


# A server's login

BAD_LOGINS = {
    "an error without a SQLSTATE": message("E", b"SFATAL\0Mno code here\0\0"),
    "an error without any field": message("E", b"\0"),
    "an error without a message": message("E", b"SFATAL\0C28000\0\0"),
    "an error whose fields do not end": message("E", b"SFATAL\0Mno end"),
    "an error of nothing": message("E"),
    "an error with a very long text": message("E", b"SFATAL\0M" + b"x" * 100_000 + b"\0\0"),
    "an error with format characters": message("E", b"SFATAL\0C28000\0M%s%n%d%s%s%s\0\0"),
    "a length of 2^31": b"R\x80\0\0\0" + b"\0" * 20,
    "a length of 2^31 - 1": b"R\x7f\xff\xff\xff" + b"\0" * 20,
    "a length of 2^32 - 1": b"E\xff\xff\xff\xff" + b"\0" * 20,
    "a length of 3": b"R\0\0\0\3" + b"\0" * 20,
    "no message of PostgreSQL's": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an authentication of no length": message("R"),
    "an unknown authentication": message("R", struct.pack("!I", 4711)),
    "SASL without mechanisms": message("R", struct.pack("!I", 10)),
    "SASL whose list does not end": message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256"),
    "a SCRAM message out of turn": message("R", struct.pack("!I", 11) + b"r=x,s=x,i=1"),
    "the end of SCRAM out of turn": message("R", struct.pack("!I", 12) + b"v=x"),
    "ready before it was authenticated": READY,
    "a parameter that does not end": message("S", b"name\0value") * 3,
    "rows": message("D", b"\0\1\0\0\0\1x"),
}


@pytest.mark.parametrize("what", BAD_LOGINS)
def test_a_server_that_logs_in_badly(against, what):
    with Impostor(BAD_LOGINS[what]) as impostor:
        pooler = against(impostor, client_login_timeout=3, server_connect_timeout=1)
        with pytest.raises((LoginFailed, Closed)) as refused:
            pooler.client(database="app")
        if refused.type is LoginFailed:
            assert refused.value.fields["S"] == "FATAL"
            assert len(refused.value.fields["C"]) == 5
        assert_goes_on(pooler)


# A server's answers

BAD_ANSWERS = {
    "an error without a SQLSTATE": message("E", b"SERROR\0Mno code here\0\0") + READY,
    "an error without any field": message("E", b"\0") + READY,
    "an error whose fields do not end": message("E", b"SERROR\0Mno end") + READY,
    "an error of nothing": message("E") + READY,
    "an error that ends all, without a SQLSTATE": message("E", b"SFATAL\0Mbye\0\0"),
    "a status that does not exist": message("Z", b"X"),
    "a status of zero": message("Z", b"\0"),
    "a status of nothing": message("Z", b""),
    "two ends": READY + READY + READY,
    "a length of 2^31": b"D\x80\0\0\0" + b"\0" * 20,
    "a length of 2^31 - 1": b"D\x7f\xff\xff\xff" + b"\0" * 20,
    "a length of 2^32 - 1": b"C\xff\xff\xff\xff" + b"\0" * 20,
    "a length of 3": b"T\0\0\0\3" + b"\0" * 20,
    "an unknown message": message("!", b"what"),
    "a message of the login": message("R", struct.pack("!I", 0)) + READY,
    "another key": message("K", struct.pack("!II", 3, 4)) + READY,
    "a parameter that does not end": message("S", b"client_encoding\0UTF8") + READY,
    "a parameter without a name": message("S", b"\0\0") + READY,
    "a parameter of 100 kB": message("S", text0("client_encoding") + text0("x" * 100_000)) + READY,
    "a tag of nothing": message("C", b"") + READY,
    "a tag that does not end": message("C", b"SELECT 1") + READY,
    "answers to what nobody asked": message("1") + message("2") + message("3") + READY,
    "COPY both ways": message("W", b"\0\0\0") + READY,
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_a_server_that_answers_badly(against, what):
    with Impostor(WELCOME, BAD_ANSWERS[what]) as impostor:
        pooler = against(impostor, query_timeout=2)
        with pooler.client(database="app") as client:
            client.seconds = 5 * PATIENCE
            client.send(query("SELECT 1"))
            answer = client.read_until("ZE")
            assert answer.kinds[-1] in "ZE"
        with pooler.client(database="app") as client:
            assert client.key is not None
        assert_goes_on(pooler)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_nobody_meets_a_value_that_is_not_tracked(against, size):
    """One that is too long to be kept costs the server; others are known, and replayed."""
    status = message("S", text0("client_encoding") + text0("x" * size))
    with Impostor(WELCOME, status + message("C", b"SET\0") + READY) as impostor:
        pooler = against(impostor)
        with pooler.client(database="app") as client:
            assert not client.query("SET client_encoding = 'x'").errors
            servers = [row for row in pooler.admin("SHOW SERVERS") if row["database"] == "app"]
            assert len(servers) == (1 if size < 65_536 else 0)


# A client's names and values


@pytest.mark.parametrize("size", [63, 64, 127, 128, 1000, 9000])
def test_long_names(start_pooler, cluster, size):
    """Names that are equal up to PostgreSQL's 63 bytes are not taken for each other."""
    name = "d" * size
    pooler = start_pooler()
    for first in ({"user": "app_trust", "database": name}, {"user": name, "database": "app"}):
        client = pooler.connect()
        client.send(startup(first))
        error = client.read_to_end().error
        assert error["S"] == "FATAL" and error["C"] == "08P01"
    entry = {"d" * 63: pooler.node_string()}
    pooler = start_pooler(databases=entry)
    if size > 63:
        with pytest.raises(LoginFailed, match="no such database"):
            pooler.client(database=name)
    else:
        with pooler.client(database=name) as client:
            assert client.query("SELECT 1").value == "1"


def test_names_with_format_characters(pooler):
    for name in ("%s%s%s%n", "a\nb", "\x01\x02", "'; DROP TABLE x; --"):
        client = pooler.connect()
        client.send(startup({"user": "app_trust", "database": name}))
        assert client.read_to_end().error["M"].startswith("no such database: ")
        client = pooler.connect()
        client.send(startup({"user": "app_trust", "database": "app", "x": "1", name: "1"}))
        assert "unsupported startup parameter" in client.read_to_end().error["M"]
    with pooler.client(application_name="'; SELECT pg_sleep(100); --") as client:
        assert client.query("SHOW application_name").value == "'; SELECT pg_sleep(100); --"


@pytest.mark.parametrize("value", ["a'b", "a\\'b", "\\", "E'\\x'", "a;b", "$$", "\t"])
def test_values_are_quoted(start_pooler, value):
    """A client's value reaches the server as it is, whatever it is made of."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client(application_name="other") as other:
        for strings in ("on", "off"):
            more = {"application_name": value, "standard_conforming_strings": strings}
            with pooler.client(**more) as client:
                other.query("SELECT 1")
                shown = client.query("SELECT current_setting('application_name')").value
                assert shown.replace("\\x09", "\t") in (value, value.replace("\t", "?"))


def test_many_parameters(pooler):
    """A packet full of names is refused, not kept."""
    many = {f"p{number}": "1" for number in range(1000)}
    client = pooler.connect()
    client.send(startup({"user": "app_trust", "database": "app", **many})[:10000])
    client.send(b"\0")
    client = pooler.connect()
    few = {f"p{number}": "1" for number in range(100)}
    client.send(startup({"user": "app_trust", "database": "app", **few}))
    assert client.read_to_end().error["S"] == "FATAL"
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


# Rights


def test_who_may_only_look_cannot_kill(pooler):
    with pooler.client() as victim:
        victim.query("SELECT 1")
        (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "app_trust"]
        with pooler.client(*MONITOR, database="pgbouncer") as monitor:
            for command in (f"KILL_CLIENT {row['ptr']}", f"KILL_CLIENT {row['id']}"):
                assert monitor.query(command).error["M"] == "admin access needed"
        assert victim.query("SELECT 'alive'").value == "alive"
        with pooler.client(*ADMIN, database="pgbouncer") as admin:
            assert admin.query("SHOW VERSION").errors == []


def test_a_second_startup_after_the_login(pooler):
    """It changes nobody's name."""
    with pooler.client() as client:
        client.send(startup({"user": "postgres", "database": "app"}))
        error = client.read_until("E").error
        assert (error["C"], error["M"]) == ("08P01", "unknown pkt")
    with pooler.client() as client:
        client.send(parse("SELECT current_user"), bind(), execute(), SYNC)
        assert client.answer().value == "app_trust"
