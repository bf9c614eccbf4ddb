//! Results on stdout: JSON as it is, or aligned text. Words beside them on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints one JSON value: on one line for programs, indented for people.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
    } else {
        serde_json::to_writer(&mut stdout, value).map_err(io::Error::from)?;
    }
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// Prints text that ends with its own newline.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints a line on stderr. Whoever read it may have gone; that must not end the command.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes rows in columns, two spaces apart, the first row being their heads; no rows, no heads.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = heads.map(str::to_owned);
    let rows: Vec<&[String; N]> = std::iter::once(&heads).chain(rows).collect();
    aligned(&rows)
}

/// Writes names and their values.
pub(crate) fn pairs(pairs: &[[String; 2]]) -> String {
    aligned(&pairs.iter().collect::<Vec<_>>())
}

fn aligned<const N: usize>(rows: &[&[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes milliseconds, or a dash for what isn't known yet.
pub(crate) fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"))
}

/// Writes seconds as people say them.
pub(crate) fn seconds(value: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(value.trunc()).unwrap_or_default();
    humantime::format_duration(whole).to_string()
}

/// Writes a list, or a dash.
pub(crate) fn list(values: &[String]) -> String {
    if values.is_empty() {
        "-".to_owned()
    } else {
        values.join(", ")
    }
}

/// Counts things in words: `1 neighbour`, `2 neighbours`.
pub(crate) fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["longer".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "N"], &rows),
            "NAME    N\na       1\nlonger\n"
        );
        assert_eq!(table(["NAME"], &[]), "");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(ms(Some(0.123)), "0.12 ms");
        assert_eq!(ms(None), "-");
        assert_eq!(seconds(62.9), "1m 2s");
        assert_eq!(seconds(f64::NAN), "0s");
    }
}
