//! FineWeb's own quality rules (Penedo et al. 2024, section 3.6) for web pages and plain text. Documentation is
//! spared: lists, tables and code lines are what it is made of. The rules presume a paragraph a line, as text from
//! web pages has it; in plain text wrapped at some width, as books have it, paragraphs are taken for lines, and a long
//! line with sentences in it is prose whatever it ends with, as where a file holds an article a line.

use arrow_array::RecordBatch;

use super::gopher_repetition::duplicates;
use super::measure::{self, Bound, Measure};
use super::words::words;
use super::{Removed, Step, Verdict, markdown};
use crate::Error;
use crate::batch::Row;
use crate::kind::{self, Class};
use crate::settings::FineWeb;

/// The step.
pub struct Rules(pub FineWeb);

impl Step for Rules {
    fn name(&self) -> &'static str {
        "fineweb"
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "FineWeb: Penedo et al. 2024, section 3.6"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        super::judge(batch, self.name(), |row| match row.kind.class {
            Class::Code | Class::Data | Class::Documentation => Verdict::Keep,
            Class::Web | Class::Prose => measure::verdict(measures(row, &self.0)),
        })
    }
}

/// Plain text whose longest line has at most so many characters is taken as wrapped.
const WRAPPED_CHARACTERS: usize = 100;

/// From so many characters on, a line of plain text is asked for sentences rather than for its last character.
const LONG_CHARACTERS: u64 = 300;

/// What the rules measure on a document, in the order in which they judge.
pub fn measures(row: Row, settings: &FineWeb) -> Vec<Measure> {
    let plain = row.kind.class == Class::Prose;
    let trimmed = || {
        let prose = markdown::lines(row.kind, row.text).filter(|(_, prose)| *prose);
        prose.map(|(line, _)| line.trim_end())
    };
    let wrapped = plain && trimmed().all(|line| line.chars().count() <= WRAPPED_CHARACTERS);
    let (mut lines, mut punctuated, mut short) = (0u64, 0u64, 0u64);
    let (mut characters, mut sentences, mut last) = (0u64, false, None);
    for line in trimmed().chain([""]) {
        if !line.trim_start().is_empty() {
            characters += line.chars().count() as u64;
            sentences |= plain && [". ", "! ", "? ", "。"].iter().any(|end| line.contains(end));
            last = line.chars().next_back();
            if wrapped {
                continue;
            }
        }
        if characters > 0 {
            let prose = plain && sentences && characters >= LONG_CHARACTERS;
            lines += 1;
            punctuated += u64::from(prose || last.is_some_and(ends_a_line));
            short += u64::from(characters <= settings.short_line_characters);
            (characters, sentences) = (0, false);
        }
    }
    let prose = markdown::lines(row.kind, row.text).filter(|(line, prose)| *prose && !line.trim().is_empty());
    let repeated = duplicates(prose.map(|(line, _)| line));
    let newlines = if row.kind == kind::HTML {
        // Of Markdown those that part paragraphs are none of the text.
        trimmed().filter(|line| !line.is_empty()).count() as f64
    } else {
        row.text.trim_end().matches('\n').count() as f64
    };
    let whole = (row.text.chars().count() as f64 - newlines).max(1.0);
    let words = words(row.text).count().max(1) as f64;
    let fraction = |part: u64| if lines == 0 { 0.0 } else { part as f64 / lines as f64 };
    vec![
        Measure {
            rule: "too_few_punctuated_lines",
            value: fraction(punctuated),
            bound: Bound::FractionAtLeast(settings.min_punctuated_line_fraction),
        },
        Measure {
            rule: "too_many_short_lines",
            value: fraction(short),
            bound: Bound::FractionAtMost(settings.max_short_line_fraction),
        },
        Measure {
            rule: "duplicate_line_characters",
            value: repeated.characters as f64 / whole,
            bound: Bound::FractionAtMost(settings.max_duplicate_line_character_fraction),
        },
        Measure {
            rule: "too_many_line_breaks",
            value: newlines / words,
            bound: Bound::FractionAtMost(settings.max_newline_to_word_ratio),
        },
    ]
}

/// Whether a line that ends so counts as punctuated: marks that end a sentence, and quotation marks after them
/// (C4's set), in the scripts that have their own.
fn ends_a_line(last: char) -> bool {
    matches!(
        last,
        '.' | '!'
            | '?'
            | '"'
            | '\''
            | '…'
            | '”'
            | '’'
            | '»'
            | '。'
            | '！'
            | '？'
            | '．'
            | '」'
            | '』'
            | '।'
            | '॥'
            | '؟'
            | '۔'
            | '։'
            | '՞'
            | '።'
            | '፧'
            | '។'
            | '။'
            | '་'
            | '།'
            | '｡'
            | '‼'
            | '‽'
            | '⁇'
            | '⁈'
            | '⁉'
            | '៕'
            | '᠃'
            | '᠉'
            | '᙮'
    )
}
