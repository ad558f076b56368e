//! Plots in table cells: a row's mark stands beside its numbers, and the axis stands below the column.
//! The numbers are in the table, so the marks are hidden from screen readers.

use super::html::{Html, Piece};
use super::scale::{Scale, place};
use foils::metrics::Interval;
use foils::negatives::Quantiles;

/// The head of a column, by what stands in it.
#[derive(Clone, Copy)]
pub enum Head {
    /// Words, left.
    Text(&'static str),
    /// Numbers, right.
    Number(&'static str),
    /// Marks, above their axis.
    Plot(&'static str),
}

/// A table under its name and a sentence on what to look for; without the sentence the name is for screen readers only.
/// The table scrolls sideways in a frame of its own where it is too wide; what stands above it does not.
pub fn table(name: &str, look: &str, head: &[Head], body: &Html) -> Html {
    let mut html = Html::from("<div class=\"table\">", &[]);
    if !look.is_empty() {
        html.put("<h3>{}</h3><p class=\"look\">{}</p>", &[&name, &look]);
    }
    html.put(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table aria-label=\"{}\"><thead><tr>",
        &[&name, &name],
    );
    for head in head {
        let (class, title) = match head {
            Head::Text(title) => ("prose", title),
            Head::Number(title) => ("number", title),
            Head::Plot(title) => ("cell", title),
        };
        html.put("<th scope=\"col\" class=\"{}\">{}</th>", &[&class, title]);
    }
    html.put("</tr></thead>{}</table></div></div>", &[body]);
    html
}

/// A number that has an interval: the interval stands small below it.
pub fn with_interval(value: &str, low: &str, high: &str) -> Html {
    Html::from("<td class=\"number\">{}<small>[{}, {}]</small></td>", &[&value, &low, &high])
}

/// A cell with a number.
pub fn number(value: &str) -> Html {
    Html::from("<td class=\"number\">{}</td>", &[&value])
}

fn cell(marks: &dyn Piece) -> Html {
    Html::from("<td class=\"cell\"><svg aria-hidden=\"true\">{}</svg></td>", &[marks])
}

fn vertical(class: &'static str, at: &str) -> Html {
    Html::from("<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"100%\"/>", &[&class, &at, &at])
}

/// A dot on its interval, with a line at `reference`; hollow where the interval holds the reference.
pub fn interval(scale: &Scale, value: &Interval, reference: Option<f64>, class: &'static str) -> Html {
    let mut marks = Html::new();
    if let Some(reference) = reference {
        marks.add(&vertical("reference", &place(scale.at(reference))));
    }
    let (low, high, mean) = (place(scale.at(value.low)), place(scale.at(value.high)), place(scale.at(value.mean)));
    marks.put("<line class=\"whisker {}\" x1=\"{}\" x2=\"{}\" y1=\"50%\" y2=\"50%\"/>", &[&class, &low, &high]);
    marks.put("<circle class=\"dot {}\" cx=\"{}\" cy=\"50%\" r=\"4\"/>", &[&class, &mean]);
    cell(&marks)
}

/// A dot at a value whose interval is not known.
pub fn point(scale: &Scale, value: f64, class: &'static str) -> Html {
    cell(&Html::from("<circle class=\"dot {}\" cx=\"{}\" cy=\"50%\" r=\"4\"/>", &[&class, &place(scale.at(value))]))
}

/// A bar from `from` to `to`.
pub fn bar(scale: &Scale, from: f64, to: f64, class: &'static str) -> Html {
    let (from, to) = (scale.at(from.min(to)), scale.at(from.max(to)));
    let (x, width) = (place(from), place(to - from));
    cell(&Html::from("<rect class=\"bar {}\" x=\"{}\" y=\"22%\" width=\"{}\" height=\"56%\"/>", &[&class, &x, &width]))
}

/// Box from the first to the third quartile, line at the median, whiskers to the ends.
pub fn quartiles(scale: &Scale, q: &Quantiles, class: &'static str) -> Html {
    let at = |v: f64| place(scale.at(v));
    let mut marks = vertical("reference", &at(0.0));
    marks.put("<line class=\"whisker {}\" x1=\"{}\" x2=\"{}\" y1=\"50%\" y2=\"50%\"/>", &[&class, &at(q.min), &at(q.max)]);
    let width = place((scale.at(q.q75) - scale.at(q.q25)).max(0.0));
    marks.put("<rect class=\"box {}\" x=\"{}\" y=\"22%\" width=\"{}\" height=\"56%\"/>", &[&class, &at(q.q25), &width]);
    marks.put("<line class=\"median {}\" x1=\"{}\" x2=\"{}\" y1=\"22%\" y2=\"78%\"/>", &[&class, &at(q.median), &at(q.median)]);
    cell(&marks)
}

/// The last row: the axis below the column of marks; `before` and `after` count the columns on its sides.
pub fn axis(scale: &Scale, label: &str, before: usize, after: usize) -> Html {
    let mut html = Html::from("<tfoot aria-hidden=\"true\"><tr><td colspan=\"{}\"></td><td class=\"cell axis\"><svg>", &[&before]);
    html.put("<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"0\" y2=\"0\"/>", &[]);
    for &tick in scale.ticks() {
        let x = place(scale.at(tick));
        html.put("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"5\"/>", &[&x, &x]);
        html.put("<text class=\"tick x\" x=\"{}\" y=\"0\" dy=\"1.6em\">{}</text>", &[&x, &scale.label(tick)]);
    }
    html.put("<text class=\"axis-label\" x=\"50%\" y=\"0\" dy=\"3em\">{}</text></svg></td>", &[&label]);
    if after > 0 {
        html.put("<td colspan=\"{}\"></td>", &[&after]);
    }
    html.put("</tr></tfoot>", &[]);
    html
}
