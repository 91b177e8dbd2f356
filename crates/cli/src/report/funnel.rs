//! The curation funnel as a picture: what entered, what each step let through, and what it took out.

use maud::{Markup, html};

use super::scale::{bytes, count, percent};

/// One step of the funnel with its most frequent reasons of removal.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The step's name.
    pub name: String,
    /// Documents that entered.
    pub documents_in: u64,
    /// Documents that left.
    pub documents_out: u64,
    /// Bytes of text that entered.
    pub bytes_in: u64,
    /// Bytes of text that left.
    pub bytes_out: u64,
    /// Reasons and how many documents each removed.
    pub removed: Vec<(String, u64)>,
    /// Changes inside documents that went on, and how many.
    pub changed: Vec<(String, u64)>,
}

/// Height of one step's row.
const ROW: f64 = 46.0;
/// Height of the bar in it.
const BAR: f64 = 26.0;
/// Widest bar and where it begins.
const WIDTH: f64 = 370.0;
const LEFT: f64 = 150.0;

/// The picture: one bar a step, as wide as the documents that are left, joined to the next.
pub fn picture(steps: &[Step]) -> Markup {
    let Some(first) = steps.first() else {
        return html! { p.nothing { "No curation was recorded." } };
    };
    // The reading removes nothing: it is the first bar.
    let steps =
        if first.documents_in == first.documents_out && steps.len() > 1 { &steps[1..] } else { steps };
    let most = first.documents_in.max(1) as f64;
    let wide = |documents: u64| (documents as f64 / most * WIDTH).max(1.0);
    let height = ROW * (steps.len() as f64 + 1.0) - (ROW - BAR);
    html! {
        svg.plot.wide.funnel viewBox={ "0 0 960 " (height) } role="img" aria-label="Documents left after each step of the curation" {
            (row(0.0, "read", first.documents_in, first.bytes_in, wide(first.documents_in), wide(first.documents_in)))
            text.note x=(LEFT + WIDTH + 170.0) y=(BAR / 2.0 + 4.0) { "everything that could be read" }
            @for (i, step) in steps.iter().enumerate() {
                @let top = (i as f64 + 1.0) * ROW;
                @let before = wide(step.documents_in);
                @let after = wide(step.documents_out);
                polygon.flow points={
                    (LEFT) "," (top - ROW + BAR) " " (LEFT + before) "," (top - ROW + BAR) " "
                    (LEFT + after) "," (top) " " (LEFT) "," (top)
                } {}
                (row(top, &step.name, step.documents_out, step.bytes_out, before, after))
                text.note x=(LEFT + WIDTH + 170.0) y=(top + BAR / 2.0 + 4.0) { (what_left(step)) }
            }
        }
    }
}

fn row(top: f64, name: &str, documents: u64, size: u64, before: f64, after: f64) -> Markup {
    html! {
        text.step x=(LEFT - 12.0) y=(top + BAR / 2.0 + 4.0) text-anchor="end" { (name) }
        @if before > after + 0.5 {
            rect.taken x=(LEFT + after) y=(top) width=(format!("{:.1}", before - after)) height=(BAR) {}
        }
        rect.kept x=(LEFT) y=(top) width=(format!("{after:.1}")) height=(BAR) rx="2" {
            title { (name) ": " (count(documents)) " documents, " (bytes(size)) }
        }
        text.value x=(LEFT + WIDTH + 10.0) y=(top + BAR / 2.0 + 4.0) { (count(documents)) }
        text.tick x=(LEFT + WIDTH + 82.0) y=(top + BAR / 2.0 + 4.0) { (bytes(size)) }
    }
}

/// What a step took out and its main reason, or what it changed, short enough for the margin of the picture.
fn what_left(step: &Step) -> String {
    let gone = step.documents_in.saturating_sub(step.documents_out);
    let first =
        |pairs: &[(String, u64)]| pairs.first().map(|(name, _)| name.chars().take(34).collect::<String>());
    if gone == 0 {
        return match first(&step.changed) {
            Some(change) => format!("none; changed: {change}"),
            None => "none".to_owned(),
        };
    }
    let share = percent(gone as f64 / step.documents_in.max(1) as f64);
    match first(&step.removed) {
        Some(reason) => format!("−{} ({share}): {reason}", count(gone)),
        None => format!("−{} ({share})", count(gone)),
    }
}

/// The table with every reason counted.
pub fn table(steps: &[Step]) -> Markup {
    html! {
        table {
            thead { tr { th { "step" } th.number { "documents in" } th.number { "out" } th.number { "text in" } th.number { "out" } th { "removed, by reason" } } }
            tbody {
                @for step in steps {
                    tr {
                        td { (step.name) }
                        td.number { (count(step.documents_in)) }
                        td.number { (count(step.documents_out)) }
                        td.number { (bytes(step.bytes_in)) }
                        td.number { (bytes(step.bytes_out)) }
                        td.reasons {
                            @if step.removed.is_empty() && step.changed.is_empty() { "–" }
                            @for (reason, n) in &step.removed {
                                span.reason { (reason) " " b { (count(*n)) } } " "
                            }
                            @for (change, n) in &step.changed {
                                span.reason.change { (change) " changed " b { (count(*n)) } } " "
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_and_count_is_in_the_table() {
        let steps = [Step {
            name: "gopher".into(),
            documents_in: 1_200,
            documents_out: 900,
            bytes_in: 5_000_000,
            bytes_out: 4_000_000,
            removed: vec![("few words".into(), 290), ("symbols".into(), 10)],
            changed: vec![("emails".into(), 7)],
        }];
        let table = table(&steps).into_string();
        for wanted in ["1,200", "900", "few words", "290", "symbols", "5 MB", "emails"] {
            assert!(table.contains(wanted), "{wanted} is missing in {table}");
        }
        let picture = picture(&steps).into_string();
        assert!(picture.contains("−300 (25%): few words"), "{picture}");
    }
}
