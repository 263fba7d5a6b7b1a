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
SEEDS = int(os.environ.get("TENANT_SEEDS", "2"))
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
$$ BEGIN PERFORM set_config('search_path', 'at_' || firm || ', public', false); END $$;
GRANT ALL ON by_claim, by_role, place, writes TO PUBLIC;
"""
MAKE_FIRM = """
CREATE ROLE {firm}; GRANT {firm} TO app_trust;
CREATE SCHEMA at_{firm}; GRANT USAGE ON SCHEMA at_{firm} TO PUBLIC;
CREATE TABLE at_{firm}.place (word text); GRANT ALL ON at_{firm}.place TO PUBLIC;
INSERT INTO at_{firm}.place VALUES ('{firm}');
INSERT INTO by_claim VALUES ('{firm}', '{firm}');
INSERT INTO by_role VALUES ('{firm}', '{firm}');
"""
UNMAKE = """
DROP TABLE by_claim, by_role, place, writes;
DROP FUNCTION enter; DROP FUNCTION enter_role; DROP PROCEDURE enter_by_call;
DROP FUNCTION enter_within;
"""
UNMAKE_FIRM = "DROP SCHEMA at_{firm} CASCADE; DROP OWNED BY {firm}; DROP ROLE {firm};"

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
    "place": ["SET search_path = at_{f}, public"],
    "SET SCHEMA": ["SET SCHEMA 'at_{f}'"],
    "set_config": ["SELECT set_config('app.tenant', '{f}', false)"],
    "with a cast": ["SELECT set_config('app.tenant'::text, '{f}'::text, 'f'::bool)"],
    "by name": ["SELECT set_config(is_local => false, setting_name => 'app.tenant', new_value => '{f}')"],
    "of the role": ["SELECT set_config('role', '{f}', false)"],
    "of the place": ["SELECT pg_catalog.set_config('search_path', 'at_{f}, public', false)"],
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
    "unnamed, later": [
        parse("SELECT set_config('app.tenant', $1, false)") + SYNC,
        bind(("x",)) + execute() + SYNC, bind(("{f}",)) + execute() + SYNC,
    ],
    "unnamed, later described": [
        ext("SELECT set_config('app.tenant', $1, false)", "x"),
        describe() + bind(("{f}",)) + execute() + SYNC,
    ],
    "unnamed twice in one group": [
        ext("SELECT set_config('app.tenant', $1, false)", "x"), "SELECT 1",
        parse("SELECT set_config('app.tenant', $1, false)") + SYNC,
        bind(("x",)) + execute() + bind(("{f}",)) + execute() + SYNC,
    ],
    "unnamed, and again": [ext("SELECT set_config('app.tenant', $1, false)", "x"),
                           bind(("{f}",)) + execute() + SYNC],
    "pipeline": [
        parse("SELECT 1") + bind() + execute() + parse("SET app.tenant = '{f}'") + bind() + execute()
        + parse("SELECT 2") + bind() + execute() + SYNC
    ],
    "portal by portal": [
        parse("SELECT set_config('app.tenant', $1, false)") + bind(("x",), "", "p1")
        + bind(("{f}",), "", "p2") + execute("p1") + execute("p2") + SYNC
    ],
    "SQL's, bound": [
        "PREPARE p (text) AS SELECT set_config('app.tenant', $1, false)",
        bind(("{f}",), "p") + execute() + SYNC, "DEALLOCATE p",
    ],
    "SQL's, bound in its transaction": [
        "BEGIN", "PREPARE p (text) AS SELECT set_config('role', $1, false)",
        bind(("{f}",), "p") + execute() + SYNC, "COMMIT", "DEALLOCATE p",
    ],
    "the protocol's, executed": [
        parse("SELECT set_config('app.tenant', $1, false)", "p") + SYNC, "EXECUTE p('{f}')",
        "DEALLOCATE p",
    ],
    "bound after a failed DEALLOCATE": [
        parse("SELECT set_config('app.tenant', $1, false)", "p") + SYNC, "BEGIN", "SAVEPOINT s",
        "SELECT 1/0; DEALLOCATE p", "ROLLBACK TO s", "DEALLOCATE other", "ROLLBACK TO s",
        bind(("{f}",), "p") + execute() + SYNC, "COMMIT", "DEALLOCATE p",
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
        "SET search_path = at_{f}, public",
    ],
}  # fmt: skip

UNKNOWN = {
    "a name that a cast cuts": ["SELECT set_config('app.tenantry'::varchar(10), '{f}', false)"],
    "view of settings": [
        "UPDATE pg_settings SET setting = 'at_{f}, public' WHERE name = 'search_path'"
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
    "function": ["SELECT public.enter('{f}')"],
    "function of the role": ["SELECT public.enter_role('{f}')"],
    "function in a block": ["BEGIN", "SELECT public.enter('{f}')", "COMMIT"],
    "function in many": ["SELECT 1; SELECT public.enter('{f}'); SELECT 2"],
    "function extended": [ext("SELECT public.enter($1)", "{f}")],
    "function named": [
        parse("SELECT public.enter($1)", "{n}") + SYNC, bind(("{f}",), "{n}") + execute() + SYNC
    ],
    "function prepared": ["PREPARE p AS SELECT public.enter($1)", "EXECUTE p('{f}')", "DEALLOCATE p"],
    "function held": [
        "DECLARE c CURSOR WITH HOLD FOR SELECT public.enter('{f}')", "CLOSE c"
    ],
    "function flushed": [
        parse("SELECT public.enter($1)") + bind(("{f}",)) + execute() + FLUSH + SYNC
    ],
    "function with SET": ["SELECT public.enter_within('{f}')"],
    "CALL": ["CALL public.enter_by_call('{f}')"],
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
    "function that fails": ["BEGIN", "SELECT public.enter('{f}')", "SELECT 1/0", "ROLLBACK"],
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
        self.status = "I"
        self.has_arrived_with = parameters

    def run(self, steps, firm):
        """Sends the steps of a way; both must be told the same."""
        number = next(NUMBERS)
        for part in steps:
            sent = filled(part, firm, number)
            answer, expected = self.client.ask(sent), self.twin.ask(sent)
            told = [(one.code, one.messages[-1].body if one.kinds[-1:] == 'Z' else one, one.tags) for one in (answer, expected)]

            assert told[0] == told[1], (steps, firm, answer, expected)
            self.status = expected.status
            if expected.code and isinstance(part, bytes):
                break  # what was not prepared cannot be executed

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
    pooler = start_one(start_pooler, on_session_state="ignore")  # no program keeps its server
    nobody, other = Pair(pooler, cluster), Pair(pooler, cluster)
    other.run(["SET app.tenant = '{f}'", "SET ROLE {f}", "SET search_path = at_{f}, public"], "firm_b")
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


# A walk: many clients on few servers, each step a dice


LEAVES = [
    "RESET ALL", "RESET ROLE", "SET ROLE NONE", "DISCARD ALL", "RESET app.tenant", "SET app.tenant = ''",
    "RESET ALL; RESET ROLE", "RESET search_path", "SET search_path TO DEFAULT",
    "SET SESSION AUTHORIZATION DEFAULT", "SELECT set_config('app.tenant', NULL, false)",
    "SELECT set_config('role', 'none', false)",
]  # fmt: skip
BLOCKS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0"]
ARRIVALS = [
    {}, {}, {}, {"options": "-c app.tenant=firm_a"}, {"search_path": "at_firm_b, public"},
    {"options": "-c role=firm_c --app.tenant=firm_c"},
]  # fmt: skip


def is_pinning(steps):
    return any(word in step for step in steps if isinstance(step, str)
               for word in ("PREPARE", "HOLD", "TEMP"))  # fmt: skip


class Walk:
    """Some pairs, of which at most one has an open transaction: there are two servers."""

    def __init__(self, pooler, cluster, seed):
        self.pooler, self.cluster, self.seed = pooler, cluster, seed
        self.dice = random.Random(seed)
        self.pairs = [self.arrive() for _ in range(5)]
        self.open = None
        self.story = []
        self.judge = direct_connection(cluster, "postgres")

    def arrive(self):
        return Pair(self.pooler, self.cluster, **self.dice.choice(ARRIVALS))

    def note(self, pair, what):
        self.story.append((self.pairs.index(pair), what))

    def tell(self):
        steps = [f"{number} {what}" for number, what in self.story[-60:]]
        return f"seed {self.seed} after {len(self.story)} steps:\n" + "\n".join(steps)

    def run(self, pair, steps, firm, about):
        self.note(pair, (about, firm))
        pair.run(steps, firm)
        self.open = pair if pair.status != "I" else None if self.open is pair else self.open

    def enter(self, pair):
        """Some way into some tenant."""
        is_unknown = self.dice.random() < 0.4
        name = self.dice.choice(list(UNKNOWN if is_unknown else KNOWN))
        steps = ALL[name]
        if is_pinning(steps):
            return
        if pair.status == "E" and any(b"{n}" in step for step in steps if isinstance(step, bytes)):
            return  # what Weir has prepared before it answers for the server
        if "BEGIN" in steps and self.open not in (None, pair):
            return  # two servers, and one is taken
        pair.is_clouded |= is_unknown
        self.run(pair, steps, self.dice.choice(FIRMS), name)

    def leave(self, pair):
        sql = self.dice.choice(LEAVES)
        is_clear = pair.status == "I" and sql in ("DISCARD ALL", "RESET ALL; RESET ROLE")
        self.run(pair, [sql], "", sql)
        if is_clear:
            pair.is_clouded = False
        if pair.has_arrived_with and (pair.status != "I" or "NULL" in sql):
            # Within the transaction it has the server's defaults; by NULL a custom one is empty.
            pair.is_clouded = True

    def block(self, pair):
        sql = self.dice.choice(BLOCKS)
        if sql == "BEGIN" and self.open not in (None, pair):
            return
        self.run(pair, [sql], "", sql)

    def vanish(self, pair):
        """The client ends amid a way: at any byte, or with a cancel request on its heels, or its
        server is ended under it."""
        name = self.dice.choice(list(ALL))
        firm, way = self.dice.choice(FIRMS), self.dice.choice(["cut", "cancel", "terminate", "bye"])
        sent = b"".join(filled(step, firm, next(NUMBERS)) for step in ALL[name])
        if self.open is None:
            sent = self.dice.choice([b"", query("BEGIN")]) + sent
        self.note(pair, (way, name, firm))
        if way == "terminate" and (self.open in (None, pair)) and pair.status != "E":
            pid = pair.client.query("BEGIN; SELECT pg_backend_pid()").value
            self.judge.query(f"SELECT pg_terminate_backend({pid})")
        try:
            cut = self.dice.randrange(len(sent)) if way == "cut" else len(sent)
            pair.client.send(sent[:cut], TERMINATE if way == "bye" else b"")
        except Closed:
            pass
        if way == "cancel":
            cancel(self.pooler.address, pair.client.key)
        self.dice.choice([pair.client.drop, pair.client.reset])()
        pair.twin.close()
        if self.open is pair:
            self.open = None
        self.pairs[self.pairs.index(pair)] = self.arrive()

    def step(self):
        pair = self.open if self.open and self.dice.random() < 0.4 else self.dice.choice(self.pairs)
        act = self.dice.choices([self.enter, self.leave, self.block, self.vanish], [6, 2, 3, 1])[0]
        try:
            act(pair)
        except Exception as error:
            raise AssertionError(self.tell()) from error
        for seen in {self.dice.choice(self.pairs), self.dice.choice(self.pairs)}:
            if seen.status != "E":
                wrong = seen.check(self.pairs.index(seen))
                assert not wrong, f"{wrong}, {self.tell()}"

    def end(self):
        for pair in self.pairs:
            pair.close()
        self.judge.close()


@pytest.mark.timeout(60 + SEEDS * STEPS // 8)
@pytest.mark.parametrize("is_routed", [False, True])
def test_walks(start_pooler, cluster, is_routed):
    settings = {"session_state": "track", "default_pool_size": 2, "server_round_robin": 1}
    settings["on_session_state"] = "ignore"  # so that no program keeps its server
    if is_routed:
        pooler = start_routed(start_pooler, cluster, settings)
        Watch(pooler).settle()
    else:
        pooler = start_pooler(settings)
    for seed in range(SEEDS):
        walk = Walk(pooler, cluster, seed)
        try:
            for _ in range(STEPS):
                walk.step()
        finally:
            walk.end()


# Cases with a name


@pytest.mark.parametrize("is_cleaned", [False, True])
def test_a_trigger_that_enters_a_tenant(start_pooler, cluster, is_cleaned):
    """Its doing stands in no statement, but in the catalog; or servers are always cleaned."""
    cluster.primary.sql(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('app.tenant', NEW.tenant, false); RETURN NEW; END $$;"
        "CREATE TRIGGER spoils BEFORE INSERT ON writes FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    always = {"server_reset_query": "DISCARD ALL", "server_reset_query_always": "1"}
    pooler = start_one(start_pooler, **(always if is_cleaned else {}))
    with pooler.client() as one, pooler.client() as other, pooler.client() as third:
        third.query("SET app.tenant = 'firm_b'")
        for _ in range(3):
            assert not one.query("INSERT INTO writes VALUES ('firm_a')").errors
            assert look(other) == set()
            assert look(third) == {"claim firm_b"}
            assert not one.query("SET ROLE firm_a").errors
            assert look(other) == set()
    cluster.primary.sql("DROP TRIGGER spoils ON writes; DROP FUNCTION spoil")


PRELUDE = (
    "SELECT set_config('search_path', $1, true), set_config('role', $2, true),"
    " set_config('app.tenant', $2, true), set_config('request.jwt.claims', $3, true),"
    " set_config('request.method', $4, true), set_config('request.headers', $5, true)"
)
RESPONSE = (
    "WITH source AS (SELECT word FROM {table}) SELECT coalesce(json_agg(word), '[]')::text,"
    " current_user, current_setting('request.jwt.claims', true) FROM source"
)


def request_of(client, firm, table, known):
    """One request as PostgREST sends it: each text is prepared once for a connection, by a name."""

    def run(sql, *values):
        parts = []
        if sql not in known:
            known[sql] = str(len(known))
            parts = [parse(sql, known[sql])]
        return client.ask(*parts, bind(values, known[sql]), execute(), SYNC)

    claims = f'{{"sub": "{firm}"}}'
    assert not run("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").errors
    prelude = run(PRELUDE, f"at_{firm}, public", firm, claims, "GET", "{}")
    assert not prelude.errors, prelude
    seen = run(RESPONSE.format(table=table)).rows
    assert not run("COMMIT").errors
    return seen == [(f'["{firm}"]', firm, claims)] or seen


@pytest.mark.parametrize("is_routed", [False, True])
def test_requests_as_postgrest_sends_them(start_pooler, cluster, is_routed):
    settings = {"session_state": "track", "default_pool_size": 2, "server_round_robin": 1}
    if is_routed:
        pooler = start_routed(start_pooler, cluster, settings)
        Watch(pooler).settle()
    else:
        pooler = start_pooler(settings)
    dice = random.Random(7)
    clients = [(pooler.client(), {}) for _ in range(5)]
    for _ in range(60):
        client, known = dice.choice(clients)
        firm, table = dice.choice(FIRMS), dice.choice(["by_role", "by_claim", "place"])
        assert request_of(client, firm, table, known) is True, (firm, table)
        other, _ = dice.choice(clients)
        assert look(other) == set()
        assert other.query("SELECT current_user").value == "app_trust"
    for client, _ in clients:
        client.close()


def test_a_claim_in_another_encoding(start_pooler, cluster):
    """The same byte is another letter for each of them."""
    cluster.primary.sql("INSERT INTO by_claim VALUES ('й', 'cyrillic'), ('é', 'latin')")
    pooler = start_one(start_pooler)
    with pooler.client() as plain:
        claim = query("SET app.tenant = '_'").replace(b"_", b"\xe9")
        with pooler.client(client_encoding="WIN1251") as one:
            with pooler.client(client_encoding="LATIN1") as other:
                for _ in range(3):
                    for client in (one, other):
                        assert not client.ask(claim).errors
                        assert look(plain) == set()
                    assert look(one) == {"claim cyrillic"}
                    assert look(other) == {"claim latin"}
                    assert not one.query("SET client_encoding = UTF8").errors
                    assert look(other) == {"claim latin"}
                    assert look(one) == {"claim cyrillic"}
                    assert not one.query("SET client_encoding = WIN1251").errors
    cluster.primary.sql("DELETE FROM by_claim WHERE tenant NOT LIKE 'firm%'")


@pytest.mark.parametrize("again", [b"", describe()])
def test_the_unnamed_statement_in_a_later_transaction(start_pooler, again):
    """It sets another tenant than at first: who has the first one must not get that server as it is."""
    pooler = start_one(start_pooler)
    with pooler.client() as one, pooler.client() as other:
        other.query("SET app.tenant = 'firm_b'")
        assert one.ask(ext("SELECT set_config('app.tenant', $1, false)", "firm_b")).value == "firm_b"
        assert one.ask(again + bind(("firm_a",)) + execute() + SYNC).value == "firm_a"
        assert look(other) == {"claim firm_b"}
        assert look(one) == {"claim firm_a"}


AUTHORIZATIONS = [
    ["SET SESSION AUTHORIZATION {f}"],
    ["SELECT set_config('session_authorization', '{f}', false)"],
    ["BEGIN", "SET SESSION AUTHORIZATION {f}", "COMMIT"],
    ["BEGIN", "SET LOCAL SESSION AUTHORIZATION {f}", "COMMIT"],
    ["BEGIN", "SET SESSION AUTHORIZATION {f}", "SELECT 1/0", "ROLLBACK"],
    ["SET SESSION AUTHORIZATION {f}; SET ROLE {f}", "SET ROLE NONE"],
    ["SET ROLE {f}", "SET SESSION AUTHORIZATION DEFAULT"],
    [ext("SET SESSION AUTHORIZATION {f}")],
]


def test_session_authorization(start_pooler, cluster):
    """Superusers who become others, on one server: nobody is another, nor stays one."""
    pooler = start_one(start_pooler)
    pairs = [Pair(pooler, cluster, user="postgres") for _ in range(3)]
    who = "SELECT session_user || ' ' || current_user"
    pairs[1].run(["SET SESSION AUTHORIZATION {f}"], "firm_b")
    for steps in AUTHORIZATIONS:
        pairs[0].run(steps, "firm_a")
        is_clouded = "DO" in str(steps)
        for _ in range(2):
            for pair in pairs[1:]:
                seen, expected = pair.client.query(who).value, pair.twin.query(who).value
                assert seen == expected, (steps, seen, expected)
            seen, expected = (one.query(who).value for one in (pairs[0].client, pairs[0].twin))
            assert seen in (expected, "postgres postgres" if is_clouded else expected), steps
        pairs[0].run(["RESET SESSION AUTHORIZATION", "DISCARD ALL"], "")
    for pair in pairs:
        pair.close()


def test_defaults_of_a_role(start_pooler, cluster):
    """What ALTER ROLE gives to each session is there, also after what another client has set."""
    cluster.primary.sql("ALTER ROLE app_trust IN DATABASE app SET app.tenant = 'firm_b'")
    try:
        pooler = start_one(start_pooler)
        one, other = Pair(pooler, cluster), Pair(pooler, cluster)
        for steps in (KNOWN["SET"], KNOWN["role"], UNKNOWN["function"], ["RESET app.tenant"], ["RESET ALL"]):
            one.is_clouded = steps is UNKNOWN["function"]
            one.run(steps, "firm_a")
            wrong = other.check(steps)
            assert not wrong
            if not one.is_clouded:
                assert not one.check(steps)
        one.run(["DISCARD ALL"], "")
        assert not one.check("DISCARD ALL") + other.check("DISCARD ALL")
        one.close()
        other.close()
    finally:
        cluster.primary.sql("ALTER ROLE app_trust IN DATABASE app RESET app.tenant")


@pytest.mark.parametrize("way", ["dropped", "revoked"])
def test_a_role_that_is_taken_away(start_pooler, cluster, way):
    """The statement must not run with the rights of the login, nor of who had the server before."""
    cluster.primary.sql("CREATE ROLE firm_x; GRANT firm_x TO app_trust")
    pooler = start_one(start_pooler)
    with pooler.client() as one, pooler.client() as other:
        one.query("SET ROLE firm_x")
        other.query("SET ROLE firm_b")
        assert look(one) == set() and look(other) == {"role firm_b"}
        cluster.primary.sql("DROP ROLE firm_x" if way == "dropped" else "REVOKE firm_x FROM app_trust")
        one.send(query("INSERT INTO public.writes VALUES ('taken away')"))
        assert one.read_to_end().error["C"] == "08P01"
        assert look(other) == {"role firm_b"}
        count = "SELECT count(*) FROM public.writes WHERE tenant = 'taken away'"
        assert other.query(count).value == "0"
    cluster.primary.sql("DROP ROLE IF EXISTS firm_x")
