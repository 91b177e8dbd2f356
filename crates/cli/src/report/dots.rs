//! The evaluation as a dot plot: one row a task kind, before and after tuning, each with its confidence interval.

use maud::{Markup, html};

use super::scale::{Scale, percent};

/// An accuracy with its interval, as shares of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accuracy {
    /// Items answered correctly.
    pub correct: u64,
    /// Items asked.
    pub total: u64,
    /// The share of correct answers.
    pub value: f64,
    /// Lower end of the 95% interval.
    pub low: f64,
    /// Upper end of the 95% interval.
    pub high: f64,
}

/// A task kind and its two accuracies.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The kind's name.
    pub kind: String,
    /// Before tuning.
    pub before: Option<Accuracy>,
    /// After tuning.
    pub after: Option<Accuracy>,
}

const ROW: f64 = 34.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 34.0;

/// The picture.
pub fn picture(rows: &[Row]) -> Markup {
    if rows.is_empty() {
        return html! { p.nothing { "No evaluation was recorded." } };
    }
    let x = Scale::linear(0.0, 1.0, LEFT, RIGHT);
    let height = TOP + rows.len() as f64 * ROW + 34.0;
    let floor = height - 30.0;
    html! {
        svg.plot.dots viewBox={ "0 0 720 " (height) } role="img" aria-label="Accuracy before and after tuning, by task kind" {
            circle.dot.before cx=(LEFT) cy="12" r="5" {} text.key x=(LEFT + 10.0) y="16" { "base" }
            circle.dot.after cx=(LEFT + 60.0) cy="12" r="5" {} text.key x=(LEFT + 70.0) y="16" { "tuned" }
            text.tick x=(LEFT + 124.0) y="16" { "lines: 95% confidence" }
            @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.grid x1=(x.at(tick)) x2=(x.at(tick)) y1=(TOP - 6.0) y2=(floor) {}
                text.tick x=(x.at(tick)) y=(floor + 17.0) text-anchor="middle" { (percent(tick)) }
            }
            @for (i, row) in rows.iter().enumerate() {
                @let y = TOP + (i as f64 + 0.5) * ROW;
                text.step x=(LEFT - 14.0) y=(y + 4.0) text-anchor="end" { (row.kind) }
                @if let (Some(before), Some(after)) = (row.before, row.after) {
                    line.span x1=(fixed(x.at(before.value))) x2=(fixed(x.at(after.value))) y1=(y) y2=(y) {}
                }
                @if let Some(accuracy) = row.before { (dot("before", &x, y + 3.0, y, accuracy)) }
                @if let Some(accuracy) = row.after { (dot("after", &x, y - 3.0, y, accuracy)) }
            }
        }
    }
}

fn dot(class: &str, x: &Scale, whisker: f64, y: f64, accuracy: Accuracy) -> Markup {
    html! {
        line class={ "whisker " (class) } x1=(fixed(x.at(accuracy.low))) x2=(fixed(x.at(accuracy.high))) y1=(whisker) y2=(whisker) {}
        circle class={ "dot " (class) } cx=(fixed(x.at(accuracy.value))) cy=(y) r="5" {
            title { (percent(accuracy.value)) " (" (accuracy.correct) " of " (accuracy.total) ")" }
        }
    }
}

fn fixed(value: f64) -> String {
    format!("{value:.1}")
}

/// The table with counts and intervals.
pub fn table(rows: &[Row]) -> Markup {
    let cell = |accuracy: Option<Accuracy>| match accuracy {
        Some(a) => {
            html! { (percent(a.value)) span.interval { " [" (percent(a.low)) ", " (percent(a.high)) "]" } }
        }
        None => html! { "–" },
    };
    let items = |row: &Row| row.after.or(row.before).map_or(0, |a| a.total);
    html! {
        table {
            thead { tr { th { "kind" } th.number { "items" } th.number { "base" } th.number { "tuned" } } }
            tbody {
                @for row in rows {
                    tr { td { (row.kind) } td.number { (items(row)) } td.number { (cell(row.before)) } td.number { (cell(row.after)) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_accuracies_and_their_intervals_appear() {
        let rows = [Row {
            kind: "arithmetic".into(),
            before: Some(Accuracy { correct: 1, total: 100, value: 0.01, low: 0.002, high: 0.054 }),
            after: Some(Accuracy { correct: 90, total: 100, value: 0.9, low: 0.826, high: 0.945 }),
        }];
        let table = table(&rows).into_string();
        for wanted in ["arithmetic", "1.0%", "90%", "[83%, 94%]"] {
            assert!(table.contains(wanted), "{wanted} is missing in {table}");
        }
        assert!(picture(&rows).into_string().contains("90% (90 of 100)"));
    }
}
