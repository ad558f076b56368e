//! Plots with two axes, as SVG that takes the width it is given: places are percentages, texts keep their size.
//!
//! Lines and areas are drawn in a nested `<svg>` whose 100 × 100 units are stretched over the plot (strokes are not);
//! dots and texts stand in the outer one, where nothing is stretched. Colours come from the style sheet by class.

use super::html::{Html, fixed};
use super::scale::{Scale, from_top, place, x_axis, y_axis};
use foils::metrics::Histogram;

/// A figure: what it shows, how to read it, the plot, and its numbers for those who cannot see it.
pub struct Figure<'a> {
    /// What is plotted.
    pub title: &'a str,
    /// One sentence: what to look for.
    pub look: &'a str,
    /// What there is to see, in words, for screen readers.
    pub summary: String,
    /// The quantity and unit along the bottom.
    pub x_label: &'a str,
    /// The quantity and unit along the side.
    pub y_label: &'a str,
    /// Bottom axis.
    pub x: Scale,
    /// Side axis.
    pub y: Scale,
    /// Class of the line or area, and its name.
    pub legend: Vec<(&'static str, String)>,
    /// Stretched marks: [`line`], [`steps`].
    pub shapes: Html,
    /// Marks that are not stretched: [`dot`], [`rule`], [`mark`], [`hover`].
    pub marks: Html,
    /// The plotted numbers as a table.
    pub numbers: Html,
}

impl Figure<'_> {
    /// The figure as HTML.
    pub fn render(self) -> Html {
        let mut html =
            Html::from("<figure class=\"chart\"><figcaption><h3>{}</h3><p class=\"look\">{}</p></figcaption>", &[&self.title, &self.look]);
        html.put("<div class=\"chart-head\"><span class=\"y-label\">{}</span>", &[&self.y_label]);
        if !self.legend.is_empty() {
            html.put("<ul class=\"legend\">", &[]);
            for (class, name) in &self.legend {
                let key = "<li><svg class=\"key\" aria-hidden=\"true\"><rect class=\"{}\" x=\"1\" y=\"3\" width=\"22\" height=\"10\"/><line class=\"{}\" x1=\"0\" x2=\"24\" y1=\"8\" y2=\"8\"/></svg>{}</li>";
                html.put(key, &[class, class, name]);
            }
            html.put("</ul>", &[]);
        }
        let label = format!("{}. {}", self.title, self.summary);
        html.put("</div><svg class=\"plot\" role=\"img\" aria-label=\"{}\">", &[&label]);
        html.put("{}{}<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"100%\" y2=\"100%\"/>", &[&y_axis(&self.y), &x_axis(&self.x)]);
        html.put("<text class=\"axis-label\" x=\"50%\" y=\"100%\" dy=\"2.9em\">{}</text>", &[&self.x_label]);
        html.put(
            "<svg class=\"shapes\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">{}</svg>{}</svg>",
            &[&self.shapes, &self.marks],
        );
        if !self.numbers.is_empty() {
            html.put("<details class=\"numbers\"><summary>The numbers</summary>{}</details>", &[&self.numbers]);
        }
        html.put("</figure>", &[]);
        html
    }
}

/// A line through `points`.
pub fn line(class: &'static str, points: impl IntoIterator<Item = (f64, f64)>, x: &Scale, y: &Scale) -> Html {
    let mut path = String::new();
    for (i, (px, py)) in points.into_iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        path.push_str(&format!("{command}{} {}", unit(x.at(px)), unit(100.0 - y.at(py))));
    }
    Html::from("<path class=\"line {}\" d=\"{}\"/>", &[&class, &path])
}

/// The outline of a histogram down to 0, filled; heights are [`density`].
pub fn steps(class: &'static str, histogram: &Histogram, x: &Scale, y: &Scale) -> Html {
    let total = histogram.total();
    let mut path = format!("M{} 100", unit(x.at(histogram.low)));
    for (i, &n) in histogram.counts.iter().enumerate() {
        let (_, end) = histogram.bin(i);
        path.push_str(&format!("V{}H{}", unit(100.0 - y.at(density(histogram, n, total))), unit(x.at(end))));
    }
    path.push_str("V100Z");
    Html::from("<path class=\"area {}\" d=\"{}\"/>", &[&class, &path])
}

/// A coordinate of the stretched marks: two digits behind the point are a tenth of a pixel.
fn unit(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Per cent of all counts for each 0.1 along the axis, so that histograms of different bins and sizes compare.
pub fn density(histogram: &Histogram, n: u64, total: u64) -> f64 {
    let width = (histogram.high - histogram.low) / histogram.counts.len().max(1) as f64;
    if total == 0 || width <= 0.0 { 0.0 } else { 100.0 * n as f64 / total as f64 * 0.1 / width }
}

/// A dot with a tooltip.
pub fn dot(class: &'static str, (px, py): (f64, f64), tooltip: &str, x: &Scale, y: &Scale) -> Html {
    let (cx, cy) = (place(x.at(px)), from_top(y.at(py)));
    Html::from("<circle class=\"dot {}\" cx=\"{}\" cy=\"{}\" r=\"4\"><title>{}</title></circle>", &[&class, &cx, &cy, &tooltip])
}

/// Many small dots of one class, without tooltips of their own.
pub fn cloud(class: &'static str, name: &str, points: &[(f64, f64)], x: &Scale, y: &Scale) -> Html {
    let mut html = Html::from("<g class=\"cloud {}\"><title>{}</title>", &[&class, &name]);
    for &(px, py) in points {
        let (cx, cy) = (place(x.at(px)), from_top(y.at(py)));
        html.put("<circle cx=\"{}\" cy=\"{}\" r=\"2\"/>", &[&cx, &cy]);
    }
    html.put("</g>", &[]);
    html
}

/// A horizontal line across the plot with a text at its right end, above it or below.
pub fn rule(class: &'static str, value: f64, text: &str, above: bool, y: &Scale) -> Html {
    let at = from_top(y.at(value));
    let dy = if above { "-0.45em" } else { "1.15em" };
    let mut html = Html::from("<line class=\"rule {}\" x1=\"0\" x2=\"100%\" y1=\"{}\" y2=\"{}\"/>", &[&class, &at, &at]);
    html.put("<text class=\"mark {}\" x=\"100%\" y=\"{}\" dy=\"{}\" text-anchor=\"end\">{}</text>", &[&class, &at, &dy, &text]);
    html
}

/// A vertical line with a text beside its top, to the `right` if there is room; `row` counts down from the top.
pub fn mark(class: &'static str, value: f64, text: &str, right: bool, row: usize, x: &Scale) -> Html {
    let at = x.at(value);
    let (anchor, dx) = if at > if right { 65.0 } else { 35.0 } { ("end", "-0.5em") } else { ("start", "0.5em") };
    let (at, dy) = (place(at), format!("{}em", fixed(1.0 + 1.35 * row as f64, 2)));
    let mut html = Html::from("<line class=\"rule {}\" x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"100%\"/>", &[&class, &at, &at]);
    html.put(
        "<text class=\"mark {}\" x=\"{}\" dx=\"{}\" y=\"0\" dy=\"{}\" text-anchor=\"{}\">{}</text>",
        &[&class, &at, &dx, &dy, &anchor, &text],
    );
    html
}

/// An unseen column from `from` to `to` that shows a tooltip.
pub fn hover(from: f64, to: f64, tooltip: &str, x: &Scale) -> Html {
    let (from, to) = (x.at(from), x.at(to));
    let (at, width) = (place(from), place((to - from).max(0.0)));
    Html::from("<rect class=\"hover\" x=\"{}\" y=\"0\" width=\"{}\" height=\"100%\"><title>{}</title></rect>", &[&at, &width, &tooltip])
}

/// Several figures, side by side where there is room.
pub fn side_by_side(figures: &[Html]) -> Html {
    let mut html = Html::from("<div class=\"side-by-side\">", &[]);
    figures.iter().for_each(|f| html.add(f));
    html.put("</div>", &[]);
    html
}
