"""No client ever sees a row of another's tenant, however tenants are entered and left.

Three tenants share one login. Rows are theirs by a claim (a policy on a custom parameter), by a role
(a policy on current_user) or by a place (a schema in the search_path). Attackers enter a tenant in
every way there is, on few servers; whoever comes next must see nothing of it, and each client at
most what it would see on a connection of its own.

The random walk is longer by hand: TENANT_SEEDS=100 TENANT_STEPS=3000.
"""

import os
import random
import struct

import pytest

from pooler import PATIENCE, SANITIZED
from routed import Watch, start_routed
from wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Client,
    Closed,
    bind,
    cancel,
    close,
    copy_data,
    describe,
    execute,
    message,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only

FIRMS = ("firm_a", "firm_b", "firm_c")
SEEDS = int(os.environ.get("TENANT_SEEDS", "3"))
STEPS = int(os.environ.get("TENANT_STEPS", "200" if SANITIZED else "500"))

MAKE = """
CREATE TABLE by_claim (tenant text, word text);
CREATE TABLE by_role (tenant text, word text);
CREATE TABLE place (word text);
ALTER TABLE by_claim ENABLE ROW LEVEL SECURITY;
ALTER TABLE by_role ENABLE ROW LEVEL SECURITY;
CREATE POLICY claim ON by_claim USING (tenant = current_setting('app.tenant', true));
CREATE POLICY role ON by_role USING (tenant = current_user);
CREATE TABLE writes (tenant text, wanted text);
CREATE FUNCTION enter(firm text, is_local bool DEFAULT false) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN PERFORM set_config('app.tenant', firm, is_local); RETURN firm; END $$;
CREATE FUNCTION enter_role(firm text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE format('SET ROLE %I', firm); END $$;
CREATE PROCEDURE enter_by_call(firm text) LANGUAGE plpgsql AS
$$ BEGIN PERFORM set_config('app.tenant', firm, false); COMMIT; END $$;
CREATE FUNCTION enter_within(firm text) RETURNS void LANGUAGE plpgsql SET work_mem = '2MB' AS
$$ BEGIN PERFORM set_config('search_path', firm || ', public', false); END $$;
GRANT ALL ON by_claim, by_role, place, writes TO PUBLIC;
"""
MAKE_FIRM = """
CREATE ROLE {firm}; GRANT {firm} TO app_trust;
CREATE SCHEMA {firm}; GRANT USAGE ON SCHEMA {firm} TO PUBLIC;
CREATE TABLE {firm}.place (word text); GRANT ALL ON {firm}.place TO PUBLIC;
INSERT INTO {firm}.place VALUES ('{firm}');
INSERT INTO by_claim VALUES ('{firm}', '{firm}');
INSERT INTO by_role VALUES ('{firm}', '{firm}');
"""
UNMAKE = """
DROP TABLE by_claim, by_role, place, writes;
DROP FUNCTION enter; DROP FUNCTION enter_role; DROP PROCEDURE enter_by_call;
DROP FUNCTION enter_within;
"""
UNMAKE_FIRM = "DROP SCHEMA {firm} CASCADE; DROP OWNED BY {firm}; DROP ROLE {firm};"

LOOK = (
    "SELECT 'claim ' || word FROM public.by_claim UNION ALL SELECT 'role ' || word FROM public.by_role"
    " UNION ALL SELECT 'place ' || word FROM place"
)


@pytest.fixture(scope="module", autouse=True)
def firms(cluster):
    cluster.primary.sql(MAKE + "".join(MAKE_FIRM.format(firm=firm) for firm in FIRMS))
    cluster.wait_replayed()
    yield
    cluster.primary.sql("".join(UNMAKE_FIRM.format(firm=firm) for firm in FIRMS) + UNMAKE)


def look(client):
    """What rows of tenants this client sees: {"claim firm_a", ...}."""
    answer = client.query(LOOK)
    assert not answer.errors, answer
    return {row[0] for row in answer.rows}


def start_one(start_pooler, size=1, **settings):
    return start_pooler({"session_state": "track", "default_pool_size": size, **settings})


def ext(sql, *values, name="", types=()):
    """A statement in the extended protocol, with its Sync."""
    return parse(sql, name, types) + bind(values, name) + execute() + SYNC


def call_set_config(name, value):
    """A FunctionCall of set_config (its OID is fixed by PostgreSQL's own catalog)."""
    body = struct.pack("!IHH", 2078, 0, 3)
    for one in (name, value, "f"):
        body += struct.pack("!i", len(one)) + one.encode()
    return message("F", body + struct.pack("!H", 0))


def direct_connection(cluster, user="app_trust", **parameters):
    client = Client((cluster.primary.host, cluster.primary.port), 20 * PATIENCE)
    client.login(user, **parameters)
    return client


# Ways to enter a tenant, each a list of what is sent and answered one by one. {f} is the firm. What
# the first list does is known exactly; of the second Weir knows that it may be anything.

KNOWN = {
    "SET": ["SET app.tenant = '{f}'"],
    "SET SESSION": ["SET SESSION app.tenant TO {f}"],
    "capitals": ['SET "App.Tenant" = \'{f}\''],
    "role": ["SET ROLE {f}"],
    "role as a parameter": ["SET role = '{f}'"],
    "SET SESSION ROLE": ["SET SESSION ROLE {f}"],
    "place": ["SET search_path = {f}, public"],
    "SET SCHEMA": ["SET SCHEMA '{f}'"],
    "set_config": ["SELECT set_config('app.tenant', '{f}', false)"],
    "with a cast": ["SELECT set_config('app.tenant'::text, '{f}'::text, 'f'::bool)"],
    "by name": ["SELECT set_config(is_local => false, setting_name => 'app.tenant', new_value => '{f}')"],
    "of the role": ["SELECT set_config('role', '{f}', false)"],
    "of the place": ["SELECT pg_catalog.set_config('search_path', '{f}, public', false)"],
    "NULL is not local": ["SELECT set_config('app.tenant', '{f}', 1 = 0)"],
    "in CTE": ["WITH s AS (SELECT set_config('app.tenant', '{f}', false)) SELECT * FROM s"],
    "in CTE of a write": [
        "WITH w AS (INSERT INTO public.writes VALUES ('{f}') RETURNING tenant)"
        " SELECT set_config('app.tenant', tenant, false) FROM w"
    ],
    "FROM": ["SELECT * FROM set_config('app.tenant', '{f}', false)"],
    "LATERAL": [
        "SELECT 1 FROM (VALUES ('{f}')) v (t), LATERAL set_config('app.tenant', t, false)"
    ],
    "in VALUES": ["VALUES (set_config('app.tenant', '{f}', false))"],
    "WHERE": ["SELECT 1 WHERE set_config('app.tenant', '{f}', false) IS NOT NULL"],
    "INSERT": ["INSERT INTO public.writes VALUES (set_config('app.tenant', '{f}', false))"],
    "RETURNING": ["INSERT INTO public.writes VALUES ('x') RETURNING set_config('app.tenant', '{f}', false)"],
    "EXPLAIN": ["EXPLAIN ANALYZE SELECT set_config('app.tenant', '{f}', false)"],
    "EXPLAIN that runs nothing, and one that does": [
        "EXPLAIN (ANALYZE 0) SELECT set_config('app.tenant', '{f}', false)",
        "EXPLAIN (ANALYZE 1) SELECT set_config('app.tenant', '{f}', false)",
    ],
    "a truth that a cast makes": ["SELECT set_config('app.tenant', '{f}', 'on'::text < 'off')"],
    "COPY": ["COPY (SELECT set_config('app.tenant', '{f}', false)) TO STDOUT"],
    "in a block": ["BEGIN", "SET app.tenant = '{f}'", "COMMIT"],
    "released": ["BEGIN", "SAVEPOINT s", "SET ROLE {f}", "RELEASE s", "COMMIT"],
    "chained": ["BEGIN", "SET app.tenant = '{f}'", "COMMIT AND CHAIN", "ROLLBACK"],
    "many": ["SET app.tenant = 'x'; SET ROLE {f}; SET app.tenant = '{f}'"],
    "many with a block": ["BEGIN; SET ROLE {f}; COMMIT; SELECT 1"],
    "after RESET": ["SET app.tenant = 'x'; RESET ALL; SET app.tenant = '{f}'"],
    "before an error": ["SET app.tenant = '{f}'", "SELECT 1/0"],
    "extended": [ext("SET app.tenant = '{f}'")],
    "extended role": [ext("SET ROLE {f}")],
    "Bind": [ext("SELECT set_config('app.tenant', $1, false)", "{f}")],
    "Bind of the role": [ext("SELECT set_config('role', $1, $2::bool)", "{f}", "false")],
    "named": [
        parse("SELECT set_config('app.tenant', $1, false)", "{n}") + SYNC,
        bind(("{f}",), "{n}") + execute() + SYNC,
    ],
    "described": [
        parse("SET ROLE {f}", "{n}") + describe("{n}") + SYNC,
        bind((), "{n}") + execute() + close("{n}") + SYNC,
    ],
    "pipeline": [
        parse("SELECT 1") + bind() + execute() + parse("SET app.tenant = '{f}'") + bind() + execute()
        + parse("SELECT 2") + bind() + execute() + SYNC
    ],
    "portal by portal": [
        parse("SELECT set_config('app.tenant', $1, false)") + bind(("x",), "", "p1")
        + bind(("{f}",), "", "p2") + execute("p1") + execute("p2") + SYNC
    ],
    "cursor": [
        "BEGIN", "DECLARE c CURSOR FOR SELECT set_config('app.tenant', '{f}', false)", "FETCH c",
        "COMMIT",
    ],
    "held cursor": [
        "DECLARE c CURSOR WITH HOLD FOR SELECT set_config('app.tenant', '{f}', false)", "CLOSE c",
    ],
    "unset again": ["SET app.tenant = '{f}'", "SET app.tenant = ''"],
    "rolled back": ["BEGIN", "SET app.tenant = '{f}'; SET ROLE {f}", "ROLLBACK"],
    "to a savepoint": [
        "BEGIN", "SAVEPOINT s", "SET app.tenant = '{f}'; SET ROLE {f}", "ROLLBACK TO s", "COMMIT",
    ],
    "failed": ["BEGIN", "SET app.tenant = '{f}'; SET ROLE {f}", "SELECT 1/0", "COMMIT"],
    "failed in many": ["SET app.tenant = '{f}'; SET ROLE {f}; SELECT 1/0"],
    "failed in a pipeline": [
        parse("SET app.tenant = '{f}'") + bind() + execute() + parse("SELECT 1/0") + bind()
        + execute() + SYNC
    ],
    "local": ["BEGIN", "SET LOCAL app.tenant = '{f}'; SET LOCAL ROLE {f}", "COMMIT"],
    "local by set_config": ["BEGIN; SELECT set_config('app.tenant', '{f}', true); COMMIT"],
    "local and not": [
        "BEGIN", "SET LOCAL app.tenant = '{f}'", "SET app.tenant = '{f}'", "SET LOCAL app.tenant = ''",
        "COMMIT",
    ],
    "local outside": [
        "SET LOCAL app.tenant = '{f}'", "SELECT set_config('app.tenant', '{f}', true)",
    ],
    "refused role": ["SET ROLE nobody_{f}"],
    "refused authorization": ["SET SESSION AUTHORIZATION {f}"],
    "temporary": [
        "CREATE TEMP TABLE place AS SELECT '{f}'::text AS word", "DROP TABLE pg_temp.place",
        "SET search_path = {f}, public",
    ],
}  # fmt: skip

UNKNOWN = {
    "a name that a cast cuts": ["SELECT set_config('app.tenantry'::varchar(10), '{f}', false)"],
    "view of settings": [
        "UPDATE pg_settings SET setting = '{f}, public' WHERE name = 'search_path'"
    ],
    "EXECUTE in EXPLAIN": [
        "PREPARE p (text) AS SELECT set_config('app.tenant', $1, false)",
        "EXPLAIN ANALYZE EXECUTE p('{f}')", "DEALLOCATE ALL",
    ],
    "PREPARE": [
        "PREPARE p AS SELECT set_config('app.tenant', $1, false)", "EXECUTE p('{f}')",
        "DEALLOCATE p",
    ],
    "Bind of all": [ext("SELECT set_config($1, $2, $3)", "app.tenant", "{f}", "f")],
    "function": ["SELECT enter('{f}')"],
    "function of the role": ["SELECT enter_role('{f}')"],
    "function in a block": ["BEGIN", "SELECT enter('{f}')", "COMMIT"],
    "function in many": ["SELECT 1; SELECT enter('{f}'); SELECT 2"],
    "function extended": [ext("SELECT enter($1)", "{f}")],
    "function named": [
        parse("SELECT enter($1)", "{n}") + SYNC, bind(("{f}",), "{n}") + execute() + SYNC
    ],
    "function prepared": ["PREPARE p AS SELECT enter($1)", "EXECUTE p('{f}')", "DEALLOCATE p"],
    "function held": [
        "DECLARE c CURSOR WITH HOLD FOR SELECT enter('{f}')", "CLOSE c"
    ],
    "function flushed": [
        parse("SELECT enter($1)") + bind(("{f}",)) + execute() + FLUSH + SYNC
    ],
    "function with SET": ["SELECT enter_within('{f}')"],
    "CALL": ["CALL enter_by_call('{f}')"],
    "DO": ["DO $$ BEGIN PERFORM set_config('app.tenant', '{f}', false); END $$"],
    "DO of a role": ["DO $$ BEGIN EXECUTE 'SET ROLE {f}'; END $$"],
    "DO after SET": ["SET app.other = '1'; DO $$ BEGIN SET app.tenant = '{f}'; END $$"],
    "computed name": ["SELECT set_config(lower('APP.') || 'tenant', '{f}', false)"],
    "name from a table": ["SELECT set_config(n, '{f}', false) FROM (VALUES ('role')) v (n)"],
    "unicode name": ["SELECT U&\"set\\005fconfig\"('app.tenant', '{f}', false)"],
    "SQL in a text": [
        "SELECT query_to_xml('SELECT set_config(''app.tenant'', ''{f}'', false)', true, true, '')"
    ],
    "SQL in a text of words": [
        "SELECT * FROM ts_stat('SELECT to_tsvector(set_config(''app.tenant'', ''{f}'', false))')"
    ],
    "FunctionCall": [call_set_config("app.tenant", "{f}")],
    "function that fails": ["BEGIN", "SELECT enter('{f}')", "SELECT 1/0", "ROLLBACK"],
}  # fmt: skip


def filled(part, firm, number):
    """What to send of one step of a way."""
    if isinstance(part, str):
        return query(part.format(f=firm))
    if part[:1] == b"F" or b"{f}" in part or b"{n}" in part:
        return refilled(part, firm, number)
    return part


def refilled(part, firm, number):
    """Puts firm and statement's name into messages, whose lengths then change."""
    found = b""
    while part:
        (length,) = struct.unpack_from("!I", part, 1)
        kind, body, part = part[:1], part[5 : 1 + length], part[1 + length :]
        body = body.replace(struct.pack("!i", 3) + b"{f}", struct.pack("!i", len(firm)) + firm.encode())
        body = body.replace(b"{f}", firm.encode()).replace(b"{n}", f"s{number}".encode())
        found += message(kind.decode(), body)
    return found


NUMBERS = iter(range(1_000_000_000))


class Pair:
    """A client of the pooler, and the same on a connection of its own."""

    def __init__(self, pooler, cluster, **parameters):
        self.client = pooler.client(**parameters)
        self.twin = direct_connection(cluster, **parameters)
        self.is_clouded = False

    def run(self, steps, firm):
        """Sends the steps of a way; both must be told the same."""
        number = next(NUMBERS)
        for part in steps:
            sent = filled(part, firm, number)
            answer, expected = self.client.ask(sent), self.twin.ask(sent)
            told = [(one.code, one.status, one.tags) for one in (answer, expected)]
            assert told[0] == told[1], (steps, firm, answer, expected)

    def check(self, about):
        """The client sees what its twin sees; after what Weir cannot know, nothing more."""
        seen, expected = look(self.client), look(self.twin)
        is_good = seen <= expected if self.is_clouded else seen == expected
        return [] if is_good else [f"{about}: sees {sorted(seen)}, not {sorted(expected)}"]

    def close(self):
        self.client.close()
        self.twin.close()


ALL = {**KNOWN, **UNKNOWN}


@pytest.mark.parametrize("kind", ["known", "unknown"])
@pytest.mark.parametrize("is_left_behind", [False, True])
def test_ways(start_pooler, cluster, kind, is_left_behind):
    """An attacker enters; who was there before and who comes next see what they saw before. With
    one server each transaction meets what the one before has left."""
    pooler = start_one(start_pooler)
    nobody, other = Pair(pooler, cluster), Pair(pooler, cluster)
    other.run(["SET app.tenant = '{f}'", "SET ROLE {f}", "SET search_path = {f}, public"], "firm_b")
    attacker = Pair(pooler, cluster)
    wrong = []
    for name, steps in (KNOWN if kind == "known" else UNKNOWN).items():
        if is_left_behind:
            attacker.close()
            attacker = Pair(pooler, cluster)
        attacker.is_clouded = kind == "unknown"
        for firm in ("firm_a", "firm_c"):
            attacker.run(steps, firm)
            for _ in range(2):
                wrong += nobody.check(name)
                wrong += other.check(name)
                wrong += attacker.check(name)
        attacker.run(["RESET ALL; RESET ROLE" if len(name) % 2 else "DISCARD ALL"], "")
        attacker.is_clouded = False
        wrong += attacker.check(name)
        wrong += nobody.check(name)
    for one in (nobody, other, attacker):
        one.close()
    assert not wrong, "\n".join(dict.fromkeys(wrong))
