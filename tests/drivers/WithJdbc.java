// PgJDBC: the extended protocol, a statement of the server's after five uses, batches in one go.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.StringJoiner;
import org.postgresql.PGConnection;

public class WithJdbc {
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
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getObject(1);
            }
        }
    }

    static int run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    static int doubled(Connection connection, int from, int to) throws SQLException {
        int total = 0;
        for (int i = from; i <= to; i++) total += (Integer) one(connection, "SELECT ?::int * 2", i);
        return total;
    }

    static void types(Connection connection) throws SQLException {
        Object[] values = {42, 1L << 40, "it's", true, 0.1, new BigDecimal("1.50"),
            java.sql.Date.valueOf("2024-02-29"),
            Timestamp.from(Instant.parse("2024-02-29T12:30:00Z")), new byte[] {0, -1},
            connection.createArrayOf("int4", new Integer[] {1, 2, 3}), null};
        String sql = "SELECT ?::int, ?::bigint, ?::text, ?::bool, ?::float8, ?::numeric, ?::date,"
            + " ?::timestamptz, ?::bytea, ?::int[], ?::int";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            // Text the first times, binary later.
            for (int turn = 0; turn < 7; turn++) {
                for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    StringJoiner found = new StringJoiner(" ");
                    for (int i = 1; i <= values.length; i++) {
                        Object value =
                            i == 8 ? rows.getTimestamp(i).toInstant() : rows.getObject(i);
                        found.add(value instanceof byte[] bytes ? HexFormat.of().formatHex(bytes)
                                                                : "" + value);
                    }
                    say("types", found);
                }
            }
        }
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement insert =
                 connection.prepareStatement("INSERT INTO things VALUES (?, ?)")) {
            for (String name : new String[] {"one", "two", "three"}) {
                insert.setInt(1, name.length());
                insert.setString(2, name);
                insert.executeUpdate();
            }
        }
        connection.commit();
        say("commit", one(connection, "SELECT count(*) FROM things"));
        run(connection, "INSERT INTO things VALUES (4, 'four')");
        connection.rollback();
        say("rollback", one(connection, "SELECT count(*) FROM things"));
        say("error", state(() -> one(connection, "SELECT 1 / ?::int", 0)),
            state(() -> one(connection, "SELECT 1")));
        connection.rollback();
        run(connection, "INSERT INTO things VALUES (6, 'six')");
        Savepoint savepoint = connection.setSavepoint();
        Object failed = state(() -> one(connection, "SELECT 1 / ?::int", 0));
        connection.rollback(savepoint);
        say("savepoint", failed, one(connection, "SELECT count(*) FROM things"));
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(100);
            try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 1000)")) {
                int total = 0;
                while (rows.next()) total += rows.getInt(1);
                say("cursor", total);
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void batch(Connection connection) throws SQLException {
        try (PreparedStatement insert =
                 connection.prepareStatement("INSERT INTO things VALUES (?, 'x')")) {
            for (int i = 0; i < 200; i++) {
                insert.setInt(1, i);
                insert.addBatch();
            }
            say("batch", Arrays.stream(insert.executeBatch()).sum(),
                one(connection, "SELECT count(*) FROM things"));
        }
    }

    static void copy(Connection connection) throws Exception {
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        long rows =
            copy.copyIn("COPY things FROM STDIN", new StringReader("7\ttab\\there\n8\t\\N\n"));
        StringWriter out = new StringWriter();
        copy.copyOut("COPY (TABLE things ORDER BY id, name) TO STDOUT", out);
        say("copy", rows, out.toString().replace("\n", "|"));
    }

    static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            Object failed = state(() -> statement.executeQuery("SELECT pg_sleep(30)"));
            canceller.join();
            say("cancel", failed, one(connection, "SELECT 1"));
        }
    }

    public static void main(String[] arguments) throws Exception {
        Connection connection = DriverManager.getConnection(arguments[0]);
        Connection other = DriverManager.getConnection(arguments[0]);
        run(connection, "DELETE FROM things");
        say("connect", one(connection, "SELECT current_user"),
            connection.getMetaData().getDatabaseProductName());
        say("simple", one(connection, "SELECT 1 + 1"));
        types(connection);
        say("repeated", doubled(connection, 1, 20));
        transactions(connection);
        say("after", doubled(connection, 1, 20));
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery("SELECT generate_series(1, 5000)");
            int total = 0;
            while (rows.next()) total += rows.getInt(1);
            say("rows", total);
        }
        copy(connection);
        cancel(connection);
        for (int i = 0; i < 8; i++) say("turns", doubled(connection, i, i), doubled(other, i, i));
        batch(connection);
        connection.setReadOnly(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        say("read only", state(() -> run(connection, "DELETE FROM things")));
        connection.setReadOnly(false);
        say("valid", connection.isValid(5), other.isValid(5));
        say("unicode", one(connection, "SELECT ?::text || ' 世界 🐘'", "Grüße"));
        connection.close();
        other.close();
        say("closed", connection.isClosed(), other.isClosed());
    }
}
