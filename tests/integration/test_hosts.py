"""Lists of hosts, host names, and what SHOW DNS_HOSTS tells of them."""

import re
import socket
import struct
import threading
import time

import pytest

import wire
from names import NameServer
from pooler import KIND, PATIENCE, WORKERS
from wire import LoginFailed


def place(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


class Forwarder:
    """A listening socket on another loopback address that passes everything on to a node."""

    def __init__(self, host, port, target):
        self.target = target
        self.count = 0
        self.listener = socket.create_server((host, port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            other = socket.create_connection(self.target)
            for pair in ((one, other), (other, one)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()


@pytest.fixture
def doors(cluster):
    """Two addresses that lead to the primary, on one port."""
    target = ("127.0.0.1", cluster.primary.port)
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    made = [Forwarder(f"127.0.0.{number}", port, target) for number in (2, 3)]
    yield made, port
    for door in made:
        door.close()


def open_servers(pooler, count):
    """Makes that many servers of the database app at once."""
    clients = [pooler.client() for _ in range(count)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        client.query("COMMIT")
        client.close()


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_round_robin_takes_the_next_host_for_each_connection(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        databases={"app": place(cluster, host="127.0.0.2,127.0.0.3", port=port)}
    )
    open_servers(pooler, 6)
    assert [door.count for door in made] == [3, 3]


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_disable_stays_with_a_host_until_it_fails(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        {"server_login_retry": "0.1"},
        databases={
            "app": place(
                cluster, host="127.0.0.2,127.0.0.3", port=port, load_balance_hosts="disable"
            )
        },
    )
    open_servers(pooler, 3)
    assert [door.count for door in made] == [3, 0]
    made[0].close()
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_trust'"
    )
    deadline = time.monotonic() + 10 * PATIENCE
    while made[1].count == 0:
        assert time.monotonic() < deadline
        try:
            with pooler.client() as client:
                client.query("SELECT 1")
        except (LoginFailed, wire.Closed):
            pass
        time.sleep(0.1)
    before = made[1].count
    open_servers(pooler, 3)
    assert made[1].count >= before


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_dead_host_of_a_list_keeps_its_turn(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        {"server_login_retry": "0.1"},
        databases={"app": place(cluster, host="127.0.0.4,127.0.0.2", port=port)},
    )
    deadline = time.monotonic() + 10 * PATIENCE
    while made[0].count == 0:
        assert time.monotonic() < deadline
        try:
            with pooler.client() as client:
                assert client.query("SELECT 1").value == "1"
        except LoginFailed:
            time.sleep(0.1)
    pooler.wait_log("connect failed")


# Names. What DNS says comes from a name server of the test's own.


@pytest.fixture
def names():
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def start_named(cluster, start_pooler, names):
    """Starts a pooler that asks the test's name server; host names in place of entries."""

    def start(settings=None, options="retrans:300 retry:2", more="", **hosts):
        file = names.write_resolv_conf(cluster.folder, options, more)
        databases = {name: place(cluster, host=host) for name, host in hosts.items()}
        return start_pooler({"resolv_conf": file, **(settings or {})}, databases=databases)

    return start


def hosts_of(pooler):
    return {row["hostname"]: row for row in pooler.admin("SHOW DNS_HOSTS")}


def lists_of(pooler):
    return {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}


def wait_until(is_so, seconds=5):
    deadline = time.monotonic() + seconds * PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def use(pooler, database="app"):
    with pooler.client(database=database) as client:
        assert client.query("SELECT 1").value == "1"


def refusal(pooler):
    """What a client is told that gets no server: at its login, or at its first query."""
    try:
        with pooler.client() as client:
            return client.query("SELECT 1").error.get("M", "")
    except LoginFailed as failed:
        return str(failed)


def troubles(pooler, database="app", count=1):
    """Why no server can be had while a client waits for one to log in: the reasons of `count`
    attempts."""
    closing = rf"S-0x\w+: {database}/\S+ closing because: (.*) \(age="

    def found():
        return re.findall(closing, pooler.log_text())

    before = len(found())
    with pooler.connect() as waiting:
        waiting.send(wire.startup({"user": "app_trust", "database": database}))
        wait_until(lambda: len(found()) >= before + count)
    return set(found()[before:])


def test_a_name_and_its_addresses(start_named, names):
    """It is asked for when it is needed, and believed for dns_max_ttl, whatever DNS says."""
    names.hosts["db.zone.test"] = ["127.0.0.1"]
    names.ttl = 1
    pooler = start_named(app="db.zone.test")
    assert hosts_of(pooler) == {} and names.asked == []
    use(pooler)
    row = hosts_of(pooler)["db.zone.test"]
    assert row["addrs"] == "127.0.0.1:0"
    assert 10 <= row["ttl"] <= 15
    assert pooler.admin("SHOW DNS_ZONES") == [{"zonename": "zone.test", "serial": 0, "count": 1}]
    lists = lists_of(pooler)
    assert (lists["dns_names"], lists["dns_zones"], lists["dns_queries"]) == (1, 1, 0)
    assert sorted(names.asked) == [
        ("db.zone.test", "A", "udp"),
        ("db.zone.test", "AAAA", "udp"),
    ]


@pytest.mark.weir_only
def test_views_are_as_pgbouncers(cluster, start_both, names):
    names.hosts.update({"db.b.test": ["127.0.0.1"], "db.a.test": ["127.0.0.1", "127.0.0.1"]})
    names.serials["b.test"] = 17
    names.aliases["alias"] = "db.a.test"
    settings = {
        "resolv_conf": names.write_resolv_conf(cluster.folder),
        "dns_zone_check_period": "0.2",
        "query_wait_timeout": "1",
    }
    hosts = {"one": "db.b.test", "two": "db.a.test", "three": "alias", "bad": "not.b.test"}
    seen = []
    for pooler in start_both(
        settings, databases={name: place(cluster, host=host) for name, host in hosts.items()}
    ):
        for name in ("one", "two", "three"):
            use(pooler, name)
        with pytest.raises(LoginFailed):
            pooler.client(database="bad")
        pooler.wait_log("zone 'b.test' serial changed: old=0 new=17")
        pooler.wait_log(r"WARNING DNS lookup failed: not\.b\.test: result=\d+")
        rows = pooler.admin("SHOW DNS_HOSTS")
        assert all(10 <= row.pop("ttl") <= 15 for row in rows)
        zones = [tuple(row.values()) for row in pooler.admin("SHOW DNS_ZONES")]
        lists = {key: items for key, items in lists_of(pooler).items() if key in DNS_LISTS}
        seen.append((rows, zones, lists))
    assert seen[0] == seen[1]
    assert seen[0][1] == [("a.test", 0, 1), ("b.test", 17, 2)]


DNS_LISTS = ("dns_names", "dns_zones", "dns_pending")


def test_numbers_and_localhost_ask_nobody(start_named, names):
    pooler = start_named(app="127.0.0.1", local="localhost")
    use(pooler)
    assert hosts_of(pooler) == {}
    use(pooler, "local")
    assert hosts_of(pooler)["localhost"]["addrs"].split(",")[0] in ("127.0.0.1:0", "[::1]:0")
    assert names.asked == []


def test_a_name_that_is_not_there(start_named, names):
    pooler = start_named({"query_wait_timeout": "2"}, app="no-such-host.test")
    with pytest.raises(LoginFailed):
        pooler.client()
    row = hosts_of(pooler)["no-such-host.test"]
    assert row["addrs"] == "" and row["ttl"] > 0
    pooler.wait_log("server DNS lookup failed")
    pooler.wait_log(r"WARNING DNS lookup failed: no-such-host\.test: result=-?\d+")
    assert names.count("no-such-host.test") > 0


@pytest.mark.weir_only
def test_it_is_believed_for_a_while(start_named, names):
    """A failure for dns_nxdomain_ttl, an answer for dns_max_ttl; both can be set."""
    names.hosts["db.test"] = ["127.0.0.1"]
    pooler = start_named(
        {"dns_max_ttl": "0.5", "dns_nxdomain_ttl": "60", "server_login_retry": "0.1"},
        app="db.test",
        bad="bad.test",
    )
    use(pooler)
    use(pooler)
    assert names.count("db.test", "A") == 1
    troubles(pooler, "bad", 3)
    assert names.count("bad.test", "A") == 1
    assert pooler.log_text().count("WARNING DNS lookup failed") == 1
    assert hosts_of(pooler)["bad.test"]["ttl"] >= 50
    time.sleep(0.5)  # what was asked first is too old now
    assert hosts_of(pooler)["db.test"] == {"hostname": "db.test", "ttl": 0, "addrs": "127.0.0.1:0"}
    pooler.admin("RECONNECT")
    use(pooler)
    assert names.count("db.test", "A") == 2
    pooler.admin("SET dns_nxdomain_ttl = 0")
    assert hosts_of(pooler)["bad.test"]["ttl"] == 0
    troubles(pooler, "bad")
    assert names.count("bad.test", "A") > 1


@pytest.mark.one_worker
def test_addresses_of_a_name_take_turns(cluster, start_pooler, names, doors):
    made, port = doors
    names.hosts["db.test"] = ["127.0.0.2", "127.0.0.3"]
    pooler = start_pooler(
        {"resolv_conf": names.write_resolv_conf(cluster.folder)},
        databases={"app": place(cluster, host="db.test", port=port)},
    )
    open_servers(pooler, 4)
    assert [door.count for door in made] == [2, 2]
    assert names.count("db.test", "A") == 1


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_names_in_a_list_of_hosts(cluster, start_pooler, names, doors):
    """Each is a name of its own, and servers follow it when it moves."""
    made, port = doors
    names.hosts.update({"a.test": ["127.0.0.2"], "b.test": ["127.0.0.3"]})
    names.serials["test"] = 1
    pooler = start_pooler(
        {"resolv_conf": names.write_resolv_conf(cluster.folder)},
        databases={"app": place(cluster, host="a.test,b.test", port=port)},
    )
    open_servers(pooler, 4)
    assert [door.count for door in made] == [2, 2]
    assert set(hosts_of(pooler)) == {"a.test", "b.test"}
    names.hosts["b.test"] = ["127.0.0.2"]
    pooler.admin("SET dns_zone_check_period = '0.1'")
    wait_until(lambda: marked_of(pooler) == {("127.0.0.2", 0)})
    assert len(pooler.admin("SHOW SERVERS")) == 2


def marked_of(pooler):
    return {(row["addr"], row["close_needed"]) for row in pooler.admin("SHOW SERVERS")}


def test_servers_follow_a_name_that_moves(cluster, start_pooler, names, doors):
    """Found out when the name is looked up again: idle servers at the old address are closed, busy
    ones when they are returned."""
    made, port = doors
    names.hosts["db.test"] = ["127.0.0.2"]
    pooler = start_pooler(
        {"resolv_conf": names.write_resolv_conf(cluster.folder), "dns_max_ttl": "0.2"},
        databases={"app": place(cluster, host="db.test", port=port)},
    )
    with pooler.client() as busy, pooler.client() as other:
        busy.query("BEGIN")
        other.query("BEGIN")
        other.query("COMMIT")
        assert [door.count for door in made] == [2, 0]
        names.hosts["db.test"] = ["127.0.0.3"]
        time.sleep(0.3)
        with pooler.client() as third, pooler.client() as fourth:
            third.query("BEGIN")
            fourth.query("BEGIN")  # no idle server is left for one of them
            wait_until(lambda: made[1].count >= 1)
            wait_until(lambda: marked_of(pooler) == {("127.0.0.2", 1), ("127.0.0.3", 0)})
            third.query("COMMIT")
            fourth.query("COMMIT")
        assert busy.query("SELECT 1").value == "1"
        busy.query("COMMIT")
        wait_until(lambda: {row["addr"] for row in pooler.admin("SHOW SERVERS")} == {"127.0.0.3"})
        use(pooler)
    assert made[0].count == 2


def test_a_zone_with_a_new_serial(cluster, start_pooler, names, doors):
    """Its names are asked for again although they are believed, and servers follow."""
    made, port = doors
    names.hosts.update({"db.zone.test": ["127.0.0.2"], "db.other.test": ["127.0.0.2"]})
    names.serials.update({"zone.test": 5, "other.test": 3000000000})
    pooler = start_pooler(
        {
            "resolv_conf": names.write_resolv_conf(cluster.folder),
            "dns_zone_check_period": "0.2",
            "dns_max_ttl": "600",
        },
        databases={
            "app": place(cluster, host="db.zone.test", port=port),
            "other": place(cluster, host="db.other.test", port=port),
        },
    )
    use(pooler)
    use(pooler, "other")
    pooler.wait_log(r"LOG zone 'zone.test' serial changed: old=0 new=5")
    wait_until(lambda: names.count("db.zone.test", "A") == 2)
    before = names.count("zone.test", "SOA")
    wait_until(lambda: names.count("zone.test", "SOA") >= before + 2)
    assert names.count("db.zone.test", "A") == 2
    names.hosts.update({"db.zone.test": ["127.0.0.3"], "db.other.test": ["127.0.0.3"]})
    names.serials["zone.test"] = 6
    pooler.wait_log(r"LOG zone 'zone.test' serial changed: old=5 new=6")
    pooler.wait_log(r"app/app_trust@127.0.0.2:\d+ closing because: database configuration changed")
    use(pooler)
    assert made[1].count == 1
    zones = {row["zonename"]: row["serial"] for row in pooler.admin("SHOW DNS_ZONES")}
    assert zones["zone.test"] == 6
    assert hosts_of(pooler)["db.other.test"]["addrs"] == "127.0.0.2:0"


def test_zones_are_watched_on_demand(start_named, names):
    """dns_zone_check_period can be set at run time, and 0 ends it."""
    names.hosts["db.zone.test"] = ["127.0.0.1"]
    names.serials["zone.test"] = 5
    pooler = start_named(app="db.zone.test")
    use(pooler)
    time.sleep(0.3)
    assert names.count("zone.test") == 0
    pooler.admin("SET dns_zone_check_period = '0.1'")
    wait_until(lambda: names.count("zone.test", "SOA") >= 3)
    pooler.admin("SET dns_zone_check_period = 0")
    time.sleep(0.2)
    before = names.count("zone.test")
    time.sleep(0.4)
    assert names.count("zone.test") == before


@pytest.mark.weir_only
def test_a_silent_name_server_stops_nobody_else(start_named, names):
    names.hosts["db.test"] = ["127.0.0.1"]
    names.is_silent = True
    pooler = start_named(
        {"dns_nxdomain_ttl": "0.1", "server_login_retry": "0.1", "verbose": "1"},
        app="db.test",
        plain="127.0.0.1",
    )
    with pooler.connect() as waiting:
        waiting.send(wire.startup({"user": "app_trust", "database": "app"}))
        wait_until(lambda: names.count("db.test") > 0)
        assert lists_of(pooler)["dns_queries"] == 1
        started = time.monotonic()
        for _ in range(5):
            use(pooler, "plain")
        assert time.monotonic() - started < 0.5 * PATIENCE
        pooler.wait_log(
            r"DEBUG server DNS lookup failed: db\.test: Timeout while contacting DNS servers"
        )
        names.is_silent = False
        waiting.read_until("Z", 10 * PATIENCE)
    assert lists_of(pooler)["dns_queries"] == 0
    use(pooler)


@pytest.mark.weir_only
def test_a_lookup_counts_as_connecting(start_named, names):
    """server_connect_timeout ends the wait for it; the question stays the only one."""
    names.hosts["db.test"] = ["127.0.0.1"]
    names.is_silent = True
    pooler = start_named(
        {"server_connect_timeout": "0.3", "server_login_retry": "0.1"},
        options="retrans:2000 retry:2",
        app="db.test",
    )
    started = time.monotonic()
    assert troubles(pooler, "app", 2) == {"connect failed"}
    assert time.monotonic() - started < 1.8 * PATIENCE
    assert lists_of(pooler)["dns_queries"] <= WORKERS
    assert names.count("db.test", "A") <= WORKERS * PATIENCE
    names.is_silent = False
    wait_until(lambda: refusal(pooler) == "")  # c-ares asks again after 2 s


@pytest.mark.weir_only
@pytest.mark.parametrize("trouble", ["silent", "failing", "unknown"])
def test_servers_outlive_a_name_server(start_named, names, trouble):
    """A failed lookup tells nothing about addresses: what stands goes on."""
    names.hosts["db.zone.test"] = ["127.0.0.1"]
    names.serials["zone.test"] = 5
    pooler = start_named(
        {"dns_max_ttl": "0.1", "dns_nxdomain_ttl": "0.1", "dns_zone_check_period": "0.1"},
        app="db.zone.test",
    )
    with pooler.client() as client:
        pid = client.query("SELECT pg_backend_pid()").value
        pooler.wait_log("serial changed: old=0 new=5")
        names.is_silent = trouble == "silent"
        names.failing = 2 if trouble == "failing" else None
        if trouble == "unknown":
            del names.hosts["db.zone.test"]
            names.serials["zone.test"] = 6
            pooler.wait_log("DNS lookup failed: db.zone.test")
        before = len(names.asked)
        wait_until(lambda: len(names.asked) >= before + 3)
        time.sleep(0.2)
        assert client.query("SELECT pg_backend_pid()").value == pid


@pytest.mark.weir_only
def test_a_probed_node_is_at_one_address(cluster, start_pooler, names, doors):
    """Its servers are where its probe is, also when the name has other addresses before that one;
    when the name leaves the address, both go on elsewhere."""
    made, port = doors
    names.hosts["db.test"] = ["127.0.0.3"]
    names.serials["test"] = 1
    pooler = start_pooler(
        {
            "resolv_conf": names.write_resolv_conf(cluster.folder),
            "dns_max_ttl": "0",
            "routing": "read_write",
            "defer_begin": "0",
        },
        databases={"app": place(cluster, host="db.test", port=port)},
    )

    def node():
        return pooler.admin("SHOW NODES", database="weir")[0]

    use(pooler)
    names.hosts["db.test"] = ["127.0.0.2", "127.0.0.3"]
    open_servers(pooler, 4)
    assert made[0].count == 0 and made[1].count >= 5
    assert {row["addr"] for row in pooler.admin("SHOW SERVERS")} == {"127.0.0.3"}
    names.hosts["db.test"] = ["127.0.0.2"]
    pooler.admin("SET dns_zone_check_period = '0.1'")
    pooler.wait_log("the node's address has changed")
    wait_until(lambda: not pooler.admin("SHOW SERVERS"))
    use(pooler)
    assert {row["addr"] for row in pooler.admin("SHOW SERVERS")} == {"127.0.0.2"}
    assert node()["role"] == "primary" and node()["state"] == "up"


# Bad answers


def of_another_number(answer, _):
    return bytes([answer[0] ^ 1]) + answer[1:]


def with_pointers_in_a_circle(answer, question):
    """Its record's name points to itself."""
    at = 12 + len(question)
    return answer[:at] + struct.pack(">H", 0xC000 | at) + answer[at:]


def with_a_record_past_its_end(answer, _):
    return answer[:-6] + b"\x7f\xff" + answer[-4:]


def to_another_question(answer, question):
    return answer.replace(question, b"\x04evil" + question[1 + question[0] :])


BAD = {
    "of another number": of_another_number,
    "to another question": to_another_question,
    "cut short": lambda answer, question: answer[: 12 + len(question) + 7],
    "without a question": lambda answer, question: answer[:4] + b"\0\0" + answer[6:12],
    "a head": lambda answer, question: answer[:12],
    "half a head": lambda answer, question: answer[:5],
    "empty": lambda answer, question: b"",
    "noise": lambda answer, question: answer[:2] + bytes(range(256)) * 2,
    "pointers in a circle": with_pointers_in_a_circle,
    "a record past its end": with_a_record_past_its_end,
}


@pytest.mark.weir_only
def test_bad_answers(start_named, names):
    """Each gives an error or nothing, and the next lookup works."""
    names.hosts["db.test"] = ["127.0.0.1"]
    pooler = start_named(
        {
            "dns_max_ttl": "0",
            "dns_nxdomain_ttl": "0",
            "server_login_retry": "0.05",
        },
        options="retrans:50 retry:2",
        app="db.test",
    )
    use(pooler)
    for text, spoil in BAD.items():
        pooler.admin("RECONNECT")
        wait_until(lambda: pooler.admin("SHOW SERVERS") == [])
        names.twist = lambda answer, question, spoil=spoil: [spoil(answer, question)]
        assert troubles(pooler) == {"server DNS lookup failed"}, text
        # A stranger's guess comes first, then the answer.
        names.twist = lambda answer, question: [of_another_number(answer, question), answer]
        time.sleep(0.1)
        use(pooler)


@pytest.mark.weir_only
def test_aliases(start_named, names):
    names.hosts["db.test"] = ["127.0.0.1"]
    for number in range(8):
        names.aliases[f"alias{number}.test"] = f"alias{number + 1}.test"
    names.aliases["alias8.test"] = "db.test"
    names.aliases.update({"a.loop.test": "b.loop.test", "b.loop.test": "a.loop.test"})
    pooler = start_named(app="alias0.test", loop="a.loop.test")
    use(pooler)
    assert hosts_of(pooler)["alias0.test"]["addrs"] == "127.0.0.1:0"
    assert troubles(pooler, "loop") == {"server DNS lookup failed"}


@pytest.mark.weir_only
def test_very_many_addresses(start_named, names):
    """Too many for UDP: they come by TCP, and the first 64 count."""
    names.hosts["db.test"] = [f"127.1.{i // 200}.{i % 200 + 1}" for i in range(2500)]
    pooler = start_named({"server_connect_timeout": "2"}, app="db.test", plain="127.0.0.1")
    assert troubles(pooler) == {"connect failed"}
    assert len(hosts_of(pooler)["db.test"]["addrs"].split(",")) == 64
    assert ("db.test", "A", "tcp") in names.asked
    use(pooler, "plain")


@pytest.mark.weir_only
@pytest.mark.parametrize("host", ["-", "a..b", "." * 3, "x" * 64 + ".test", "\x80\xff.test", "%s%n"])
def test_odd_names(cluster, start_pooler, host):
    pooler = start_pooler(databases={"app": place(cluster, host=host)})
    assert troubles(pooler) == {"server DNS lookup failed"}
    assert len(hosts_of(pooler)) == 1


# resolv_conf


def test_short_names_are_sought_in_domains(start_named, names):
    names.hosts["db.zone.test"] = ["127.0.0.1"]
    pooler = start_named(more="search other.test zone.test\n", app="db")
    use(pooler)
    assert hosts_of(pooler)["db"]["addrs"] == "127.0.0.1:0"
    assert names.count("db.other.test") > 0


def test_the_file_is_read_at_the_start(cluster, start_named, names):
    """Neither a RELOAD nor a SET changes what it said then."""
    names.hosts["db.test"] = ["127.0.0.1"]
    pooler = start_named({"dns_max_ttl": "0"}, app="db.test")
    rows = [row for row in pooler.admin("SHOW CONFIG") if row["key"] == "resolv_conf"]
    file = names.write_resolv_conf(cluster.folder)
    assert [(row["value"], row["default"], row["changeable"]) for row in rows] == [(file, "", "no")]
    with open(file, "w", encoding="utf-8") as written:
        written.write("nameserver 127.0.0.255\n")
    pooler.admin("RELOAD")
    pooler.admin("SET resolv_conf = '/etc/resolv.conf'")
    rows = pooler.admin("SHOW CONFIG")
    assert [row["value"] for row in rows if row["key"] == "resolv_conf"] == [file]
    use(pooler)
    assert names.count("db.test", "A") > 0


def test_a_file_that_is_not_there(cluster, start_pooler):
    """c-ares then asks the local name server; nothing else suffers."""
    pooler = start_pooler({"resolv_conf": "/no/such/resolv.conf"})
    use(pooler)
    if KIND == "weir":
        pooler.wait_log("WARNING could not read resolv_conf file /no/such/resolv.conf: No such")


@pytest.mark.weir_only
def test_check_takes_it(cluster, start_named, names):
    names.hosts["db.test"] = ["127.0.0.1"]
    pooler = start_named(app="db.test")
    done = cluster.guarded([pooler.process.args[-2], "--check", pooler.ini])
    assert done.wait(10 * PATIENCE) == 0


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_port_for_each_host(start_pooler, cluster):
    """PgBouncer takes the first number for all of them."""
    nodes = [cluster.primary, cluster.standbys[0]]
    entry = place(cluster, host="127.0.0.1,127.0.0.1", port=",".join(str(n.port) for n in nodes))
    pooler = start_pooler({"pool_mode": "session"}, databases={"app": entry})
    with pooler.client() as one, pooler.client() as two:
        found = {int(client.query("SHOW port").value) for client in (one, two)}
    assert found == {node.port for node in nodes}


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_standbys_read_only_default_stays_there(start_pooler, cluster):
    """It greets the clients of the pool, some of which then write on the primary."""
    standby, primary = cluster.standbys[0], cluster.primary
    standby.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    standby.sql("SELECT pg_reload_conf()")
    standby.wait_for("SHOW default_transaction_read_only", "on")
    try:
        entry = place(cluster, host="127.0.0.1,127.0.0.1", port=f"{standby.port},{primary.port}")
        pooler = start_pooler({"pool_mode": "session"}, databases={"app": entry})
        with pooler.client() as reader, pooler.client() as writer:
            assert reader.query("SHOW port").value == str(standby.port)
            assert writer.query("SHOW port").value == str(primary.port)
            assert writer.parameters["default_transaction_read_only"] == "on"  # the greeting
            assert writer.query("SHOW default_transaction_read_only").value == "off"
            assert not writer.query("CREATE TEMP TABLE made (n int)").errors
    finally:
        standby.sql("ALTER SYSTEM RESET default_transaction_read_only")
        standby.sql("SELECT pg_reload_conf()")
