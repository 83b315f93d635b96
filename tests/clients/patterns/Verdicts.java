import com.google.re2j.Pattern;
import com.google.re2j.PatternSyntaxException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * What RE2J says of patterns, asked as Kafka's group coordinator asks: is it one, and which names does it match from end
 * to end.
 *
 * Reads a table and writes it anew: comments, the row of names and the patterns stay, the verdicts are RE2J's. With
 * {@code --random COUNT SEED} it first puts COUNT patterns of its own making below the rows that it read.
 */
public final class Verdicts {
    /** Pieces that are read alike everywhere, so that there is something to match. */
    private static final String[] PLAIN = {
        "a", "b", "c", "k", "s", "A", "K", "S", "0", "-", "_", ".", "\\.", "orders", "Orders", "7", "ab", "*", "+", "?", "{1,2}", ".*",
        "(", ")", "(?:", "(?i)", "(?i:", "(?-i:", "|", "[a-c]", "[^a]", "\\w", "\\d", "\\W", "\\pL", "[[:alpha:]]", "\\b",
    };

    /** Pieces that engines read differently, and halves of pieces. */
    private static final String[] ODD = {
        "\\-", "\\_", "*?", "{2}", "{,3}", "{2,}", "{0}", "{", "}", "{1001}", "{01}", "{2,1}", "(?-i)", "(?s-i:", "(?U)", "(?m)", "(?x)",
        "(?P<n>", "(?<n>", "(?P<n1>", "(?", "(?)", "(?-)", "^", "$", "\\A", "\\z", "\\Z", "\\B", "\\C", "\\Q", "\\E", "\\Qa*\\E",
        "\\Qab\\E", "\\D", "\\s", "\\S", "\\pN", "\\PL", "\\p{Lu}", "\\p{^Lu}", "\\P{Ll}", "\\p{Greek}", "\\p{Latin}",
        "\\p{Foo}", "\\p{", "\\p", "\\1", "\\12", "\\141", "\\0", "\\x61", "\\x{61}", "\\x{", "\\x6", "\\u0061", "\\<", "\\>",
        "\\e", "\\a", "\\t", "\\", "[", "]", "[", "]", "[^", "[a-z&&b]", "[a--b]", "[a~~b]", "[[a]b]", "[[:^digit:]]", "[[:foo:]]",
        "[:", ":]", "[[:upper:]_]", "&&", "--", "~~", "a-", "[]a]", "[^]a]", "[a-]", "[-a]", "[\\d_]", "[\\w-z]", "[a-\\d]",
        "[\\x{41}-Z]", "[\\b]", "[\\pL-]", "\u017f", "\u212a", "\u0131", "\u0130", "\u00e9", "\n", " ", "#",
    };

    private Verdicts() {}

    public static void main(String[] arguments) throws Exception {
        List<String> rows = new ArrayList<>();
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String row = in.readLine(); row != null; row = in.readLine()) {
                rows.add(row);
            }
        }
        String[] names = {};
        for (String row : rows) {
            if (row.startsWith("names\t")) {
                names = row.split("\t")[1].split(" ");
            }
        }
        if (arguments.length == 3 && arguments[0].equals("--random")) {
            rows.addAll(random(Integer.parseInt(arguments[1]), new Random(Long.parseLong(arguments[2])), names));
        }
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        for (String row : rows) {
            String[] columns = row.split("\t", -1);
            if (row.isEmpty() || row.startsWith("# ") || row.startsWith("names\t")) {
                out.println(row);
            } else {
                out.println(columns[0] + "\t" + verdict(columns[0].replace("\u23ce", "\n"), names));
            }
        }
        out.flush();
    }

    private static String verdict(String pattern, String[] names) {
        Pattern compiled;
        try {
            compiled = Pattern.compile(pattern);
        } catch (PatternSyntaxException refused) {
            return "invalid";
        }
        List<String> matched = new ArrayList<>();
        for (String name : names) {
            if (compiled.matcher(name).matches()) {
                matched.add(name);
            }
        }
        return String.join(" ", matched);
    }

    private static Set<String> random(int count, Random random, String[] names) {
        Set<String> patterns = new LinkedHashSet<>();
        while (patterns.size() < count) {
            StringBuilder pattern = new StringBuilder();
            for (int pieces = 1 + random.nextInt(6); pieces > 0; pieces--) {
                String[] kind = random.nextInt(3) == 0 ? ODD : PLAIN;
                pattern.append(kind[random.nextInt(kind.length)]);
            }
            String text = pattern.toString().replace("\n", "\u23ce");
            // Most that are put together blindly are no patterns, or match none of the names: few of those are kept.
            String verdict = verdict(pattern.toString(), names);
            boolean matches = !verdict.isEmpty() && !verdict.equals("invalid");
            if (!text.startsWith("# ") && (matches || random.nextInt(12) == 0)) {
                patterns.add(text);
            }
        }
        return patterns;
    }
}
