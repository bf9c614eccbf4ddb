//! The part of TOML 1.0 that `weft.toml` needs: keys whose values are strings or arrays of strings, and comments.
//! What TOML has beyond that (tables, numbers, dates, multi-line strings) has no meaning there and is refused.

use super::ConfigError;

/// A key with its value and the line on which it begins, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) line: usize,
}

/// What a key may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    String(String),
    Strings(Vec<String>),
}

/// Reads all keys in their order.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, ConfigError> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    let mut entries = Vec::new();
    loop {
        reader.skip_blank_lines();
        if reader.rest.is_empty() {
            return Ok(entries);
        }
        let line = reader.line;
        let key = reader.key()?;
        reader.skip_spaces();
        reader.expect('=', "\"=\" after the key")?;
        reader.skip_spaces();
        let value = reader.value()?;
        reader.end_of_line()?;
        entries.push(Entry { key, value, line });
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T, ConfigError> {
        Err(ConfigError {
            line: self.line,
            what: what.into(),
        })
    }

    fn expect(&mut self, wanted: char, what: &str) -> Result<(), ConfigError> {
        if self.peek() != Some(wanted) {
            return self.error(format!("expected {what}"));
        }
        self.next();
        Ok(())
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
    }

    fn skip_comment(&mut self) {
        if self.peek() == Some('#') {
            while self.peek().is_some_and(|next| next != '\n') {
                self.next();
            }
        }
    }

    /// Skips everything that has no meaning between two values.
    fn skip_blank_lines(&mut self) {
        loop {
            self.skip_comment();
            if !matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
                return;
            }
            self.next();
        }
    }

    fn end_of_line(&mut self) -> Result<(), ConfigError> {
        self.skip_spaces();
        self.skip_comment();
        if self.peek() == Some('\r') {
            self.next();
        }
        match self.peek() {
            None | Some('\n') => Ok(()),
            Some(_) => self.error("expected nothing more on the line of a value"),
        }
    }

    fn key(&mut self) -> Result<String, ConfigError> {
        match self.peek() {
            Some('"' | '\'') => return self.string(),
            Some('[') => return self.error("there are no tables in this file"),
            _ => {}
        }
        let bare = |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '-');
        let mut key = String::new();
        while let Some(next) = self.peek().filter(|next| bare(*next)) {
            key.push(next);
            self.next();
        }
        if key.is_empty() {
            self.error("expected a key, such as network = \"home\"")
        } else {
            Ok(key)
        }
    }

    fn value(&mut self) -> Result<Value, ConfigError> {
        if self.peek() != Some('[') {
            return self.string().map(Value::String);
        }
        self.next();
        let mut strings = Vec::new();
        loop {
            self.skip_blank_lines();
            if self.peek() == Some(']') {
                self.next();
                return Ok(Value::Strings(strings));
            }
            strings.push(self.string()?);
            self.skip_blank_lines();
            match self.next() {
                Some(',') => {}
                Some(']') => return Ok(Value::Strings(strings)),
                _ => return self.error("expected \",\" or \"]\" in the array"),
            }
        }
    }

    fn string(&mut self) -> Result<String, ConfigError> {
        let quote = match self.peek() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return self.error("expected a string in quotes"),
        };
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    return self.error("the string has no closing quote on its line");
                }
                Some('\\') if quote == '"' => {
                    self.next();
                    text.push(self.escaped()?);
                }
                Some(next) => {
                    self.next();
                    if next == quote {
                        return Ok(text);
                    }
                    text.push(next);
                }
            }
        }
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> Result<char, ConfigError> {
        let digits =
            match self.next() {
                Some(quoted @ ('"' | '\\')) => return Ok(quoted),
                Some('n') => return Ok('\n'),
                Some('t') => return Ok('\t'),
                Some('r') => return Ok('\r'),
                Some('b') => return Ok('\u{8}'),
                Some('f') => return Ok('\u{c}'),
                Some('u') => 4,
                Some('U') => 8,
                _ => return self.error(
                    "unknown escape in the string; write a backslash as \\\\, or quote it with '…'",
                ),
            };
        let code = self
            .rest
            .get(..digits)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .and_then(char::from_u32);
        match code {
            Some(character) => {
                self.rest = &self.rest[digits..];
                Ok(character)
            }
            None => self.error(format!(
                "expected {digits} hexadecimal digits of a character in the string"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(&format!("k = {text}")).unwrap().remove(0).value
    }

    #[test]
    fn strings_are_read_with_their_escapes() {
        assert_eq!(
            value(r#""a\"b\\\u00e9#" # comment"#),
            Value::String("a\"b\\é#".into())
        );
        assert_eq!(value(r"'C:\dir'"), Value::String(r"C:\dir".into()));
    }

    #[test]
    fn arrays_may_span_lines() {
        let entries = parse("a = [ # first\n  'x',\r\n  \"y\", ]\r\nb = []\n").unwrap();
        assert_eq!(
            entries[0].value,
            Value::Strings(vec!["x".into(), "y".into()])
        );
        assert_eq!((entries[1].key.as_str(), entries[1].line), ("b", 4));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line) in [
            ("a = 1", 1),
            ("\n[table]", 2),
            ("a = \"open\nb = \"x\"", 1),
            ("a = 'x' 'y'", 1),
            ("a 'x'", 1),
            ("a = ['x'\n'y']", 2),
            ("a = [\n", 2),
            ("= 'x'", 1),
            (r#"a = "\q""#, 1),
            (r#"a = "\u12é""#, 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
