import io.trino.sql.parser.ParsingException;
import io.trino.sql.parser.ParsingOptions;
import io.trino.sql.parser.ParsingOptions.DecimalLiteralTreatment;
import io.trino.sql.parser.SqlParser;
import java.nio.file.Files;
import java.nio.file.Path;

/** Parse FILE…: checks that Trino parses each statement of the files. */
public final class Parse {
    public static void main(String[] args) throws Exception {
        for (String file : args) {
            int parsed = 0;
            for (String statement : Files.readString(Path.of(file)).split(";\\s*\n")) {
                try {
                    new SqlParser().createStatement(statement, new ParsingOptions(DecimalLiteralTreatment.AS_DECIMAL));
                } catch (ParsingException e) {
                    System.err.println("FAILED: " + file + ": " + e.getMessage() + "\n" + statement);
                    System.exit(1);
                }
                parsed++;
            }
            System.out.println(file.replaceAll(".*/examples/", "examples/") + ": " + parsed + " statements parsed");
        }
    }
}
