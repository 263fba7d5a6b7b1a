"""SHOW CONFIG: every setting of PgBouncer 1.25 in its order, with its default, and whether it can
be changed while the process runs."""

import pytest

import pooler as poolers

pytestmark = pytest.mark.weir_only

AUTH_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
    "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)

# Name, default (without one: empty) and `no` where it cannot be changed.
TABLE = """
admin_users
application_name_add_host 0
auth_dbname
auth_file
auth_hba_file
auth_ident_file
auth_ldap_options
auth_query AUTH_QUERY
auth_type md5
auth_user
autodb_idle_timeout 3600
cancel_wait_timeout 10
client_idle_timeout 0
client_login_timeout 60
client_tls13_ciphers
client_tls_ca_file
client_tls_cert_file
client_tls_ciphers default
client_tls_dheparams auto
client_tls_ecdhcurve auto
client_tls_key_file
client_tls_protocols secure
client_tls_sslmode disable
conffile
default_pool_size 20
disable_pqexec 0 no
dns_max_ttl 15
dns_nxdomain_ttl 15
dns_zone_check_period 0
idle_transaction_timeout 0
ignore_startup_parameters
job_name pgbouncer no
listen_addr  no
listen_backlog 128 no
listen_port 6432 no
log_connections 1
log_disconnections 1
log_pooler_errors 1
log_stats 1
logfile
login_notify_message
max_client_conn 100
max_db_client_connections 0
max_db_connections 0
max_packet_size 2147483647
max_prepared_statements 200
max_user_client_connections 0
max_user_connections 0
min_pool_size 0
peer_id 0
pidfile  no
pkt_buf 4096 no
pool_mode session
pool_idle_timeout 0
query_timeout 0
query_wait_notify 5
query_wait_timeout 120
reserve_pool_size 0
reserve_pool_timeout 5
resolv_conf  no
sbuf_loopcnt 5
scram_iterations 4096
server_check_delay 30
server_check_query <empty>
server_connect_timeout 15
server_fast_close 0
server_idle_timeout 600
server_lifetime 3600
server_login_retry 15
server_reset_query DISCARD_ALL
server_reset_query_always 0
server_round_robin 0
server_tls13_ciphers
server_tls_ca_file
server_tls_cert_file
server_tls_ciphers default
server_tls_key_file
server_tls_protocols secure
server_tls_sslmode prefer
so_reuseport 0 no
stats_period 60
stats_users
suspend_timeout 10
syslog 0
syslog_facility daemon
syslog_ident pgbouncer
tcp_defer_accept 1
tcp_keepalive 1
tcp_keepcnt 0
tcp_keepidle 0
tcp_keepintvl 0
tcp_socket_buffer 0
tcp_user_timeout 0
track_extra_parameters IntervalStyle no
transaction_timeout 0
unix_socket_dir /tmp no
unix_socket_group  no
unix_socket_mode 0777 no
user  no
verbose 0
"""

SPELLED = {"AUTH_QUERY": AUTH_QUERY, "DISCARD_ALL": "DISCARD ALL"}


def table():
    rows = []
    for line in TABLE.strip("\n").split("\n"):
        name, default, changeable = (*line.split(" "), "", "")[:3]
        rows.append((name, SPELLED.get(default, default), changeable or "yes"))
    return rows


def config(pooler):
    """The rows of PgBouncer's settings, which come before Weir's own."""
    rows = pooler.admin("SHOW CONFIG")
    keys = [row["key"] for row in rows]
    return rows[: keys.index("alert_active_servers")]


def test_settings_are_listed_in_order(pooler):
    """Those that this version has."""
    rows = [(row["key"], row["default"], row["changeable"]) for row in config(pooler)]
    assert rows == [row for row in table() if row[0] in {key for key, _, _ in rows}]
    assert len(rows) > 70


def test_values_are_the_defaults(start_pooler):
    """Of what nobody sets; whole numbers are shown in decimal, however they are written."""
    pooler = start_pooler({"unix_socket_mode": "0700"})
    given = {*pooler.default_settings(), "conffile", "unix_socket_mode"}
    for row in config(pooler):
        if row["key"] not in given:
            assert row["value"] == row["default"], row
    values = {row["key"]: row["value"] for row in config(pooler)}
    assert values["unix_socket_mode"] == "448" and values["conffile"] == pooler.ini


def test_settings_that_cannot_change_are_answered_and_stay(pooler):
    """SET says yes and does nothing; RELOAD passes over them."""
    fixed = [row["key"] for row in config(pooler) if row["changeable"] == "no"]
    before = config(pooler)
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as console:
        for key in fixed:
            assert console.query(f"SET {key} = '7'").tags == [f"SET {key}=7"], key
    assert config(pooler) == before
    pooler.write_ini({"listen_backlog": 7, "pkt_buf": 8, "job_name": "x"})
    pooler.admin("RELOAD")
    assert config(pooler) == before
