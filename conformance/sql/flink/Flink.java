import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Flink SQL CASE…: runs the statements in the folder SQL on the objects in each folder CASE. It writes the rows of each statement to
 * CASE/flink.json, by the statement's name: the first word of the comment before it.
 */
public final class Flink {
    private static final Pattern NAME = Pattern.compile("^-- (\\w+): ", Pattern.MULTILINE);
    private static final String PATH = "'path' = 'telemetry/'";

    public static void main(String[] args) throws Exception {
        for (String name : List.of(args).subList(1, args.length)) {
            Path path = Path.of(name);
            Map<String, List<List<Object>>> rows = run(Path.of(args[0]), path);
            new ObjectMapper().writeValue(path.resolve("flink.json").toFile(), rows);
        }
    }

    private static Map<String, List<List<Object>>> run(Path sql, Path path) throws Exception {
        // Batch mode as in the SET of table.sql, which only the SQL client executes.
        TableEnvironment env = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        env.getConfig().set("parallelism.default", "1");
        for (String statement : statements(sql.resolve("table.sql"))) {
            if (statement.contains("CREATE TABLE")) {
                if (!statement.contains(PATH)) {
                    throw new IllegalStateException("table.sql has no " + PATH);
                }
                env.executeSql(statement.replace(PATH, "'path' = '" + path.resolve("telemetry").toUri() + "'"));
            }
        }
        Map<String, List<List<Object>>> rows = new TreeMap<>();
        for (String file : List.of("reports.sql", "audit.sql")) {
            for (String statement : statements(sql.resolve(file))) {
                var name = NAME.matcher(statement);
                if (!name.find()) {
                    throw new IllegalStateException(file + ": a statement has no name: " + statement);
                }
                List<List<Object>> found = new ArrayList<>();
                try (CloseableIterator<Row> results = env.executeSql(statement).collect()) {
                    results.forEachRemaining(row -> found.add(values(row)));
                }
                rows.put(name.group(1), found);
            }
        }
        return rows;
    }

    private static List<String> statements(Path file) throws Exception {
        List<String> statements = new ArrayList<>();
        for (String statement : Files.readString(file).split(";\\s*\n")) {
            if (!statement.isBlank()) {
                statements.add(statement);
            }
        }
        return statements;
    }

    private static List<Object> values(Row row) {
        List<Object> values = new ArrayList<>();
        for (int i = 0; i < row.getArity(); i++) {
            Object value = row.getField(i);
            values.add(value instanceof Instant at ? at.toEpochMilli() : value);
        }
        return values;
    }
}
