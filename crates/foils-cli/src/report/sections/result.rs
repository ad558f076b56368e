//! Every metric at every cut, before and after.

use super::super::cells::{self, Head::*};
use super::super::html::{Html, fixed, signed};
use super::super::scale::Scale;
use super::metric_name;
use foils::metrics::{Comparison, Evaluation, Interval};

/// The metric that the headline is about: nDCG@10, or the nearest to it that was computed.
pub fn headline(eval: &Evaluation) -> Option<&Comparison> {
    eval.metrics.iter().min_by_key(|m| (m.metric != "ndcg", m.k.abs_diff(10)))
}

pub fn body(eval: &Evaluation) -> Html {
    if eval.metrics.is_empty() {
        return Html::from("<p class=\"missing\">No metric was computed.</p>", &[]);
    }
    if eval.metrics.iter().any(|m| m.difference.is_some()) { compared(eval) } else { alone(eval) }
}

fn compared(eval: &Evaluation) -> Html {
    let differences: Vec<Interval> = eval.metrics.iter().filter_map(|m| m.difference).collect();
    let scale = Scale::nice(differences.iter().flat_map(|d| [d.low, d.high]).chain([0.0]), 4);
    let mut rows = Html::new();
    for group in groups(&eval.metrics) {
        rows.put("<tbody>", &[]);
        for (i, m) in group.iter().enumerate() {
            rows.add(&row_head(m, i, group.len(), headline(eval)));
            rows.add(
                &m.before
                    .map_or_else(|| cells::number("–"), |b| cells::with_interval(&fixed(b.mean, 3), &fixed(b.low, 3), &fixed(b.high, 3))),
            );
            rows.add(&cells::with_interval(&fixed(m.after.mean, 3), &fixed(m.after.low, 3), &fixed(m.after.high, 3)));
            match &m.difference {
                Some(d) => {
                    let (class, word) = direction(d);
                    rows.add(&cells::with_interval(&signed(d.mean, 3), &signed(d.low, 3), &signed(d.high, 3)));
                    rows.add(&cells::interval(&scale, d, Some(0.0), class));
                    rows.put("<td class=\"verdict {}\">{}</td>", &[&class, &word]);
                }
                None => rows.put("<td class=\"number\">–</td><td></td><td></td>", &[]),
            }
            rows.put("</tr>", &[]);
        }
        rows.put("</tbody>", &[]);
    }
    rows.add(&cells::axis(&scale, "after − before", 5, 1));
    let look = "Look for intervals that lie wholly right of the line at 0 (filled dots): there the gain is more than chance over queries. \
                A gain at small k that is absent at large k means better order, not more found.";
    let head = [
        Text("Metric"),
        Number("k"),
        Number("Before"),
        Number("After"),
        Number("Difference"),
        Plot("Difference with its interval"),
        Text("Change"),
    ];
    cells::table("Ranking metrics before and after training, with 95 % intervals", look, &head, &rows)
}

fn alone(eval: &Evaluation) -> Html {
    let scale = Scale::nice(eval.metrics.iter().flat_map(|m| [m.after.low, m.after.high]), 4);
    let mut rows = Html::new();
    for group in groups(&eval.metrics) {
        rows.put("<tbody>", &[]);
        for (i, m) in group.iter().enumerate() {
            rows.add(&row_head(m, i, group.len(), headline(eval)));
            rows.add(&cells::with_interval(&fixed(m.after.mean, 3), &fixed(m.after.low, 3), &fixed(m.after.high, 3)));
            rows.add(&cells::interval(&scale, &m.after, None, "rose"));
            rows.put("</tr>", &[]);
        }
        rows.put("</tbody>", &[]);
    }
    rows.add(&cells::axis(&scale, "value", 3, 0));
    let look = "Look for recall that is much larger at large k: the document is found but ranked low, which training can mend.";
    cells::table(
        "Ranking metrics with 95 % intervals (one encoder evaluated)",
        look,
        &[Text("Metric"), Number("k"), Number("Value"), Plot("Value with its interval")],
        &rows,
    )
}

/// Opens a row; the metric's name stands once for all its cuts, and the headline's row is set off.
fn row_head(m: &Comparison, index: usize, of: usize, headline: Option<&Comparison>) -> Html {
    let class = if headline.is_some_and(|h| std::ptr::eq(h, m)) { "chosen" } else { "" };
    let mut html = Html::from("<tr class=\"{}\">", &[&class]);
    if index == 0 {
        html.put("<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>", &[&of, &metric_name(&m.metric)]);
    }
    html.put("<th scope=\"row\" class=\"number\">{}</th>", &[&m.k]);
    html
}

/// The metrics by name, in the order in which the names first appear.
fn groups(metrics: &[Comparison]) -> Vec<Vec<&Comparison>> {
    let mut groups: Vec<Vec<&Comparison>> = Vec::new();
    for metric in metrics {
        match groups.iter_mut().find(|g| g[0].metric == metric.metric) {
            Some(group) => group.push(metric),
            None => groups.push(vec![metric]),
        }
    }
    groups
}

/// Style and words for a difference: shape and word say what the colour says.
fn direction(d: &Interval) -> (&'static str, &'static str) {
    if d.low > 0.0 {
        ("rose", "▲ better")
    } else if d.high < 0.0 {
        ("fell", "▼ worse")
    } else {
        ("unclear", "○ unclear")
    }
}
