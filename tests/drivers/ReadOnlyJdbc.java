// Two transactions of PgJDBC, read-only or not: `ReadOnlyJdbc URL true|false` prints 5.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

public class ReadOnlyJdbc {
    static int one(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql);
                ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getInt(1);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            connection.setReadOnly(Boolean.parseBoolean(arguments[1]));
            connection.setAutoCommit(false);
            int found = one(connection, "SELECT 2");
            connection.commit();
            found += one(connection, "SELECT 3");
            connection.commit();
            System.out.println(found);
        }
    }
}
