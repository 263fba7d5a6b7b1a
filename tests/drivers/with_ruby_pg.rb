# ruby-pg: parameters, prepared statements by name, COPY, cancel, pipeline mode.

require "pg"

url = ARGV[0]

def say(step, *results) = puts("#{step}: #{results.map(&:inspect).join(' ')}")

def one(connection, sql, *values) = connection.exec_params(sql, values).getvalue(0, 0)

def state
  yield
  "no error"
rescue PG::Error => e
  e.result&.error_field(PG::PG_DIAG_SQLSTATE) || e.class.name
end

def count(connection) = one(connection, "SELECT count(*) FROM things")

def transactions(connection)
  connection.prepare("insert", "INSERT INTO things VALUES ($1, $2)")
  connection.transaction do
    %w[one two three].each { |name| connection.exec_prepared("insert", [name.size, name]) }
  end
  say "commit", count(connection)
  state do
    connection.transaction do
      connection.exec_prepared("insert", [4, "four"])
      raise PG::Error, "undone"
    end
  end
  say "rollback", count(connection)
  connection.exec("BEGIN")
  say "error", state { connection.exec("SELECT 1 / 0") }, state { connection.exec("SELECT 1") }
  connection.exec("ROLLBACK")
  connection.transaction do
    connection.exec_prepared("insert", [6, "six"])
    connection.exec("SAVEPOINT s")
    failed = state { one(connection, "SELECT 1 / $1::int", 0) }
    connection.exec("ROLLBACK TO s")
    say "savepoint", failed, count(connection)
    connection.exec("DECLARE stream CURSOR FOR SELECT generate_series(1, 1000)")
    pages = Array.new(10) { connection.exec("FETCH 100 FROM stream").column_values(0) }
    say "cursor", pages.flatten.sum(&:to_i)
  end
end

def copy(connection)
  connection.copy_data("COPY things FROM STDIN", PG::TextEncoder::CopyRow.new) do
    connection.put_copy_data([7, "tab\there"])
    connection.put_copy_data([8, nil])
  end
  rows = []
  out = "COPY (TABLE things ORDER BY id, name) TO STDOUT"
  connection.copy_data(out, PG::TextDecoder::CopyRow.new) do
    while (row = connection.get_copy_data) do rows << row end
  end
  failed = state do
    connection.copy_data("COPY things FROM STDIN") { connection.put_copy_data("no number\tx\n") }
  end
  say "copy", rows, failed
end

def cancel(connection)
  connection.send_query("SELECT pg_sleep(30)")
  sleep 0.3
  connection.cancel
  say "cancel", state { connection.get_last_result }, one(connection, "SELECT 1")
end

def pipeline(connection)
  connection.enter_pipeline_mode
  6.times { |i| connection.send_query_params("SELECT $1::int * 3", [i]) }
  connection.send_query_params("SELECT 1 / $1::int", [0])
  connection.send_query_params("SELECT 'skipped'", [])
  connection.pipeline_sync
  connection.send_query_params("SELECT 'next'", [])
  connection.pipeline_sync
  found = []
  until found.count("PGRES_PIPELINE_SYNC") == 2
    result = connection.get_result or next
    status = result.res_status(result.result_status)
    found << (status == "PGRES_TUPLES_OK" ? result.getvalue(0, 0) : status)
  end
  connection.exit_pipeline_mode
  say "pipeline", *found
end

connection = PG.connect(url)
other = PG.connect(url)
connection.exec("DELETE FROM things")
say "connect", one(connection, "SELECT current_user"), connection.internal_encoding
say "simple", connection.exec("SELECT 1 + 1").getvalue(0, 0)
values = [42, 2**40, "it's", true, 0.1, "1.50", "2024-02-29"]
values += [{ value: "\0\xff".b, format: 1 }, "{1,2,3}", nil]
types = "SELECT $1::int, $2::bigint, $3::text, $4::bool, $5::float8, $6::numeric, $7::date," \
        " $8::bytea, $9::int[], $10::int"
say "types", connection.exec_params(types, values).values
say "binary", connection.exec_params(types, values, 1).values
connection.prepare("double", "SELECT $1::int * 2")
say "repeated", (1..20).sum { |i| connection.exec_prepared("double", [i]).getvalue(0, 0).to_i }
say "described", connection.describe_prepared("double").paramtype(0)
transactions(connection)
say "rows", connection.exec("SELECT generate_series(1, 5000)").ntuples
copy(connection)
cancel(connection)
[connection, other].each { |one| one.prepare("add", "SELECT $1::int + 100") }
both = [connection, other]
say "turns", *(0...24).map { |i| both[i % 2].exec_prepared("add", [i]).getvalue(0, 0) }
pipeline(connection)
connection.send_query("SELECT generate_series(1, 1000)")
connection.set_single_row_mode
say "single rows", connection.get_result.stream_each_row.sum { |row| row[0].to_i }
connection.get_result
say "unicode", one(connection, "SELECT $1::text || ' 世界 🐘'", "Grüße")
connection.close
other.close
say "closed", connection.finished?, other.finished?
