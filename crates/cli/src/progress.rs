//! How long work is shown: bars on a terminal, a plain line every few seconds anywhere else.
//! Both write to standard error, so that standard output holds results alone.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use ledger::progress::{Progress, Task, Unit};
use owo_colors::OwoColorize;

use crate::report::scale;

/// How often a plain line is written.
const EVERY: Duration = Duration::from_secs(5);

/// Bars where a person watches, lines where a file is written.
pub enum Shown {
    /// Bars.
    Bars(Bars),
    /// Lines.
    Lines,
}

impl Shown {
    /// Bars if `terminal`; colours there if `color`.
    pub fn new(terminal: bool, color: bool) -> Self {
        if terminal {
            Self::Bars(Bars {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)),
                color,
            })
        } else {
            Self::Lines
        }
    }

    /// Writes a line above any bars.
    pub fn line(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.all.suspend(|| anstream::eprintln!("{text}")),
            Self::Lines => anstream::eprintln!("{text}"),
        }
    }
}

impl Progress for Shown {
    fn begin(&self, label: &str, total: Option<u64>, unit: Unit) -> Box<dyn Task> {
        match self {
            Self::Bars(bars) => Box::new(bars.begin(label, total, unit)),
            Self::Lines => Box::new(Line::new(label, total, unit)),
        }
    }

    fn note(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    fn warn(&self, text: &str) {
        self.line(&format!("  {} {text}", "warning:".yellow().bold()));
    }
}

/// The bars of a terminal.
pub struct Bars {
    all: MultiProgress,
    color: bool,
}

impl Bars {
    fn begin(&self, label: &str, total: Option<u64>, unit: Unit) -> Bar {
        let (name, bar) =
            if self.color { ("{prefix:.bold}", "{bar:26.cyan/237}") } else { ("{prefix}", "{bar:26}") };
        let done = match unit {
            Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes}".to_owned(),
            unit => format!("{{human_pos}}/{{human_len}} {}", unit.label()),
        };
        let (template, bar) = match total {
            Some(total) => (
                format!("  {name} {bar} {{percent:>3}}%  {done}  {{msg}}  {{left}}"),
                ProgressBar::new(total),
            ),
            None => {
                let done = match unit {
                    Unit::Bytes => "{decimal_bytes}".to_owned(),
                    unit => format!("{{human_pos}} {}", unit.label()),
                };
                (format!("  {name} {{spinner}} {done}  {{elapsed}}  {{msg}}"), ProgressBar::new_spinner())
            }
        };
        let tells_left = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&tells_left);
        // A template is our own text; a wrong one would be seen by every test, and plain bars are a fair rescue.
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
            .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
                if !told.load(Ordering::Relaxed) && state.pos() > 0 {
                    // A tracker has no way to report a failure, and a terminal that is gone shows nothing anyway.
                    let _ = write!(out, "{} left", scale::duration(state.eta().as_secs_f64()));
                }
            });
        let bar = self.all.add(bar.with_style(style).with_prefix(label.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Bar { bar, moved: AtomicBool::new(false), tells_left }
    }
}

/// One bar; it disappears when its task ends, for the stage's own line says what came out.
struct Bar {
    bar: ProgressBar,
    /// Whether anything was reported yet: the first position of resumed work is no progress of this process.
    moved: AtomicBool,
    /// Whether the message says how much time is left, so that the bar need not.
    tells_left: Arc<AtomicBool>,
}

impl Task for Bar {
    fn advance(&self, n: u64) {
        self.moved.store(true, Ordering::Relaxed);
        self.bar.inc(n);
    }

    fn position(&self, n: u64) {
        self.bar.set_position(n);
        if !self.moved.swap(true, Ordering::Relaxed) {
            self.bar.reset_eta();
        }
    }

    fn message(&self, text: &str) {
        self.tells_left.store(text.ends_with("left"), Ordering::Relaxed);
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A task that writes a plain line now and then.
struct Line {
    label: String,
    total: Option<u64>,
    unit: Unit,
    begun: Instant,
    position: AtomicU64,
    state: Mutex<LineState>,
}

struct LineState {
    message: String,
    /// Where this process began: resumed work does not count towards its speed.
    from: Option<u64>,
    written: Instant,
}

impl Line {
    fn new(label: &str, total: Option<u64>, unit: Unit) -> Self {
        let now = Instant::now();
        Self {
            label: label.to_owned(),
            total,
            unit,
            begun: now,
            position: AtomicU64::new(0),
            state: Mutex::new(LineState { message: String::new(), from: None, written: now }),
        }
    }

    fn moved(&self, position: u64, first: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let from = *state.from.get_or_insert(first);
        if state.written.elapsed() >= EVERY {
            state.written = Instant::now();
            let text = describe(
                &self.label,
                position,
                from,
                self.total,
                self.unit,
                &state.message,
                self.begun.elapsed().as_secs_f64(),
            );
            drop(state);
            anstream::eprintln!("{text}");
        }
    }
}

impl Task for Line {
    fn advance(&self, n: u64) {
        let before = self.position.fetch_add(n, Ordering::Relaxed);
        self.moved(before + n, before);
    }

    fn position(&self, n: u64) {
        self.position.store(n, Ordering::Relaxed);
        self.moved(n, n);
    }

    fn message(&self, text: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).message = text.to_owned();
    }
}

/// `  pretrain: 45%, 1,234 of 5,678 steps, loss 2.31, 3 min 05 s left`.
fn describe(
    label: &str,
    position: u64,
    from: u64,
    total: Option<u64>,
    unit: Unit,
    message: &str,
    seconds: f64,
) -> String {
    let amount = |n: u64| if unit == Unit::Bytes { scale::bytes(n) } else { scale::count(n) };
    let name = if unit == Unit::Bytes { String::new() } else { format!(" {}", unit.label()) };
    let mut parts = Vec::new();
    match total {
        Some(total) if total > 0 => {
            parts.push(format!("{:.0}%", 100.0 * position as f64 / total as f64));
            parts.push(format!("{} of {}{name}", amount(position), amount(total)));
        }
        _ => parts.push(format!("{}{name}", amount(position))),
    }
    if !message.is_empty() {
        parts.push(message.to_owned());
    }
    let done = position.saturating_sub(from);
    if let (Some(total), true) = (total, done > 0 && !message.ends_with("left")) {
        let left = seconds / done as f64 * total.saturating_sub(position) as f64;
        parts.push(format!("{} left", scale::duration(left)));
    }
    format!("  {label}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_share_and_time_left() {
        let text = describe("pretrain", 60, 50, Some(100), Unit::Steps, "loss 2.1", 10.0);
        assert_eq!(text, "  pretrain: 60%, 60 of 100 steps, loss 2.1, 40 s left");
        let text = describe("read", 12_000_000, 0, None, Unit::Bytes, "", 1.0);
        assert_eq!(text, "  read: 12 MB");
        let text = describe("sft", 1, 0, Some(4), Unit::Steps, "loss 2.1, 9 s left", 3.0);
        assert_eq!(text, "  sft: 25%, 1 of 4 steps, loss 2.1, 9 s left");
    }

    #[test]
    fn every_template_is_valid() {
        let bars = Bars { all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), color: true };
        for (total, unit) in
            [(None, Unit::Bytes), (Some(4), Unit::Steps), (Some(9), Unit::Bytes), (None, Unit::Items)]
        {
            let task = bars.begin("x", total, unit);
            task.position(2);
            task.advance(1);
            task.message("m");
            assert_eq!(task.bar.position(), 3);
        }
    }
}
