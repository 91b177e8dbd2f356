//! How answers to questions in SQL are written: a table for people, CSV (RFC 4180), or JSON, an object a line.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::args::Format;
use crate::errors::Error;

/// Most rows that a table shows; they are held, for the columns to be aligned.
const MOST_ROWS: usize = 10_000;
/// Most characters of a value that a table shows.
const MOST_CHARACTERS: usize = 60;

/// Writes what `ask` answers to standard output.
pub fn write(
    format: Format,
    ask: impl FnOnce(&mut dyn cluster::Answer) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |error| Error::io("write", Path::new("standard output"))(error);
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        Format::Table => {
            let mut table = Table::default();
            ask(&mut table)?;
            out.write_all(table.text().as_bytes()).map_err(failed)?;
        }
        Format::Csv => ask(&mut Csv(&mut out))?,
        Format::Json => ask(&mut Json { out: &mut out, names: Vec::new() })?,
    }
    out.flush().map_err(failed)
}

#[derive(Default)]
struct Table {
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
    more: usize,
}

impl cluster::Answer for Table {
    fn columns(&mut self, columns: &[(String, bool)]) -> io::Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }

    fn row(&mut self, row: Vec<Value>) -> io::Result<()> {
        if self.rows.len() < MOST_ROWS {
            self.rows.push(row.iter().map(shown).collect());
        } else {
            self.more += 1;
        }
        Ok(())
    }
}

impl Table {
    fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let values = self.rows.iter().map(|row| row[column].chars().count());
                values.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &String>| {
            let mut line = String::new();
            for ((cell, width), (_, is_number)) in cells.zip(&widths).zip(&self.columns) {
                let padded =
                    if *is_number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                line.push_str(&padded);
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        };
        let mut text = line(&mut self.columns.iter().map(|(name, _)| name));
        let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        text.push_str(&line(&mut rules.iter()));
        self.rows.iter().for_each(|row| text.push_str(&line(&mut row.iter())));
        if self.more > 0 {
            text.push_str(&format!("… and {} rows more; --format csv or json writes all\n", self.more));
        }
        text
    }
}

/// A value in one line that is not too long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Control characters would steer a terminal.
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_CHARACTERS + 1).collect();
    if line.chars().count() > MOST_CHARACTERS {
        line.pop();
        line.pop();
        line.push('…');
    }
    line
}

struct Csv<W>(W);

impl<W: Write> Csv<W> {
    fn line(&mut self, cells: impl Iterator<Item = String>) -> io::Result<()> {
        let quoted = cells.map(|cell| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        });
        writeln!(self.0, "{}", quoted.collect::<Vec<_>>().join(","))
    }
}

impl<W: Write> cluster::Answer for Csv<W> {
    fn columns(&mut self, columns: &[(String, bool)]) -> io::Result<()> {
        self.line(columns.iter().map(|(name, _)| name.clone()))
    }

    fn row(&mut self, row: Vec<Value>) -> io::Result<()> {
        self.line(row.into_iter().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

struct Json<W> {
    out: W,
    names: Vec<String>,
}

impl<W: Write> cluster::Answer for Json<W> {
    fn columns(&mut self, columns: &[(String, bool)]) -> io::Result<()> {
        self.names = columns.iter().map(|(name, _)| name.clone()).collect();
        Ok(())
    }

    fn row(&mut self, row: Vec<Value>) -> io::Result<()> {
        let object: serde_json::Map<String, Value> = self.names.iter().cloned().zip(row).collect();
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::Answer;
    use serde_json::json;

    fn ask(answer: &mut dyn Answer) {
        answer.columns(&[("lang".into(), false), ("n".into(), true)]).unwrap();
        answer.row(vec![json!("e\"n,"), json!(12)]).unwrap();
        answer.row(vec![Value::Null, json!(3.5)]).unwrap();
        answer.row(vec![json!(format!("a\nb\u{1b}[1m{}", "x".repeat(90))), Value::Null]).unwrap();
    }

    #[test]
    fn tables_are_aligned_and_values_cut() {
        let mut table = Table::default();
        ask(&mut table);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].starts_with("lang  ") && lines[0].ends_with("    n"), "{text}");
        assert!(lines[2].starts_with("e\"n,  ") && lines[2].ends_with("   12"), "{text}");
        assert_eq!(lines[3].trim(), "3.5");
        assert!(lines[4].starts_with("a b [1mxxx") && lines[4].ends_with("x…"), "{text}");
        assert_eq!(lines[4].chars().count(), MOST_CHARACTERS);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn csv_quotes_and_json_keeps_types() {
        let mut csv = Vec::new();
        ask(&mut Csv(&mut csv));
        let csv = String::from_utf8(csv).unwrap();
        assert!(csv.starts_with("lang,n\n\"e\"\"n,\",12\n,3.5\n\"a\nb"), "{csv}");
        let mut json = Vec::new();
        ask(&mut Json { out: &mut json, names: Vec::new() });
        let first: Value = serde_json::from_slice(json.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!(first, json!({ "lang": "e\"n,", "n": 12 }));
    }
}
