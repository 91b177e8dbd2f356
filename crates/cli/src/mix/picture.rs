//! The picture of a search: the shares of each source before and after, and how well the law foretold runs that were left out of it.

use maud::{Markup, html};
use scaling::mixture::{Fit, Proposal, Run};

use crate::report::scale::{Scale, percent, round_ticks, tick_texts};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 34.0;
const LINE: f64 = 34.0;
const PLOT: f64 = 300.0;

const STYLE: &str = "svg .was { fill: var(--two); } svg .is { fill: var(--one); } svg .run { fill: var(--one); fill-opacity: .7; } \
                     svg .even { stroke: var(--ink); stroke-dasharray: 4 4; }";

/// A picture that stands alone.
pub fn draw(names: &[&str], natural: &[f64], runs: &[Run], law: &Fit, proposal: &Proposal) -> String {
    let bars = TOP + names.len() as f64 * LINE;
    let height = bars + PLOT + 70.0;
    let style = format!("{}\n{STYLE}", include_str!("../report/style.css"));
    let picture = html! {
        (shares(names, natural, &proposal.mixture, bars))
        (foretold(runs, law, bars + 50.0))
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" \
         width=\"{WIDTH}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Shares of the sources, and losses foretold \
         and measured\"><style>{style}</style>{}</svg>\n",
        picture.into_string()
    )
}

fn shares(names: &[&str], natural: &[f64], proposed: &[f64], floor: f64) -> Markup {
    let most = natural.iter().chain(proposed).copied().fold(0.1, f64::max);
    let x = Scale::linear(0.0, most, LEFT, RIGHT - 40.0);
    html! {
        rect.was x=(LEFT) y="8" width="10" height="10" {} text.key x=(LEFT + 16.0) y="17" { "natural" }
        rect.is x=(LEFT + 90.0) y="8" width="10" height="10" {} text.key x=(LEFT + 106.0) y="17" { "proposed" }
        @for (index, name) in names.iter().enumerate() {
            @let y = TOP + index as f64 * LINE;
            text.step x=(LEFT - 10.0) y=(y + 17.0) text-anchor="end" { (name) }
            @for (class, share, y) in [("was", natural[index], y), ("is", proposed[index], y + 13.0)] {
                rect class=(class) x=(LEFT) y=(y) width=(px(x.at(share) - LEFT)) height="11" {}
                text.tick x=(px(x.at(share) + 6.0)) y=(y + 9.5) { (percent(share)) }
            }
        }
        line.axis x1=(LEFT) x2=(LEFT) y1=(TOP - 4.0) y2=(floor) {}
    }
}

/// Measured losses over what was foretold of each run by a law that did not know it; on the line both are alike.
fn foretold(runs: &[Run], law: &Fit, top: f64) -> Markup {
    let pairs: Vec<(f64, f64)> = law.left_out.iter().copied().zip(runs.iter().map(|run| run.loss)).collect();
    let both = || pairs.iter().flat_map(|(x, y)| [*x, *y]);
    let (low, high) = (both().fold(f64::INFINITY, f64::min), both().fold(f64::NEG_INFINITY, f64::max));
    let ticks = round_ticks(low, high, 5);
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let floor = top + PLOT - 40.0;
    let (x, y) = (Scale::linear(low, high, LEFT, LEFT + PLOT), Scale::linear(low, high, floor, top));
    html! {
        @for (&tick, text) in ticks.iter().zip(tick_texts(&ticks, crate::report::scale::figures)) {
            line.grid x1=(LEFT) x2=(LEFT + PLOT) y1=(px(y.at(tick))) y2=(px(y.at(tick))) {}
            text.tick x=(LEFT - 8.0) y=(px(y.at(tick) + 3.5)) text-anchor="end" { (text) }
            text.tick x=(px(x.at(tick))) y=(floor + 17.0) text-anchor="middle" { (text) }
        }
        line.even x1=(px(x.at(low))) y1=(px(y.at(low))) x2=(px(x.at(high))) y2=(px(y.at(high))) {}
        @for (foretold, measured) in &pairs {
            circle.run cx=(px(x.at(*foretold))) cy=(px(y.at(*measured))) r="4" {}
        }
        text.axis-label x=(LEFT) y=(top - 12.0) { "bits per byte, measured" }
        text.axis-label x=(LEFT + PLOT) y=(floor + 34.0) text-anchor="end" { "foretold without the run" }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}
