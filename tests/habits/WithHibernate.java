// PgJDBC as Hibernate and HikariCP use it: currentSchema and options in the URL, setReadOnly, setSchema,
// setTransactionIsolation and setNetworkTimeout on every loan, statements of the server's after five
// uses, results in pages, sequences in blocks, locks with NOWAIT and SKIP LOCKED.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

public class WithHibernate {
    static final String DETAILS = "currentSchema=habits&ApplicationName=shop&prepareThreshold=3"
        + "&options=-c%20statement_timeout=30s%20-c%20app.tenant=shop&reWriteBatchedInserts=true";

    interface Work {
        Object run() throws Exception;
    }

    static void say(String step, Object... results) {
        System.out.println(step + ": " + Arrays.toString(results));
    }

    static Object state(Work work) throws Exception {
        try {
            return work.run();
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static Object one(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            if (!statement.execute()) return statement.getUpdateCount();
            try (ResultSet rows = statement.getResultSet()) {
                return rows.next() ? rows.getObject(1) : null;
            }
        }
    }

    static List<Object> settings(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        for (String name : new String[] {"search_path", "application_name", "statement_timeout",
                 "app.tenant", "default_transaction_read_only", "default_transaction_isolation",
                 "extra_float_digits", "TimeZone", "role"})
            found.add(one(connection, "SELECT current_setting(?)", name));
        return found;
    }

    // What a pool does when it lends a connection, and when it takes it back.
    static void lend(Connection connection, boolean isReadOnly) throws SQLException {
        connection.setAutoCommit(false);
        connection.setReadOnly(isReadOnly);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        connection.setNetworkTimeout(Runnable::run, 20000);
    }

    static void giveBack(Connection connection) throws SQLException {
        connection.rollback();
        connection.setReadOnly(false);
        connection.setAutoCommit(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        connection.setNetworkTimeout(Runnable::run, 0);
        connection.clearWarnings();
        if (!connection.isValid(5)) throw new SQLException("not valid");
    }

    static void schema(Connection connection) throws SQLException {
        for (String sql : new String[] {"create sequence items_seq start 1 increment 50",
                 "create table items (id bigint primary key, version int, name text)",
                 "create table parts (id bigserial primary key, item_id bigint references items)"})
            one(connection, sql);
        try (ResultSet rows =
                 connection.getMetaData().getTables(null, connection.getSchema(), "%", null)) {
            List<String> names = new ArrayList<>();
            while (rows.next()) names.add(rows.getString(4) + " " + rows.getString(3));
            say("schema", names);
        }
    }

    static void insert(Connection connection) throws Exception {
        lend(connection, false);
        long first = (Long) one(connection, "select nextval('items_seq')");
        String sql = "insert into items (version, name, id) values (?, ?, ?)";
        try (PreparedStatement insert = connection.prepareStatement(sql)) {
            for (int i = 0; i < 200; i++) {
                insert.setInt(1, 0);
                insert.setString(2, "item " + i);
                insert.setLong(3, first + i);
                insert.addBatch();
            }
            insert.executeBatch();
        }
        try (PreparedStatement insert =
                 connection.prepareStatement("insert into parts (item_id) values (?)",
                     Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 5; i++) {
                insert.setLong(1, first + i);
                insert.addBatch();
            }
            insert.executeBatch();
            int keys = 0;
            try (ResultSet rows = insert.getGeneratedKeys()) {
                while (rows.next()) keys += rows.getInt(1);
            }
            say("keys", keys);
        }
        connection.commit();
        giveBack(connection);
        say("inserted", one(connection, "select count(*) from items"));
    }

    static void update(Connection connection, Connection other) throws Exception {
        String sql = "update items set version=?, name=? where id=? and version=?";
        lend(connection, false);
        for (int i = 0; i < 6; i++) say("update", one(connection, sql, i + 1, "new", 1L, i));
        Savepoint savepoint = connection.setSavepoint();
        say("failed", state(() -> one(connection, "select 1 / ?::int", 0)));
        connection.rollback(savepoint);
        say("stale", one(connection, sql, 9, "new", 1L, 0));
        String locked = "select id from items where id=? for no key update nowait";
        String skipped = "select count(*) from (select 1 from items where id < 4 for update"
            + " skip locked) s";
        say("lock", one(connection, locked, 2L));
        lend(other, false);
        say("other", state(() -> one(other, locked, 2L)));
        other.rollback();
        say("skips", one(other, skipped));
        giveBack(other);
        connection.commit();
        giveBack(connection);
        say("updated", one(connection, "select name from items where id=?", 1L));
    }

    static void read(Connection connection) throws Exception {
        for (int turn = 0; turn < 6; turn++) {
            lend(connection, true);
            Object total = one(connection, "select sum(id) from items where version=?", 0);
            Object failed = state(() -> one(connection, "delete from items"));
            giveBack(connection);
            say("read", total, failed);
        }
        lend(connection, true);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(30);
            try (ResultSet rows = statement.executeQuery("select id from items order by id")) {
                int count = 0;
                while (rows.next()) {
                    if (count++ == 40) say("between", one(connection, "select 41"));
                }
                say("pages", count);
            }
        }
        giveBack(connection);
    }

    static void schemas(Connection connection, Connection other) throws Exception {
        say("path", connection.getSchema(), settings(connection));
        connection.setSchema("public");
        say("public", connection.getSchema(), state(() -> one(connection, "table items limit 1")));
        connection.setSchema("habits");
        connection.setReadOnly(true);
        say("read only", settings(connection), state(() -> one(connection, "delete from items")));
        say("other", settings(other));
        connection.setReadOnly(false);
        connection.setClientInfo("ApplicationName", "renamed");
        try (Statement statement = connection.createStatement()) {
            statement.execute("SET SESSION app.tenant = 'mine'; SET TIME ZONE 'Asia/Tokyo'");
        }
        for (int i = 0; i < 3; i++) say("set", settings(connection), settings(other));
        try (Statement statement = connection.createStatement()) {
            statement.execute("DISCARD ALL");
        }
        say("discarded", settings(connection), one(connection, "select count(*) from items"));
    }

    // Statements of the server's from before the table changed.
    static void change(Connection connection, Connection other) throws Exception {
        String sql = "select * from items where id=?";
        for (int i = 0; i < 6; i++) one(connection, sql, 1L);
        one(other, "alter table items add column note text");
        say("changed", one(connection, sql, 1L), one(connection, sql, 2L));
    }

    static void clean(Connection connection) throws SQLException {
        for (String name : new String[] {"parts", "items"}) one(connection, "drop table " + name);
        one(connection, "drop sequence items_seq");
    }

    public static void main(String[] arguments) throws Exception {
        java.net.URI uri = java.net.URI.create(arguments[0]);
        String[] login = uri.getUserInfo().split(":");
        String url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?"
            + DETAILS;
        Connection connection = DriverManager.getConnection(url, login[0], login[1]);
        Connection other = DriverManager.getConnection(url, login[0], login[1]);
        say("connect", settings(connection));
        schema(connection);
        insert(connection);
        update(connection, other);
        read(connection);
        schemas(connection, other);
        change(connection, other);
        clean(other);
        connection.close();
        other.close();
        say("closed", connection.isClosed());
    }
}
