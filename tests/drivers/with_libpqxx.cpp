// libpqxx 6: prepared statements by name, parameters, streams, cursors, pipelines of simple
// queries.

#include <chrono>
#include <iostream>
#include <pqxx/pqxx>
#include <string>
#include <thread>

using std::string;

template <typename... Results>
static void say(const string &step, const Results &...results) {
    std::cout << step << ":";
    ((std::cout << " " << results), ...);
    std::cout << std::endl;
}

template <typename Work>
static string state(Work work) {
    try {
        work();
    } catch (const pqxx::sql_error &error) {
        return error.sqlstate();
    }
    return "no error";
}

static string count(pqxx::transaction_base &work) {
    return work.exec1("SELECT count(*) FROM things")[0].c_str();
}

static void transactions(pqxx::connection &connection) {
    connection.prepare("insert", "INSERT INTO things VALUES ($1, $2)");
    pqxx::work work(connection);
    for (const string name : {"one", "two", "three"})
        work.exec_prepared0("insert", name.size(), name);
    say("commit", count(work));
    work.commit();
    {
        pqxx::work undone(connection);
        undone.exec_prepared0("insert", 4, "four");
    }
    pqxx::nontransaction plain(connection);
    say("rollback", count(plain));
    plain.exec("BEGIN");
    const string divided = state([&] {
        plain.exec("SELECT 1 / 0");
    });
    say("error", divided, state([&] {
            plain.exec("SELECT 1");
        }));
    plain.exec("ROLLBACK");
    plain.abort();
    pqxx::work outer(connection);
    outer.exec_prepared0("insert", 6, "six");
    const string inner = state([&] {
        pqxx::subtransaction savepoint(outer);
        savepoint.exec("SELECT 1 / 0");
    });
    say("savepoint", inner, count(outer));
    pqxx::icursorstream cursor(outer, "SELECT generate_series(1, 1000)", "stream", 100);
    int total = 0;
    for (pqxx::result rows; cursor.get(rows) && !rows.empty();)
        for (const auto row : rows) total += row[0].as<int>();
    say("cursor", total);
    outer.commit();
}

static void streams(pqxx::connection &connection) {
    pqxx::work work(connection);
    pqxx::stream_to to(work, "things");
    to << std::make_tuple(7, "tab\there");
    to.complete();
    pqxx::stream_from from(work, "things");
    std::tuple<int, string> row;
    string found;
    while (from >> row) found += " " + std::to_string(std::get<0>(row)) + "=" + std::get<1>(row);
    from.complete();
    say("copy", found);
    work.commit();
}

static void cancel(pqxx::connection &connection) {
    std::thread canceller([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        connection.cancel_query();
    });
    pqxx::nontransaction work(connection);
    const string failed = state([&] {
        work.exec("SELECT pg_sleep(30)");
    });
    canceller.join();
    say("cancel", failed, work.exec1("SELECT 1")[0].c_str());
}

static void turns(pqxx::connection &connection, pqxx::connection &other) {
    for (pqxx::connection *one : {&connection, &other}) one->prepare("add", "SELECT $1::int + 100");
    for (int i = 0; i < 12; i++) {
        pqxx::nontransaction work(i % 2 == 0 ? connection : other);
        say("turns", work.exec_prepared1("add", i)[0].as<int>());
    }
}

static void pipelined(pqxx::connection &connection) {
    pqxx::work work(connection);
    pqxx::pipeline pipeline(work);
    for (int i = 0; i < 10; i++) pipeline.insert("SELECT " + std::to_string(i) + " * 3");
    while (!pipeline.empty()) say("pipeline", pipeline.retrieve().second[0][0].c_str());
}

int main(int, char **arguments) {
    pqxx::connection connection(arguments[1]), other(arguments[1]);
    connection.prepare("double", "SELECT $1::int * 2");
    {
        pqxx::nontransaction work(connection);
        work.exec("DELETE FROM things");
        say("connect", work.exec1("SELECT current_user")[0].c_str());
        say("simple", work.exec1("SELECT 1 + 1")[0].c_str());
        const auto row =
            work.exec_params1("SELECT $1::int, $2::bigint, $3::text, $4::bool, $5::float8, $6::int",
                              42, 1LL << 40, "it's", true, 0.1, static_cast<const char *>(nullptr));
        say("types", row[0].c_str(), row[1].c_str(), row[2].c_str(), row[3].c_str(), row[4].c_str(),
            row[5].is_null());
        int total = 0;
        for (int i = 1; i <= 20; i++) total += work.exec_prepared1("double", i)[0].as<int>();
        say("repeated", total);
    }
    transactions(connection);
    {
        pqxx::nontransaction work(connection);
        say("rows", work.exec("SELECT generate_series(1, 5000)").size());
    }
    streams(connection);
    cancel(connection);
    turns(connection, other);
    pipelined(connection);
    {
        pqxx::read_transaction work(connection);
        say("read only", state([&] {
                work.exec("DELETE FROM things");
            }));
    }
    {
        pqxx::nontransaction work(connection);
        say("unicode", work.exec_params1("SELECT $1::text || ' 世界 🐘'", "Grüße")[0].c_str());
    }
    connection.unprepare("double");
    connection.disconnect();
    other.disconnect();
    say("closed", connection.is_open(), other.is_open());
}
