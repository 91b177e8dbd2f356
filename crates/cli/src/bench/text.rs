//! Lines and figures that the pages of all benches are made of.

use owo_colors::OwoColorize;

use crate::report::scale::{count, figures};

/// Columns of a page that is not shown on a terminal.
const USUAL_WIDTH: usize = 100;

/// Columns of the terminal that standard output goes to.
pub fn width() -> usize {
    let found = terminal_size::terminal_size_of(std::io::stdout());
    found.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
}

/// `machine   1.2 TFLOP/s   peak: …`, its meaning wrapped beside it.
pub fn write_line(page: &mut String, heading: &str, figure: &str, meaning: &str, width: usize) {
    const FIGURE: usize = 14;
    let indent = heading.chars().count() + 1 + FIGURE + 1;
    let mut lines = wrapped(meaning, width.saturating_sub(indent).max(24)).into_iter();
    let first = lines.next().unwrap_or_default();
    let figure = format!("{figure:<FIGURE$}");
    page.push_str(format!("{} {} {first}", heading.dimmed(), figure.bold()).trim_end());
    page.push('\n');
    for line in lines {
        page.push_str(&format!("{:indent$}{line}\n", ""));
    }
}

/// Words in lines of at most `width` columns.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// In three to five figures.
pub fn milliseconds(seconds: f64) -> String {
    match 1e3 * seconds {
        value if value >= 1_000.0 => count(value.round() as u64),
        value if value >= 100.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub fn milliseconds_with_unit(seconds: f64) -> String {
    if seconds >= 10.0 { format!("{seconds:.1} s") } else { format!("{} ms", milliseconds(seconds)) }
}

/// `1.21 TFLOP/s`.
pub fn rate(value: f64, unit: &str) -> String {
    let (scaled, prefix) = if value >= 1e12 { (value / 1e12, "T") } else { (value / 1e9, "G") };
    format!("{} {prefix}{unit}", figures(scaled))
}

/// `1 core`, `2 cores`.
pub fn plural(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {word}{ending}", count(number as u64))
}

/// A share as a bar and a number. Where the operation is long enough to matter, a low one is red and a high one green.
pub fn gauge(share: f64, width: usize, part: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * 8.0 * width as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    let bar = format!("{bar:<width$}");
    let bar = match share {
        _ if part < 0.01 => bar.dimmed().to_string(),
        share if share >= 0.7 => bar.green().to_string(),
        share if share >= 0.4 => bar.yellow().to_string(),
        _ => bar.red().to_string(),
    };
    format!("{bar} {:>4}", format!("{:.0}%", 100.0 * share))
}
