"""auth_type = ldap and HBA rules with ldap, against Debian's slapd."""

import os
import socket
import subprocess
import time

import pytest

import cluster as clusters
from pooler import ADMIN, MONITOR, PATIENCE
from test_auth import OK, entry, outcome
from test_hba import run, write_rules  # noqa: F401
from test_login import assert_refused, refusal
from tls import Listener
from tools import in_threads
from wire import message, startup

pytestmark = pytest.mark.weir_only

SECRET = clusters.PASSWORDS["app"]
ADMINS = dict([ADMIN, MONITOR])
BASE = "dc=example,dc=net"
MANAGER = f"cn=Manager,{BASE}"
MANAGER_SECRET = "secret of the manager"

SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
access to * by anonymous auth by dn.exact="{manager}" read by self read
database mdb
suffix "{base}"
directory {folder}/data
rootdn "{manager}"
rootpw "{secret}"
"""


def ldif(users):
    text = f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n\n"
    text += f"dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n\n"
    for user, secret in users.items():
        text += f"dn: uid={user},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {user}\n"
        text += f"sn: {user}\ncn: {user}\nmail: {user}@example.net\nuserPassword: {secret}\n\n"
    text += f"dn: cn=app,{BASE}\nobjectClass: inetOrgPerson\nsn: app\ncn: app\n"
    return text + f"uid: twin\nuserPassword: {SECRET}\n\n"


class Directory:
    """A slapd with some users, over ldap and ldaps."""

    def __init__(self, cluster):
        self.folder = os.path.join(cluster.folder, "slapd")
        self.port = clusters.free_port()
        self.tls_port = clusters.free_port()
        os.makedirs(os.path.join(self.folder, "data"))
        clusters.give_away(self.folder)
        clusters.give_away(os.path.join(self.folder, "data"))
        config = self.write("slapd.conf", SLAPD.format(
            folder=self.folder, base=BASE, manager=MANAGER, secret=MANAGER_SECRET))  # fmt: skip
        users = {"app": SECRET, "guest": "of guest", "twin": "of twin", **ADMINS}
        cluster.run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
            "-keyout", f"{self.folder}/key.pem", "-out", f"{self.folder}/cert.pem",
        )  # fmt: skip
        cluster.run("/usr/sbin/slapadd", "-f", config, "-l", self.write("users", ldif(users)))
        listening = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with open(os.path.join(self.folder, "log"), "ab") as log:
            cluster.guarded(
                ["/usr/sbin/slapd", "-d", "0", "-f", config, "-h", listening], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.tls_port)).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        clusters.give_away(path)
        return path

    @property
    def server(self):
        return f"ldapserver=127.0.0.1 ldapport={self.port}"

    @property
    def prefix(self):
        """Options that make the name to bind as from the user's."""
        return f'{self.server} ldapprefix="uid=" ldapsuffix=",ou=people,{BASE}"'

    @property
    def search(self):
        return (
            f'{self.server} ldapbasedn="{BASE}" ldapbinddn="{MANAGER}"'
            f' ldapbindpasswd="{MANAGER_SECRET}"'
        )


@pytest.fixture(scope="module")
def directory(cluster):
    return Directory(cluster)


@pytest.fixture
def start_ldap(start_pooler, cluster, directory):
    def start(options, settings=None, **more):
        more.setdefault("databases", {"app": entry(cluster, user="app_trust"),
                                      "own": entry(cluster)})  # fmt: skip
        more.setdefault("variables", {"LDAPTLS_CACERT": f"{directory.folder}/cert.pem"})
        return start_pooler(
            {"auth_type": "ldap", "auth_ldap_options": options, **(settings or {})},
            secrets={},
            **more,
        )

    return start


def assert_judges(pooler, *more_users):
    assert outcome(pooler, "app", SECRET) == (3, 0, OK)
    assert outcome(pooler, "guest", "of guest") == (3, 0, OK)
    for user, secret in (("app", "x"), ("guest", SECRET), ("stranger", SECRET), *more_users):
        assert_refused(refusal(pooler, user, secret), "LDAP authentication failed")
    assert_refused(refusal(pooler, "app", ""), "empty password returned by client")


def test_bind(start_ldap, directory):
    pooler = start_ldap(directory.prefix)
    assert_judges(pooler)
    pooler.wait_log(r"C-0x\w+: app/app@.* login refused: LDAP login failed: Invalid credentials")


def test_search(start_ldap, directory):
    pooler = start_ldap(f"{directory.search} ldapsearchattribute=mail")
    assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
    pooler.wait_log('login refused: LDAP user "app" does not exist')
    assert outcome(pooler, "app@example.net", SECRET) == (3, 0, OK)


def test_search_by_a_filter(start_ldap, directory):
    options = 'ldapsearchfilter="(&(objectClass=inetOrgPerson)(mail=$username@example.net))"'
    pooler = start_ldap(f"{directory.search} {options}")
    assert_judges(pooler, ("*", SECRET), ("app)(uid=*", SECRET))
    pooler.wait_log("invalid character in user name for LDAP authentication")


def test_search_that_finds_two(start_ldap, directory):
    pooler = start_ldap(directory.search)
    assert_judges(pooler, ("twin", "of twin"))
    pooler.wait_log('LDAP user "twin" is not unique')


def test_search_as_somebody_who_may_not(start_ldap, directory):
    options = directory.search.replace(MANAGER_SECRET, "not it")
    pooler = start_ldap(options)
    assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
    pooler.wait_log("could not perform initial LDAP bind: Invalid credentials")
    assert "not it" not in pooler.log_text()


def test_urls(start_ldap, directory):
    bind = f'ldapbinddn="{MANAGER}", ldapbindpasswd="{MANAGER_SECRET}"'
    url = f"ldap://127.0.0.1:{directory.port}/ou=people,{BASE}?uid?sub"
    assert_judges(start_ldap(f'ldapurl="{url}", {bind}'))
    url = f"ldaps://127.0.0.1:{directory.tls_port}/{BASE}??one"
    pooler = start_ldap(f'"ldapurl={url}",{bind}')
    assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
    pooler.wait_log('LDAP user "app" does not exist')


def test_tls(start_ldap, directory):
    assert_judges(start_ldap(f"{directory.prefix} ldaptls=1"))
    options = directory.prefix.replace(str(directory.port), str(directory.tls_port))
    assert_judges(start_ldap(f"{options} ldapscheme=ldaps"))


def test_tls_with_a_stranger(start_ldap, directory, start_pooler, cluster):
    """The system's LDAP configuration decides whom to trust."""
    pooler = start_pooler(
        {"auth_type": "ldap", "auth_ldap_options": f"{directory.prefix} ldaptls=1"},
        databases={"app": entry(cluster, user="app_trust")},
    )
    assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
    pooler.wait_log("could not start LDAP TLS session")


def test_the_next_of_several_servers(start_ldap, directory):
    options = directory.prefix.replace('ldapserver=127.0.0.1', 'ldapserver="127.0.0.9 127.0.0.1"')
    assert_judges(start_ldap(options))


def test_a_directory_that_is_not_there(start_ldap, directory):
    options = directory.prefix.replace(str(directory.port), str(clusters.free_port()))
    pooler = start_ldap(options)
    assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
    pooler.wait_log("LDAP login failed: Can't contact LDAP server")


def wait_for_password(pooler):
    """A client whose password is being judged by a directory that never answers."""
    client = pooler.connect()
    client.send(startup({"user": "slow", "database": "app"}))
    client.read()
    client.send(message("p", b"secret\0"))
    return client


def test_a_directory_that_hangs_holds_up_nobody_else(start_ldap, write_rules, directory):
    """Its clients wait until client_login_timeout; the others log in at once, and the end of the
    process does not wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        rules = write_rules(
            f"host app slow all ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=cn=\n"
            f"host app app all ldap {directory.prefix}\nhost app app_trust all trust\n"
        )
        pooler = start_ldap(
            "", {"auth_type": "hba", "auth_hba_file": rules, "client_login_timeout": 2}
        )
        pooler.write_auth_file({"app_trust": ""})
        waiting = wait_for_password(pooler)
        began = time.monotonic()
        assert outcome(pooler, "app", SECRET) == (3, 0, OK)
        assert time.monotonic() - began < 1.8 * PATIENCE
        assert_refused(waiting.read_to_end().error, "client_login_timeout")
        stranded = [wait_for_password(pooler) for _ in range(12)]
        began = time.monotonic()
        pooler.stop()
        assert len(stranded) == 12
        assert time.monotonic() - began < 5 * PATIENCE


def test_the_systems_configuration(start_ldap, directory):
    """What LDAPCONF names applies: whom to trust."""
    conf = directory.write("ldap.conf", f"TLS_CACERT {directory.folder}/cert.pem\n")
    pooler = start_ldap(f"{directory.prefix} ldaptls=1", variables={"LDAPCONF": conf})
    assert_judges(pooler)


SILENCE = ["ldaptls=0", "ldaptls=1", "ldapscheme=ldaps"]


@pytest.mark.parametrize("how", SILENCE)
def test_threads_come_back_from_a_directory_that_hangs(start_ldap, write_rules, directory, how):
    """Each waits as long as the system's configuration says, so others are judged after it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"ldapserver=127.0.0.1 ldapport={silent.getsockname()[1]} ldapprefix=cn= {how}"
        rules = write_rules(
            f"host app slow all ldap {place}\nhost app app all ldap {directory.prefix}\n"
        )
        pooler = start_ldap(
            "",
            {"auth_type": "hba", "auth_hba_file": rules},
            variables={"LDAPNETWORK_TIMEOUT": "1", "LDAPTIMEOUT": "1"},
        )
        waiting = [wait_for_password(pooler) for _ in range(10)]  # more than there are threads
        for one in waiting:
            assert_refused(one.read_to_end().error, "LDAP authentication failed")
        assert outcome(pooler, "app", SECRET) == (3, 0, OK)


def hang_up(connection):
    connection.recv(1)


def hang_up_in_a_message(connection):
    connection.recv(1000)
    connection.sendall(bytes.fromhex("300c02010161"))


def answer_with_nonsense(connection):
    connection.recv(1000)
    connection.sendall(b"\xff" * 5000)


def answer_with_a_length_without_end(connection):
    connection.recv(1000)
    connection.sendall(bytes.fromhex("3084ffffffff020101") + b"\0" * 5000)


def answer_what_was_not_asked(connection):
    connection.recv(1000)
    # A bind that went well, but of another question.
    connection.sendall(bytes.fromhex("300c02016361070a010004000400"))
    connection.recv(1)


HOSTILE = [
    hang_up,
    hang_up_in_a_message,
    answer_with_nonsense,
    answer_with_a_length_without_end,
    answer_what_was_not_asked,
]


@pytest.mark.parametrize("answer", HOSTILE)
@pytest.mark.parametrize("how", ["ldapprefix=cn=", "ldapbasedn=dc=x"])
def test_a_directory_that_answers_badly(start_ldap, how, answer):
    """Nobody gets in."""
    with Listener(answer) as listener:
        place = f"ldapserver=127.0.0.1 ldapport={listener.port} {how}"
        pooler = start_ldap(place, variables={"LDAPTIMEOUT": "1"})
        assert_refused(refusal(pooler, "app", SECRET), "LDAP authentication failed")
        pooler.wait_log("login refused: (LDAP login failed|could not perform initial LDAP bind): ")


def test_the_password_serves_for_the_server(start_ldap, directory):
    pooler = start_ldap(directory.prefix)
    with pooler.client("app", SECRET, "own") as client:
        assert client.query("SELECT current_user").value == "app"


def test_many_at_once(start_ldap, directory):
    pooler = start_ldap(directory.prefix)

    def log_in(number):
        secret = SECRET if number % 2 else "x"
        expected = OK if number % 2 else "LDAP authentication failed"
        assert outcome(pooler, "app", secret)[-1] == expected

    in_threads(40, log_in)


def test_rules_with_ldap(start_ldap, write_rules, directory):
    rules = write_rules(
        f"host app app all ldap {directory.prefix}\n"
        "host app guest all ldap ldapserver=127.0.0.1 ldapport=x ldapprefix=cn=\n"
        "host app guest all reject\n"
    )
    pooler = start_ldap("", {"auth_type": "hba", "auth_hba_file": rules})
    assert outcome(pooler, "app", SECRET) == (3, 0, OK)
    assert_refused(refusal(pooler, "app", "x"), "LDAP authentication failed")
    assert_refused(refusal(pooler, "guest", "of guest"), "login rejected")
    pooler.wait_log('config line 2 .*LDAP option ldapport is "x": expected a number from 1 to')


def test_not_together_with_auth_user(start_ldap, directory):
    pooler = start_ldap(directory.prefix, {"auth_user": "postgres"})
    assert_refused(refusal(pooler, "app", SECRET), "bouncer config error")


def test_check_of_the_options(start_ldap, directory):
    pooler = start_ldap("ldapserver=127.0.0.1")
    pooler.wait_log("auth_ldap_options: LDAP needs ldapbasedn, ldapprefix or ldapsuffix")
    status, text = run(pooler, "--check", pooler.ini)
    assert status == 1 and "LDAP needs ldapbasedn, ldapprefix or ldapsuffix" in text


def test_show_config_hides_the_secret(start_ldap, directory):
    """It may hold a password, and who may look at everything need not know it."""
    pooler = start_ldap(directory.search)
    rows = {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG", MONITOR)}
    assert rows["auth_ldap_options"] == "****"
