//! A line plot as inline SVG: one or more series over a shared horizontal axis, themed by the page's style sheet.
//! It draws no more points than it has pixels for, and needs no script.

use maud::{Markup, html};

use super::scale::{Scale, figures, round_ticks, tick_texts};

/// One curve. `class` is the colour's name in the style sheet (`one`, `two`, `three`).
pub struct Series {
    /// What the direct label beside the curve's end says.
    pub label: String,
    /// Colour class.
    pub class: &'static str,
    /// `(x, y)`, ascending in x; values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Draw it thin and pale, as the background of a smoothed curve.
    pub faint: bool,
    /// Mark each point (for few points that were measured one by one).
    pub marks: bool,
}

impl Series {
    /// A plain curve.
    pub fn new(label: impl Into<String>, class: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { label: label.into(), class, points, faint: false, marks: false }
    }

    /// The same curve as a pale background.
    pub fn faint(mut self) -> Self {
        self.faint = true;
        self
    }

    /// The same curve with its points marked.
    pub fn marked(mut self) -> Self {
        self.marks = true;
        self
    }
}

/// Up to so many marked points have their values beside them.
const LABELLED: usize = 12;

/// How values are written on an axis.
pub type Format = fn(f64) -> String;

/// A plot's frame: labels, formats and scales.
pub struct LinePlot {
    /// What the plot shows, for those who cannot see it.
    pub title: String,
    /// Horizontal axis label.
    pub x_label: String,
    /// Vertical axis label, written above the axis.
    pub y_label: String,
    /// Tick format of x.
    pub x_format: Format,
    /// Tick format of y.
    pub y_format: Format,
    /// Powers of two on x.
    pub x_logarithmic: bool,
    /// Let y start at zero.
    pub y_from_zero: bool,
    /// Width in user units; the page scales it.
    pub width: f64,
    /// Height in user units.
    pub height: f64,
}

impl Default for LinePlot {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            x_format: figures,
            y_format: figures,
            x_logarithmic: false,
            y_from_zero: false,
            width: 520.0,
            height: 280.0,
        }
    }
}

impl LinePlot {
    /// The plot; an empty one says that there is nothing to show.
    pub fn draw(&self, series: &[Series]) -> Markup {
        let finite: Vec<(f64, f64)> = series
            .iter()
            .flat_map(|s| &s.points)
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect();
        if finite.is_empty() {
            return html! { p.nothing { "Nothing was recorded for this plot." } };
        }
        let (left, right, top, bottom) = (52.0, 18.0, 26.0, 40.0);
        let extent = |pick: fn(&(f64, f64)) -> f64| {
            finite.iter().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
        };
        let (x_low, x_high) = extent(|p| p.0);
        let (y_low, y_high) = extent(|p| p.1);
        let y_ticks = round_ticks(if self.y_from_zero { 0.0 } else { y_low }, y_high, 5);
        let x = if self.x_logarithmic {
            Scale::logarithmic(x_low, x_high, left, self.width - right)
        } else {
            Scale::linear(x_low, x_high, left, self.width - right)
        };
        let (y_first, y_last) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
        let y = Scale::linear(y_first, y_last, self.height - bottom, top);
        let floor = self.height - bottom;
        html! {
            svg.plot.wide[self.width > 700.0] viewBox={ "0 0 " (self.width) " " (self.height) } role="img" aria-label=(self.title) {
                @for (&tick, text) in y_ticks.iter().zip(tick_texts(&y_ticks, self.y_format)) {
                    line.grid x1=(left) x2=(self.width - right) y1=(px(y.at(tick))) y2=(px(y.at(tick))) {}
                    text.tick x=(left - 8.0) y=(px(y.at(tick) + 3.5)) text-anchor="end" { (text) }
                }
                @for tick in x.ticks(6) {
                    line.notch x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(floor) y2=(floor + 4.0) {}
                    text.tick x=(px(x.at(tick))) y=(floor + 17.0) text-anchor="middle" { ((self.x_format)(tick)) }
                }
                line.axis x1=(left) x2=(self.width - right) y1=(floor) y2=(floor) {}
                text.axis-label x=(left - 44.0) y=(13) { (self.y_label) }
                text.axis-label x=(self.width - right) y=(self.height - 6.0) text-anchor="end" { (self.x_label) }
                @for one in series {
                    (self.curve(one, &x, &y))
                }
                (self.legend(series, left))
            }
        }
    }

    fn curve(&self, series: &Series, x: &Scale, y: &Scale) -> Markup {
        let points: Vec<(f64, f64)> =
            series.points.iter().copied().filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
        let mut path = String::new();
        for (i, (a, b)) in thin(&points, self.width as usize).into_iter().enumerate() {
            path.push(if i == 0 { 'M' } else { 'L' });
            path.push_str(&format!("{} {}", px(x.at(a)), px(y.at(b))));
        }
        let class = format!("curve {}{}", series.class, if series.faint { " faint" } else { "" });
        html! {
            path class=(class) d=(path) {
                title { (series.label) }
            }
            @if series.marks {
                @for (a, b) in &points {
                    circle class={ "mark " (series.class) } cx=(px(x.at(*a))) cy=(px(y.at(*b))) r="4" {
                        title { ((self.x_format)(*a)) ": " ((self.y_format)(*b)) }
                    }
                    @if points.len() <= LABELLED {
                        text.tick x=(px(x.at(*a))) y=(px(y.at(*b) - 10.0)) text-anchor="middle" { ((self.y_format)(*b)) }
                    }
                }
            }
        }
    }

    fn legend(&self, series: &[Series], left: f64) -> Markup {
        let named: Vec<&Series> = series.iter().filter(|s| !s.faint && !s.label.is_empty()).collect();
        if named.len() < 2 {
            return html! {};
        }
        // Laid out from the right at about 6.2 units a character, so that no text measuring is needed.
        let mut at = self.width - 18.0;
        let mut placed = Vec::new();
        for one in named.into_iter().rev() {
            at -= one.label.chars().count() as f64 * 6.2 + 24.0;
            placed.push((at.max(left), one));
        }
        html! {
            @for (at, one) in placed {
                line class={ "curve " (one.class) } x1=(px(at)) x2=(px(at + 14.0)) y1="9" y2="9" {}
                text.key x=(px(at + 18.0)) y="13" { (one.label) }
            }
        }
    }
}

/// A coordinate with one decimal: enough on paper, and half the bytes.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// At most about `2 * columns` points that look the same: each column keeps its lowest and highest value, in order.
fn thin(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    if points.len() <= 2 * columns {
        return points.to_vec();
    }
    let mut out = Vec::with_capacity(2 * columns);
    for chunk in points.chunks(points.len().div_ceil(columns)) {
        let lowest = (0..chunk.len()).min_by(|a, b| chunk[*a].1.total_cmp(&chunk[*b].1)).unwrap_or(0);
        let highest = (0..chunk.len()).max_by(|a, b| chunk[*a].1.total_cmp(&chunk[*b].1)).unwrap_or(0);
        out.push(chunk[lowest.min(highest)]);
        if lowest != highest {
            out.push(chunk[lowest.max(highest)]);
        }
    }
    out
}

/// An exponential moving average, unbiased at the start, over `window` points.
pub fn smooth(points: &[(f64, f64)], window: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / window.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .filter(|p| p.1.is_finite())
        .map(|(x, y)| {
            sum = keep * sum + y;
            weight = keep * weight + 1.0;
            (*x, sum / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_extremes() {
        let points: Vec<(f64, f64)> = (0..10_000)
            .map(|i| (f64::from(i), if i == 5_003 { 99.0 } else { (f64::from(i) / 50.0).sin() }))
            .collect();
        let thinned = thin(&points, 300);
        assert!(thinned.len() <= 600, "{}", thinned.len());
        assert!(thinned.contains(&(5_003.0, 99.0)));
        assert!(thinned.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn smoothing_is_unbiased_at_the_start() {
        let flat: Vec<(f64, f64)> = (0..5).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smooth(&flat, 20.0).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
    }

    #[test]
    fn labels_are_escaped_and_empty_plots_say_so() {
        let plot = LinePlot { title: "a < b".into(), ..LinePlot::default() };
        assert!(plot.draw(&[]).into_string().contains("Nothing was recorded"));
        let drawn =
            plot.draw(&[Series::new("<script>", "one", vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)])]);
        let drawn = drawn.into_string();
        assert!(!drawn.contains("<script>") && !drawn.contains("NaN"), "{drawn}");
    }
}
