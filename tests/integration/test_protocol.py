"""Corners of the protocol: what a startup packet may ask for, notices, and bounds of messages.

All but what is marked runs against PgBouncer too, so that the two can be compared.
"""

import struct
import time

import pytest

import wire
from pooler import ADMIN, KIND, PATIENCE, WORKERS, rows_of
from wire import SYNC, Closed, LoginFailed, bind, execute, message, parse, query, startup, text0

APP = {"user": "app_trust", "database": "app"}
OPTIONS_SYNTAX = (
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)


def refusal(pooler, first):
    """The fields of the FATAL error that a first packet gets, and nothing but it."""
    client = pooler.connect()
    client.send(first)
    (error,) = client.read_to_end().messages
    return error.fields()


def assert_fatal(error, text):
    assert (error["S"], error["C"], error["M"]) == ("FATAL", "08P01", text)


# Startup parameters


def test_ignored_parameters_are_dropped(start_pooler):
    pooler = start_pooler({"ignore_startup_parameters": "x_one, extra_float_digits"})
    with pooler.client(extra_float_digits="3") as client:
        assert client.query("SHOW extra_float_digits").value == "1"


def test_other_parameters_are_refused(start_pooler):
    pooler = start_pooler({"ignore_startup_parameters": "extra_float_digits"})
    error = refusal(pooler, startup({**APP, "work_mem": "1MB"}))
    assert_fatal(error, "unsupported startup parameter: work_mem")
    # max_client_conn counts after the parameters, and the refused one is gone again.
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


# options, setting, its value at the server
TAKEN = [
    ("-c DateStyle=German", "DateStyle", "German, DMY"),
    ("-cdatestyle=German", "DateStyle", "German, DMY"),
    ("--DATESTYLE=German", "DateStyle", "German, DMY"),
    ("  -c  TimeZone=Asia/Tokyo  ", "TimeZone", "Asia/Tokyo"),
    ("-c application_name=two\\ words", "application_name", "two words"),
    ("-c application_name=back\\\\slash", "application_name", "back\\slash"),
    ("-c application_name=a=b", "application_name", "a=b"),
    ("-c application_name=", "application_name", ""),
    ("-c DateStyle=SQL -c TimeZone=UTC --application-name=both", "application_name", "both"),
    ("-c extra_float_digits=3", "extra_float_digits", "1"),
    ("", "application_name", ""),
]


@pytest.mark.weir_only
@pytest.mark.parametrize("options,setting,value", TAKEN, ids=range(len(TAKEN)))
def test_options_that_are_taken(pooler, options, setting, value):
    with pooler.client(options=options) as client:
        assert client.query(f"SHOW {setting}").value == value


# options, the error's text
REFUSED = [
    ("-c work_mem=1MB", "unsupported startup parameter in options: work_mem"),
    ("--work-mem=1MB", "unsupported startup parameter in options: work_mem"),
    ("-c DateStyle=ISO -c lock_timeout=1", "unsupported startup parameter in options: lock_timeout"),
    ("work_mem=1MB", OPTIONS_SYNTAX),
    ("-c work_mem", OPTIONS_SYNTAX),
    ("-c", OPTIONS_SYNTAX),
    ("--", OPTIONS_SYNTAX),
    ("-c=", OPTIONS_SYNTAX),
    ("-c =x", OPTIONS_SYNTAX),
    ("--=x", OPTIONS_SYNTAX),
    ("-c=-c=-c=", OPTIONS_SYNTAX),
    ("-B 100", OPTIONS_SYNTAX),
    ("-e", OPTIONS_SYNTAX),
    ("-", OPTIONS_SYNTAX),
    ("\\", OPTIONS_SYNTAX),
]


@pytest.mark.weir_only
@pytest.mark.parametrize("options,text", REFUSED, ids=range(len(REFUSED)))
def test_options_that_are_refused(pooler, options, text):
    """An option without a name ends in an error at once; it once spun for ever."""
    began = time.monotonic()
    assert_fatal(refusal(pooler, startup({**APP, "options": options})), text)
    assert time.monotonic() - began < 5


@pytest.mark.weir_only
def test_options_may_be_ignored(start_pooler):
    """`options` among the ignored drops what is unknown, keeps what is tracked, and is strict
    about the form still."""
    pooler = start_pooler({"ignore_startup_parameters": "options"})
    with pooler.client(options="-c work_mem=1MB -c DateStyle=German") as client:
        assert client.query("SHOW work_mem").value != "1MB"
        assert client.query("SHOW DateStyle").value == "German, DMY"
    assert_fatal(refusal(pooler, startup({**APP, "options": "-e"})), OPTIONS_SYNTAX)


def test_application_name_add_host(start_pooler):
    pooler = start_pooler({"application_name_add_host": 1})
    with pooler.client(application_name="shop") as client:
        host, port = client.socket.getsockname()
        assert client.query("SHOW application_name").value == f"shop - {host}:{port}"
    with pooler.client() as client:
        host, port = client.socket.getsockname()
        assert client.query("SHOW application_name").value == f"app - {host}:{port}"


def test_start_values_of_an_entry(start_pooler, cluster):
    """A server logs in with the entry's values; a client's own come before them."""
    entry = "client_encoding=LATIN1 datestyle=German timezone=Asia/Tokyo application_name='the app'"
    text = f"host=127.0.0.1 port={cluster.primary.port} dbname=app {entry}"
    pooler = start_pooler(databases={"app": text})
    with pooler.client() as client:
        assert client.parameters["DateStyle"] == "German, DMY"
        assert client.query("SHOW client_encoding").value == "LATIN1"
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"
        assert client.query("SHOW application_name").value == "the app"
    with pooler.client(DateStyle="ISO", application_name="mine") as client:
        assert client.query("SHOW DateStyle").value.startswith("ISO")
        assert client.query("SHOW application_name").value == "mine"
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"


TRACKED = {
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Tokyo",
    "standard_conforming_strings": "off",
    "application_name": "mine",
    "IntervalStyle": "iso_8601",
    "default_transaction_read_only": "on",
    "scram_iterations": "5000",
    "search_path": "pg_catalog",
    "session_authorization": "app",
}


@pytest.mark.weir_only
def test_tracked_by_default(start_pooler):
    """All that PostgreSQL reports and lets a session set; what this version of it does not report
    cannot follow a client, and is refused at login."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client("postgres") as other:
        reported = {name: value for name, value in TRACKED.items() if name in other.parameters}
        assert len(reported) >= 8
        with pooler.client("postgres", **reported) as client:
            for name, value in reported.items():
                assert client.parameters[name] == value
                assert other.query(f"SHOW {name}").value != value
                assert client.query(f"SHOW {name}").value == value
            assert client.query("SELECT session_user").value == "app"
            assert other.query("SELECT session_user").value == "postgres"
    for name in TRACKED.keys() - reported.keys():
        for parameters in ({name: TRACKED[name]}, {"options": f"-c {name}={TRACKED[name]}"}):
            with pytest.raises(LoginFailed) as raised:
                pooler.client("postgres", **parameters)
            assert raised.value.fields["M"] == f"unsupported startup parameter: {name}"


@pytest.mark.weir_only
def test_what_is_set_follows_its_client_alone(start_pooler):
    """Between transactions that share one server, whatever becomes of them."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client("postgres") as one, pooler.client("postgres") as two:
        pid = one.query("SELECT pg_backend_pid()").value

        def state(client):
            sql = "SELECT session_user, current_setting('transaction_read_only'), pg_backend_pid()"
            user, is_read_only, found = client.query(sql).rows[0]
            assert found == pid or WORKERS > 1  # between which a server may be given up
            return user, is_read_only

        assert not one.query("SET default_transaction_read_only = on").errors
        assert (state(two), state(one)) == (("postgres", "off"), ("postgres", "on"))
        assert one.query("CREATE TABLE never (n int)").code == "25006"
        assert not two.query("SET SESSION AUTHORIZATION app").errors
        assert (state(one), state(two)) == (("postgres", "on"), ("app", "off"))
        one.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        two.query("BEGIN; SET SESSION AUTHORIZATION app_trust; ROLLBACK")
        assert (state(two), state(one)) == (("app", "off"), ("postgres", "off"))
        two.query("BEGIN; RESET SESSION AUTHORIZATION; COMMIT")
        one.query("SET default_transaction_read_only = on; SELECT 1/0")
        assert (state(one), state(two)) == (("postgres", "off"), ("postgres", "off"))
        for sync in range(2):  # the second time the server has accepted the value before
            two.query("SET SESSION AUTHORIZATION app")
            assert (state(one), state(two)) == (("postgres", "off"), ("app", "off"))
            two.query("RESET SESSION AUTHORIZATION")


@pytest.mark.weir_only
def test_a_user_that_may_not_be_had_ends_the_client(start_pooler):
    """Nothing of it runs as another user, and the next client finds the server as it was."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client("app_trust", session_authorization="postgres") as client:
        answer = client.query("SELECT session_user")
        assert not answer.rows and answer.errors
    with pooler.client("app_trust") as client:
        assert client.query("SELECT session_user").value == "app_trust"


@pytest.mark.weir_only
def test_unreported_parameters_of_a_pools_first_clients(pooler):
    """Only its first server tells what is reported, and they wait for it together."""
    asking = [{"search_path": "x"}, {}, {"search_path": "x"}, {"search_path": "x"}, {}]
    clients = [pooler.connect() for _ in asking]
    for client, parameters in zip(clients, asking):
        client.send(startup({**APP, **parameters}))
    answers = [client.answer() for client in clients]
    is_reported = "search_path" in clients[1].parameters
    for client, parameters, answer in zip(clients, asking, answers):
        if parameters and not is_reported:
            assert_fatal(answer.error, "unsupported startup parameter: search_path")
        else:
            assert client.query("SELECT 1").value == "1"
        client.drop()


@pytest.mark.weir_only
def test_unreported_parameters_may_be_dropped(start_pooler):
    """What is ignored or listed as tracked, and what options may hold."""
    name, options = "scram_iterations", {"options": "-c scram_iterations=5000"}
    for settings in (
        {"ignore_startup_parameters": name},
        {"ignore_startup_parameters": "options"},
        {"track_extra_parameters": f"IntervalStyle, {name}"},
    ):
        pooler = start_pooler({"default_pool_size": 1, **settings})
        with pooler.client() as other, pooler.client(**options) as client:
            if name in other.parameters:
                assert client.query(f"SHOW {name}").value == "5000"
            assert client.query("SELECT 1").value == other.query("SELECT 1").value == "1"
        pooler.stop()


@pytest.mark.weir_only
def test_track_extra_parameters(start_pooler):
    """A parameter that the server reports follows its client; one that it does not is taken at
    login, and never sent."""
    extra = "intervalstyle, DEFAULT_transaction_read_only, work_mem"
    pooler = start_pooler({"track_extra_parameters": extra, "default_pool_size": 1})
    with pooler.client(IntervalStyle="iso_8601", work_mem="1MB") as one, pooler.client() as two:
        two.query("SET default_transaction_read_only = on")
        for _ in range(3):
            assert one.query("SELECT interval '1 day'").value == "P1D"
            assert one.query("SHOW default_transaction_read_only").value == "off"
            assert two.query("SELECT interval '1 day'").value == "1 day"
            assert two.query("SHOW default_transaction_read_only").value == "on"
            assert one.query("SHOW work_mem").value != "1MB"


@pytest.mark.weir_only
@pytest.mark.parametrize("name", ["search_path", "IntervalStyle"])
def test_what_is_not_reported_does_not_follow(start_pooler, cluster, name):
    """Servers report IntervalStyle, and search_path from version 18 on; what they do not cannot
    follow a client to replicas, though it is to be tracked."""
    ports = ",".join(str(node.port) for node in cluster.nodes)
    entry = f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} dbname=app routing=read_write"
    tracked = "search_path, IntervalStyle"
    pooler = start_pooler({"track_extra_parameters": tracked}, databases={"app": entry})
    value = "pg_catalog" if name == "search_path" else "iso_8601"
    with pooler.client() as client:
        client.query(f"SET {name} = {value}")
        with pooler.psycopg(*ADMIN, database="weir") as console:
            rows = rows_of(console, "SHOW CLIENTS")
        (row,) = [row for row in rows if row["user"] == "app_trust"]
        assert (row["route"] or "") == ("" if name in client.parameters else name)


def test_values_keep_their_case_apart(start_pooler):
    """The server's spelling of a value is sent once only, and told to the client."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client(DateStyle="iso") as one, pooler.client(DateStyle="German") as two:
        for _ in range(2):
            assert one.query("SHOW DateStyle").value.startswith("ISO, ")
            assert two.query("SHOW DateStyle").value == "German, DMY"


@pytest.mark.weir_only
@pytest.mark.parametrize("size", [300, 5000, 9000])
@pytest.mark.parametrize("buffer", [16384, 1])
def test_a_large_startup_packet(start_pooler, buffer, size):
    """Values longer than any buffer of PgBouncer's reach the server whole, whatever is asked of
    buffers and of the reads of one turn, which need no tuning here."""
    pooler = start_pooler({"pkt_buf": buffer, "sbuf_loopcnt": 1})
    with pooler.client(application_name="x" * size) as client:
        # PostgreSQL keeps 63 bytes of it.
        assert client.query("SHOW application_name").value == "x" * 63


@pytest.mark.weir_only
@pytest.mark.parametrize("extra", [{"_pq_.one": "1", "_pq_.two": "2"}, {}], ids=["options", "none"])
@pytest.mark.parametrize("version", [196608, 196610, 196608 + 9999], ids=["3.0", "3.2", "3.9999"])
def test_negotiation(pooler, version, extra):
    """A newer client learns that this is 3.0 and which extensions are unknown, once; its key then
    has the length that 3.0 knows, and cancels."""
    client = pooler.connect()
    client.send(startup({**APP, **extra}, version=version))
    answer = client.authenticate("app_trust", None)
    if version == 196608 and not extra:
        assert "v" not in answer.kinds
    else:
        (told,) = answer.of("v")
        newest, count = struct.unpack_from("!II", told.body)
        assert (newest, count) == (196608, len(extra))
        assert told.body[8:] == b"".join(text0(name) for name in extra)
        assert answer.kinds.index("v") < answer.kinds.index("R")
    (key,) = answer.of("K")
    assert len(key.body) == 8
    client.close()


# Notices


@pytest.mark.weir_only
def test_login_notify_message(start_pooler):
    """The last thing before the first ReadyForQuery, for every client, also after a RELOAD."""
    pooler = start_pooler({"login_notify_message": "Hello, 'you' there"})
    for _ in range(2):
        with pooler.connect() as client:
            answer = client.login("app_trust")
            assert answer.kinds.endswith("KNZ")
            (notice,) = answer.notices
            assert notice["S"] == "NOTICE" and notice["C"] == "00000"
            assert notice["M"] == "Hello, 'you' there"
    pooler.write_ini({"login_notify_message": ""})
    pooler.admin("RELOAD")
    with pooler.connect() as client:
        assert "N" not in client.login("app_trust").kinds


@pytest.mark.weir_only
def test_query_wait_notify(start_pooler):
    """One notice in each wait, none for those who wait less, nothing while it is 0."""
    text = "No server connection available in postgres backend, client being queued"
    pooler = start_pooler({"query_wait_notify": 1, "default_pool_size": 1})
    with pooler.client() as busy, pooler.client() as waiter:
        for _ in range(2):
            busy.query("BEGIN")
            began = time.monotonic()
            waiter.send(query("SELECT 'served'"))
            notice = waiter.read()
            assert 0.9 < time.monotonic() - began < 3 * PATIENCE
            fields = notice.fields()
            assert (notice.kind, fields["S"], fields["C"]) == ("N", "NOTICE", "00000")
            assert fields["M"] == text
            assert waiter.is_silent(0.4)
            busy.query("COMMIT")
            answer = waiter.answer()
            assert (answer.kinds, answer.value) == ("TDCZ", "served")
        pooler.admin("SET query_wait_notify = 0")
        busy.query("BEGIN")
        waiter.send(query("SELECT 'served'"))
        assert waiter.is_silent(1.4)
        busy.query("COMMIT")
        assert waiter.answer().kinds == "TDCZ"


@pytest.mark.weir_only
def test_nobody_is_notified_before_the_welcome(start_pooler, cluster):
    """A login that waits for the pool's first server hears nothing but the welcome."""
    pooler = start_pooler({"query_wait_notify": 1, "listen_backlog": 64})
    pooler.admin("PAUSE")
    client = pooler.connect()
    client.send(startup(APP))
    assert client.is_silent(1.5)
    pooler.admin("RESUME")
    assert "N" not in client.authenticate("app_trust", None).kinds
    client.close()


# What messages may be


def test_disable_pqexec(start_pooler):
    """Simple queries end the connection, the console's too; the extended protocol goes on."""
    pooler = start_pooler({"disable_pqexec": 1})
    with pooler.client() as client:
        assert client.ask(parse("SELECT 7"), bind(), execute(), SYNC).value == "7"
        client.send(query("SELECT 1"))
        assert_fatal(client.read_to_end().error, "PQexec disallowed")
    with pooler.client(*ADMIN, database="pgbouncer") as console:
        console.send(query("SHOW VERSION"))
        assert_fatal(console.read_to_end().error, "PQexec disallowed")
    assert pooler.log_text().count("client used 'Q' packet type") == 2


def hex_of(data):
    return "bad packet header: '" + data[:8].hex() + "'"


def test_max_packet_size_of_requests(start_pooler):
    pooler = start_pooler({"max_packet_size": 10000})
    with pooler.client() as client:
        assert client.query("SELECT '" + "x" * 9000 + "'").value == "x" * 9000
        big = query("SELECT '" + "x" * 10000 + "'")
        client.send(big)
        assert_fatal(client.read_until("E").error, hex_of(big))


def test_max_packet_size_of_replies(start_pooler):
    pooler = start_pooler({"max_packet_size": 10000, "pool_mode": "session"})
    with pooler.client() as client:
        assert client.query("SELECT repeat('x', 9000)").value == "x" * 9000
        client.send(query("SELECT repeat('x', 20000)"))
        assert_fatal(client.read_to_end().error, "bad pkt header")


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1])
def test_max_packet_size_at_its_limits(start_pooler, size):
    """Lengths that do not fit a signed number: an error, not an overflow."""
    pooler = start_pooler({"max_packet_size": size})
    for length in (2**31 - 1, 2**31, 2**31 + 1, 2**32 - 4, 2**32 - 1, 0, 3):
        for kind in (b"Q", b"P", b"B", b"d", b"p"):
            with pooler.client() as client:
                head = kind + struct.pack("!I", length) + b"\0" * 8
                client.send(head)
                if KIND == "weir":
                    error = client.read_until("E").error
                    text = "unknown pkt" if kind == b"p" else hex_of(head)
                    assert_fatal(error, text)
    with pooler.client() as client:
        assert client.query("SELECT 'still there'").value == "still there"


@pytest.mark.weir_only
@pytest.mark.parametrize("size", [2**31 - 1, 2**31 + 1, 2**32 - 1])
def test_lengths_before_and_within_a_login(start_pooler, size):
    """The same before anybody has said who he is."""
    pooler = start_pooler({"auth_type": "scram-sha-256", "max_packet_size": size})
    for length in (2**31 - 1, 2**31, 2**32 - 1, 10005, 7, 4, 0):
        head = struct.pack("!II", length, 196608)
        assert_fatal(refusal(pooler, head), hex_of(head))
    for length in (2**31 - 1, 2**31, 2**32 - 1, 3, 0):
        with pooler.connect() as client:
            client.send(startup({"user": "app", "database": "app"}))
            client.read_until("R")
            head = b"p" + struct.pack("!I", length) + b"\0" * 8
            client.send(head)
            assert_fatal(client.read_until("E").error, hex_of(head))
    with pooler.client("app", "secret of app") as client:
        assert client.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_bytes_without_end_to_the_console(start_pooler):
    pooler = start_pooler()
    for length in (2**31 - 1, 2**31, 2**32 - 1, 3):
        client = pooler.client(*ADMIN, database="pgbouncer")
        head = b"Q" + struct.pack("!I", length) + b"\0" * 8
        client.send(head)
        assert_fatal(client.read_until("E").error, hex_of(head))
        client.drop()
    with pooler.client() as client, pytest.raises(Closed):
        client.send(message("Q", b""))
        while True:
            client.read()
    assert wire.Client(pooler.address) is not None
