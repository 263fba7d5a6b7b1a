"""The methods of logging in, with secrets of each kind, beside Debian's PgBouncer."""

import contextlib
import hashlib
import itertools
import socket
import struct
import threading
import time

import pytest

import cluster as clusters
from pooler import ADMIN, MONITOR, PATIENCE
from test_login import assert_refused, refusal, scram_challenge
from wire import LoginFailed, message, startup, text0

pytestmark = pytest.mark.weir_only

SECRET = clusters.PASSWORDS["app"]
ADMINS = dict([ADMIN, MONITOR])
OK = "ok"


def md5_secret(user, secret):
    return "md5" + hashlib.md5((secret + user).encode()).hexdigest()


def scram_secret(cluster, secret):
    """What PostgreSQL stores for a password."""
    cluster.primary.sql(f"CREATE ROLE stored PASSWORD '{secret}'")
    try:
        return cluster.primary.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'stored'")
    finally:
        cluster.primary.sql("DROP ROLE stored")


def stored_secret(cluster, role):
    return cluster.primary.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")


def outcome(pooler, user, secret, database="app"):
    """The codes of the challenges, and the text of the error or `ok`."""
    client = pooler.connect()
    codes = []
    receive = client.read

    def read(*arguments):
        found = receive(*arguments)
        if found.kind == "R":
            codes.append(struct.unpack_from("!I", found.body)[0])
        return found

    client.read = read
    try:
        client.login(user, secret, database)
        return (*codes, OK)
    except LoginFailed as failure:
        return (*codes, failure.fields["M"])
    finally:
        client.drop()


def entry(cluster, **more):
    """An entry of [databases]; user=app_trust makes servers ask for nothing."""
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}='{value}'" for key, value in rows.items())


# Beside PgBouncer

USERS = ["plain", "hashed", "stored", "empty", "listed", "stranger"]
PASSWORDS = {"right": "right", "wrong": "wrong", "empty": ""}


def as_of_today(method, user, given, outcome_of_old):
    """What PgBouncer 1.25 answers where 1.18 was different."""
    *codes, text = outcome_of_old
    if given == "empty" and codes == [3] and text == "password authentication failed":
        text = "empty password returned by client"
    if given == "empty" and user in ("empty", "listed") and method == "scram-sha-256":
        text = "SASL authentication failed"  # 1.18 takes an empty secret for a password
    return codes[:1], text


@pytest.mark.parametrize("method", ["any", "trust", "plain", "md5", "scram-sha-256"])
def test_as_pgbouncer_does(start_both, cluster, method):
    """First challenge and last word for secrets of each kind, known databases and unknown ones."""
    secrets = {
        "plain": "right",
        "hashed": md5_secret("hashed", "right"),
        "stored": scram_secret(cluster, "right"),
        "empty": "",
        "app_trust": "",
    }
    weir, pgbouncer = start_both(
        {"auth_type": method},
        secrets=secrets,
        users={"listed": "pool_mode=session"},
        databases={"app": entry(cluster, user="app_trust")},
    )
    differing = []
    for user, given, database in itertools.product(USERS, PASSWORDS, ["app", "nowhere"]):
        *codes, text = outcome(weir, user, PASSWORDS[given], database)
        theirs = outcome(pgbouncer, user, PASSWORDS[given], database)
        theirs = as_of_today(method, user, given, theirs)
        if (codes[:1], text) != theirs:
            differing.append((user, given, database, (codes, text), theirs))
    assert not differing, "\n".join(map(str, differing))


@pytest.mark.parametrize("kind", ["plain", "hashed", "stored"])
@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
def test_nobody_learns_who_exists(start_pooler, cluster, method, kind):
    """Whoever is not known, has an empty secret or asks for a database that is not there gets the
    messages of one with a wrong password, of the kind that most users have."""
    secrets = {
        "plain": {name: "right" for name in ("one", "two", "three")},
        "hashed": {name: md5_secret(name, "right") for name in ("one", "two", "three")},
        "stored": {name: scram_secret(cluster, "right") for name in ("one", "two", "three")},
    }[kind]
    pooler = start_pooler(
        {"auth_type": method},
        secrets={**secrets, "empty": "", "app_trust": ""},
        databases={"app": entry(cluster, user="app_trust")},
    )
    if (method, kind) != ("scram-sha-256", "hashed"):
        assert outcome(pooler, "one", "right")[-1] == OK
    wrong = outcome(pooler, "one", "wrong")
    assert wrong[-1].endswith("authentication failed")
    for user, database in (("stranger", "app"), ("empty", "app"), ("one", "no"), ("stranger", "no")):
        assert outcome(pooler, user, "wrong", database) == wrong


# any


def test_any_lets_everybody_in(start_pooler, cluster):
    pooler = start_pooler(
        {"auth_type": "any"},
        databases={"app": entry(cluster, user="app_trust"), "own": entry(cluster)},
    )
    for user in ("app", "stranger", "x" * 100):
        with pooler.client(user) as client:
            assert client.query("SELECT current_user").value == "app_trust"
    assert_refused(refusal(pooler, "app", database="own"), "bouncer config error")
    pooler.wait_log("ERROR C-0x[0-9a-f]+: own/app@.* auth_type=any requires forced user")


def test_any_and_the_console(start_pooler, cluster):
    pooler = start_pooler(
        {"auth_type": "any"}, databases={"app": entry(cluster, user="app_trust")}
    )
    with pooler.client("stranger", database="pgbouncer") as client:
        assert client.query("SHOW VERSION").rows
        assert client.query("RELOAD").error["M"] == "admin access needed"
    with pooler.client("admin", database="pgbouncer") as client:
        assert client.query("RELOAD").tags == ["RELOAD"]


# trust


def test_users_with_settings_are_known(start_pooler, cluster):
    pooler = start_pooler(
        users={"listed": "pool_mode=session"},
        databases={"app": entry(cluster, user="app_trust")},
    )
    with pooler.client("listed") as client:
        assert client.query("SELECT 1").value == "1"


def test_an_unknown_user_is_logged(start_pooler):
    pooler = start_pooler({"auth_type": "md5"})
    assert_refused(refusal(pooler, "stranger", "x"), "password authentication failed")
    pooler.wait_log("LOG C-0x[0-9a-f]+: app/stranger@.* no such user: stranger")


# md5, and secrets of each kind on both sides


@pytest.mark.parametrize("kind", ["plain", "hashed"])
def test_md5_to_client_and_server(start_pooler, kind):
    """The server asks app_md5 by MD5, which both kinds of secret can answer."""
    secret = clusters.PASSWORDS["app_md5"]
    stored = secret if kind == "plain" else md5_secret("app_md5", secret)
    pooler = start_pooler({"auth_type": "md5"}, secrets={"app_md5": stored})
    assert outcome(pooler, "app_md5", secret) == (5, 0, OK)
    assert outcome(pooler, "app_md5", "x") == (5, "password authentication failed")
    assert pooler.psql("SELECT current_user", "app_md5", secret).stdout == "app_md5\n"


def test_md5_secret_of_a_forced_user(start_pooler, cluster):
    secret = md5_secret("app_md5", clusters.PASSWORDS["app_md5"])
    pooler = start_pooler(databases={"app": entry(cluster, user="app_md5", password=secret)})
    with pooler.client() as client:
        assert client.query("SELECT current_user").value == "app_md5"


def test_plain_secret_by_md5_serves_a_scram_server(start_pooler):
    pooler = start_pooler({"auth_type": "md5"}, secrets={"app": SECRET})
    assert outcome(pooler, "app", SECRET) == (5, 0, OK)


def test_md5_challenge_differs_each_time(start_pooler):
    """An answer that was seen once is worth nothing."""
    pooler = start_pooler({"auth_type": "md5"})
    salts = set()
    for user in ("app", "app", "stranger", "stranger"):
        client = pooler.connect()
        client.send(startup({"user": user, "database": "app"}))
        salts.add(client.read().body)
        client.drop()
    assert len(salts) == 4


@pytest.mark.parametrize("kind", ["hashed", "stored"])
def test_wrong_kind_of_secret_for_the_server(start_pooler, cluster, kind):
    """Nobody proved anything, so that there is nothing to log in to a SCRAM server with."""
    secret = md5_secret("app", SECRET) if kind == "hashed" else stored_secret(cluster, "app")
    pooler = start_pooler(secrets={"app": secret})
    assert_refused(refusal(pooler, "app"), "server login failed: wrong password type")


# SCRAM


def close_servers(pooler):
    """Leaves no server that was logged in before."""
    pooler.admin("RECONNECT")
    deadline = time.monotonic() + 5 * PATIENCE
    while any(row["user"] == "app" for row in pooler.admin("SHOW SERVERS")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
def test_proved_keys_outlive_their_servers(start_pooler, cluster, method):
    """Only a SCRAM secret is at hand: what the client proved logs in to the server, again and
    again, and after a RELOAD too."""
    pooler = start_pooler({"auth_type": method}, secrets={"app": stored_secret(cluster, "app"),
                                                          **ADMINS})
    with pooler.client("app", SECRET) as client:
        for command in ("RECONNECT", "RELOAD", "RECONNECT"):
            assert client.query("SELECT current_user").value == "app"
            pooler.admin(command)
            close_servers(pooler)
        assert client.query("SELECT current_user").value == "app"


def test_a_new_plain_secret_counts_after_a_reload(start_pooler):
    pooler = start_pooler({"server_login_retry": 0.1}, secrets={"app": "not it", **ADMINS})
    assert "password authentication failed" in refusal(pooler, "app")["M"]
    pooler.write_auth_file({"app": SECRET, **ADMINS})
    pooler.admin("RELOAD")
    time.sleep(0.2)
    with pooler.client("app") as client:
        assert client.query("SELECT current_user").value == "app"


def test_scram_iterations(start_pooler):
    """Plain secrets and unknown users show what is set; a SCRAM secret has its own."""
    pooler = start_pooler({"auth_type": "scram-sha-256", "scram_iterations": 5000})
    assert scram_challenge(pooler, "app")[1] == "i=5000"
    assert scram_challenge(pooler, "stranger")[1] == "i=5000"
    with pooler.client("app", SECRET) as client:
        assert client.query("SELECT 1").value == "1"
    pooler.admin("SET scram_iterations = 4200")
    assert scram_challenge(pooler, "app")[1] == "i=4200"
    with pooler.client("app", SECRET) as client:
        assert client.query("SELECT 1").value == "1"


def test_channel_binding_is_not_offered_without_tls(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    client = pooler.connect()
    client.send(startup({"user": "app", "database": "app"}))
    assert client.read().body[4:] == b"SCRAM-SHA-256\0\0"
    first = b"p=tls-server-end-point,,n=,r=abcdefghijklmnopqrstuvwx"
    client.send(message("p", text0("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
    assert_refused(client.read_to_end().error, "SASL authentication failed")
    pooler.wait_log("client requires SCRAM channel binding, but it is not supported")


# Attacks


@pytest.mark.parametrize("database", ["app", "nowhere"])
@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
def test_a_second_startup_message_changes_nobody(start_pooler, method, database):
    """Neither between challenge and answer nor after the first SCRAM message, whether the database
    that was asked for first is there or not."""
    pooler = start_pooler({"auth_type": method})
    again = startup({"user": "app2", "database": "app"})
    for steps in (0, 1):
        client = pooler.connect()
        client.send(startup({"user": "app", "database": database}))
        client.read()
        if steps == 1 and method == "scram-sha-256":
            first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
            body = text0("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first
            client.send(message("p", body))
            client.read()
        client.send(again)
        assert_refused(client.read_to_end().error, "client re-sent startup pkt")
    pooler.wait_log(f"{database}/app@.*closing because: client re-sent startup pkt")
    assert "app/app2@" not in pooler.log_text()


@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
def test_names_that_differ_behind_63_bytes(start_pooler, method):
    """PostgreSQL cuts names there; whoever logs in as the longer one must not get in as the
    shorter, nor as one with another end."""
    name = "n" * 63
    pooler = start_pooler({"auth_type": method}, secrets={name: "one", name + "a": "two"})
    for other in (name + "a", name + "b", name + "a" * 60):
        assert "authentication failed" in refusal(pooler, other, "one")["M"]
    assert "authentication failed" in refusal(pooler, name, "two")["M"]
    assert_refused(refusal(pooler, "n" * 128, "one"), "username too long")


@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
@pytest.mark.parametrize("length", [1023, 1024, 1025, 4096, 65530])
def test_long_passwords(start_pooler, cluster, method, length):
    """Each byte counts, on the way in; the server is another matter."""
    pooler = start_pooler(
        {"auth_type": method},
        secrets={"app": "p" * length},
        databases={"app": entry(cluster, user="app_trust")},
    )
    assert outcome(pooler, "app", "p" * length)[-1] == OK
    assert "authentication failed" in outcome(pooler, "app", "p" * (length - 1))[-1]
    assert "authentication failed" in outcome(pooler, "app", "p" * (length + 1))[-1]


def test_secret_that_is_the_hash_does_not_log_in(start_pooler):
    """Whoever has read the auth_file still lacks the password."""
    stored = md5_secret("app", SECRET)
    pooler = start_pooler({"auth_type": "plain"}, secrets={"app": stored})
    assert_refused(refusal(pooler, "app", stored), "password authentication failed")
    assert_refused(refusal(pooler, "app", ""), "empty password returned by client")


MD5_NONSENSE = [b"", b"\0", b"md5\0", b"md5" + b"0" * 31 + b"\0", b"md5" + b"0" * 32 + b"\0",
                b"md5" + b"0" * 33 + b"\0", b"md5" + b"0" * 32, b"x" * 100_000 + b"\0"]


@pytest.mark.parametrize("body", MD5_NONSENSE, ids=range(len(MD5_NONSENSE)))
def test_nonsense_as_an_md5_answer(start_pooler, body):
    pooler = start_pooler({"auth_type": "md5"})
    client = pooler.connect()
    client.send(startup({"user": "app", "database": "app"}))
    assert client.read().kind == "R"
    client.send(message("p", body))
    answer = client.read_to_end()
    assert answer.kinds == "E" and answer.error["S"] == "FATAL"
    assert outcome(pooler, "app", SECRET) == (5, 0, OK)


# Hostile servers


class Server(threading.Thread):
    """Takes one connection and plays its lines: each is sent after one message came."""

    def __init__(self, *lines):
        super().__init__(daemon=True)
        self.lines = lines
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            peer, _ = self.listener.accept()
            with peer:
                peer.settimeout(20)
                for line in self.lines:
                    data = peer.recv(65536)
                    peer.sendall(line(data) if callable(line) else line)
                while peer.recv(65536):
                    pass

    def close(self):
        self.listener.close()


def authentication(code, data=b""):
    return message("R", struct.pack("!I", code) + data)


def long_nonce(length):
    """A server-first message which continues the client's nonce by so many bytes."""

    def answer(data):
        nonce = data.rpartition(b"r=")[2]
        return authentication(11, b"r=" + nonce + b"x" * length + b",s=c2FsdHNhbHRzYWx0,i=4096")

    return answer


OFFER = authentication(10, b"SCRAM-SHA-256\0\0")
HOSTILE = {
    "a nonce of 300 bytes": (OFFER, long_nonce(300)),
    "a nonce of 100 kB": (OFFER, long_nonce(100_000)),
    "a nonce of its own": (OFFER, authentication(11, b"r=abcdef,s=c2FsdHNhbHRzYWx0,i=4096")),
    "iterations without end": (OFFER, lambda data: authentication(
        11, b"r=" + data.rpartition(b"r=")[2] + b"x,s=c2FsdHNhbHRzYWx0,i=4294967295")),
    "an empty challenge": (OFFER, authentication(11)),
    "no proof": (OFFER, long_nonce(8), authentication(0)),
    "a wrong proof": (OFFER, long_nonce(8), authentication(12, b"v=" + b"A" * 43 + b"=")),
    "a short MD5 salt": (authentication(5, b"ab"),),
    "a long MD5 salt": (authentication(5, b"abcdefgh"),),
    "no mechanism": (authentication(10, b""),),
    "a list without end": (authentication(10, b"SCRAM-SHA-256"),),
    "Kerberos": (authentication(7),),
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_server(start_pooler, cluster, lines):
    """The login is given up; the pooler goes on and tells nothing of the secret."""
    server = Server(*lines)
    pooler = start_pooler(
        databases={"app": entry(cluster), "bad": f"host=127.0.0.1 port={server.port}"}
    )
    fields = refusal(pooler, "app", database="bad")
    assert fields["S"] == "FATAL" and SECRET not in fields["M"]
    assert SECRET not in pooler.log_text()
    with pooler.client("app") as client:
        assert client.query("SELECT 1").value == "1"
    server.close()
