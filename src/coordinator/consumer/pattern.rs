//! A group's regular expressions: RE2J's syntax, as RE2J 1.8 reads it, put into the `regex` crate's.
//!
//! Kafka matches topics with RE2J. The `regex` crate is of the same family, but reads many patterns otherwise, some of them
//! silently: `[a-z&&b]` is an intersection there and seven characters here, `\<` the start of a word and the character. So
//! nothing of a pattern is passed through: it is parsed here, by RE2J's rules and with its quirks, and what is handed on is
//! made of six things that mean the same everywhere: literals, sets of characters, groups, `|`, repetitions and assertions.
//!
//! A topic's name has 65 characters at most: letters and digits of ASCII, `.`, `_` and `-`. Every other character is read and
//! checked, and then cannot match. That settles `(?s)` and `(?m)` (no name has a line end), makes a set a number of 128
//! bits, and Unicode's classes a short list. Whether a repetition is greedy is moot too: a pattern must match the whole name.
//!
//! `tests/golden/patterns` holds what RE2J says of some 1,400 patterns. Two differences are left. A pattern whose program
//! would be too large (`(a{1000}){1000}`), or that is nested too deeply, is refused. And where two alternatives begin with the
//! same capital and only the second ignores case (`S.(?i)x|S`), RE2J takes both for the first, and here each is what it says.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

use crate::limits;

/// A pattern that may be asked of names of topics, and of nothing else. It must match the whole name.
///
/// Errors: what is wrong with it, for the client to read, mostly in RE2's own words.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > limits::SUBSCRIPTION_PATTERN_BYTES_MAX {
        return Err(format!("longer than {} bytes", limits::SUBSCRIPTION_PATTERN_BYTES_MAX));
    }
    let translated = Translator::new(pattern).translate().map_err(|fault| fault.to_string())?;
    RegexBuilder::new(&translated)
        .unicode(false)
        .size_limit(limits::SUBSCRIPTION_PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(limits::SUBSCRIPTION_PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "its program is too large".to_owned(),
            // Nothing else is wrong with what is written here.
            _ => "nested too deeply".to_owned(),
        })
}

/// Why RE2J takes a pattern for none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Fault {
    #[error("invalid character class range")]
    ClassRange,
    #[error("invalid escape sequence")]
    Escape,
    #[error("invalid named capture")]
    GroupName,
    #[error("duplicate capture group name")]
    GroupNameTwice,
    #[error("invalid or unsupported Perl syntax")]
    Flags,
    #[error("invalid nested repetition operator")]
    RepetitionOfRepetition,
    #[error("invalid repeat count")]
    RepetitionCount,
    #[error("missing argument to repetition operator")]
    RepetitionOfNothing,
    #[error("missing closing ]")]
    UnclosedClass,
    #[error("missing closing )")]
    UnclosedGroup,
    #[error("unexpected )")]
    UnopenedGroup,
    #[error("trailing backslash at end of expression")]
    TrailingBackslash,
}

/// Most times that RE2J lets something be repeated.
const REPETITIONS_MAX: u32 = 1000;

/// Some of the characters that a topic's name may have: bit `c` stands for the ASCII character `c`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Characters(u128);

impl Characters {
    const NONE: Characters = Characters(0);
    const DIGITS: Characters = Characters::between(b'0', b'9');
    const UPPER: Characters = Characters::between(b'A', b'Z');
    const LOWER: Characters = Characters::between(b'a', b'z');
    const LETTERS: Characters = Characters::UPPER.or(Characters::LOWER);
    const DOT: Characters = Characters::between(b'.', b'.');
    const HYPHEN: Characters = Characters::between(b'-', b'-');
    const UNDERSCORE: Characters = Characters::between(b'_', b'_');
    const PUNCTUATION: Characters = Characters::DOT.or(Characters::HYPHEN).or(Characters::UNDERSCORE);
    const WORD: Characters = Characters::LETTERS.or(Characters::DIGITS).or(Characters::UNDERSCORE);
    /// All that a name may have.
    const ALL: Characters = Characters::WORD.or(Characters::PUNCTUATION);

    const fn between(low: u8, high: u8) -> Characters {
        assert!(low <= high && high < 127);
        Characters((1 << (high + 1)) - (1 << low))
    }

    const fn or(self, other: Characters) -> Characters {
        Characters(self.0 | other.0)
    }

    const fn and(self, other: Characters) -> Characters {
        Characters(self.0 & other.0)
    }

    const fn not(self) -> Characters {
        Characters(Characters::ALL.0 & !self.0)
    }

    /// The set itself, or all that is not in it.
    const fn signed(self, negated: bool) -> Characters {
        if negated { self.not() } else { self }
    }

    const fn contains(self, byte: u8) -> bool {
        byte < 128 && self.0 & (1 << byte) != 0
    }

    /// Those of the code points from `low` to `high`.
    fn range(low: u32, high: u32) -> Characters {
        let ascii = |code: u32| u8::try_from(code.min(126)).expect("at most 126");
        if low > 126 { Characters::NONE } else { Characters::between(ascii(low), ascii(high)).and(Characters::ALL) }
    }

    /// With the other case of each letter.
    const fn folded(self) -> Characters {
        const CASE: u32 = (b'a' - b'A') as u32;
        let upper = self.and(Characters::UPPER).0;
        let lower = self.and(Characters::LOWER).0;
        Characters(self.0 | upper << CASE | lower >> CASE)
    }

    /// Those that fold to one of the code points from `low` to `high`. Two letters have a third form outside of ASCII: the
    /// Kelvin sign and the long s.
    fn folded_range(low: u32, high: u32) -> Characters {
        let mut characters = Characters::range(low, high).folded();
        for (other, letter) in [('\u{212a}', b'k'), ('\u{17f}', b's')] {
            if (low..=high).contains(&u32::from(other)) {
                characters = characters.or(Characters::between(letter, letter).folded());
            }
        }
        characters
    }

    /// Of an escape such as `\d`, by its letter.
    fn of_perl(letter: char) -> Option<Characters> {
        let characters = match letter.to_ascii_lowercase() {
            'd' => Characters::DIGITS,
            's' => Characters::NONE,
            'w' => Characters::WORD,
            _ => return None,
        };
        Some(characters.signed(letter.is_ascii_uppercase()))
    }

    /// Of a class such as `[:alpha:]`, by its name.
    fn of_posix(name: &str) -> Option<Characters> {
        Some(match name {
            "alnum" => Characters::LETTERS.or(Characters::DIGITS),
            "alpha" => Characters::LETTERS,
            "ascii" | "graph" | "print" => Characters::ALL,
            "blank" | "cntrl" | "space" => Characters::NONE,
            "digit" => Characters::DIGITS,
            "lower" => Characters::LOWER,
            "punct" => Characters::PUNCTUATION,
            "upper" => Characters::UPPER,
            "word" => Characters::WORD,
            "xdigit" => Characters::DIGITS.or(Characters::between(b'A', b'F')).or(Characters::between(b'a', b'f')),
            _ => return None,
        })
    }

    /// Of a category or script of Unicode, by its name.
    fn of_unicode(name: &str, fold: bool) -> Option<Characters> {
        Some(match name {
            "Any" => Characters::ALL,
            "L" | "Latin" => Characters::LETTERS,
            "Lu" if fold => Characters::LETTERS,
            "Lu" => Characters::UPPER,
            // RE2J's table of what folds to a small letter has these two of the capitals.
            "Ll" if fold => Characters::LOWER
                .or(Characters::range('K'.into(), 'K'.into()))
                .or(Characters::range('S'.into(), 'S'.into())),
            "Ll" => Characters::LOWER,
            "N" | "Nd" => Characters::DIGITS,
            "P" => Characters::PUNCTUATION,
            "Pc" => Characters::UNDERSCORE,
            "Pd" => Characters::HYPHEN,
            "Po" => Characters::DOT,
            "Common" => Characters::DIGITS.or(Characters::PUNCTUATION),
            _ if UNICODE_CLASSES_WITHOUT.binary_search(&name).is_ok() => Characters::NONE,
            _ => return None,
        })
    }
}

/// The categories and scripts that RE2J knows and that have no character of a topic's name. Ascending.
#[rustfmt::skip]
const UNICODE_CLASSES_WITHOUT: &[&str] = &[
    "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Batak", "Bengali", "Bopomofo", "Brahmi", "Braille",
    "Buginese", "Buhid", "C", "Canadian_Aboriginal", "Carian", "Cc", "Cf", "Cham", "Cherokee", "Co", "Coptic", "Cs",
    "Cuneiform", "Cypriot", "Cyrillic", "Deseret", "Devanagari", "Egyptian_Hieroglyphs", "Ethiopic", "Georgian",
    "Glagolitic", "Gothic", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul", "Hanunoo", "Hebrew", "Hiragana",
    "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese", "Kaithi",
    "Kannada", "Katakana", "Kayah_Li", "Kharoshthi", "Khmer", "Lao", "Lepcha", "Limbu", "Linear_B", "Lisu", "Lm",
    "Lo", "Lt", "Lycian", "Lydian", "M", "Malayalam", "Mandaic", "Mc", "Me", "Meetei_Mayek", "Mn", "Mongolian",
    "Myanmar", "New_Tai_Lue", "Nko", "Nl", "No", "Ogham", "Ol_Chiki", "Old_Italic", "Old_Persian",
    "Old_South_Arabian", "Old_Turkic", "Oriya", "Osmanya", "Pe", "Pf", "Phags_Pa", "Phoenician", "Pi", "Ps", "Rejang",
    "Runic", "S", "Samaritan", "Saurashtra", "Sc", "Shavian", "Sinhala", "Sk", "Sm", "So", "Sundanese",
    "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Tamil", "Telugu", "Thaana",
    "Thai", "Tibetan", "Tifinagh", "Ugaritic", "Unknown", "Vai", "Yi", "Z", "Zl", "Zp", "Zs",
];

/// Reads a pattern and writes what it means.
struct Translator<'a> {
    /// What is not read yet.
    rest: &'a str,
    out: String,
    /// The groups that are open, outermost first.
    groups: Vec<Group>,
    group_names: BTreeSet<&'a str>,
    /// Whether case is ignored from here on.
    fold: bool,
    /// What a repetition would repeat.
    last: Option<Item>,
    /// Whether the last thing read looked like a repetition: RE2J refuses another one then, although not where an empty
    /// quotation or flags stand between them.
    after_repetition: bool,
}

/// An open group.
struct Group {
    start: usize,
    fold_outside: bool,
}

/// Something that was written and may be repeated.
struct Item {
    start: usize,
    is_repetition: bool,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str) -> Translator<'a> {
        Translator {
            rest: pattern,
            out: String::from(r"\A(?:"),
            groups: Vec::new(),
            group_names: BTreeSet::new(),
            fold: false,
            last: None,
            after_repetition: false,
        }
    }

    fn translate(mut self) -> Result<String, Fault> {
        while let Some(next) = self.rest.chars().next() {
            let after_repetition = std::mem::take(&mut self.after_repetition);
            match next {
                '(' if self.rest.starts_with("(?") => self.read_flags()?,
                '(' => {
                    self.skip(1);
                    self.open();
                }
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.out.push('|');
                    self.last = None;
                }
                '^' => self.assertion(1, r"\A"),
                '$' => self.assertion(1, r"\z"),
                '.' => {
                    self.skip(1);
                    self.push(Characters::ALL);
                }
                '[' => {
                    let class = self.read_class()?;
                    self.push(class);
                }
                '*' | '+' | '?' => {
                    let (operator, rest) = self.rest.split_at(1);
                    self.rest = rest;
                    self.repeat(operator, after_repetition)?;
                }
                '{' => self.read_count(after_repetition)?,
                '\\' => self.read_backslash()?,
                _ => {
                    self.skip(next.len_utf8());
                    self.literal(next.into());
                }
            }
        }
        if !self.groups.is_empty() {
            return Err(Fault::UnclosedGroup);
        }
        self.out.push_str(r")\z");
        Ok(self.out)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Takes the next character.
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.skip(next.len_utf8());
        Some(next)
    }

    /// Writes what matches one of the characters.
    fn push(&mut self, characters: Characters) {
        let start = self.out.len();
        self.last = Some(Item { start, is_repetition: false });
        if characters == Characters::NONE {
            // The empty class.
            self.out.push_str("[a&&b]");
            return;
        }
        self.out.push('[');
        // Ranges, even of one character: a hyphen stands escaped or between two.
        let mut low = 0;
        while low < 128 {
            if !characters.contains(low) {
                low += 1;
                continue;
            }
            let end = (low..=128).find(|&byte| !characters.contains(byte)).expect("128 is in no set");
            for (byte, separator) in [(low, ""), (end - 1, "-")] {
                self.out.push_str(separator);
                if !byte.is_ascii_alphanumeric() {
                    self.out.push('\\');
                }
                self.out.push(byte.into());
            }
            low = end;
        }
        self.out.push(']');
    }

    /// Writes what matches one code point, or its other cases too.
    fn literal(&mut self, code: u32) {
        self.push(self.characters(code, code));
    }

    fn characters(&self, low: u32, high: u32) -> Characters {
        if self.fold { Characters::folded_range(low, high) } else { Characters::range(low, high) }
    }

    fn fold_class(&self, characters: Characters) -> Characters {
        if self.fold { characters.folded() } else { characters }
    }

    /// Writes an assertion for the next `bytes` of the pattern. In a group, so that a repetition applies to it.
    fn assertion(&mut self, bytes: usize, what: &str) {
        self.skip(bytes);
        self.last = Some(Item { start: self.out.len(), is_repetition: false });
        self.out.push_str("(?:");
        self.out.push_str(what);
        self.out.push(')');
    }

    fn open(&mut self) {
        self.groups.push(Group { start: self.out.len(), fold_outside: self.fold });
        self.out.push_str("(?:");
        self.last = None;
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.skip(1);
        let group = self.groups.pop().ok_or(Fault::UnopenedGroup)?;
        self.out.push(')');
        self.fold = group.fold_outside;
        self.last = Some(Item { start: group.start, is_repetition: false });
        Ok(())
    }

    /// `*`, `+`, `?` or a count was read: repeats what came before.
    fn repeat(&mut self, operator: &str, after_repetition: bool) -> Result<(), Fault> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        if after_repetition {
            return Err(Fault::RepetitionOfRepetition);
        }
        let item = self.last.as_mut().ok_or(Fault::RepetitionOfNothing)?;
        if item.is_repetition {
            self.out.insert_str(item.start, "(?:");
            self.out.push(')');
        }
        item.is_repetition = true;
        self.out.push_str(operator);
        self.after_repetition = true;
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`; what only begins like one is the character `{`.
    fn read_count(&mut self, after_repetition: bool) -> Result<(), Fault> {
        let Some((count, rest)) = Count::read(self.rest) else {
            self.skip(1);
            self.literal('{'.into());
            // RE2J takes even this one for a repetition, if one follows.
            self.after_repetition = true;
            return Ok(());
        };
        let within = |times: Option<u32>| times.is_some_and(|times| times <= REPETITIONS_MAX);
        let Count { least, most } = count;
        if !within(least) || !most.is_none_or(within) || most.is_some_and(|most| most < least) {
            return Err(Fault::RepetitionCount);
        }
        let operator = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        self.repeat(operator, after_repetition)
    }

    /// `(?`: a named group, flags, or flags and a group.
    fn read_flags(&mut self) -> Result<(), Fault> {
        self.skip(2);
        let named = self.rest.strip_prefix("P<").or_else(|| self.rest.strip_prefix('<'));
        if let Some(named) = named {
            let (name, rest) = named.split_once('>').ok_or(Fault::GroupName)?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(Fault::GroupName);
            }
            if !self.group_names.insert(name) {
                return Err(Fault::GroupNameTwice);
            }
            self.rest = rest;
            self.open();
            return Ok(());
        }
        let mut fold = self.fold;
        let mut negated = false;
        // Flags since the `-`, which must not be the last.
        let mut flags = 0_u32;
        loop {
            match self.next() {
                Some('i') => fold = !negated,
                Some('m' | 's' | 'U') => {}
                Some('-') if !negated => {
                    negated = true;
                    flags = 0;
                    continue;
                }
                Some(end @ (':' | ')')) if !negated || flags > 0 => {
                    if end == ':' {
                        self.open();
                    }
                    self.fold = fold;
                    return Ok(());
                }
                _ => return Err(Fault::Flags),
            }
            flags += 1;
        }
    }

    /// A backslash outside of a class.
    fn read_backslash(&mut self) -> Result<(), Fault> {
        match self.rest[1..].chars().next() {
            Some('A') => self.assertion(2, r"\A"),
            Some('z') => self.assertion(2, r"\z"),
            Some('b') => self.assertion(2, r"\b"),
            Some('B') => self.assertion(2, r"\B"),
            Some('Q') => {
                let quoted = &self.rest[2..];
                let (quoted, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
                self.rest = rest;
                quoted.chars().for_each(|character| self.literal(character.into()));
            }
            _ => {
                if let Some(class) = self.read_escaped_class()? {
                    self.push(class);
                } else {
                    let code = self.read_escape()?;
                    self.literal(code);
                }
            }
        }
        Ok(())
    }

    /// `\pN`, `\p{Greek}`, `\d` and their like, if the pattern goes on with one.
    fn read_escaped_class(&mut self) -> Result<Option<Characters>, Fault> {
        let mut after = self.rest.strip_prefix('\\').unwrap_or_default().chars();
        let Some(letter) = after.next() else {
            return Ok(None);
        };
        if let Some(class) = Characters::of_perl(letter) {
            // It has both cases of its letters, or none.
            self.skip(2);
            return Ok(Some(class));
        }
        if !matches!(letter, 'p' | 'P') {
            return Ok(None);
        }
        let after = after.as_str();
        let (name, rest) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}').ok_or(Fault::ClassRange)?
        } else {
            after.split_at(after.chars().next().ok_or(Fault::ClassRange)?.len_utf8())
        };
        self.rest = rest;
        let positive = name.strip_prefix('^');
        let negated = (letter == 'P') != positive.is_some();
        let class = Characters::of_unicode(positive.unwrap_or(name), self.fold).ok_or(Fault::ClassRange)?;
        Ok(Some(class.signed(negated)))
    }

    /// A character after a backslash; its code point.
    fn read_escape(&mut self) -> Result<u32, Fault> {
        self.skip(1);
        let escaped = self.next().ok_or(Fault::TrailingBackslash)?;
        let control = match escaped {
            'a' => 7,
            't' => 9,
            'n' => 10,
            'v' => 11,
            'f' => 12,
            'r' => 13,
            'x' => return self.read_hexadecimal(),
            // One digit that is not 0 would be a back reference.
            '1'..='7' if !self.rest.starts_with(|next: char| next.is_digit(8)) => return Err(Fault::Escape),
            '0'..='7' => {
                let mut code = escaped.to_digit(8).expect("an octal digit");
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|next| next.to_digit(8)) else {
                        break;
                    };
                    code = 8 * code + digit;
                    self.skip(1);
                }
                return Ok(code);
            }
            _ if escaped.is_ascii_alphanumeric() => return Err(Fault::Escape),
            _ => return Ok(escaped.into()),
        };
        Ok(control)
    }

    /// What comes after `\x`: two digits, or any number of them in braces.
    fn read_hexadecimal(&mut self) -> Result<u32, Fault> {
        let digits = if let Some(braced) = self.rest.strip_prefix('{') {
            let (digits, rest) = braced.split_once('}').ok_or(Fault::Escape)?;
            self.rest = rest;
            digits
        } else {
            let digits = self.rest.get(..2).ok_or(Fault::Escape)?;
            self.skip(2);
            digits
        };
        let append = |code: u32, digit: char| {
            let code = 16 * code + digit.to_digit(16)?;
            (code <= char::MAX.into()).then_some(code)
        };
        let code = digits.chars().try_fold(0, append);
        code.filter(|_| !digits.is_empty()).ok_or(Fault::Escape)
    }

    /// A class in brackets.
    fn read_class(&mut self) -> Result<Characters, Fault> {
        self.skip(1);
        let negated = self.rest.starts_with('^');
        if negated {
            self.skip(1);
        }
        let mut class = Characters::NONE;
        let mut first = true;
        // As the first one `]` is a character.
        while first || !self.rest.starts_with(']') {
            first = false;
            class = class.or(self.read_class_part()?);
        }
        self.skip(1);
        Ok(class.signed(negated))
    }

    /// A class within a class, a character or a range.
    fn read_class_part(&mut self) -> Result<Characters, Fault> {
        if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(posix_name) {
            self.rest = rest;
            let positive = name.strip_prefix('^');
            let class = Characters::of_posix(positive.unwrap_or(name)).ok_or(Fault::ClassRange)?;
            return Ok(self.fold_class(class).signed(positive.is_some()));
        }
        if let Some(class) = self.read_escaped_class()? {
            return Ok(class);
        }
        let low = self.read_class_character()?;
        let mut high = low;
        if let Some(rest) = self.rest.strip_prefix('-')
            && !rest.starts_with(']')
        {
            self.rest = rest;
            high = self.read_class_character()?;
            if high < low {
                return Err(Fault::ClassRange);
            }
        }
        Ok(self.characters(low, high))
    }

    fn read_class_character(&mut self) -> Result<u32, Fault> {
        if self.rest.starts_with('\\') {
            return self.read_escape();
        }
        self.next().map(u32::from).ok_or(Fault::UnclosedClass)
    }
}

/// The name of a POSIX class and what comes after it, from what comes after its `[:`.
fn posix_name(after: &str) -> Option<(&str, &str)> {
    // RE2J looks for the end from the colon of the beginning on.
    match after.strip_prefix(']') {
        Some(rest) => Some(("", rest)),
        None => after.split_once(":]"),
    }
}

/// How often something is to be repeated. A number that has too many digits is `None`.
struct Count {
    least: Option<u32>,
    /// `None` if there is no end.
    most: Option<Option<u32>>,
}

impl Count {
    /// Reads a count in braces; returns it and what comes after.
    fn read(text: &str) -> Option<(Count, &str)> {
        let (least, rest) = Count::read_number(text.strip_prefix('{')?)?;
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((Count { least, most: Some(least) }, rest));
        }
        let rest = rest.strip_prefix(',')?;
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((Count { least, most: None }, rest));
        }
        let (most, rest) = Count::read_number(rest)?;
        Some((Count { least, most: Some(most) }, rest.strip_prefix('}')?))
    }

    /// Digits without a leading zero.
    fn read_number(text: &str) -> Option<(Option<u32>, &str)> {
        let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        Some((digits.parse().ok(), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a table of RE2J's verdicts; returns how many patterns it has.
    ///
    /// The story: patterns went to the `regex` crate as they came. `Pattern.quote("a.b")` was refused, and `[a-z&&b]`, `\<`
    /// or `\u0061` subscribed to other topics here than with Kafka, without a word.
    fn check(table: &str) -> usize {
        let rows = || table.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
        let names = rows().find_map(|row| row.strip_prefix("names\t")).expect("a row of names");
        let mut patterns = 0;
        let mut wrong = Vec::new();
        for row in rows().filter(|row| !row.starts_with("names\t")) {
            let (pattern, verdict) = row.split_once('\t').expect("a pattern and a verdict");
            let ours = match compile(&pattern.replace('⏎', "\n")) {
                Ok(regex) => names.split(' ').filter(|name| regex.is_match(name)).collect::<Vec<_>>().join(" "),
                Err(_) => "invalid".to_owned(),
            };
            if ours != verdict {
                wrong.push(format!("`{pattern}`: RE2J: {verdict}; here: {ours}"));
            }
            patterns += 1;
        }
        assert!(wrong.is_empty(), "{} of {patterns} patterns differ:\n{}", wrong.len(), wrong.join("\n"));
        patterns
    }

    #[test]
    fn patterns_are_what_they_are_to_re2j() {
        assert!(check(include_str!("../../../tests/golden/patterns/written.txt")) > 400);
    }

    #[test]
    fn random_patterns_are_what_they_are_to_re2j() {
        assert!(check(include_str!("../../../tests/golden/patterns/random.txt")) >= 1000);
        // Others, if `tests/clients/patterns/renew --more` was asked for them.
        if let Ok(more) = std::fs::read_to_string("target/patterns.txt") {
            println!("{} more", check(&more));
        }
    }

    #[test]
    fn what_is_no_pattern_or_too_much_of_one_is_refused() {
        for (pattern, why) in [
            ("(", "missing closing )"),
            ("a)|(b", "unexpected )"),
            ("[", "missing closing ]"),
            (r"\1", "invalid escape sequence"),
            ("*", "missing argument to repetition operator"),
            ("(?x)a # b", "invalid or unsupported Perl syntax"),
            (&"a".repeat(5000), "longer than 4096 bytes"),
            ("((a{100}){100}){100}", "its program is too large"),
            (&format!("{}a{}", "(".repeat(1000), ")".repeat(1000)), "nested too deeply"),
            (&format!("a{}", r"*\Q\E".repeat(800)), "nested too deeply"),
        ] {
            assert_eq!(compile(pattern).map(|_| ()).unwrap_err(), why, "{pattern}");
        }
    }

    #[test]
    fn what_people_write_is_not_too_much() {
        let names: Vec<String> = (0..200).map(|index| format!(r"\Qorders.{index}\E")).collect();
        let regex = compile(&names.join("|")).unwrap();
        assert!(regex.is_match("orders.199") && !regex.is_match("orders.200") && !regex.is_match("ordersx199"));
        compile(&format!("{}a{}", "(".repeat(60), ")*".repeat(60))).unwrap();
        compile(&".".repeat(limits::SUBSCRIPTION_PATTERN_BYTES_MAX)).unwrap();
        compile(".{1000}").unwrap();
    }

    #[test]
    fn the_classes_without_characters_are_in_order() {
        assert!(UNICODE_CLASSES_WITHOUT.is_sorted());
    }
}
