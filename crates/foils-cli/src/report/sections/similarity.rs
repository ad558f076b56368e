//! How far positives and hard negatives lie apart, before and after.

use super::super::charts::{Figure, density, hover, mark, side_by_side, steps};
use super::super::html::{Html, count, fixed, percent};
use super::super::scale::Scale;
use foils::metrics::{Evaluation, Histogram};

const LOOK: &str = "Look for the two shapes moving apart: the less they overlap, the fewer hard negatives (the ten nearest documents that are not relevant) outrank a positive.";

pub fn body(eval: &Evaluation) -> Html {
    let pairs: Vec<(&Histogram, &Histogram)> = eval.positive_similarity.iter().zip(&eval.negative_similarity).collect();
    let drawn: Vec<&Histogram> = pairs.iter().flat_map(|(p, n)| [*p, *n]).collect();
    if drawn.is_empty() || drawn.iter().any(|h| h.total() == 0 || h.high <= h.low) {
        return Html::from("<p class=\"missing\">No similarities were counted.</p>", &[]);
    }
    // The ends that no pair reaches would only squeeze the rest.
    let filled = drawn.iter().flat_map(|h| filled_ends(h));
    let x = Scale::tight(filled, 7);
    let tallest = drawn.iter().flat_map(|h| h.counts.iter().map(|&n| density(h, n, h.total())));
    // Head room for the labels of the means.
    let y = Scale::nice(tallest.chain([0.0]).map(|v| v * 1.18), 4);
    let names: &[&str] =
        if pairs.len() == 1 { &["Similarities"] } else { &["Similarities before training", "Similarities after training"] };
    let figures: Vec<Html> = pairs.iter().zip(names).map(|((p, n), name)| figure(name, p, n, &x, &y)).collect();
    let mut html = Html::from("<p>{}</p>", &[&sentence(&pairs)]);
    html.add(&side_by_side(&figures));
    html
}

fn figure(title: &str, positive: &Histogram, negative: &Histogram, x: &Scale, y: &Scale) -> Html {
    let (above, below) = (positive.mean(), negative.mean());
    let mut shapes = steps("negative", negative, x, y);
    shapes.add(&steps("positive", positive, x, y));
    let mut marks = mark("positive", above, &format!("mean {}", fixed(above, 2)), above >= below, 0, x);
    marks.add(&mark("negative", below, &format!("mean {}", fixed(below, 2)), above < below, 1, x));
    let mut numbers = Html::from(
        "<table><thead><tr><th scope=\"col\">Cosine similarity</th><th scope=\"col\">Positives</th><th scope=\"col\">Hard negatives</th></tr></thead><tbody>",
        &[],
    );
    if positive.same_bins(negative) {
        for (i, (&p, &n)) in positive.counts.iter().zip(&negative.counts).enumerate().filter(|(_, (p, n))| **p > 0 || **n > 0) {
            let (low, high) = positive.bin(i);
            let (range, p, n) = (format!("{} to {}", fixed(low, 2), fixed(high, 2)), count(p), count(n));
            marks.add(&hover(low, high, &format!("{range}: {p} positives, {n} hard negatives"), x));
            numbers.put("<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>", &[&range, &p, &n]);
        }
    }
    numbers.put("<tr><th scope=\"row\">All</th><td class=\"number\">{}</td>", &[&count(positive.total())]);
    numbers.put("<td class=\"number\">{}</td></tr></tbody></table>", &[&count(negative.total())]);
    let shared = positive.overlap(negative).map(|o| format!(" They overlap by {}.", percent(o))).unwrap_or_default();
    Figure {
        title,
        look: LOOK,
        summary: format!("Positives have a mean similarity of {}, hard negatives of {}.{shared}", fixed(above, 2), fixed(below, 2)),
        x_label: "cosine similarity to the query",
        y_label: "% of pairs per 0.1 of similarity",
        x: x.clone(),
        y: y.clone(),
        legend: vec![("positive", "positives".into()), ("negative", "hard negatives".into())],
        shapes,
        marks,
        numbers,
    }
    .render()
}

/// What the figures show, in a sentence.
fn sentence(pairs: &[(&Histogram, &Histogram)]) -> String {
    let gap = |(p, n): &(&Histogram, &Histogram)| p.mean() - n.mean();
    let shared = |(p, n): &(&Histogram, &Histogram)| p.overlap(n).map(percent);
    match pairs {
        [before, after, ..] => {
            let (before_gap, after_gap) = (side(gap(before)), side(gap(after)));
            let gaps = format!("The mean positive lies {before_gap} the mean hard negative before training and {after_gap} it after");
            match (shared(before), shared(after)) {
                (Some(b), Some(a)) => format!("{gaps}; the shapes overlap by {b} before and {a} after."),
                _ => format!("{gaps}."),
            }
        }
        [one] => format!("The mean positive lies {} the mean hard negative.", side(gap(one))),
        [] => String::new(),
    }
}

/// `0.020 above` or `0.020 below`.
fn side(gap: f64) -> String {
    format!("{} {}", fixed(gap.abs(), 3), if gap < 0.0 { "below" } else { "above" })
}

/// Outer ends of the first and the last bin that is not empty.
fn filled_ends(h: &Histogram) -> [f64; 2] {
    let first = h.counts.iter().position(|&n| n > 0).unwrap_or(0);
    let last = h.counts.iter().rposition(|&n| n > 0).unwrap_or(0);
    [h.bin(first).0, h.bin(last).1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_ends_are_not_drawn() {
        let h = Histogram { low: 0.0, high: 1.0, counts: vec![0, 10, 10, 0] };
        assert_eq!(filled_ends(&h), [0.25, 0.75]);
    }
}
