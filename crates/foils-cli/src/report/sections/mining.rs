//! What became of the candidates, and how hard the kept negatives are.

use super::super::cells::{self, Head::*};
use super::super::html::{Html, count, fixed, percent, plural};
use super::super::scale::Scale;
use foils::negatives::{MineSummary, Quantiles};

pub fn body(mine: &MineSummary) -> Html {
    let per_query = mine.kept as f64 / mine.queries.max(1) as f64;
    let mut html = Html::from(
        "<p>{}</p>",
        &[&format!(
            "Looked at {} for {} among {}; kept {} ({} a query).",
            plural(mine.candidates, "candidate", "candidates"),
            plural(mine.queries as u64, "query", "queries"),
            plural(mine.documents as u64, "document", "documents"),
            plural(mine.kept, "negative", "negatives"),
            fixed(per_query, 1)
        )],
    );
    html.add(&above(mine));
    html.add(&waterfall(mine));
    html.add(&scores(mine));
    html.add(&too_few(mine));
    html
}

/// Candidates above their positive, before the filters and after: each may be an answer that nobody labelled.
fn above(mine: &MineSummary) -> Html {
    if mine.candidates_above_positive == 0 && mine.kept_above_positive == 0 {
        return Html::new();
    }
    let share = |n: u64, of: u64| percent(n as f64 / of.max(1) as f64);
    let (before, after) = (mine.candidates_above_positive, mine.kept_above_positive);
    Html::from(
        "<p>{}</p>",
        &[&format!(
            "{} candidates ({}) score above the lowest positive of their query; of the negatives kept, {} ({}) do. Each may be a false negative.",
            count(before),
            share(before, mine.candidates),
            count(after),
            share(after, mine.kept)
        )],
    )
}

/// From all candidates down to those kept: each row's bar is what that row took away, and where.
fn waterfall(mine: &MineSummary) -> Html {
    let equal = &mine.equal_to_positive;
    let known = [
        ("Equals a positive: same id", equal.by_id),
        ("Equals a positive: same text", equal.by_text),
        ("Nearly equals a positive", equal.nearly),
    ];
    let mut removed: Vec<(String, u64)> = known.map(|(name, n)| (name.to_owned(), n)).into();
    removed.extend(mine.removed.iter().map(|r| (format!("Filter: {}", r.filter), r.count)));
    let scale = Scale::tight([0.0, mine.candidates as f64], 4).whole();
    let mut rows = Html::from("<tbody>", &[]);
    let mut row = |name: &str, sign: &str, n: u64, from: u64, class: &'static str| {
        let share = percent(n as f64 / mine.candidates.max(1) as f64);
        let bar = cells::bar(&scale, from.saturating_sub(n) as f64, from as f64, class);
        let number = if n == 0 { count(n) } else { format!("{sign}{}", count(n)) };
        rows.put(
            "<tr class=\"{}\"><th scope=\"row\">{}</th>{}{}{}</tr>",
            &[&class, &name, &cells::number(&number), &cells::number(&share), &bar],
        );
    };
    row("Candidates", "", mine.candidates, mine.candidates, "total");
    let mut left = mine.candidates;
    for (name, n) in &removed {
        row(name, "−", *n, left, "removed");
        left = left.saturating_sub(*n);
    }
    row("Passed, but not needed", "−", mine.unused, left, "spare");
    row("Kept as negatives", "", mine.kept, mine.kept, "kept");
    rows.put("</tbody>{}", &[&cells::axis(&scale, "candidates", 3, 0)]);
    let look = "Look for a filter that takes nearly everything (it is too strict, only easy negatives are left) or nothing (it could go). \
                Candidates that equal a positive would have been false negatives.";
    cells::table(
        "From candidates to negatives",
        look,
        &[Text("Step"), Number("Candidates"), Number("Share"), Plot("What is left, and what a step takes")],
        &rows,
    )
}

fn scores(mine: &MineSummary) -> Html {
    if mine.positive_scores == Quantiles::default() && mine.negative_scores == Quantiles::default() {
        return Html::from("<p class=\"missing\">The candidates have no scores.</p>", &[]);
    }
    let groups: [(&str, &Quantiles, &'static str); 3] = [
        ("Positives", &mine.positive_scores, "positive"),
        ("Kept negatives", &mine.negative_scores, "negative"),
        ("Positive − negative", &mine.differences, "difference"),
    ];
    let scale = Scale::nice(groups.iter().flat_map(|(_, q, _)| [q.min, q.max]).chain([0.0]), 5);
    let mut rows = Html::from("<tbody>", &[]);
    for (name, q, class) in groups {
        rows.put("<tr><th scope=\"row\">{}</th>", &[&name]);
        for value in [q.min, q.q25, q.median, q.q75, q.max, q.mean] {
            rows.add(&cells::number(&fixed(value, 3)));
        }
        rows.put("{}</tr>", &[&cells::quartiles(&scale, q, class)]);
    }
    rows.put("</tbody>{}", &[&cells::axis(&scale, "score (unit of the miner)", 7, 0)]);
    let look = "Look at the last row: a box close to 0 means hard negatives; its part left of 0 are negatives above their positive, which may be false ones.";
    let head = [
        Text("Scores"),
        Number("Min"),
        Number("25 %"),
        Number("Median"),
        Number("75 %"),
        Number("Max"),
        Number("Mean"),
        Plot("Quartiles (box), median, ends"),
    ];
    cells::table("Scores of positives and kept negatives", look, &head, &rows)
}

fn too_few(mine: &MineSummary) -> Html {
    if mine.too_few == 0 {
        return Html::from("<p>Every query got as many negatives as asked for.</p>", &[]);
    }
    let shown = mine.too_few_examples.len().min(20);
    let title =
        format!("{} of {} queries got too few negatives; the first {}", count(mine.too_few as u64), count(mine.queries as u64), shown);
    if shown == 0 {
        return Html::from("<p>{} of {} queries got too few negatives.</p>", &[&count(mine.too_few as u64), &count(mine.queries as u64)]);
    }
    let mut rows = Html::from("<tbody>", &[]);
    for query in &mine.too_few_examples[..shown] {
        let text = super::super::html::shorten(&query.text, 240);
        rows.put(
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"prose\">{}</td>{}</tr>",
            &[&query.id, &text, &cells::number(&query.found.to_string())],
        );
    }
    rows.put("</tbody>", &[]);
    Html::from(
        "<details><summary>{}</summary>{}</details>",
        &[&title, &cells::table("Queries with too few negatives", "", &[Text("Id"), Text("Query"), Number("Found")], &rows)],
    )
}
