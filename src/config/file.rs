//! Settings files: Java properties, as Kafka reads them, and TOML. Text in, keys and values out.

/// Reads Java properties: `key=value`, `key: value` or `key value`, comments after `#` or `!`, lines continued by a
/// backslash, the usual escapes. A key that stands twice keeps both, the later one last.
pub(super) fn parse_properties(text: &str) -> Vec<(String, String)> {
    logical_lines(text).iter().map(|line| split(line)).collect()
}

/// Joins continued lines; leaves out blank lines and comments. Escapes stay.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let line = line.trim_start();
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let mut logical = open.take().unwrap_or_default();
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes % 2 == 1 {
            logical.push_str(&line[..line.len() - 1]);
            open = Some(logical);
        } else {
            logical.push_str(line);
            lines.push(logical);
        }
    }
    lines.extend(open);
    lines
}

/// Splits at the first unescaped separator: `=`, `:` or white space around either.
fn split(line: &str) -> (String, String) {
    let mut escaped = false;
    let mut end = line.len();
    for (at, character) in line.char_indices() {
        if !escaped && (matches!(character, '=' | ':') || character.is_whitespace()) {
            end = at;
            break;
        }
        escaped = !escaped && character == '\\';
    }
    let rest = line[end..].trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    (unescape(&line[..end]), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                plain.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

/// Reads TOML. Dotted keys and tables come to the same: `log.retention.ms = 1` and `[log.retention]` with `ms = 1`.
pub(super) fn parse_toml(text: &str) -> Result<Vec<(String, String)>, toml::de::Error> {
    let table: toml::Table = toml::from_str(text)?;
    let mut settings = Vec::new();
    flatten("", &table, &mut settings);
    Ok(settings)
}

fn flatten(prefix: &str, table: &toml::Table, settings: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, settings),
            toml::Value::Array(items) => {
                let items: Vec<String> = items.iter().map(plain_text).collect();
                settings.push((key, items.join(",")));
            }
            value => settings.push((key, plain_text(value))),
        }
    }
}

fn plain_text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text =
            "# comment\n! comment\n\n a=1\nb : two words \nc 3\nlist=x,\\\n   y\npath=C\\:\\\\dir\nu=\\u0041\nempty\n";
        assert_eq!(
            parse_properties(text),
            pairs(&[
                ("a", "1"),
                ("b", "two words "),
                ("c", "3"),
                ("list", "x,y"),
                ("path", "C:\\dir"),
                ("u", "A"),
                ("empty", ""),
            ])
        );
    }

    #[test]
    fn properties_of_any_shape_are_read_without_panic() {
        for text in ["\\", "=\\", "\\u", "\\uD800=\\uzzzz", "a\\\\\\", ":::"] {
            parse_properties(text);
        }
    }

    #[test]
    fn toml_tables_and_dotted_keys_are_the_same() {
        let text = "num.partitions = 4\n\"log.flush.interval.messages\" = 1\n[log.retention]\nms = 5\n[log.cleanup]\npolicy = [\"compact\", \"delete\"]\n";
        let mut settings = parse_toml(text).unwrap();
        settings.sort();
        assert_eq!(
            settings,
            pairs(&[
                ("log.cleanup.policy", "compact,delete"),
                ("log.flush.interval.messages", "1"),
                ("log.retention.ms", "5"),
                ("num.partitions", "4"),
            ])
        );
        assert!(parse_toml("a = ").is_err());
    }
}
