"""What an ini file may look like: each case is read as PgBouncer reads it, where that has the
feature, and what is refused is told with file and line."""

import os
import re
import shutil
import subprocess
import time

import pytest

import cluster as clusters
from pooler import BINARY, KIND, PATIENCE, SANITIZER_VARIABLES

P = "[pgbouncer]\nlisten_port = {port}\nunix_socket_dir = {folder}\n"

RIGHT = {
    # Lines
    "blanks": P + "  \t verbose \t =\t  1 \t\n",
    "no blanks": P + "verbose=1\n",
    "carriage returns": P + "verbose = 1\r\n",
    "no newline at the end": P + "verbose = 1",
    "comments": "; one\n  # two\n" + P + " ;verbose = x\n#verbose = x\n\n",
    "an empty value": P + "pidfile =\nauth_file=\n",
    "a value with signs": P + "server_reset_query = SET a = ':'; SET b = '#'\n",
    "a repeated key": P + "verbose = 1\nverbose = 0\n",
    "a list with gaps": P + "admin_users = a,,b , \n",
    # Values
    "octal": P + "unix_socket_mode = 0770\n",
    "hexadecimal": P + "default_pool_size = 0x10\n",
    "a plus": P + "default_pool_size = +5\n",
    "a fraction": P + "query_timeout = 1.5\n",
    "a fraction alone": P + "query_timeout = .5\n",
    "a bool as a number": P + "tcp_keepalive = 00\n",
    "an enum in another case": P + "pool_mode = Session\nauth_type = MD5\n",
    "a bool beyond 1": P + "tcp_keepalive = 2\nlog_connections = -1\n",
    "negative sizes": P + "default_pool_size = -1\nmax_client_conn = -1\nmin_pool_size = -3\n",
    "a negative backlog": P + "listen_backlog = -1\n",
    "a packet of any size": P + "max_packet_size = -1\n",
    "no statistics": P + "stats_period = 0\n",
    "a number beyond all bounds": P + "verbose = -1\nmax_db_connections = 99999999999\n",
    "an exponent": P + "query_timeout = 1e1\nserver_lifetime = 1.5e-3\n",
    "a hexadecimal time": P + "query_timeout = 0x10\n",
    "infinity": P + "query_timeout = inf\n",
    "an unknown facility": P + "syslog_facility = mail\n",
    "an address that is not here": P + "listen_addr = 198.51.100.1\n",
    "an address that occurs twice": P + "listen_addr = 127.0.0.1,127.0.0.1\n",
    "a mode with more bits": P + "unix_socket_mode = 01777\n",
    # Sections
    "an indented section": P + "   [databases]\na =\n",
    "a comment behind a section": P + "[databases] ; these\na =\n",
    "an empty section": P + "[users]\n[databases]\n",
    # Entries
    "an empty entry": P + "[databases]\na=\n[users]\nu =\n",
    "no blank in front": P + "[databases]\na= port=1\n",
    "blanks around the sign": P + "[databases]\na = host = h port =1\n",
    "a value in quotes": P + "[databases]\na = dbname='two words' password='it''s'\n",
    "a key that occurs twice": P + "[databases]\na = host=h host=i\n",
    "an entry that occurs twice": P + "[databases]\na = host=h\na = host=i\n",
    "all names": P + "[databases]\n* = host=h\n",
    "a name of 63 bytes": P + "[databases]\n" + "n" * 63 + " = host=h\n",
    "names with dots": P + "[databases]\na.b-c_d* = host=h\n",
    "an abstract socket": P + "[databases]\na = host=@abc\n",
    "a socket directory": P + "[databases]\na = host=/run/postgresql\n",
    "a list of hosts": P + "[databases]\na = host=h,i,::1\n",
    "digits in front": P + "[databases]\na = pool_size=5; port=5432x\n",
    "words for numbers": P + "[databases]\na = pool_size=x\n[users]\nu = max_user_connections=x\n",
    "negative numbers": P + "[databases]\na = pool_size=-1 port=-1\n",
    "numbers in quotes": P + "[databases]\na = pool_size='  5' port=+7\n",
    "a port of 17 bits": P + "[databases]\na = port=70000\n",
    "the old name of a key": P + "[databases]\na = reserve_pool=0\n",
    "a user": P + "[users]\nu = pool_mode = session\n",
    # Other files
    "an included file": P + "%include {folder}/empty.ini\n",
    "an indented include": P + "  %include\t{folder}/empty.ini\n",
    "an include as the working directory has it": P + "%include empty.ini\n",
}

# PgBouncer 1.18 knows no quoted keys, and begins anew with a second [pgbouncer].
WEIR_RIGHT = {
    "sections that occur twice": P
    + "[databases]\na =\n[pgbouncer]\nverbose = 1\n[databases]\nb =\n",
    "a key in quotes": P + "'verbose' = 1\n",
    "a name in quotes": P + "[databases]\n'a b' = host=h\n'it''s' = host=h\n[users]\n'u v' =\n",
}

# What is written, and the line and the beginning of the error.
WRONG = {
    "no section": ("verbose = 1\n" + P, 1, ""),
    "another section": (P + "[foo]\n", 4, 'invalid section "foo" in configuration'),
    "a section in another case": (P + "[Databases]\n", 4, 'invalid section "Databases"'),
    "text behind a section": (P + "[databases] x\n", 4, "syntax error in configuration"),
    "an unknown key": (P + "foo = 1\n", 4, "unknown parameter"),
    "a key in another case": (P + "Verbose = 1\n", 4, "unknown parameter"),
    "no sign": (P + "verbose\n", 4, "syntax error in configuration"),
    "a colon": (P + "verbose : 1\n", 4, "syntax error in configuration"),
    "a second line": (P + "verbose = 1\n  2\n", 5, "syntax error in configuration"),
    "a comment behind a value": (P + "verbose = 1 ; c\n", 4, 'invalid value "1 ; c" for parameter'),
    "a word for a number": (P + "verbose = x\n", 4, 'invalid value "x" for parameter verbose'),
    "an empty number": (P + "verbose =\n", 4, 'invalid value "" for parameter verbose'),
    "half a number": (P + "verbose = 1x\n", 4, 'invalid value "1x" for parameter verbose'),
    "a fraction for a number": (P + "verbose = 1.5\n", 4, 'invalid value "1.5" for parameter'),
    "an exponent for a number": (P + "verbose = 1e1\n", 4, 'invalid value "1e1" for parameter'),
    "a double sign": (P + "verbose = --1\n", 4, 'invalid value "--1" for parameter verbose'),
    "a time with a comma": (P + "query_timeout = 1,5\n", 4, 'invalid value "1,5" for parameter'),
    "a unit": (P + "query_timeout = 1s\n", 4, 'invalid value "1s" for parameter query_timeout'),
    "a negative time": (P + "query_timeout = -1\n", 4, 'invalid value "-1" for parameter'),
    "an empty time": (P + "query_timeout =\n", 4, 'invalid value "" for parameter'),
    "a word for a bool": (P + "tcp_keepalive = on\n", 4, 'invalid value "on" for parameter'),
    "another word": (P + "pool_mode = never\n", 4, 'invalid value "never" for parameter pool_mode'),
    "an empty enum": (P + "auth_type =\n", 4, 'invalid value "" for parameter auth_type'),
    "the reserved name": (P + "[databases]\npgbouncer = host=h\n", 5, ""),
    "a name of 64 bytes": (P + "[databases]\n" + "n" * 64 + " = host=h\n", 5, ""),
    "double quotes around a name": (P + '[databases]\n"a" = host=h\n', 5, "syntax error in config"),
    "letters beyond ASCII": (P + "[databases]\nä = host=h\n", 5, "syntax error in configuration"),
    "an empty value in a pair": (P + "[databases]\na = host=\n", 5, "syntax error"),
    "the same in quotes": (P + "[databases]\na = host=''\n", 5, "syntax error"),
    "no end of a quote": (P + "[databases]\na = host='h\n", 5, "syntax error"),
    "a word alone": (P + "[databases]\na = host=h foo\n", 5, "syntax error"),
    "a comment behind pairs": (P + "[databases]\na = host=h ; c\n", 5, "syntax error"),
    "an unknown pair": (P + "[databases]\na = foo=h\n", 5, "unrecognized connection parameter: "),
    "a pair in another case": (P + "[databases]\na = Host=h\n", 5, "unrecognized connection param"),
    "a port that is none": (P + "[databases]\na = port=x\n", 5, "invalid (port|value)"),
    "port 0": (P + "[databases]\na = port=0\n", 5, "invalid (port|value)"),
    "another pool mode": (P + "[databases]\na = pool_mode=foo\n", 5, "invalid (pool mode|value)"),
    "an unknown pair of a user": (P + "[users]\nu = foo=1\n", 5, "unrecognized user parameter: "),
    "a missing file": (P + "%include /nowhere\n", 4, ""),
    "no file": (P + "%include\n", 4, "syntax error in configuration"),
    "a glued include": (P + "%include/dev/null\n", 4, "syntax error in configuration"),
    "another instruction": (P + "%foo\n", 4, "syntax error in configuration"),
}


@pytest.fixture(scope="module")
def folder(cluster):
    path = os.path.join(cluster.folder, "ini")
    os.mkdir(path)
    clusters.give_away(path)
    with open(os.path.join(path, "empty.ini"), "w", encoding="utf-8"):
        pass
    shutil.copy(BINARY, os.path.join(path, "pooler"))
    return path


def write(folder, text):
    port = clusters.free_port()  # no socket of an earlier case has it
    ini = os.path.join(folder, "pooler.ini")
    with open(ini, "w", encoding="utf-8", newline="") as file:
        file.write(text.replace("{port}", str(port)).replace("{folder}", folder))
    return ini, os.path.join(folder, f".s.PGSQL.{port}")


def start(folder, *arguments):
    command = clusters.as_unprivileged([os.path.join(folder, "pooler"), *arguments])
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clusters.environment(**SANITIZER_VARIABLES),
    )


def comes_up(folder, text):
    """Whether a pooler with that file listens, and what it says."""
    ini, path = write(folder, text)
    process = start(folder, ini)
    deadline = time.monotonic() + 10 * PATIENCE
    while process.poll() is None and not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    is_up = process.poll() is None
    process.kill()
    output, _ = process.communicate()
    return is_up, output


def check(folder, text):
    """Whether `weir --check` is content with a file, and what it says."""
    ini, _ = write(folder, text)
    process = start(folder, "--check", ini)
    output, _ = process.communicate(timeout=10 * PATIENCE)
    return process.returncode == 0, output


RIGHT_HERE = {**RIGHT, **WEIR_RIGHT} if KIND == "weir" else RIGHT


@pytest.mark.parametrize("text", RIGHT_HERE.values(), ids=RIGHT_HERE.keys())
def test_right(folder, text):
    is_right, output = comes_up(folder, text)
    assert is_right, output
    if KIND == "weir":
        assert check(folder, text)[0]


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong(folder, case):
    text, line, message = case
    is_right, output = comes_up(folder, text)
    assert not is_right
    assert re.search(f"{message}", output), output
    if "nowhere" not in text:
        assert f"pooler.ini:{line})" in output, output
    if KIND == "weir":
        is_right, checked = check(folder, text)
        assert not is_right
        assert re.search(f"{message}.*pooler.ini:{line}\\)", checked, re.DOTALL), checked


def test_includes_go_ten_deep(folder):
    for depth, is_fine in ((10, True), (11, False)):
        for number in range(1, depth + 1):
            with open(os.path.join(folder, f"{number}.ini"), "w", encoding="utf-8") as file:
                file.write(f"%include {number + 1}.ini\n" if number < depth else "verbose = 0\n")
        is_up, output = comes_up(folder, P + "%include 1.ini\n")
        assert is_up == is_fine, (depth, output)


def test_an_error_in_an_included_file(folder):
    with open(os.path.join(folder, "broken.ini"), "w", encoding="utf-8") as file:
        file.write("\nverbose = x\n")
    is_up, output = comes_up(folder, P + "%include broken.ini\n")
    assert not is_up
    assert re.search(r'invalid value "x" for parameter verbose.*broken\.ini:2\)', output)


@pytest.mark.weir_only
def test_all_errors_at_once(folder):
    text = P + "pool_mode = x\nfoo = 1\n[databases]\na = hots=h\n[users]\nu = pool_mode=x\n"
    is_right, output = check(folder, text)
    assert not is_right
    for number, part in (
        (4, 'invalid value "x" for parameter pool_mode.*expected one of session, transaction'),
        (5, 'unknown parameter: "foo"'),
        (7, 'unrecognized connection parameter: "hots".*did you mean host'),
        (9, 'invalid value "x" for parameter pool_mode.*expected one of session'),
    ):
        lines = [one for one in output.splitlines() if f"pooler.ini:{number})" in one]
        assert any(re.search(part, one) for one in lines), output


@pytest.mark.weir_only
def test_what_is_not_taken_as_it_stands_is_told_once(folder):
    text = P + "tcp_keepalive = 2\ndefault_pool_size = -1\n[databases]\na = pool_size=x port=-1\n"
    is_up, output = comes_up(folder, text)
    assert is_up
    for told in (
        r'value "2" for parameter tcp_keepalive in configuration \(.*:4\): it counts as 1',
        r'value "-1" for parameter default_pool_size in configuration \(.*:5\): it counts as 0',
        r'value "x" for parameter pool_size in database "a" \(.*:7\): only "0" is used',
        r'value "-1" for parameter port in database "a" \(.*:7\): it counts as 65535',
    ):
        assert len(re.findall(f"WARNING {told}", output)) == 1, output


def listening_ports(pid):
    """The TCP ports on which a process listens."""
    fds = f"/proc/{pid}/fd"
    inodes = set()
    for fd in os.listdir(fds):
        inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"{fds}/{fd}")))
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


def test_port_zero_is_one_that_the_system_chooses(folder):
    ini, _ = write(folder, "[pgbouncer]\nlisten_port = 0\nlisten_addr = 127.0.0.1\n"
                   "unix_socket_dir = {folder}\n")
    path = os.path.join(folder, ".s.PGSQL.0")
    process = start(folder, ini)
    try:
        deadline = time.monotonic() + 10 * PATIENCE
        while not os.path.exists(path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        ports = listening_ports(process.pid)
        assert len(ports) == 1 and ports[0] > 1023
    finally:
        process.kill()
        output, _ = process.communicate()
        os.unlink(path)
    assert "listening on 127.0.0.1:0" in output
