//! What is wrong with a scenario's text: in which line, and what was probably meant.
//!
//! The types say what is allowed, and `serde` tells what isn't, in words for programmers. Inside a table that a key such
//! as `do` gives its kind, it no longer knows the place. So its words are translated, and the place is looked up by the
//! key or value that they name.

use std::fmt;

use toml::de::{DeTable, DeValue};
use weft_rpc::nearest::nearest;
use weft_sim::scenario::Invalid;

use super::did_you_mean;

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// In which line, where that is known.
    pub line: Option<usize>,
    /// What it is, and what may be meant.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Says what the types don't allow.
pub(super) fn of_toml(text: &str, error: &toml::de::Error) -> Mistake {
    let at = error.span().map_or(text.len(), |span| span.start);
    let told = error.message();
    let entries = entries(text);
    if entries.is_empty() {
        return mistake(text, at, told.to_owned());
    }
    let names = quoted(told);
    if let (true, [name, known @ ..]) = (told.starts_with("unknown field"), &names[..]) {
        let found = find(&entries, at, |entry| entry.key == *name);
        return unknown_key(text, found.map_or(at, |found| found.at), name, known);
    }
    if let (true, [name, known @ ..]) = (told.starts_with("unknown variant"), &names[..]) {
        let found = find(&entries, at, |entry| {
            entry.value == Value::Text((*name).to_owned())
        });
        let near = nearest(name, known.iter().copied());
        let what = format!(
            "{} is unknown{}",
            shown(found, &format!("{name:?}")),
            choices(near, known)
        );
        return mistake(text, found.map_or(at, |found| found.at), what);
    }
    if let (true, [name, ..]) = (told.starts_with("missing field"), &names[..]) {
        let of_table = |entry: &Entry| entry.at == at && entry.value == Value::Other;
        let Some(table) = entries.iter().rev().find(|entry| of_table(entry)) else {
            let what = format!("the key {name:?} is missing at the top");
            return Mistake { line: None, what };
        };
        return mistake(
            text,
            at,
            format!("the key {name:?} is missing in {}", table.path),
        );
    }
    if let Some((got, expected)) = got_and_expected(told) {
        let value = Value::told(got);
        let found = find(&entries, at, |entry| entry.value == value);
        let what = format!("{} must be {}", shown(found, &plain(got)), kind(expected));
        return mistake(text, found.map_or(at, |found| found.at), what);
    }
    mistake(text, at, told.to_owned())
}

/// Says what the types allow, and the check doesn't.
pub(super) fn of_check(text: &str, invalid: &Invalid) -> Mistake {
    let what = invalid.to_string();
    let Invalid::OutOfBounds {
        what: path, got, ..
    } = invalid
    else {
        return Mistake { line: None, what };
    };
    let entries = entries(text);
    let key = path.rsplit('.').next().unwrap_or(path);
    let values = [
        got.parse().map_or(Value::Other, Value::Number),
        Value::Text(got.clone()),
    ];
    let of_key = |entry: &Entry| entry.key == key;
    let found = find(&entries, 0, |entry| {
        of_key(entry) && values.contains(&entry.value)
    });
    let found = found.or_else(|| find(&entries, 0, of_key));
    Mistake {
        line: found.map(|found| line(text, found.at)),
        what,
    }
}

/// Kinds that have no keys besides the one that names them: `serde` passes over whatever else stands there.
const WITHOUT_KEYS: [(&str, &str); 4] = [
    ("do", "fork"),
    ("by", "tree"),
    ("by", "flood"),
    ("from", "nobody"),
];

/// Finds keys that would be passed over in silence.
pub(super) fn ignored_keys(text: &str) -> Result<(), Mistake> {
    let entries = entries(text);
    for kind in &entries {
        let is_alone = WITHOUT_KEYS
            .iter()
            .any(|(key, value)| kind.key == *key && kind.value == Value::Text((*value).to_owned()));
        let beside = entries
            .iter()
            .find(|entry| entry.table == kind.table && entry.key != kind.key);
        if let (true, false, Some(entry)) = (is_alone, kind.table.is_empty(), beside) {
            let what = format!("unknown key {:?}{}", entry.key, choices(None, &[&kind.key]));
            return Err(mistake(text, entry.at, what));
        }
    }
    Ok(())
}

fn mistake(text: &str, at: usize, what: String) -> Mistake {
    Mistake {
        line: Some(line(text, at)),
        what,
    }
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn unknown_key(text: &str, at: usize, name: &str, known: &[&str]) -> Mistake {
    let near = nearest(name, known.iter().copied());
    let what = format!("unknown key {name:?}{}", choices(near, known));
    mistake(text, at, what)
}

/// Goes on behind what is unknown: what may be meant, and what there is.
fn choices(near: Option<&str>, known: &[&str]) -> String {
    let known = match known {
        [] => "nothing".to_owned(),
        [only] => format!("only {only}"),
        _ => known.join(", "),
    };
    format!("{} (known here: {known})", did_you_mean(near))
}

/// A key and its value, or an element of an array, in the order of the text.
struct Entry {
    /// The key; empty for an element.
    key: String,
    /// Where it stands, as people say it: `links.loss`, `phase 3`.
    path: String,
    /// The path of the table that it stands in.
    table: String,
    value: Value,
    /// The key in the text, or the element.
    at: usize,
}

/// A value as far as it can be told from others.
#[derive(PartialEq)]
enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
    Other,
}

impl From<&DeValue<'_>> for Value {
    fn from(value: &DeValue<'_>) -> Self {
        let number = |text: &str| text.parse().map_or(Self::Other, Self::Number);
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => number(integer.as_str()),
            DeValue::Float(float) => number(float.as_str()),
            DeValue::Boolean(is) => Self::Bool(*is),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Self::Other,
        }
    }
}

impl Value {
    /// Reads a value as `serde` tells it: `string "x"`, ``integer `5` ``, ``boolean `true` ``.
    fn told(words: &str) -> Self {
        let inner = |open, close| {
            let (_, rest) = words.split_once(open)?;
            rest.rsplit_once(close).map(|(inner, _)| inner)
        };
        if words.starts_with("string") {
            return inner('"', '"').map_or(Self::Other, |text| Self::Text(text.to_owned()));
        }
        match inner('`', '`') {
            Some("true") => Self::Bool(true),
            Some("false") => Self::Bool(false),
            Some(number) => number.parse().map_or(Self::Other, Self::Number),
            None => Self::Other,
        }
    }
}

/// Lists everything that a text says; nothing where it isn't TOML.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        collect(table.get_ref(), "", &mut entries);
    }
    entries.sort_by_key(|entry| entry.at);
    entries
}

fn collect(table: &DeTable<'_>, path: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let key_text = key.get_ref().as_ref();
        let of_key = if path.is_empty() {
            key_text.to_owned()
        } else {
            format!("{path}.{key_text}")
        };
        entries.push(Entry {
            key: key_text.to_owned(),
            path: of_key.clone(),
            table: path.to_owned(),
            value: value.get_ref().into(),
            at: key.span().start,
        });
        match value.get_ref() {
            DeValue::Table(table) => collect(table, &of_key, entries),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    let of_element = format!("{of_key} {}", index + 1);
                    entries.push(Entry {
                        key: String::new(),
                        path: of_element.clone(),
                        table: path.to_owned(),
                        value: element.get_ref().into(),
                        at: element.span().start,
                    });
                    if let DeValue::Table(table) = element.get_ref() {
                        collect(table, &of_element, entries);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Finds the first that fits from a place on; what stands before it has been read without complaint.
fn find(entries: &[Entry], from: usize, fits: impl Fn(&Entry) -> bool) -> Option<&Entry> {
    let behind = entries.iter().find(|entry| entry.at >= from && fits(entry));
    behind.or_else(|| entries.iter().rev().find(|entry| fits(entry)))
}

fn quoted(told: &str) -> Vec<&str> {
    told.split('`').skip(1).step_by(2).collect()
}

/// Splits ``invalid type: integer `5`, expected a string``.
fn got_and_expected(told: &str) -> Option<(&str, &str)> {
    let rest = told
        .strip_prefix("invalid type: ")
        .or_else(|| told.strip_prefix("invalid value: "))?;
    rest.rsplit_once(", expected ")
}

/// Writes a key with its value, or the value alone where the key isn't known.
fn shown(entry: Option<&Entry>, value: &str) -> String {
    match entry {
        Some(entry) if !entry.key.is_empty() => format!("{} = {value}", entry.key),
        _ => value.to_owned(),
    }
}

/// Writes a value that `serde` tells as the text has it.
fn plain(told: &str) -> String {
    match Value::told(told) {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(_) | Value::Bool(_) => quoted(told).concat(),
        Value::Other if told == "map" => "a table".to_owned(),
        Value::Other if told == "sequence" => "an array".to_owned(),
        Value::Other => told.to_owned(),
    }
}

/// Says which kind of value is expected, in the words of TOML.
fn kind(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "a nonzero u8" => "a whole number from 1 to 255",
        "u32" | "u64" | "usize" => "a whole number, not below 0",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array; tables of one stand as [[phase]]",
        "struct Bound" => "a table with min, max or both, such as { max = 0.01 }",
        "internally tagged enum Latency" => {
            "a table such as { model = \"uniform\", min = \"10ms\", max = \"50ms\" }"
        }
        "internally tagged enum Spread" => "a table such as { by = \"flood\" }",
        "internally tagged enum Contacts" => "a table such as { from = \"table\", size = 20 }",
        "internally tagged enum Phase" => "a table that begins with `do`",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    const HEAD: &str = "name = 'x'\nabout = 'y'\nsource = 'z'\nnodes = 10\n";
    const JOIN: &str = "[[phase]]\ndo = 'join'\nwithin = '1s'\nthrough = 1\n";

    fn told(tail: &str) -> String {
        let text = format!("{HEAD}{tail}");
        parse(&text).map(|_| "right").unwrap_err().to_string()
    }

    #[track_caller]
    fn assert_told(cases: &[(&str, &str)]) {
        for (tail, expected) in cases {
            let told = told(tail);
            assert!(told.contains(expected), "{tail}\n{told}\n{expected}");
        }
    }

    #[test]
    fn unknown_keys_name_their_line_and_the_nearest() {
        assert_told(&[
            (
                "nodess = 3",
                r#"line 5: unknown key "nodess"; did you mean "nodes"? (known here: name, about,"#,
            ),
            (
                "[links]\nlos = 0.1",
                r#"line 6: unknown key "los"; did you mean "loss"?"#,
            ),
            (
                "[expect]\nrmr = { mx = 1 }",
                r#"line 6: unknown key "mx"; did you mean "max"?"#,
            ),
            (
                &format!("{JOIN}[[phase]]\ndo = 'publish'\nmessages = 5\nevry = '1s'"),
                r#"line 12: unknown key "evry"; did you mean "every"? (known here: messages, every, by"#,
            ),
            (
                &format!("{JOIN}[[phase]]\ndo = 'join'\nwithn = '1s'\nthrough = 1"),
                r#"line 11: unknown key "withn"; did you mean "within"?"#,
            ),
            (
                &format!("links = {{ latency = {{ model = 'constant', off = '5ms' }} }}\n{JOIN}"),
                r#"line 5: unknown key "off"; did you mean "of"? (known here: only of)"#,
            ),
            // What serde would pass over.
            (
                "sweep = [5]\n[[phase]]\ndo = 'fork'\nshare = 1",
                r#"line 8: unknown key "share" (known here: only do)"#,
            ),
            (
                &format!("spread = {{ by = 'flood', k = 3 }}\n{JOIN}"),
                r#"line 5: unknown key "k" (known here: only by)"#,
            ),
        ]);
    }

    #[test]
    fn unknown_words_name_their_line_and_the_nearest() {
        assert_told(&[
            (
                "[[phase]]\ndo = 'jion'",
                r#"line 6: do = "jion" is unknown; did you mean "join"? (known here: join, run,"#,
            ),
            (
                "engine = 'sworm'",
                r#"line 5: engine = "sworm" is unknown; did you mean "swarm"?"#,
            ),
            (
                "[expect]\nrmr = { over = 'men' }",
                r#"line 6: over = "men" is unknown; did you mean "mean"?"#,
            ),
            (
                "[[phase]]\ndo = 'publish'\nmessages = 5\nevery = '1s'\nby = 'al'",
                r#"line 9: by = "al" is unknown (known here: one, strangers, random, twenty)"#,
            ),
        ]);
    }

    #[test]
    fn missing_keys_name_their_table() {
        assert_told(&[
            ("", r#"the key "phase" is missing at the top"#),
            (
                "[[phase]]\ndo = 'join'\nthrough = 1",
                r#"line 5: the key "within" is missing in phase 1"#,
            ),
            (
                &format!("{JOIN}[[phase]]\nfor = '1s'"),
                r#"line 9: the key "do" is missing in phase 2"#,
            ),
        ]);
    }

    #[test]
    fn wrong_kinds_say_what_is_expected() {
        assert_told(&[
            (
                "seed = 'one'",
                r#"line 5: seed = "one" must be a whole number, not below 0"#,
            ),
            (
                "sweep = [500]",
                "line 5: 500 must be a whole number from 0 to 255",
            ),
            (
                "[[phase]]\ndo = 'join'\nwithin = 10\nthrough = 1",
                r#"line 7: within = 10 must be a duration such as "250us", "10ms""#,
            ),
            (
                "[[phase]]\ndo = 'run'\nfor = '10 parsecs'",
                r#"line 7: for = "10 parsecs" must be a duration such as"#,
            ),
            (
                "[[phase]]\ndo = 'publish'\nmessages = -5\nevery = '1s'",
                "line 7: messages = -5 must be a whole number",
            ),
            (
                "[links]\nlatency = '5ms'",
                r#"line 6: latency = "5ms" must be a table such as { model"#,
            ),
            (
                "[expect]\nrmr = 0.1",
                "line 6: rmr = 0.1 must be a table with min, max or both",
            ),
            (
                "[phase]\ndo = 'fork'",
                "line 5: phase = a table must be an array; tables of one stand as [[phase]]",
            ),
        ]);
    }

    #[test]
    fn values_out_of_bounds_name_their_line() {
        assert_told(&[
            (
                &format!("links = {{ loss = 2 }}\n{JOIN}"),
                "line 5: links.loss is 2, but must be from 0 to 1",
            ),
            (
                &format!("{JOIN}[[phase]]\ndo = 'crash'\nshare = 5"),
                "line 11: share is 5, but must be from 0 to 1",
            ),
            (
                &format!("{JOIN}[[phase]]\ndo = 'crash'"),
                "`crash` needs `share`",
            ),
            // What would never end.
            (
                &format!("{JOIN}[[phase]]\ndo = 'storm'\nfor = '5s'\nevery = '0s'"),
                "line 12: every is 0ns, but must be at least 1ms",
            ),
            (
                "overlay = { shuffle_interval = '0s' }\nphase = []",
                "line 5: overlay.shuffle_interval is 0ns, but must be at least 1ms",
            ),
            (
                &format!(
                    "links.latency = {{ model = 'lognormal', median = '1s', sigma = nan }}\n{JOIN}"
                ),
                "line 5: links.latency.sigma is NaN, but must be from 0 to 10",
            ),
        ]);
    }

    #[test]
    fn what_is_no_toml_names_its_line() {
        assert_told(&[
            ("nodes = 3", "line 5: duplicate key"),
            ("nonsense", "line 5: key with no value"),
            ("[links\nloss = 1", "line 5: "),
        ]);
    }
}
