//! The report's page: sections, captions and tables around the pictures, as one HTML text with its style inside.
//! It knows what is shown and in which order; where the figures come from is `facts`' business.

use maud::{Markup, html};

use super::line::{LinePlot, Series, smooth};
use super::scale::{bytes, count, figures, percent, short};
use super::{dots, funnel, lineage, shell};

/// A headline figure.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// The figure.
    pub value: String,
    /// What explains it.
    pub note: String,
}

/// The curves of one training stage, by step.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Training loss, nats a token.
    pub loss: Vec<(f64, f64)>,
    /// Held-out loss, nats a token, where it was measured.
    pub held_out: Vec<(f64, f64)>,
    /// Learning rate.
    pub learning_rate: Vec<(f64, f64)>,
    /// Tokens a second.
    pub throughput: Vec<(f64, f64)>,
}

/// A text that the model wrote.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Written by the tuned model as a reply, or by the base model as a continuation.
    pub chat: bool,
    /// What it was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
}

/// Everything that the page shows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The run's name.
    pub name: String,
    /// One sentence on what was made.
    pub lead: String,
    /// Headline figures.
    pub headline: Vec<Fact>,
    /// Curation steps.
    pub curation: Vec<funnel::Step>,
    /// Inputs that could not be read: total and examples (input, reason).
    pub skipped: (u64, Vec<(String, String)>),
    /// Documents held out for measuring.
    pub held_out: u64,
    /// Documents by language.
    pub languages: Vec<(String, u64)>,
    /// Documents by kind of input.
    pub kinds: Vec<(String, u64)>,
    /// `(vocabulary size, bytes a token)` on held-out text.
    pub compression: Vec<(f64, f64)>,
    /// The vocabulary that the model uses.
    pub vocabulary: u64,
    /// Pretraining.
    pub pretrain: Curves,
    /// Tuning.
    pub sft: Curves,
    /// Accuracy by task kind.
    pub accuracy: Vec<dots::Row>,
    /// Bits per byte: `(text, base, tuned)`.
    pub bits_per_byte: Vec<(String, Option<f64>, Option<f64>)>,
    /// Generations.
    pub samples: Vec<Sample>,
    /// Every stage.
    pub stages: Vec<lineage::Stage>,
    /// `(label, value)` rows that repeat the run.
    pub repeat: Vec<(String, String)>,
    /// The resolved settings as TOML.
    pub resolved: String,
}

impl Page {
    /// The page as HTML.
    pub fn render(&self) -> String {
        let title = format!("{} · Altiplano", self.name);
        let body = html! {
            (self.head())
            (self.curation())
            (self.tokenizer())
            (self.pretraining())
            (self.tuning())
            (self.evaluation())
            (self.samples())
            (self.lineage())
            (self.repeat())
        };
        shell::page(&title, "", None, &body)
    }

    fn head(&self) -> Markup {
        html! {
            header {
                p.over { "A model raised from scratch" }
                h1 { (self.name) }
                p.lead { (self.lead) }
                (headline(&self.headline))
            }
        }
    }

    fn curation(&self) -> Markup {
        let share = |rows: &[(String, u64)], label: &str| {
            let total: u64 = rows.iter().map(|r| r.1).sum();
            html! {
                @if !rows.is_empty() {
                    div {
                        h3 { (label) }
                        table { tbody {
                            @for (name, n) in rows.iter().take(8) {
                                tr { td { (name) } td.number { (count(*n)) } td.number { (percent(*n as f64 / total.max(1) as f64)) } }
                            }
                            @if rows.len() > 8 {
                                @let rest: u64 = rows[8..].iter().map(|r| r.1).sum();
                                tr { td { (rows.len() - 8) " more" } td.number { (count(rest)) } td.number { (percent(rest as f64 / total.max(1) as f64)) } }
                            }
                        } }
                    }
                }
            }
        };
        let (skipped, examples) = &self.skipped;
        html! {
            section {
                h2 { "Curation" }
                @if let (Some(first), Some(last)) = (self.curation.first(), self.curation.last()) {
                    p.say {
                        (count(first.documents_in)) " documents (" (bytes(first.bytes_in)) ") were read; "
                        (count(last.documents_out)) " (" (bytes(last.bytes_out)) ", "
                        (percent(last.bytes_out as f64 / first.bytes_in.max(1) as f64)) " of the text) were kept, "
                        (count(self.held_out)) " of them held out to measure on."
                    }
                }
                figure { (funnel::picture(&self.curation)) }
                details { summary { "Every step with the reason for each removal" } div.scroll { (funnel::table(&self.curation)) } }
                div.pair { (share(&self.languages, "Kept, by language")) (share(&self.kinds, "Kept, by kind")) }
                p.say { code { "alti curate report" } " on this run's folder makes a page of its own about the documents: hosts, lengths, scores, duplicates, samples." }
                @if *skipped > 0 {
                    details {
                        summary {
                            (count(*skipped)) @if *skipped == 1 { " input" } @else { " inputs" }
                            " could not be read and " @if *skipped == 1 { "was" } @else { "were" } " left out"
                        }
                        div.scroll { table { tbody {
                            @for (input, reason) in examples { tr { td { code { (input) } } td { (reason) } } }
                        } } }
                    }
                }
            }
        }
    }

    fn tokenizer(&self) -> Markup {
        let plot = LinePlot {
            title: "Bytes of held-out text a token against vocabulary size".into(),
            x_label: "vocabulary (ordinary tokens)".into(),
            y_label: "bytes a token".into(),
            x_format: |v| count(v.round() as u64),
            x_logarithmic: true,
            width: 960.0,
            ..LinePlot::default()
        };
        html! {
            section {
                h2 { "Tokenizer" }
                @if let (Some(last), Some(first)) = (self.compression.last(), self.compression.first()) {
                    p.say {
                        "Byte-level BPE with Llama 3's split pattern. On held-out text one of its "
                        (count(self.vocabulary)) " tokens stands for " (figures(last.1)) " bytes; with "
                        (count(first.0 as u64)) " ordinary tokens it would be " (figures(first.1)) "."
                    }
                }
                figure {
                    figcaption { "Compression" small { "More bytes a token: shorter sequences for the same text" } }
                    (plot.draw(&[Series::new("", "two", self.compression.clone()).marked()]))
                }
            }
        }
    }

    fn pretraining(&self) -> Markup {
        let curves = &self.pretrain;
        html! {
            section {
                h2 { "Pretraining" }
                @if let Some((_, last)) = smooth(&curves.loss, 20.0).last() {
                    p.say { (count(curves.loss.last().map_or(0.0, |p| p.0) as u64)) " steps; the smoothed loss ended at " (format!("{last:.3}")) " nats a token." }
                }
                figure {
                    figcaption { "Loss" small { "Nats a token; pale: each step, strong: its moving average" } }
                    (loss_plot("Pretraining loss", 960.0, 320.0).draw(&loss_series(curves)))
                }
                div.pair {
                    figure {
                        figcaption { "Learning rate" }
                        (small_plot("Learning rate", "", figures).draw(&[Series::new("", "three", curves.learning_rate.clone())]))
                    }
                    figure {
                        figcaption { "Throughput" }
                        (small_plot("Throughput", "tokens a second", short).draw(&[Series::new("", "two", curves.throughput.clone())]))
                    }
                }
            }
        }
    }

    fn tuning(&self) -> Markup {
        html! {
            section {
                h2 { "Tuning" }
                p.say { "Supervised fine-tuning on conversations in Llama 3's chat format; only the assistant's own tokens count." }
                div.pair {
                    figure {
                        figcaption { "Loss" small { "Nats a counted token" } }
                        (loss_plot("Tuning loss", 520.0, 280.0).draw(&loss_series(&self.sft)))
                    }
                    figure {
                        figcaption { "Learning rate" small { "By step" } }
                        (small_plot("Learning rate", "", figures).draw(&[Series::new("", "three", self.sft.learning_rate.clone())]))
                    }
                }
            }
        }
    }

    fn evaluation(&self) -> Markup {
        html! {
            section {
                h2 { "Evaluation" }
                p.say { "Accuracy on held-out questions that the training never contained, before and after tuning, with Wilson's 95% intervals." }
                figure { (dots::picture(&self.accuracy)) }
                div.scroll { (dots::table(&self.accuracy)) }
                @if !self.bits_per_byte.is_empty() {
                    h3 { "Bits per byte on held-out documents" }
                    p.say { "How many bits the model needs for a byte of text that it has not seen; fewer is better, and the figure does not depend on the tokenizer." }
                    table {
                        thead { tr { th { "text" } th.number { "base" } th.number { "tuned" } } }
                        tbody { @for (text, base, tuned) in &self.bits_per_byte {
                            tr { td { (text) } td.number { (optional(*base)) } td.number { (optional(*tuned)) } }
                        } }
                    }
                }
            }
        }
    }

    fn samples(&self) -> Markup {
        let (chat, base): (Vec<&Sample>, Vec<&Sample>) = self.samples.iter().partition(|s| s.chat);
        html! {
            section {
                h2 { "Samples" }
                @if self.samples.is_empty() { p.nothing { "No samples were recorded." } }
                @if !chat.is_empty() {
                    h3 { "The assistant's replies" }
                    div.talk { @for sample in chat {
                        div.card { p.who { "person" } p.prompt { (sample.prompt) } p.who { "assistant" } p.answer { (sample.text) } }
                    } }
                }
                @if !base.is_empty() {
                    h3 { "The base model's continuations" }
                    p.say { "Bold: what it was given." }
                    div.talk { @for sample in base {
                        div.card.base { div.text { span.prompt { (sample.prompt) } span.answer { (sample.text) } } }
                    } }
                }
            }
        }
    }

    fn lineage(&self) -> Markup {
        html! {
            section {
                h2 { "Lineage" }
                p.say { "Every artifact with the BLAKE3 hash of what it was made from. An arrow is drawn where an output's hash of one stage is an input's hash of another." }
                figure { (lineage::picture(&self.stages)) }
                div.scroll { (lineage::table(&self.stages)) }
            }
        }
    }

    fn repeat(&self) -> Markup {
        html! {
            section {
                h2 { "How to repeat this" }
                table { tbody { @for (label, value) in &self.repeat { tr { td.what { (label) } td { code.lines { (value) } } } } } }
                details { summary { "Every setting that was used (resolved.toml)" } pre { (self.resolved) } }
            }
        }
    }
}

/// The headline figures in a row of boxes.
pub fn headline(facts: &[Fact]) -> Markup {
    html! {
        div.facts {
            @for fact in facts {
                div.fact {
                    div.label { (fact.label) }
                    div.value { (fact.value) }
                    div.note { (fact.note) }
                }
            }
        }
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}

fn loss_plot(title: &str, width: f64, height: f64) -> LinePlot {
    LinePlot {
        title: title.to_owned(),
        x_label: "step".into(),
        x_format: short,
        width,
        height,
        ..LinePlot::default()
    }
}

fn small_plot(title: &str, y_label: &str, y_format: fn(f64) -> String) -> LinePlot {
    LinePlot {
        title: title.to_owned(),
        x_label: "step".into(),
        y_label: y_label.to_owned(),
        x_format: short,
        y_format,
        y_from_zero: true,
        ..LinePlot::default()
    }
}

fn loss_series(curves: &Curves) -> Vec<Series> {
    let window = curves.loss.len() as f64 / 40.0;
    let mut series = vec![
        Series::new("each step", "one", curves.loss.clone()).faint(),
        Series::new("training", "one", smooth(&curves.loss, window)),
    ];
    if !curves.held_out.is_empty() {
        series.push(Series::new("held out", "two", curves.held_out.clone()).marked());
    }
    series
}
