/* Which value counts where a setting may stand in several places. */
#include "config/effective.h"

#include "config/load.h"
#include "core/check.h"
#include "core/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* One setting in up to three places (a database, a user, global) and what then counts. Times
 * are given back in seconds. */
static uint64_t pool_size(const struct config *c, const struct config_database *d,
                          const struct config_user *u) {
    return (uint64_t)config_pool_size(c, d, u);
}

static uint64_t pool_mode(const struct config *c, const struct config_database *d,
                          const struct config_user *u) {
    return config_pool_mode(c, d, u);
}

static uint64_t query_wait(const struct config *c, const struct config_database *d,
                           const struct config_user *u) {
    return config_query_wait_timeout_us(c, d, u) / US_PER_S;
}

static uint64_t query_timeout(const struct config *c, const struct config_database *d,
                              const struct config_user *u) {
    (void)d;
    return config_query_timeout_us(c, u) / US_PER_S;
}

static uint64_t idle_transaction(const struct config *c, const struct config_database *d,
                                 const struct config_user *u) {
    (void)d;
    return config_idle_transaction_timeout_us(c, u) / US_PER_S;
}

static uint64_t client_idle(const struct config *c, const struct config_database *d,
                            const struct config_user *u) {
    (void)d;
    return config_client_idle_timeout_us(c, u) / US_PER_S;
}

static uint64_t server_lifetime(const struct config *c, const struct config_database *d,
                                const struct config_user *u) {
    (void)u;
    return config_server_lifetime_us(c, d) / US_PER_S;
}

static uint64_t routing(const struct config *c, const struct config_database *d,
                        const struct config_user *u) {
    return config_routing(c, d, u);
}

static uint64_t consistency(const struct config *c, const struct config_database *d,
                            const struct config_user *u) {
    return config_read_consistency(c, d, u);
}

static uint64_t lag_bytes(const struct config *c, const struct config_database *d,
                          const struct config_user *u) {
    (void)u;
    return (uint64_t)config_choice(c, d).max_replica_lag;
}

static uint64_t lag_time(const struct config *c, const struct config_database *d,
                         const struct config_user *u) {
    (void)u;
    return config_choice(c, d).max_replica_lag_time_us / US_PER_S;
}

static uint64_t choice(const struct config *c, const struct config_database *d,
                       const struct config_user *u) {
    (void)u;
    return config_choice(c, d).replica_choice;
}

static uint64_t fallback(const struct config *c, const struct config_database *d,
                         const struct config_user *u) {
    (void)u;
    return config_choice(c, d).replica_fallback;
}

static uint64_t min_size(const struct config *c, const struct config_database *d,
                         const struct config_user *u) {
    (void)u;
    return (uint64_t)config_min_pool_size(c, d);
}

static uint64_t reserve(const struct config *c, const struct config_database *d,
                        const struct config_user *u) {
    return (uint64_t)config_reserve_pool_size(c, d, u);
}

static uint64_t db_servers(const struct config *c, const struct config_database *d,
                           const struct config_user *u) {
    (void)u;
    return (uint64_t)config_max_db_connections(c, d);
}

static uint64_t db_clients(const struct config *c, const struct config_database *d,
                           const struct config_user *u) {
    (void)u;
    return (uint64_t)config_max_db_client_connections(c, d);
}

static uint64_t user_servers(const struct config *c, const struct config_database *d,
                             const struct config_user *u) {
    (void)d;
    return (uint64_t)config_max_user_connections(c, u);
}

static uint64_t user_clients(const struct config *c, const struct config_database *d,
                             const struct config_user *u) {
    (void)d;
    return (uint64_t)config_max_user_client_connections(c, u);
}

static uint64_t transaction(const struct config *c, const struct config_database *d,
                            const struct config_user *u) {
    (void)d;
    return (uint64_t)config_transaction_timeout_us(c, u) / US_PER_S;
}

static uint64_t balance(const struct config *c, const struct config_database *d,
                        const struct config_user *u) {
    (void)c;
    (void)u;
    return config_load_balance_hosts(d);
}

static const struct {
    uint64_t (*value)(const struct config *, const struct config_database *,
                      const struct config_user *);
    const char *global;
    const char *database;
    const char *user; /* NULL: not in [users] */
    uint64_t expected;
} rows[] = {
    {pool_size, "", "", NULL, 20},
    {pool_size, "default_pool_size=5", "", NULL, 5},
    {pool_size, "default_pool_size=5", "", "", 5},
    {pool_size, "default_pool_size=5", "pool_size=6", "", 6},
    {pool_size, "default_pool_size=5", "pool_size=0", NULL, 0},
    {pool_size, "default_pool_size=5", "pool_size=6", "pool_size=7", 7},
    {pool_size, "default_pool_size=5", "pool_size=6", "pool_size=0", 0},
    {pool_mode, "", "", NULL, POOL_MODE_SESSION},
    {pool_mode, "pool_mode=transaction", "", "", POOL_MODE_TRANSACTION},
    {pool_mode, "", "pool_mode=transaction", "", POOL_MODE_TRANSACTION},
    {pool_mode, "", "pool_mode=transaction", "pool_mode=session", POOL_MODE_SESSION},
    {query_wait, "", "", NULL, 120},
    {query_wait, "", "query_wait_timeout=0", NULL, 0},
    {query_wait, "", "query_wait_timeout=5", "", 5},
    {query_wait, "", "query_wait_timeout=5", "query_wait_timeout=0", 0},
    {query_timeout, "query_timeout=9", "", NULL, 9},
    {query_timeout, "query_timeout=9", "", "", 9},
    {query_timeout, "query_timeout=9", "", "query_timeout=0", 9},
    {query_timeout, "query_timeout=9", "", "query_timeout=3", 3},
    {idle_transaction, "idle_transaction_timeout=9", "", "idle_transaction_timeout=0", 9},
    {idle_transaction, "idle_transaction_timeout=9", "", "idle_transaction_timeout=3", 3},
    {client_idle, "client_idle_timeout=9", "", "client_idle_timeout=0", 9},
    {client_idle, "client_idle_timeout=9", "", "client_idle_timeout=3", 3},
    {server_lifetime, "", "", NULL, 3600},
    {server_lifetime, "server_lifetime=0", "", NULL, 0},
    {server_lifetime, "", "server_lifetime=0", NULL, 3600},
    {server_lifetime, "", "server_lifetime=60", NULL, 60},
    {min_size, "", "", NULL, 0},
    {min_size, "min_pool_size=2", "", NULL, 2},
    {min_size, "min_pool_size=2", "min_pool_size=0", NULL, 0},
    {reserve, "reserve_pool_size=2", "", NULL, 2},
    {reserve, "reserve_pool_size=2", "reserve_pool=3", "", 3},
    {reserve, "reserve_pool_size=2", "reserve_pool=3 reserve_pool_size=4", NULL, 4},
    {reserve, "", "reserve_pool_size=3", "reserve_pool_size=0", 0},
    {db_servers, "", "", NULL, 0},
    {db_servers, "max_db_connections=2", "max_db_connections=0", NULL, 2},
    {db_servers, "max_db_connections=2", "max_db_connections=-1", NULL, 2},
    {db_servers, "max_db_connections=2", "max_db_connections=-7", NULL, 2},
    {db_servers, "max_db_connections=2", "max_db_connections=3", NULL, 3},
    {db_clients, "max_db_client_connections=2", "max_db_client_connections=-2", NULL, 2},
    {db_clients, "", "max_db_client_connections=3", NULL, 3},
    {user_servers, "max_user_connections=2", "", "", 2},
    {user_servers, "max_user_connections=2", "", "max_user_connections=0", 2},
    {user_servers, "max_user_connections=2", "", "max_user_connections=3", 3},
    {user_clients, "max_user_client_connections=2", "", "max_user_client_connections=-9", 2},
    {user_clients, "", "", "max_user_client_connections=3", 3},
    {transaction, "transaction_timeout=9", "", "transaction_timeout=0", 9},
    {transaction, "transaction_timeout=9", "", "transaction_timeout=3", 3},
    {routing, "", "", NULL, ROUTING_OFF},
    {routing, "routing=replica", "", NULL, ROUTING_REPLICA},
    {routing, "routing=replica", "routing=off", NULL, ROUTING_OFF},
    {routing, "routing=read_write", "", NULL, ROUTING_PRIMARY},
    {routing, "routing=read_write\npool_mode=transaction", "", NULL, ROUTING_READ_WRITE},
    {routing, "pool_mode=transaction", "routing=read_write", "pool_mode=session", ROUTING_PRIMARY},
    {routing, "", "routing=read_write", "pool_mode=transaction", ROUTING_READ_WRITE},
    {routing, "", "", "routing=replica", ROUTING_OFF}, /* nobody probes its nodes */
    {routing, "routing=replica", "", "routing=off", ROUTING_PRIMARY},
    {routing, "pool_mode=transaction", "routing=replica", "routing=read_write", ROUTING_READ_WRITE},
    {routing, "pool_mode=transaction", "routing=shadow", "", ROUTING_SHADOW},
    {routing, "pool_mode=session", "routing=shadow", "", ROUTING_PRIMARY},
    {lag_bytes, "", "", NULL, 0},
    {lag_bytes, "max_replica_lag=7", "", NULL, 7},
    {lag_bytes, "max_replica_lag=7", "max_replica_lag=0", NULL, 0},
    {lag_time, "max_replica_lag_time=7", "", NULL, 7},
    {lag_time, "max_replica_lag_time=7", "max_replica_lag_time=0", NULL, 0},
    {choice, "", "", NULL, REPLICA_CHOICE_LEAST_BUSY},
    {choice, "replica_choice=latency", "replica_choice=round_robin", NULL,
     REPLICA_CHOICE_ROUND_ROBIN},
    {fallback, "", "", NULL, REPLICA_FALLBACK_ON},
    {fallback, "replica_fallback=0", "", NULL, REPLICA_FALLBACK_OFF},
    {fallback, "replica_fallback=0", "replica_fallback=1", NULL, REPLICA_FALLBACK_ON},
    {consistency, "", "read_consistency=eventual", "read_consistency=session",
     READ_CONSISTENCY_SESSION},
    {consistency, "", "", NULL, READ_CONSISTENCY_DATABASE},
    {consistency, "read_consistency=eventual", "", NULL, READ_CONSISTENCY_EVENTUAL},
    {consistency, "read_consistency=eventual", "read_consistency=session", NULL,
     READ_CONSISTENCY_SESSION},
    {balance, "", "", NULL, BALANCE_ROUND_ROBIN},
    {balance, "", "load_balance_hosts=disable", NULL, BALANCE_DISABLE},
};

static struct config *load(const char *text) {
    struct config_errors errors = {0};
    struct config *config = config_load_text("f.ini", bytes_of_text(text), &errors);
    if (config == NULL) fail_msg("%s", buf_text(&errors.text));
    config_errors_release(&errors);
    return config;
}

static void test_which_counts(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf text = {0};
        buf_append_format(&text, "[pgbouncer]\n%s\n[databases]\na = %s\n", rows[i].global,
                          rows[i].database);
        if (rows[i].user != NULL) buf_append_format(&text, "[users]\nu = %s\n", rows[i].user);
        struct config *config = load(buf_text(&text));
        const struct config_user *user = config_user(config, bytes_of_text("u"));
        assert_int_equal(user != NULL, rows[i].user != NULL);
        uint64_t value = rows[i].value(config, config_database_at(config, 0), user);
        if (value != rows[i].expected) fail_msg("%s gave %d", buf_text(&text), (int)value);
        config_unref(&config);
        buf_release(&text);
    }
}

static void assert_bytes(struct bytes bytes, const char *expected) {
    assert_true(bytes_equal_text(bytes, expected));
}

static void test_names(void **state) {
    (void)state;
    struct config *config = load("[pgbouncer]\n[databases]\na = dbname=x user=f\n* =\n");
    const struct config_database *a = config_database(config, bytes_of_text("a"));
    const struct config_database *other = config_database(config, bytes_of_text("other"));
    assert_string_equal(other->entry.name, "*");
    assert_bytes(config_dbname(a, bytes_of_text("a")), "x");
    assert_bytes(config_dbname(other, bytes_of_text("other")), "other");
    assert_bytes(config_pool_user(a, bytes_of_text("u")), "f");
    assert_bytes(config_pool_user(other, bytes_of_text("u")), "u");
    assert_true(config_is_console(config, bytes_of_text("pgbouncer")));
    assert_true(config_is_console(config, bytes_of_text("weir")));
    assert_false(config_is_console(config, bytes_of_text("a")));
    config_unref(&config);
    config = load("[pgbouncer]\n[databases]\nweir = host=h\n");
    assert_false(config_is_console(config, bytes_of_text("weir")));
    assert_null(config_database(config, bytes_of_text("a")));
    config_unref(&config);
}

static void test_nodes(void **state) {
    (void)state;
    struct config *config = load("[pgbouncer]\n[databases]\na = host=h,h,i port=1,2,3\n"
                                 "[nodes]\nh = weight=2 zone=x\n'h:2' = weight=7\n");
    assert_int_equal(config_node_weight(config, "h", 1), 2);
    assert_string_equal(config_node_zone(config, "h", 1), "x");
    assert_int_equal(config_node_weight(config, "h", 2), 7);
    assert_string_equal(config_node_zone(config, "h", 2), "");
    assert_int_equal(config_node_weight(config, "i", 3), 1);
    assert_string_equal(config_node_zone(config, "i", 3), "");
    assert_null(config_node(config, "i", 3));
    assert_false(config_node_is_far(config, "i", 3)); /* nobody says where this process is */
    config_unref(&config);
    config = load("[pgbouncer]\nzone = x\n[databases]\na = host=h,i\n[nodes]\nh = zone=x\n");
    assert_false(config_node_is_far(config, "h", 5432));
    assert_true(config_node_is_far(config, "i", 5432));
    config_unref(&config);
}

static void test_probe_logins(void **state) {
    (void)state;
    static const struct {
        const char *global;
        const char *database;
        const char *user;
        const char *password;
    } logins[] = {
        {"", "", NULL, NULL},
        {"", "user=u", "u", NULL},
        {"", "user=u password=p", "u", "p"},
        {"probe_user=g\nprobe_password=q", "user=u password=p", "g", "q"},
        {"probe_user=g", "user=u password=p", "g", ""},
        {"probe_user=g\nprobe_password=q", "probe_user=d probe_password=r", "d", "r"},
        {"probe_user=g\nprobe_password=q", "probe_user=d", "d", NULL},
    };
    for (size_t i = 0; i < COUNT(logins); i++) {
        struct buf text = {0};
        buf_append_format(&text, "[pgbouncer]\n%s\n[databases]\na = %s\n", logins[i].global,
                          logins[i].database);
        struct config *config = load(buf_text(&text));
        struct config_probe_login login = config_probe_login(config, config_database_at(config, 0));
        assert_int_equal(login.user == NULL, logins[i].user == NULL);
        assert_int_equal(login.password == NULL, logins[i].password == NULL);
        if (login.user != NULL) assert_string_equal(login.user, logins[i].user);
        if (login.password != NULL) assert_string_equal(login.password, logins[i].password);
        config_unref(&config);
        buf_release(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_counts),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_probe_logins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
