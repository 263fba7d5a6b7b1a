"""What the log says of connections and what clients are told, word by word. Where Debian's
PgBouncer has the line, the same is done to both and the logs are compared."""

import re
import time

import pytest

import cluster as clusters
from console import wait_until
from fake import Puppet
from pooler import KIND, PATIENCE, WORKERS
from wire import SYNC, LoginFailed, bind, cancel, cancel_request, message, query, startup, text0

LINE = re.compile(r"^\S+ \S+ \S+ \[\d+\] (?P<text>.*)$")
# What may differ: numbers of connections, ports, ages, and what PgBouncer 1.25 has added to 1.18.
VARIES = [
    (re.compile(r"([CS])-0x[0-9a-f]+"), r"\1"),
    (re.compile(r"@127\.0\.0\.1:\d+"), "@ADDRESS"),
    (re.compile(r"@unix(\(\d+\))?:\d+"), "@unix"),
    (re.compile(r"from 127\.0\.0\.1:\d+"), "from ADDRESS"),
    (re.compile(r"\(age=\d+s\)"), "(age)"),
    (re.compile(r" replication=no$"), ""),
    (re.compile(r"try again later \(server_login_retry"), "(server_login_retry"),
    (re.compile(r"cached error: .* \(server_login_retry"), "(server_login_retry"),
    (re.compile(r"SV_IDLE server got dirty"), "idle server got dirty"),
]
# Lines of 1.18 alone.
PASSED_OVER = re.compile(
    r"sbuf_connect failed|stats: |ERROR S: .* unknown pkt: |started sending cancel request"
)


def lines(pooler):
    """What was logged since the start, without what may differ."""
    text = pooler.log_text()
    text = text[text.index("process up") :]
    found = [LINE.match(line)["text"] for line in text.splitlines()[1:]]
    for pattern, words in VARIES:
        found = [pattern.sub(words, line) for line in found]
    return [line for line in found if not PASSED_OVER.search(line)]


def assert_same_lines(poolers, count):
    """Both have logged the same `count` lines."""
    for pooler in poolers:
        wait_until(lambda one=pooler: len(lines(one)) >= count)
    weir, pgbouncer = (lines(pooler) for pooler in poolers)
    assert weir == pgbouncer
    assert len(weir) == count


def closings(pooler, kind, reason):
    """How many connections of the kind, C or S, were closed for the reason."""
    end = rf" {kind}-0x[0-9a-f]+: \S+ closing because: {re.escape(reason)} \(age=\d+s\)\n"
    return len(re.findall(end, pooler.log_text()))


def error_of(client):
    return client.read_to_end(20 * PATIENCE).errors[-1]


def refusal(pooler, **more):
    with pytest.raises(LoginFailed) as raised:
        pooler.client(**more)
    return raised.value.fields


# The life of a connection


def test_lines_of_connections(start_both, cluster):
    node = cluster.primary
    databases = {
        "tcp": f"host=127.0.0.1 port={node.port} dbname=app",
        "local": f"host={node.folder} port={node.port} dbname=app",
    }
    poolers = start_both(databases=databases)
    for pooler in poolers:
        for database in databases:
            with pooler.client(database=database) as client:
                client.query("SELECT 1")
            pooler.wait_log(rf"{database}/.* closing because: client close request")
    assert_same_lines(poolers, 6)
    assert " S: tcp/app_trust@ADDRESS new connection to server (from ADDRESS)" in "\n".join(
        lines(poolers[0])
    )


@pytest.mark.parametrize("way", ["drop", "reset"])
def test_clients_that_vanish(start_both, way):
    """The line names them even when their address cannot be asked for any more."""
    poolers = start_both()
    for pooler in poolers:
        client = pooler.client()
        client.query("SELECT 1")
        getattr(client, way)()
        pooler.wait_log("closing because: client unexpected eof")
    assert_same_lines(poolers, 3)


def test_a_waiting_client_that_vanishes(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    holder, waiter = pooler.client(), pooler.client()
    holder.query("BEGIN")
    waiter.send(query("SELECT 1"))
    wait_until(lambda: pooler.admin("SHOW POOLS")[0]["cl_waiting"] == 1)
    waiter.drop()
    if KIND == "pgbouncer":  # it sees that when the server is free
        holder.query("COMMIT")
    pooler.wait_log(r"closing because: client unexpected eof \(")


def test_lines_of_a_server_that_is_terminated(start_both, cluster):
    """At rest: the server alone; within a transaction it takes its client along."""
    poolers = start_both()
    for pooler in poolers:
        client = pooler.client()
        for begin in ("SELECT 1", "BEGIN"):
            client.query(begin)
            pid = client.query("SELECT pg_backend_pid()").value
            cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
            if begin == "BEGIN":
                error = client.read_to_end().errors[0]
                # In the server's own words, all of them.
                found = (error["C"], error["V"], error["R"])
                assert found == ("57P01", "FATAL", "ProcessInterrupts")
            wait_until(lambda one=pooler, pid=pid: closings(one, "S", "server conn crashed?"))
    for pooler in poolers:
        wait_until(lambda one=pooler: len(lines(one)) >= 8)
    # What the server had said is behind the line of the first, in Weir.
    said = ": terminating connection due to administrator command"
    assert [line.removesuffix(said) for line in lines(poolers[0])] == lines(poolers[1])


def kill_first(pooler, client):
    client.query("BEGIN")
    (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["state"] == "active"]
    pooler.admin(f"KILL_CLIENT {row['id']}")


def terminate(pooler, client):
    client.query("BEGIN")
    client.send(query("SELECT pg_terminate_backend(pg_backend_pid())"))


# Ways to end, and how often "pooler error" stands in the log for each.
ENDS = {
    "a goodbye": (lambda pooler, client: client.close(), 0),
    "a connection that is dropped": (lambda pooler, client: client.drop(), 0),
    "a message that is none": (lambda pooler, client: client.send(message("y")), 1),
    "an order of the console": (kill_first, 1),
    "a server that is terminated": (terminate, 1),
    "a statement that is not there": (lambda pooler, client: client.send(bind(name="no")), 1),
    "a query that takes too long": (
        lambda pooler, client: client.send(query("SELECT pg_sleep(9)")),
        1,
    ),
    "a transaction that rests": (lambda pooler, client: client.query("BEGIN"), 1),
}


@pytest.mark.weir_only  # some of it came after 1.18
def test_each_connection_ends_in_one_line(start_pooler):
    """However it ends: one closing line, and after a FATAL one more behind it."""
    settings = {"query_timeout": 0.5, "idle_transaction_timeout": 0.5, "log_stats": 0}
    pooler = start_pooler(settings)
    refusal(pooler, user="stranger")
    refusal(pooler, database="nowhere")
    refusal(pooler, work_mem="1MB")
    for name, (end, errors) in ENDS.items():
        before = pooler.log_text()
        client = pooler.client()
        end(pooler, client)
        if errors:
            assert error_of(client)["S"] == "FATAL", name
        found = [
            line
            for line in pooler.log_text()[len(before) :].splitlines()
            if "app/app_trust@" in line and "pooler error" in line
        ]
        assert len(found) == errors, name
    pooler.admin("PAUSE")
    wait_until(lambda: pooler.admin("SHOW SERVERS") == [])
    pooler.stop()
    said = {}
    for line in pooler.log_text().splitlines():
        if found := re.search(r" ([CS]-0x[0-9a-f]+): \S+ (closing because|pooler error): ", line):
            said.setdefault(found[1], []).append(found[2])
    opened = set(re.findall(r" ([CS]-0x[0-9a-f]+): \S+ (?:new conn|login att)", pooler.log_text()))
    assert opened <= set(said) and len(said) > len(ENDS) + 3
    for number, words in said.items():
        allowed = [["closing because"], ["closing because", "pooler error"]]
        assert words in allowed[: 1 if number[0] == "S" else 2], number


# Servers that cannot be had

UNREACHABLE = {
    "refused": "host=127.0.0.1 port={free}",
    "no socket": "host=/tmp/no-such-folder port={free}",
    "unknown name": "host=no-such-host.invalid port={free}",
}


@pytest.mark.parametrize("what", UNREACHABLE)
def test_lines_of_a_server_that_cannot_be_reached(start_both, what):
    """The log has the reason, the client waits on and is told nothing of it."""
    entry = UNREACHABLE[what].format(free=clusters.free_port())
    settings = {"server_login_retry": 60, "client_login_timeout": 1}
    poolers = start_both(settings, databases={"app": entry})
    for pooler in poolers:
        fields = refusal(pooler)
        assert fields["M"] == "client_login_timeout (server down)"
        pooler.wait_log("pooler error")
    reason = "server DNS lookup failed" if "name" in what else "connect failed"
    assert closings(poolers[0], "S", reason) == 1
    if "name" not in what:  # 1.18 has no address for it, and another result
        assert_same_lines(poolers, 4)
    else:
        pattern = r" WARNING DNS lookup failed: no-such-host\.invalid: result=\d+\n"
        assert all(len(re.findall(pattern, one.log_text())) == 1 for one in poolers)


def test_lines_of_a_server_that_closes_during_the_login(start_both):
    settings = {"server_login_retry": 60, "client_login_timeout": 1}
    with Puppet("rude") as server:
        poolers = start_both(settings, databases={"app": server.entry})
        for pooler in poolers:
            assert refusal(pooler)["M"] == "client_login_timeout (server down)"
            pooler.wait_log("pooler error")
    assert closings(poolers[0], "S", "server conn crashed?") == 1
    assert_same_lines(poolers, 5)


def test_a_client_waits_for_the_server_to_come_back(start_pooler):
    """Those who came before the failure are served once it is there again."""
    with Puppet() as server:
        settings = {"server_login_retry": 0.3, "default_pool_size": 1}
        pooler = start_pooler(settings, databases={"app": server.entry})
        client = pooler.client()
        client.query("ANYTHING")
        server.mood = "rude"
        server.hang_up()
        wait_until(lambda: pooler.admin("SHOW POOLS")[0]["sv_idle"] == 0)
        client.send(query("ANYTHING"))
        wait_until(lambda: closings(pooler, "S", "server conn crashed?") >= 3)
        server.mood = "kind"
        assert client.answer().tags == ["DONE"]


FAILURES = {
    "gone": ("vanish", "connect failed"),
    "rude": ("hang_up", "server conn crashed?"),
    "strict": ("hang_up", "not you"),
}


@pytest.mark.one_worker  # each worker learns of a failure by its own attempt
@pytest.mark.parametrize("mood", FAILURES)
def test_late_comers_are_told_of_the_failure(start_both, mood):
    """Whoever needs a server after the last attempt has failed, with no other left, is refused, and
    the server is tried again as soon as it may be."""
    act, reason = FAILURES[mood]
    for number in (0, 1):
        server = Puppet()
        settings = {"server_login_retry": 0.6, "query_wait_timeout": 1.2}
        pooler = start_both(settings, databases={"app": server.entry})[number]
        first, second, third, fourth = (pooler.client() for _ in range(4))
        first.query("ANYTHING")
        server.mood = mood
        getattr(server, act)()
        wait_until(lambda one=pooler: closings(one, "S", "server conn crashed?") == 1)
        failed = "login failed" if mood == "strict" and number else reason
        before = closings(pooler, "S", failed)
        first.send(query("ANYTHING"))
        if mood == "strict" and pooler.kind == "weir":  # 1.18 passes over a refusal here
            assert error_of(first)["M"] == "not you"
        wait_until(lambda one=pooler: closings(one, "S", failed) > before)
        for client in (second, third):
            error = client.query("ANYTHING").error
            assert (error["S"], error["C"]) == ("FATAL", "08P01")
            words = f"cached error: {reason}" if number == 0 else "try again later"
            assert error["M"] == f"server login has been failing, {words} (server_login_retry)"
        if not (mood == "strict" and number == 0):
            assert error_of(first)["M"] == "query_wait_timeout"
        time.sleep(0.6)  # server_login_retry
        before = closings(pooler, "S", failed)
        assert "server login has been failing" in fourth.query("ANYTHING").error["M"]
        wait_until(lambda one=pooler: closings(one, "S", failed) > before)
        pooler.stop()
        server.vanish()


@pytest.mark.weir_only
def test_another_workers_server_is_hope(start_pooler):
    """A worker's own failure is told to nobody as long as another one has a server."""
    with Puppet() as server:
        settings = {"workers": 2, "server_login_retry": 1}
        pooler = start_pooler(settings, databases={"app": server.entry})
        clients = {f"c{i}": pooler.client(application_name=f"c{i}") for i in range(6)}
        rows = pooler.admin("SHOW CLIENTS", database="weir")
        workers = {row["application_name"]: row["worker"] for row in rows}
        first, late, *_ = [one for name, one in clients.items() if workers[name] == 0]
        (other, *_) = [one for name, one in clients.items() if workers[name] == 1]
        server.mood = "rude"
        before = server.attempts
        server.hang_up()
        first.send(query("ANYTHING"))
        server.wait(lambda one: one.attempts > before)
        wait_until(lambda: closings(pooler, "S", "server conn crashed?") >= 2)
        server.mood = "kind"
        other.query("BEGIN")
        late.send(query("ANYTHING"))
        for client in (first, late):
            assert client.answer().tags == ["DONE"]


@pytest.mark.one_worker
@pytest.mark.parametrize("code", ["28P01", "57P03"])
def test_a_refused_login_closes_all_waiters(start_both, code):
    """The server's text stands in the log once for its connection, and once for each client; all
    are told, with its SQLSTATE, but not where it is starting up. PostgreSQL has seen one login."""
    for number in (0, 1) if code == "28P01" else (0,):  # 1.18 knows no exception
        with Puppet("strict", refusal=(code, "not you")) as server:
            server.gate.clear()
            settings = {"server_login_retry": 60, "client_login_timeout": 2}
            pooler = start_both(settings, databases={"app": server.entry})[number]
            clients = [pooler.connect() for _ in range(3)]
            for client in clients:
                client.send(startup({"user": "app_trust", "database": "app"}))
            wait_until(lambda one=pooler: one.log_text().count("login attempt") == 3)
            server.wait(lambda one: one.attempts == 1)
            server.gate.set()
            is_told = code == "28P01"
            told = ("28P01" if number == 0 else "08P01", "not you")
            if not is_told:
                told = ("08P01", "client_login_timeout (server down)")
            for client in clients:
                error = error_of(client)
                assert (error["C"], error["M"]) == told
            text = pooler.log_text()
            if is_told:
                assert text.count(" WARNING server login failed: FATAL not you\n") == 1
                assert closings(pooler, "C", "not you") == 3
                assert text.count(" pooler error: not you\n") == 3
            if number == 0:  # 1.18: login failed
                assert closings(pooler, "S", "not you") == 1
            assert server.attempts == 1
            pooler.stop()


def test_the_next_login_asks_the_server_again(start_both):
    """A login that comes after a refused one waits until the server may be asked again, and is told
    in its words then."""
    for number in (0, 1):
        with Puppet("strict") as server:
            pooler = start_both({"server_login_retry": 1}, databases={"app": server.entry})[number]
            for count in (1, 2):
                assert refusal(pooler)["M"] == "not you"
                assert server.attempts == count or WORKERS > 1
            pooler.stop()


@pytest.mark.weir_only
def test_a_login_that_is_no_login(start_pooler):
    """What a server says that is none of PostgreSQL's messages."""
    with Puppet() as server:
        server.welcome = message("y", b"what?")
        settings = {"server_login_retry": 60, "client_login_timeout": 1}
        pooler = start_pooler(settings, databases={"app": server.entry})
        assert refusal(pooler)["M"] == "client_login_timeout (server down)"
        assert closings(pooler, "S", "unknown pkt from server") == 1


# Servers that speak out of turn

UNASKED = {
    "an error": (message("E", b"SERROR\0CXX000\0Mhello\0\0"), "E", "idle server got dirty"),
    "a notice": (message("N", b"SNOTICE\0C00000\0Mhello\0\0"), "N", "idle server got dirty"),
    "a last error": (message("E", b"SFATAL\0C57P01\0Mhello\0\0"), "E", None),
    "an answer": (message("C", b"DONE\0"), "C", "idle server got dirty"),
    "no message": (message("y", b"hello"), None, "unknown pkt"),
    "no length": (b"y\0\0\0\1", None, "bad pkt header"),
}


@pytest.mark.parametrize("what", UNASKED)
def test_idle_servers_that_speak(start_both, what):
    """They are closed before they could be lent again, in the same words."""
    words, kind, reason = UNASKED[what]
    for number in (0, 1):
        with Puppet() as server:
            pooler = start_both(databases={"app": server.entry})[number]
            client = pooler.client()
            client.query("ANYTHING")
            server.say(words)
            if reason is None:
                server.hang_up()
            reason_here = reason or "server conn crashed?"
            if number and reason == "idle server got dirty":
                reason_here = "SV_IDLE server got dirty"
            wait_until(lambda one=pooler, why=reason_here: closings(one, "S", why) == 1)
            if kind:
                warning = rf" WARNING S-\S+ \S+ got packet '{kind}' from server when not linked"
                assert len(re.findall(warning, pooler.log_text())) == 1
            assert client.query("ANYTHING").tags == ["DONE"]
            pooler.stop()


@pytest.mark.parametrize("words", [message("A", b"\0\0\0\1c\0p\0"), message("S", b"a\0b\0")])
@pytest.mark.weir_only  # 1.18 takes it for dirt
def test_news_do_not_cost_an_idle_server(start_pooler, words):
    with Puppet() as server:
        pooler = start_pooler(databases={"app": server.entry})
        client = pooler.client()
        client.query("ANYTHING")
        server.say(words)
        assert client.query("ANYTHING").tags == ["DONE"]
        assert server.attempts == 1


BROKEN = {"unknown pkt": message("y", b"what?"), "bad pkt header": b"D\0\0\0\3"}


@pytest.mark.parametrize("reason", BROKEN)
def test_servers_that_answer_nonsense(start_both, reason):
    """Within a transaction the client goes with them, in the same words."""
    with Puppet(word=BROKEN[reason]) as server:
        poolers = start_both(databases={"app": server.entry})
        for pooler in poolers:
            client = pooler.client()
            client.query("BEGIN")
            client.send(query("WORD"))
            assert error_of(client)["M"] == reason
            pooler.wait_log("pooler error")
        assert_same_lines(poolers, 5)


# Clients that leave too early


def test_a_client_leaves_within_a_message(start_both):
    with Puppet() as server:
        poolers = start_both(databases={"app": server.entry})
        for pooler in poolers:
            client = pooler.client()
            client.query("ANYTHING")
            client.send(query("x" * 1000)[:500])
            wait_until(lambda one=pooler: one.admin("SHOW POOLS")[0]["sv_active"] == 1)
            client.drop()
            reason = "client disconnect while server was not ready"
            wait_until(lambda one=pooler, why=reason: closings(one, "S", why) == 1)
            assert closings(pooler, "C", "client unexpected eof") == 1


@pytest.mark.weir_only  # 1.18 knows only one word for all of these
@pytest.mark.parametrize("count", [1, 2])
def test_a_client_leaves_with_queries_in_progress(start_pooler, count):
    """Weir awaits their end for a while, to save the server."""
    with Puppet() as server:
        settings = {"cancel_wait_timeout": 0.3}
        pooler = start_pooler(settings, databases={"app": server.entry})
        client = pooler.client()
        client.send(*[query("HANG")] * count)
        wait_until(lambda: pooler.admin("SHOW POOLS")[0]["sv_active"] == 1)
        client.drop()
        word = "query" if count == 1 else "queries"
        reason = f"client disconnected with {word} in progress"
        wait_until(lambda: closings(pooler, "S", reason) == 1)


@pytest.mark.weir_only  # 1.18 knows only one word for this, too
def test_a_client_leaves_before_everything_was_sent(start_pooler):
    with Puppet() as server:
        settings = {"tcp_socket_buffer": 8192}
        pooler = start_pooler(settings, databases={"app": server.entry})
        client = pooler.client()
        server.gate.clear()
        client.send(query("STALL"))
        client.socket.setblocking(False)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            try:
                client.socket.send(SYNC * 1000)
                deadline = time.monotonic() + 0.5
            except BlockingIOError:
                time.sleep(0.01)
        client.reset()
        reason = "client disconnect before everything was sent to the server"
        wait_until(lambda: closings(pooler, "S", reason) == 1)
        server.gate.set()


# Servers that are closed


def test_lines_of_servers_that_rest(start_both):
    with Puppet() as server:
        settings = {"server_idle_timeout": "0.5"}
        poolers = start_both(settings, databases={"app": server.entry})
        for pooler in poolers:
            with pooler.client() as client:
                client.query("ANYTHING")
                wait_until(lambda one=pooler: closings(one, "S", "server idle timeout") == 1)
            pooler.wait_log("client close request")
        assert_same_lines(poolers, 4)


# Logins


def test_lines_of_refused_logins(start_both):
    """The reason that the client is not told has a line of its own in Weir, where it is another one
    than the error's text."""
    secrets = {"app": "secret of app", "admin": "secret of admin"}
    poolers = start_both({"auth_type": "plain"}, secrets=secrets)
    for pooler in poolers:
        for secret in ("wrong", ""):
            assert refusal(pooler, user="app", secret=secret)["C"] == "08P01"
        pooler.wait_log("pooler error: empty password returned by client")
    mine = [line for line in lines(poolers[0]) if "login refused: wrong password" not in line]
    assert mine == lines(poolers[1])
    assert len(mine) == 6 and len(lines(poolers[0])) == 7


def test_a_mechanism_that_was_not_offered(start_both):
    poolers = start_both({"auth_type": "scram-sha-256"})
    for pooler in poolers:
        client = pooler.connect()
        client.send(startup({"user": "app", "database": "app"}))
        assert client.read().kind == "R"
        client.send(message("p", text0("SCRAM-SHA-1") + b"\0\0\0\1n"))
        error = error_of(client)
        assert error["M"] == "client selected an invalid SASL authentication mechanism"
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
        pooler.wait_log("pooler error")
    assert_same_lines(poolers, 3)


# Parameters


def test_lines_of_parameters(start_both, cluster):
    """At level DEBUG what is set on a server, and the spelling that it gives to a value. One that it
    refuses ends both."""
    poolers = start_both({"verbose": 1, "default_pool_size": 1})
    for pooler in poolers:
        client = pooler.client(DateStyle="German")
        assert client.query("SHOW DateStyle").value == "German, DMY"
        pooler.wait_log(r"DEBUG S-\S+ \S+ varcache_apply: SET DateStyle='German';\n")
        if pooler.kind == "weir":
            pooler.wait_log(
                r"DEBUG C-\S+ \S+ varcache_set_canonical: setting DateStyle to its canonical"
                r" version German -> German, DMY\n"
            )
        client.close()
        client = pooler.client(TimeZone="nonsense")
        assert client.query("SELECT 1").error["M"] == "invalid server parameter"
        pooler.wait_log(r"\] ERROR varcache_apply failed: ERROR: invalid value for parameter")
        for kind in "SC":
            assert closings(pooler, kind, "invalid server parameter") == 1


def test_a_server_that_reports_little(start_both):
    """What drivers always give is taken; what else cannot be tracked is refused."""
    with Puppet() as server:
        server.reports.pop("application_name")
        for pooler in start_both(databases={"app": server.entry}):
            with pooler.client(application_name="x", client_encoding="UTF8") as client:
                assert client.query("ANYTHING").tags == ["DONE"]
            error = refusal(pooler, search_path="x")
            assert error["M"] == "unsupported startup parameter: search_path"


# Cancel requests


@pytest.mark.one_worker  # the requester's worker and the server's write their lines by themselves
def test_lines_of_cancel_requests(start_both):
    """Who has a server is cancelled, also between two statements; the connection that carries the
    request has its lines like any other."""
    logs = []
    for number in (0, 1):
        with Puppet() as server:
            pooler = start_both(databases={"app": server.entry})[number]
            client = pooler.client()
            client.query("BEGIN")
            for sent in (True, False, True):
                if sent and server.cancels:
                    client.send(query("HANG"))
                    wait_until(lambda one=pooler: one.admin("SHOW POOLS")[0]["sv_active"] == 1)
                before = len(server.cancels)
                cancel(pooler.address, client.key)
                assert len(server.cancels) == before + sent
                if not server.cancels[1:]:
                    client.query("COMMIT")
            cancel(pooler.address, bytes(8))
            wait_until(lambda one=pooler: closings(one, "C", "failed cancel request") == 1)
            logs.append([line for line in lines(pooler) if "admin" not in line])
            pooler.stop()
    assert logs[0] == logs[1]
    assert len(logs[0]) == 2 + 3 + 1 + 3 + 1
    told = "LOG C: app/(nouser)@ADDRESS closing because: successfully sent cancel request (age)"
    assert logs[0].count(told) == 2


@pytest.mark.weir_only
def test_a_late_signal_hits_nobody_else(start_pooler):
    """The server of a client that was cancelled between two statements is not lent while the
    request is under way."""
    with Puppet() as server:
        pooler = start_pooler({"default_pool_size": 1}, databases={"app": server.entry})
        client, other = pooler.client(), pooler.client()
        client.query("BEGIN")
        server.gate.clear()
        requester = pooler.connect()
        requester.send(cancel_request(client.key))
        server.wait(lambda one: len(one.cancels) == 1)
        client.query("COMMIT")
        other.send(query("ANYTHING"))
        assert other.is_silent(0.3)
        server.gate.set()
        assert other.answer().tags == ["DONE"]


@pytest.mark.weir_only  # since 1.19
def test_lines_of_a_request_for_a_peer(start_pooler):
    with Puppet() as server:
        peers = {2: f"host=127.0.0.1 port={server.port}"}
        pooler = start_pooler({"peer_id": 1}, peers=peers)
        cancel(pooler.address, bytes([0, 2, 0, 0, 0, 0, 0, 3]))
        pooler.wait_log("C-.* closing because: successfully sent cancel request")
        found = [line for line in lines(pooler) if " S: " in line]
        assert found == [
            "LOG S: peer-2@ADDRESS new connection to server (from ADDRESS)",
            "LOG S: peer-2@ADDRESS closing because: successfully sent cancel request (age)",
        ]
        server.vanish()
        cancel(pooler.address, bytes([0, 2, 0, 0, 0, 0, 0, 3]))
        pooler.wait_log(rf"S-\S+ peer-2@127.0.0.1:{server.port} closing because: connect failed")


# Errors


def test_fields_of_an_error(start_pooler):
    """Of the pooler's own: severity, SQLSTATE and message, with DETAIL and HINT in Weir."""
    pooler = start_pooler({"login_notify_message": "welcome"})
    found = [refusal(pooler, database="nowhere")]
    client = pooler.connect()
    notice = client.login("app_trust", None, "app").notices[0]
    assert notice == {"S": "NOTICE", "C": "00000", "M": "welcome"} or KIND == "pgbouncer"
    client.send(message("y"))
    found.append(error_of(client))
    for error in found:
        assert {"S", "C", "M"} <= set(error) <= {"S", "C", "M", "D", "H"}
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
