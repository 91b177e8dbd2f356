//! A histogram as inline SVG: bars that touch, over a linear or a logarithmic axis.

use corpus::survey::Bin;
use maud::{Markup, html};

use super::line::{Format, px};
use super::scale::{Scale, count, figures, percent, round_ticks, short};

/// A histogram's frame.
pub struct Histogram {
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// Horizontal axis label.
    pub x_label: String,
    /// How values are written.
    pub x_format: Format,
    /// Equal ratios at equal distances; all edges must be above zero.
    pub x_logarithmic: bool,
    /// Values to mark, with a word for each.
    pub marks: Vec<(f64, &'static str)>,
    /// Width in user units; the page scales it.
    pub width: f64,
    /// Height in user units.
    pub height: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_label: String::new(),
            x_format: figures,
            x_logarithmic: false,
            marks: Vec::new(),
            width: 520.0,
            height: 240.0,
        }
    }
}

impl Histogram {
    /// The picture; without a bin it says that there is nothing to show.
    pub fn draw(&self, bins: &[Bin]) -> Markup {
        let bins: Vec<&Bin> = bins.iter().filter(|bin| bin.low.is_finite() && bin.high.is_finite()).collect();
        let (Some(first), Some(last)) = (bins.first(), bins.last()) else {
            return html! { p.nothing { "There is no value to show." } };
        };
        let (left, right, top, bottom) = (52.0, 18.0, if self.marks.is_empty() { 26.0 } else { 44.0 }, 40.0);
        let (x, x_ticks) = if self.x_logarithmic {
            let x = Scale::logarithmic(first.low, last.high, left, self.width - right);
            let ticks = x.decades(6);
            (x, ticks)
        } else {
            let x = Scale::linear(first.low, last.high, left, self.width - right);
            let ticks = x.ticks(6);
            (x, ticks)
        };
        let total: u64 = bins.iter().map(|bin| bin.count).sum();
        let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
        let y_ticks: Vec<f64> =
            round_ticks(0.0, most as f64, 4).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        let floor = self.height - bottom;
        let y = Scale::linear(0.0, y_ticks.last().copied().unwrap_or(1.0).max(most as f64), floor, top);
        html! {
            svg.plot.wide[self.width > 700.0] viewBox={ "0 0 " (self.width) " " (self.height) } role="img" aria-label=(self.title) {
                @for &tick in &y_ticks {
                    line.grid x1=(left) x2=(self.width - right) y1=(px(y.at(tick))) y2=(px(y.at(tick))) {}
                    text.tick x=(left - 8.0) y=(px(y.at(tick) + 3.5)) text-anchor="end" { (short(tick)) }
                }
                @for bin in &bins {
                    @let (from, to) = (x.at(bin.low), x.at(bin.high));
                    @if bin.count > 0 {
                        // A bin with little in it is seen as well.
                        @let high = (floor - y.at(bin.count as f64)).max(1.0);
                        rect.kept x=(px(from + 0.4)) y=(px(floor - high)) width=(px((to - from - 0.8).max(0.6))) height=(px(high)) {
                            title {
                                (self.span(bin)) ": " (count(bin.count)) " (" (percent(bin.count as f64 / total.max(1) as f64)) ")"
                            }
                        }
                    }
                }
                line.axis x1=(left) x2=(self.width - right) y1=(floor) y2=(floor) {}
                @for tick in x_ticks {
                    line.notch x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(floor) y2=(floor + 4.0) {}
                    text.tick x=(px(x.at(tick))) y=(floor + 17.0) text-anchor="middle" { ((self.x_format)(tick)) }
                }
                @for (value, word) in self.marks.iter().filter(|(value, _)| (first.low..=last.high).contains(value)) {
                    line.quantile x1=(px(x.at(*value))) x2=(px(x.at(*value))) y1=(top - 8.0) y2=(floor) {}
                    text.tick x=(px(x.at(*value))) y=(top - 13.0) text-anchor="middle" { (word) " " ((self.x_format)(*value)) }
                }
                text.axis-label x=(left - 44.0) y=(13) { "documents" }
                text.axis-label x=(self.width - right) y=(self.height - 6.0) text-anchor="end" { (self.x_label) }
            }
        }
    }
}

impl Histogram {
    /// A bin's edges, with as many decimals as tell them apart.
    fn span(&self, bin: &Bin) -> String {
        let (low, high) = ((self.x_format)(bin.low), (self.x_format)(bin.high));
        if low != high {
            return format!("{low} to {high}");
        }
        let decimals = (1.0 - (bin.high - bin.low).log10().floor()).clamp(0.0, 20.0) as usize;
        format!("{:.decimals$} to {:.decimals$}", bin.low, bin.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_is_a_bar_with_its_count() {
        let bins = [(1.0, 10.0, 3), (10.0, 100.0, 0), (100.0, 1000.0, 1)];
        let bins = bins.map(|(low, high, count)| Bin { low, high, count });
        let plot = Histogram { title: "a < b".into(), x_logarithmic: true, ..Histogram::default() };
        let drawn = plot.draw(&bins).into_string();
        assert_eq!(drawn.matches("<rect").count(), 2, "{drawn}");
        assert!(drawn.contains("1 to 10: 3 (75%)") && drawn.contains("a &lt; b"), "{drawn}");
        let narrow = [Bin { low: 0.5, high: 0.5 + 1.0 / 8192.0, count: 1 }];
        assert!(Histogram::default().draw(&narrow).into_string().contains("0.50000 to 0.50012: 1"));
        assert!(plot.draw(&[]).into_string().contains("no value"));
        let endless = [Bin { low: f64::MIN, high: f64::INFINITY, count: 1 }];
        assert!(plot.draw(&endless).into_string().contains("no value"));
    }
}
