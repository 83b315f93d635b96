//! How `consume` prints a record: kcat's format strings, its JSON, or keys and values with delimiters.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter};

use crate::protocol::record_batch::{Record, TimestampType};

/// What stands between records, or between a key and its value: at least one byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Delimiter(Vec<u8>);

impl Delimiter {
    /// The bytes, at least one.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A delimiter as the command line spells it.
pub(crate) fn unescape_delimiter(text: &str) -> Result<Delimiter, String> {
    if text.is_empty() {
        Err("a delimiter has at least one character".to_owned())
    } else {
        Ok(Delimiter(unescape(text)))
    }
}

/// Replaces `\n`, `\r`, `\t`, `\xNN` and `\NNN` (octal after a leading zero, as in C) by the bytes they stand for, and
/// any other escaped character by itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let (b'\\', Some((&escaped, after))) = (byte, tail.split_first()) else {
            out.push(byte);
            continue;
        };
        rest = after;
        match escaped {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => rest = number(after, 16, 2, &mut out),
            b'0' => rest = number(tail, 8, 3, &mut out),
            b'1'..=b'9' => rest = number(tail, 10, 3, &mut out),
            other => out.push(other),
        }
    }
    out
}

/// Reads up to `digits_max` digits and pushes their value's low byte; returns what follows them.
fn number<'a>(text: &'a [u8], radix: u32, digits_max: usize, out: &mut Vec<u8>) -> &'a [u8] {
    let mut value = 0_u32;
    let mut digits = 0;
    while let Some(digit) = text.get(digits).and_then(|&byte| char::from(byte).to_digit(radix)) {
        if digits == digits_max {
            break;
        }
        value = value * radix + digit;
        digits += 1;
    }
    let [.., low] = value.to_be_bytes();
    out.push(low);
    &text[digits..]
}

/// A record with where it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// Node that it was fetched from.
    pub(crate) node: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_type: TimestampType,
    /// Milliseconds, -1 for none.
    pub(crate) timestamp: i64,
    pub(crate) record: &'a Record<'a>,
}

/// How records are printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// kcat's `-J`: one object per line.
    Json,
    /// Parts one after the other. A null key or value prints as `null`.
    Parts { parts: Vec<Part>, null: &'static [u8] },
}

/// One part of a printed record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    /// Bytes of the key, -1 for null.
    KeyBytes,
    Value,
    /// Bytes of the value, -1 for null.
    ValueBytes,
    /// The same as four bytes, big-endian.
    ValueBytesBinary,
    Timestamp,
    Headers,
}

impl Format {
    /// kcat's format string.
    pub(crate) fn parse(format: &str, null: &'static [u8]) -> Result<Format, String> {
        let mut parts = Vec::new();
        let mut rest = format;
        while let Some((text, after)) = rest.split_once('%') {
            push_text(&mut parts, text);
            let token = after.chars().next().ok_or("the format ends with a lone %; write %% for a percent sign")?;
            rest = &after[token.len_utf8()..];
            parts.push(match token {
                't' => Part::Topic,
                'p' => Part::Partition,
                'o' => Part::Offset,
                'k' => Part::Key,
                'K' => Part::KeyBytes,
                's' => Part::Value,
                'S' => Part::ValueBytes,
                'R' => Part::ValueBytesBinary,
                'T' => Part::Timestamp,
                'h' => Part::Headers,
                '%' => Part::Text(b"%".to_vec()),
                other => return Err(format!("%{other} is unknown; known are %t %p %o %k %K %s %S %R %T %h and %%")),
            });
        }
        push_text(&mut parts, rest);
        Ok(Format::Parts { parts, null })
    }

    /// Values, each ended by a delimiter, and their keys before them if those have a delimiter too.
    pub(crate) fn delimited(key: Option<&Delimiter>, end: &Delimiter, null: &'static [u8]) -> Format {
        let mut parts = Vec::new();
        if let Some(key) = key {
            parts.push(Part::Key);
            parts.push(Part::Text(key.bytes().to_vec()));
        }
        parts.push(Part::Value);
        parts.push(Part::Text(end.bytes().to_vec()));
        Format::Parts { parts, null }
    }

    /// Prints one record.
    pub(crate) fn write(&self, out: &mut impl Write, found: &Found<'_>) -> io::Result<()> {
        match self {
            Format::Json => write_json(out, found),
            Format::Parts { parts, null } => parts.iter().try_for_each(|part| write_part(out, part, null, found)),
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(unescape(text)));
    }
}

fn write_part(out: &mut impl Write, part: &Part, null: &[u8], found: &Found<'_>) -> io::Result<()> {
    let Record { key, value, .. } = *found.record;
    match part {
        Part::Text(text) => out.write_all(text),
        Part::Topic => out.write_all(found.topic.as_bytes()),
        Part::Partition => write!(out, "{}", found.partition),
        Part::Offset => write!(out, "{}", found.offset),
        Part::Key => out.write_all(key.unwrap_or(null)),
        Part::KeyBytes => write!(out, "{}", signed_bytes(key)),
        Part::Value => out.write_all(value.unwrap_or(null)),
        Part::ValueBytes => write!(out, "{}", signed_bytes(value)),
        Part::ValueBytesBinary => out.write_all(&signed_bytes(value).to_be_bytes()),
        Part::Timestamp => write!(out, "{}", found.timestamp),
        Part::Headers => {
            for (index, header) in found.record.headers().enumerate() {
                if index > 0 {
                    out.write_all(b",")?;
                }
                out.write_all(header.key)?;
                out.write_all(b"=")?;
                out.write_all(header.value.unwrap_or(b"NULL"))?;
            }
            Ok(())
        }
    }
}

/// Bytes of nullable data, -1 for null.
fn signed_bytes(data: Option<&[u8]>) -> i32 {
    data.map_or(-1, |data| i32::try_from(data.len()).expect("the record format counts in 31 bits"))
}

/// kcat's fields in kcat's order. Bytes that are not UTF-8 become U+FFFD, so that every line is JSON.
fn write_json(out: &mut impl Write, found: &Found<'_>) -> io::Result<()> {
    out.write_all(b"{\"topic\":")?;
    write_string(out, found.topic.as_bytes())?;
    write!(out, ",\"partition\":{},\"offset\":{}", found.partition, found.offset)?;
    if found.timestamp >= 0 {
        let kind = match found.timestamp_type {
            TimestampType::CreateTime => "create",
            TimestampType::LogAppendTime => "logappend",
        };
        write!(out, ",\"tstype\":\"{kind}\",\"ts\":{}", found.timestamp)?;
    }
    write!(out, ",\"broker\":{}", found.node)?;
    for (index, header) in found.record.headers().enumerate() {
        out.write_all(if index == 0 { b",\"headers\":[" } else { b"," })?;
        write_string(out, header.key)?;
        out.write_all(b",")?;
        write_nullable(out, header.value)?;
    }
    if found.record.headers().next().is_some() {
        out.write_all(b"]")?;
    }
    out.write_all(b",\"key\":")?;
    write_nullable(out, found.record.key)?;
    out.write_all(b",\"payload\":")?;
    write_nullable(out, found.record.value)?;
    out.write_all(b"}\n")
}

fn write_nullable(out: &mut impl Write, data: Option<&[u8]>) -> io::Result<()> {
    match data {
        Some(data) => write_string(out, data),
        None => CompactFormatter.write_null(out),
    }
}

fn write_string(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    serde_json::to_writer(out, &String::from_utf8_lossy(bytes)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::{BatchBuilder, BatchView, Header, RecordsIter};
    use crate::types::TimestampMs;

    fn print(format: &Format, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs::new(0), key, value, headers);
        let batch = builder.build();
        let view = BatchView::parse(&batch).unwrap();
        let record = RecordsIter::new(view.records(), 1).next().unwrap().unwrap();
        let found = Found {
            topic: "t",
            partition: 3,
            node: 1,
            offset: 42,
            timestamp_type: TimestampType::CreateTime,
            timestamp: 1_700_000_000_123,
            record: &record,
        };
        let mut out = Vec::new();
        format.write(&mut out, &found).unwrap();
        out
    }

    const HEADERS: [Header<'static>; 3] = [
        Header { key: b"a", value: Some(b"1") },
        Header { key: b"b", value: Some(b"") },
        Header { key: b"c", value: None },
    ];

    #[test]
    fn format_strings_print_what_kcat_prints() {
        let format = Format::parse("%t|%p|%o|%k|%K|%s|%S|%T|%h|%%\\n", b"").unwrap();
        // Taken from kcat 1.7.1 with the same records.
        assert_eq!(
            print(&format, Some(b"k1"), Some(b"v1"), &HEADERS),
            b"t|3|42|k1|2|v1|2|1700000000123|a=1,b=,c=NULL|%\n"
        );
        assert_eq!(print(&format, None, None, &[]), b"t|3|42||-1||-1|1700000000123||%\n");
        let null = Format::parse("%k:%s", b"NULL").unwrap();
        assert_eq!(print(&null, None, None, &[]), b"NULL:NULL");
        assert_eq!(print(&null, Some(b""), Some(b""), &[]), b":");
        let framed = Format::parse("%R%s", b"").unwrap();
        assert_eq!(print(&framed, None, Some(b"abc"), &[]), b"\0\0\0\x03abc");
        assert_eq!(print(&framed, None, None, &[]), b"\xff\xff\xff\xff");
    }

    #[test]
    fn escapes_hold_outside_of_tokens_only() {
        let format = Format::parse("\\t%s\\\\n\\x41B\\0\\101%%d", b"").unwrap();
        assert_eq!(print(&format, None, Some(b"\\n"), &[]), b"\t\\n\\nAB\0e%d");
        assert_eq!(unescape("a\\"), b"a\\");
        assert_eq!(unescape("\\012\\r\\x0d|é"), "\n\r\r|é".as_bytes());
        assert_eq!(unescape_delimiter("::").unwrap().bytes(), b"::");
        assert!(unescape_delimiter("").is_err());
    }

    #[test]
    fn unknown_tokens_are_refused() {
        assert!(Format::parse("%x", b"").unwrap_err().contains("%x"));
        assert!(Format::parse("%é", b"").unwrap_err().contains("%é"));
        assert!(Format::parse("50%", b"").is_err());
    }

    #[test]
    fn json_has_kcats_fields_in_kcats_order() {
        // Taken from kcat 1.7.1 with the same record.
        assert_eq!(
            String::from_utf8(print(&Format::Json, Some(b"k1"), None, &HEADERS)).unwrap(),
            "{\"topic\":\"t\",\"partition\":3,\"offset\":42,\"tstype\":\"create\",\"ts\":1700000000123,\"broker\":1,\
             \"headers\":[\"a\",\"1\",\"b\",\"\",\"c\",null],\"key\":\"k1\",\"payload\":null}\n"
        );
    }

    #[test]
    fn json_stays_json_whatever_the_bytes() {
        let line = print(&Format::Json, None, Some(b"x\0\"\\\n\xff\xc3\xa9"), &[]);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["payload"], "x\0\"\\\n\u{fffd}é");
        assert_eq!(value["headers"], serde_json::Value::Null);
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }

    #[test]
    fn delimited_output_puts_the_key_before_the_value() {
        let end = unescape_delimiter("|\\n").unwrap();
        let colon = unescape_delimiter(":").unwrap();
        assert_eq!(print(&Format::delimited(None, &end, b""), Some(b"k"), Some(b"v"), &[]), b"v|\n");
        assert_eq!(print(&Format::delimited(Some(&colon), &end, b"NULL"), None, Some(b"v"), &[]), b"NULL:v|\n");
    }
}
