"""auth_type = hba: rules, maps, what is wrong with them, beside Debian's PgBouncer."""

import os
import pwd
import socket
import subprocess

import pytest

import cluster as clusters
from pooler import ADMIN, BINARY, MONITOR, PATIENCE
from test_auth import OK, entry, md5_secret, outcome, scram_secret
from test_login import assert_refused, refusal
from wire import LoginFailed, startup

pytestmark = pytest.mark.weir_only

OWNER = pwd.getpwuid(os.geteuid()).pw_name
ADMINS = dict([ADMIN, MONITOR])
RULE_FOR_ADMINS = "host pgbouncer all all md5\n"


@pytest.fixture
def write_rules(cluster):
    """Writes files that the pooler may read; their paths."""

    def write(rules, name="hba.conf"):
        path = os.path.join(cluster.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(rules)
        return path

    return write


@pytest.fixture
def start_hba(start_pooler, write_rules, cluster):
    """Starts a pooler with these rules; every server lets everybody in."""

    def start(rules, secrets=None, **settings):
        return start_pooler(
            {"auth_type": "hba", "auth_hba_file": write_rules(rules), **settings},
            secrets={"app": "right", "app_trust": "", **ADMINS, **(secrets or {})},
            databases={
                "app": entry(cluster, user="app_trust"),
                "other": entry(cluster, user="app_trust"),
            },
            users={"listed": "pool_mode=session"},
        )

    return start


def unix_outcome(pooler, user, secret=None, database="app"):
    client = pooler.connect(unix=True)
    try:
        client.login(user, secret, database)
        return OK
    except LoginFailed as failure:
        return failure.fields["M"]
    finally:
        client.drop()


RULES = """
# every kind of line, one for each database
host   trusted        all    127.0.0.1/32           trust
host   refused        all    all                    reject
host   hashed         all    127.0.0.0 255.0.0.0    md5
host   clear          all    127.0.0.1/32           password   # why
host   scram          all    127.0.0.1/32           scram-sha-256
hostssl   tls         all    127.0.0.1/32           trust
hostnossl tls         plain  127.0.0.1/32           trust
host   elsewhere      all    10.0.0.0/8             trust
host   v6             all    ::/0                   trust
host   "some ""names"", quoted"  all  127.0.0.1/32  trust
host   sameuser       all    127.0.0.1/32           trust
host   one,two        plain,hashed 127.0.0.1/32     trust
host   wrong          all    127.0.0.1/32           nonsense
host   wrong          all    127.0.0.1/33           trust
local  all            all                           trust
host   @names         all    127.0.0.1/32           trust
host   last           all    127.0.0.1/32           md5"""

DATABASES = [
    "trusted", "refused", "hashed", "clear", "scram", "tls", "elsewhere", "v6",
    'some "names", quoted', "plain", "one", "two", "wrong", "listed in a file", "last", "nowhere",
]  # fmt: skip
USERS = ["plain", "hashed", "stored", "stranger"]


def test_rules_as_pgbouncer_reads_them(start_both, cluster, write_rules):
    write_rules('"listed in a file"\n', "names")
    secrets = {
        "plain": "right",
        "hashed": md5_secret("hashed", "right"),
        "stored": scram_secret(cluster, "right"),
        "app_trust": "",
    }
    known = [name for name in DATABASES if name.isalnum() and name != "nowhere"]
    weir, pgbouncer = start_both(
        {"auth_type": "hba", "auth_hba_file": write_rules(RULES)},
        secrets=secrets,
        databases={name: entry(cluster, user="app_trust") for name in known},
    )
    differing = []
    for user in USERS:
        for database in DATABASES:
            for secret in ("right", "wrong"):
                *codes, text = outcome(weir, user, secret, database)
                *their_codes, theirs = outcome(pgbouncer, user, secret, database)
                if text == "no authentication method is found" and theirs == "login rejected":
                    continue  # 1.18 has the same words for both
                if (codes[:1], text) != (their_codes[:1], theirs):
                    differing.append((user, secret, database, codes, text, their_codes, theirs))
    assert not differing, "\n".join(map(str, differing))
    found = weir.wait_log("could not parse hba config line 15 .*")[0]
    assert "hba.conf:15" in found and '"nonsense": expected one of trust, reject, md5' in found
    assert "could not parse hba config line 16 " in weir.log_text()


# Whether 127.0.0.1, 127.0.0.2 and ::1 are let in.
ADDRESSES = {
    "127.0.0.1/32": "y--",
    "127.0.0.0/8": "yy-",
    "127.0.0.2/31": "-y-",
    "127.0.0.2/32": "-y-",
    "126.0.0.0/7": "yy-",
    "128.0.0.0/1": "---",
    "0.0.0.0/0": "yy-",
    "127.0.0.1/032": "y--",
    "127.0.0.1 255.255.255.255": "y--",
    "127.0.0.0 255.0.0.0": "yy-",
    "127.0.0.0 255.0.255.0": "yy-",
    "::1/128": "--y",
    "::/127": "--y",
    "::/0": "--y",
    "fe80::/10": "---",
    "::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "--y",
    "::ffff:127.0.0.1/128": "---",
    "127.0.0.1/8": "---",
    "127.0.0.1/0": "---",
    "127.0.0.1 255.0.0.0": "---",
    "::1/0": "---",
    "127.0.0.1": "---",
    "::1": "---",
    "127.0.0.1/": "---",
    "127.0.0.1/x": "---",
    "127.0.0.1/33": "---",
    "127.0.0.1/-1": "---",
    "127.0.0.1/32x": "---",
    "::1/129": "---",
    "::1%lo/128": "---",
    "127.1/32": "---",
    "1.2.3/8": "---",
    "0/0": "---",
    "127.0.0.1 ::": "---",
    "::1 255.0.0.0": "---",
    "localhost": "---",
    "samehost": "---",
    "samenet": "---",
    ".local.test": "---",
    '"all"': "---",
}
# What 1.18 takes for broken.
NEWER = {"all": "yyy"}


def test_addresses_as_pgbouncer_reads_them(start_both, cluster, write_rules):
    rows = {**ADDRESSES, **NEWER}
    lines = [f"host d{i} all {row} trust\n" for i, row in enumerate(rows)]
    poolers = start_both(
        {
            "auth_type": "hba",
            "auth_hba_file": write_rules("".join(lines), "addresses"),
            "listen_addr": "127.0.0.1,::1",
        },
        databases={f"d{i}": entry(cluster, user="app_trust") for i in range(len(rows))},
    )

    def judge(pooler, number):
        found = ""
        for host, source in (("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("::1", "::1")):
            with socket.create_connection((host, pooler.port), source_address=(source, 0)) as client:
                client.settimeout(10 * PATIENCE)
                client.sendall(startup({"user": "app_trust", "database": f"d{number}"}))
                found += "y" if client.recv(1) == b"R" else "-"
        return found

    for pooler in poolers:
        wanted = rows if pooler.kind == "weir" else ADDRESSES
        assert {row: judge(pooler, i) for i, row in enumerate(wanted)} == wanted, pooler.kind
    assert poolers[0].log_text().count("address does not match mask") == 4


def test_the_methods(start_hba):
    pooler = start_hba(
        "host app app all md5\nhost app app_trust all trust\nhost other all all reject\n"
    )
    assert outcome(pooler, "app", "right") == (5, 0, OK)
    assert outcome(pooler, "app_trust", None) == (0, OK)
    assert_refused(refusal(pooler, "app", "right", "other"), "login rejected")
    assert_refused(refusal(pooler, "stranger", "x"), "no authentication method is found")
    assert unix_outcome(pooler, "app", "right") == "no authentication method is found"


def test_trust_by_a_rule_is_for_known_users(start_hba):
    pooler = start_hba("host all all all trust\n")
    assert outcome(pooler, "listed", None) == (0, OK)
    assert_refused(refusal(pooler, "stranger"), '"trust" authentication failed')


def test_no_rules_let_nobody_in(start_hba):
    pooler = start_hba("# none\n")
    assert_refused(refusal(pooler, "app", "right"), "no authentication method is found")


def test_the_console_follows_the_rules(start_hba):
    pooler = start_hba(RULE_FOR_ADMINS + "host all all all reject\n")
    assert pooler.admin("SHOW VERSION")
    assert_refused(refusal(pooler, "app", "right", "pgbouncer"), "not allowed")
    assert_refused(refusal(pooler, "app", "right"), "login rejected")


def test_groups_are_refused_in_clear_words(start_hba):
    pooler = start_hba("host all +app all trust\nhost all all all reject\n")
    found = pooler.wait_log("could not parse hba config line 1 .*")[0]
    assert '"+app": +group is not supported' in found
    assert_refused(refusal(pooler, "app", "right"), "login rejected")


# peer


PEER = "local app all peer\nlocal other all peer map=m\nlocal all all reject\nhost all all all md5\n"


def test_peer(start_hba, write_rules, cluster):
    """The system user of the other end is the name, or what a map makes of it."""
    maps = write_rules(f'm "{OWNER}" app\nm nobody app_trust\n', "ident.conf")
    pooler = start_hba(PEER, secrets={OWNER: ""}, auth_ident_file=maps)
    assert unix_outcome(pooler, OWNER) == OK
    assert unix_outcome(pooler, "app") == "unix socket login rejected"
    assert unix_outcome(pooler, "stranger") == "unix socket login rejected"
    assert unix_outcome(pooler, "app", database="other") == OK
    assert unix_outcome(pooler, "app_trust", database="other") == "unix socket login rejected"
    assert unix_outcome(pooler, OWNER, database="other") == "unix socket login rejected"
    assert outcome(pooler, "app", "right") == (5, 0, OK)


def test_peer_for_all_users_of_a_map(start_hba, write_rules):
    maps = write_rules(f"m {OWNER} all\n", "ident.conf")
    pooler = start_hba(PEER, auth_ident_file=maps)
    for user in ("app", "app_trust", "listed"):
        assert unix_outcome(pooler, user, database="other") == OK
    assert unix_outcome(pooler, "stranger", database="other") == "unix socket login rejected"


def test_peer_needs_a_unix_socket(start_hba):
    pooler = start_hba("host all all all peer\nhost all all all trust\n", secrets={OWNER: ""})
    assert_refused(refusal(pooler, OWNER), "unix socket login rejected")
    pooler.wait_log("WARNING hba config line 1 .*peer can only let in over local")


def test_peer_with_a_map_that_is_not_there(start_hba):
    pooler = start_hba("local all all peer map=m\nlocal all all reject\nhost all all all trust\n")
    pooler.wait_log('could not parse hba config line 1 .*map "m": expected a map that')
    assert unix_outcome(pooler, "app") == "login rejected"


def test_peer_as_pgbouncer_does(start_both, cluster, write_rules):
    weir, pgbouncer = start_both(
        {"auth_type": "hba", "auth_hba_file": write_rules("local all all peer\n")},
        secrets={OWNER: "", "app": ""},
        databases={"app": entry(cluster, user="app_trust")},
    )
    for user in (OWNER, "app", "stranger"):
        for database in ("app", "nowhere"):
            ours = unix_outcome(weir, user, database=database)
            assert ours == unix_outcome(pgbouncer, user, database=database), (user, database)


# Files with errors


def test_a_missing_file_lets_nobody_in(start_both, cluster):
    """Both start without it, say so, and have no rule for anybody, which PgBouncer 1.18 calls by
    another name."""
    texts = {"weir": "no authentication method is found", "pgbouncer": "login rejected"}
    for pooler in start_both(
        {"auth_type": "hba", "auth_hba_file": "/nowhere/hba.conf"},
        secrets={"app": "right", "app_trust": ""},
        databases={"app": entry(cluster, user="app_trust")},
    ):
        pooler.wait_log("could not open hba config file /nowhere/hba.conf")
        for user in ("app", "stranger"):
            assert_refused(refusal(pooler, user, "right"), texts[pooler.kind])
        pooler.stop()


BROKEN = "host all all all trust\nhost all all all nonsense\nhosts\n"


def test_reload_takes_new_rules(start_hba, write_rules):
    pooler = start_hba(RULE_FOR_ADMINS + "host all all all reject\n")
    assert_refused(refusal(pooler, "app", "right"), "login rejected")
    write_rules(RULE_FOR_ADMINS + "host all all all md5\n")
    pooler.admin("RELOAD")
    assert outcome(pooler, "app", "right") == (5, 0, OK)
    other = write_rules(RULE_FOR_ADMINS + "host all all all password\n", "other.conf")
    pooler.admin(f"SET auth_hba_file = '{other}'")
    assert outcome(pooler, "app", "right") == (3, 0, OK)
    pooler.admin("SET auth_type = 'trust'")
    assert outcome(pooler, "app", "right") == (0, OK)


def reload_error(pooler):
    with pooler.client(*ADMIN, database="pgbouncer") as client:
        return client.query("RELOAD").error.get("M")


def test_reload_with_broken_lines_goes_on_without_them(start_hba, write_rules):
    pooler = start_hba(RULE_FOR_ADMINS + "host all all all reject\n")
    write_rules(BROKEN)
    assert reload_error(pooler) is None
    pooler.wait_log("could not parse hba config line 2 ")
    pooler.wait_log("could not parse hba config line 3 ")
    assert outcome(pooler, "app", "right") == (0, OK)


def test_strict_reload_keeps_what_was(start_hba, write_rules):
    pooler = start_hba(RULE_FOR_ADMINS + "host all all all md5\n", hba_strict=1)
    write_rules(BROKEN)
    assert reload_error(pooler) == "RELOAD failed, see logs for additional details"
    pooler.wait_log("could not parse hba config line 2 ")
    pooler.wait_log("could not parse hba config line 3 ")
    assert outcome(pooler, "app", "right") == (5, 0, OK)


@pytest.mark.parametrize("setting", ["auth_hba_file", "auth_file", "auth_ident_file"])
def test_reload_without_a_file_keeps_what_was(start_hba, write_rules, setting):
    """Rules and users that can no longer be read are worth more than none. A SET is answered all the
    same, as with PgBouncer, and goes on with those at hand."""
    maps = write_rules("m a b\n", "ident.conf")
    pooler = start_hba(RULE_FOR_ADMINS + "host all all all md5\n", auth_ident_file=maps)
    with open(pooler.ini, "a", encoding="utf-8") as file:
        file.write(f"{setting} = /does/not/exist\nserver_lifetime = 77\n")
    assert reload_error(pooler) == "RELOAD failed, see logs for additional details"
    pooler.wait_log("could not open .*/does/not/exist: No such file or directory")
    shown = {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG")}
    assert shown["server_lifetime"] == "3600" and shown[setting] != "/does/not/exist"
    assert outcome(pooler, "app", "right") == (5, 0, OK)
    pooler.admin(f"SET {setting} = '/not/there/either'")
    assert "could not open" in pooler.wait_log("ERROR .*/not/there/either: .*")[0]
    assert outcome(pooler, "app", "right") == (5, 0, OK)


def run(pooler, *arguments):
    """Runs the pooler's binary once more; status and both outputs."""
    binary = os.path.join(pooler.cluster.folder, os.path.basename(BINARY))
    done = subprocess.run(
        clusters.as_unprivileged([binary, *arguments]),
        capture_output=True, text=True, timeout=20 * PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_check_reports_every_line(start_hba, write_rules):
    maps = write_rules("m a b\nm a\n", "ident.conf")
    pooler = start_hba("host all all all trust\n", auth_ident_file=maps)
    status, text = run(pooler, "--check", pooler.ini)
    assert status == 1 and "could not parse ident config line 2 " in text
    write_rules("m a b\n", "ident.conf")
    status, text = run(pooler, "--check", pooler.ini)
    assert status == 0 and "configuration is fine" in text
    write_rules(BROKEN)
    with open(pooler.auth_file, "a", encoding="utf-8") as file:
        file.write('"half a line\n')
    status, text = run(pooler, "--check", pooler.ini)
    assert status == 1 and "3 errors in the files of users and rules" in text
    for part in ("hba config line 2 ", "hba config line 3 ", "broken auth file ("):
        assert part in text
    os.unlink(os.path.join(os.path.dirname(maps), "hba.conf"))
    status, text = run(pooler, "--check", pooler.ini)
    assert status == 1 and "could not open hba config file" in text


def test_strict_start(start_hba, write_rules):
    pooler = start_hba("host all all all trust\n", hba_strict=1)
    write_rules(BROKEN)
    pooler.stop()
    status, text = run(pooler, pooler.ini)
    assert status == 1
    assert "could not parse hba config line 2 " in text and "FATAL hba_strict = 1 forbids" in text
