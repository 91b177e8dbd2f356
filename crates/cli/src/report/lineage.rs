//! Where everything came from: each stage, what it was made from and what it made, joined by equal hashes.
//! Two stages are joined in the picture only if an output's hash of one is an input's hash of the other.

use maud::{Markup, html};

use super::scale::duration;

/// One stage's record, reduced to names and hashes.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// The stage's name.
    pub name: String,
    /// `(name, hash)` of what it was made from.
    pub inputs: Vec<(String, String)>,
    /// `(name, hash)` of what it made.
    pub outputs: Vec<(String, String)>,
    /// Hash of its settings.
    pub settings: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
}

const BOX: f64 = 148.0;
const GAP: f64 = 32.0;

/// How many characters of a hash are shown; the tooltip holds all of it.
const SHOWN: usize = 12;

fn shown(hash: &str) -> &str {
    hash.get(..SHOWN).unwrap_or(hash)
}

/// Pairs `(maker, user)` of stage indices that share a hash.
fn joins(stages: &[Stage]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    for (user, stage) in stages.iter().enumerate() {
        for (maker, other) in stages.iter().enumerate() {
            let shares =
                other.outputs.iter().any(|(_, made)| stage.inputs.iter().any(|(_, used)| used == made));
            if maker != user && shares {
                out.push((maker, user));
            }
        }
    }
    out
}

/// The column of each stage: one more than the furthest of those that it was made from.
fn columns(stages: &[Stage], joins: &[(usize, usize)]) -> Vec<usize> {
    let mut column = vec![0; stages.len()];
    // As many passes as stages settle any graph without cycles, and end on one with.
    for _ in 0..stages.len() {
        for (maker, user) in joins {
            column[*user] = column[*user].max((column[*maker] + 1).min(stages.len()));
        }
    }
    column
}

/// The picture: boxes from left to right, the hash of the first output in each.
pub fn picture(stages: &[Stage]) -> Markup {
    if stages.is_empty() {
        return html! { p.nothing { "No stage is complete yet." } };
    }
    let joins = joins(stages);
    let columns = columns(stages, &joins);
    let wide = columns.iter().max().map_or(1, |c| c + 1);
    let mut used = vec![0usize; wide];
    let places: Vec<(f64, f64)> = columns
        .iter()
        .map(|column| {
            let row = used[*column];
            used[*column] += 1;
            // A step down from column to column keeps edges that pass over a column visible.
            (4.0 + *column as f64 * (BOX + GAP), 14.0 + row as f64 * 92.0 + (*column % 2) as f64 * 66.0)
        })
        .collect();
    let width = wide as f64 * (BOX + GAP) - GAP + 8.0;
    let height = places.iter().map(|p| p.1).fold(0.0, f64::max) + 70.0;
    html! {
        svg.plot.wide.lineage viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="Which stage was made from which" {
            @for (maker, user) in &joins {
                @let (x, y) = (places[*maker].0 + BOX, places[*maker].1 + 28.0);
                @let (u, v) = (places[*user].0, places[*user].1 + 28.0);
                @let bend = ((u - x) / 2.0).max(14.0);
                path.edge d={ "M" (x) " " (y) "C" (x + bend) " " (y) " " (u - bend) " " (v) " " (u - 4.0) " " (v) } {}
                path.tip d={ "M" (u) " " (v) "l-7 -4v8z" } {}
            }
            @for (stage, (x, y)) in stages.iter().zip(&places) {
                rect.box x=(x) y=(y) width=(BOX) height="56" rx="6" {}
                text.step x=(x + 12.0) y=(y + 22.0) { (stage.name) }
                @if let Some((_, hash)) = stage.outputs.first() {
                    text.hash x=(x + 12.0) y=(y + 42.0) { (shown(hash)) title { (hash) } }
                }
            }
        }
    }
}

/// The table: every artifact with the hash of what it was made from.
pub fn table(stages: &[Stage]) -> Markup {
    let list = |pairs: &[(String, String)]| {
        html! {
            @if pairs.is_empty() { "–" }
            @for (name, hash) in pairs {
                div.artifact { span { (name) } " " code title=(hash) { (shown(hash)) } }
            }
        }
    };
    html! {
        table {
            thead { tr { th { "stage" } th { "made from" } th { "settings" } th { "made" } th { "started (UTC)" } th.number { "took" } } }
            tbody {
                @for stage in stages {
                    tr {
                        td { b { (stage.name) } }
                        td { (list(&stage.inputs)) }
                        td { code title=(stage.settings) { (shown(&stage.settings)) } }
                        td { (list(&stage.outputs)) }
                        td.time { (stage.started.replace('T', " ").trim_end_matches('Z')) }
                        td.number { (duration(stage.seconds)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, inputs: &[&str], outputs: &[&str]) -> Stage {
        let pairs = |hashes: &[&str]| hashes.iter().map(|h| (format!("n-{h}"), (*h).to_owned())).collect();
        Stage { name: name.into(), inputs: pairs(inputs), outputs: pairs(outputs), ..Stage::default() }
    }

    #[test]
    fn stages_are_joined_by_hash_and_ordered_by_descent() {
        let stages = [
            stage("documents", &[], &["d"]),
            stage("tokenizer", &["d"], &["t"]),
            stage("tokens", &["d", "t"], &["k"]),
            stage("stranger", &["x"], &["y"]),
        ];
        let joins = joins(&stages);
        assert_eq!(joins, [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(columns(&stages, &joins), [0, 1, 2, 0]);
        assert!(table(&stages).into_string().contains("n-k"));
    }

    #[test]
    fn a_cycle_ends() {
        let stages = [stage("a", &["2"], &["1"]), stage("b", &["1"], &["2"])];
        assert!(picture(&stages).into_string().contains("svg"));
    }
}
