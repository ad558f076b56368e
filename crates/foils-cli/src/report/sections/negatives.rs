//! ECI of each negative set with its components, the plain scores beside it, and the pairs that look unsafe.

use super::super::cells::{self, Head::*};
use super::super::html::{Html, count, fixed, percent, signed};
use super::super::scale::Scale;
use super::text_block;
use foils::diagnostics::{ScoreReport, SetScore};

/// Unsafe pairs shown of each set.
const PAIRS: usize = 5;

pub fn body(score: &ScoreReport) -> Html {
    let mut html = trust(score);
    if score.sets.is_empty() {
        html.put("<p class=\"missing\">No set was scored.</p>", &[]);
        return html;
    }
    html.add(&eci(score));
    html.add(&components(score));
    html.add(&baselines(score));
    html.add(&pairs(score));
    html
}

/// Whether the scores mean something here: the frozen encoder decides.
fn trust(score: &ScoreReport) -> Html {
    let numbers = format!(
        "The frozen encoder ranks positives with an nDCG@10 of {} and puts {} of them above the mean of their negatives.",
        fixed(score.encoder_ndcg, 3),
        percent(score.encoder_positive_above)
    );
    let (class, word) =
        if score.trusted { ("callout good", "✓ ECI can be read here.") } else { ("callout warning", "⚠ Do not trust ECI here.") };
    Html::from("<p class=\"{}\"><strong>{}</strong> {} {}</p>", &[&class, &word, &score.trust_reason, &numbers])
}

fn eci(score: &ScoreReport) -> Html {
    let scale = Scale::nice(score.sets.iter().flat_map(|s| [s.eci.low, s.eci.high]).chain([0.0]), 5);
    let mut rows = Html::from("<tbody>", &[]);
    for (i, set) in score.sets.iter().enumerate() {
        rows.put("<tr><td class=\"number\">{}</td><th scope=\"row\">{}</th>", &[&(i + 1), &set.name]);
        rows.add(&cells::with_interval(&fixed(set.eci.mean, 3), &fixed(set.eci.low, 3), &fixed(set.eci.high, 3)));
        rows.add(&cells::interval(&scale, &set.eci, None, "rose"));
        let mean = &set.eci_mean_margin;
        rows.add(&cells::with_interval(&fixed(mean.mean, 3), &fixed(mean.low, 3), &fixed(mean.high, 3)));
        rows.put("<td class=\"number\">{}</td></tr>", &[&different(score, set)]);
    }
    rows.put("</tbody>{}", &[&cells::axis(&scale, "ECI, margin “hardest”", 3, 2)]);
    let look = "Look for intervals that stand apart, and for sets whose place changes with the margin: “hardest” counts a query as 0 as soon as one negative reaches the positive. \
                The last column names the sets that differ by more than chance.";
    let head = [
        Number("#"),
        Text("Negative set"),
        Number("ECI, hardest"),
        Plot("ECI with its interval"),
        Number("ECI, mean margin"),
        Number("Differs from"),
    ];
    cells::table("ECI (effective contrastive information), best first", look, &head, &rows)
}

/// The numbers of the sets from which `set` differs: `2, 4–6`.
fn different(score: &ScoreReport, set: &SetScore) -> String {
    let differs = |other: &SetScore| {
        score.different.iter().any(|(a, b)| (a == &set.name && b == &other.name) || (b == &set.name && a == &other.name))
    };
    let numbers: Vec<usize> = score.sets.iter().enumerate().filter(|(_, other)| differs(other)).map(|(i, _)| i + 1).collect();
    if numbers.is_empty() { "none".into() } else { ranges(&numbers) }
}

/// Ascending numbers, runs of three and more as ranges.
fn ranges(numbers: &[usize]) -> String {
    numbers
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, .., last] if run.len() > 2 => format!("{first}–{last}"),
            _ => run.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn components(score: &ScoreReport) -> Html {
    let mut rows = Html::from("<tbody>", &[]);
    for (i, set) in score.sets.iter().enumerate() {
        rows.put("<tr><td class=\"number\">{}</td><th scope=\"row\">{}</th>", &[&(i + 1), &set.name]);
        let within = &set.intervals;
        let parts = [
            (set.capacity, within.capacity),
            (set.hardness, within.hardness),
            (set.safety, within.safety),
            (set.efficiency, within.efficiency),
        ];
        for (value, i) in parts {
            rows.add(&cells::with_interval(&fixed(value, 3), &fixed(i.low, 3), &fixed(i.high, 3)));
        }
        rows.add(&cells::with_interval(&percent(set.unsafe_rate), &percent(within.unsafe_rate.low), &percent(within.unsafe_rate.high)));
        rows.put("{}</tr>", &[&cells::number(&count(set.queries_without_negatives as u64))]);
    }
    rows.put("</tbody>", &[]);
    let look = "Look at the smaller one of hardness and safety, it limits ECI: low hardness means easy negatives, low safety means negatives that may be positives.";
    let head = [
        Number("#"),
        Text("Negative set"),
        Number("Capacity"),
        Number("Hardness"),
        Number("Safety"),
        Number("Efficiency"),
        Number("Unsafe pairs"),
        Number("Queries without"),
    ];
    cells::table("What ECI is made of: capacity × efficiency", look, &head, &rows)
}

fn baselines(score: &ScoreReport) -> Html {
    let mut rows = Html::from("<tbody>", &[]);
    for (i, set) in score.sets.iter().enumerate() {
        let b = &set.baselines;
        rows.put(
            "<tr><td class=\"number\">{}</td><th scope=\"row\">{}</th>{}{}{}{}{}</tr>",
            &[
                &(i + 1),
                &set.name,
                &cells::number(&count(b.size as u64)),
                &cells::number(&fixed(b.mean_similarity, 3)),
                &cells::number(&signed(b.mean_margin, 3)),
                &cells::number(&percent(b.near_positive)),
                &cells::number(&fixed(b.info_nce, 3)),
            ],
        );
    }
    rows.put("</tbody>", &[]);
    let look = "Look for a plain score that orders the sets as ECI does: then ECI adds nothing here.";
    let head = [
        Number("#"),
        Text("Negative set"),
        Number("Negatives"),
        Number("Mean similarity"),
        Number("Mean margin"),
        Number("Above 95 % of positive"),
        Number("InfoNCE, τ 0.05"),
    ];
    cells::table("Plain scores of the same sets", look, &head, &rows)
}

fn pairs(score: &ScoreReport) -> Html {
    let mut html = Html::new();
    for set in score.sets.iter().filter(|s| !s.unsafe_pairs.is_empty()) {
        if html.is_empty() {
            let look = "Look for negatives that do answer the query: those are false negatives, and a stricter filter would spare them.";
            html.put("<h3>Hardest unsafe pairs</h3><p class=\"look\">The negative scores at or above the positive. {}</p>", &[&look]);
        }
        html.put(
            "<details><summary>{} <span class=\"quiet\">{} of its pairs are unsafe</span></summary>",
            &[&set.name, &percent(set.unsafe_rate)],
        );
        for pair in set.unsafe_pairs.iter().take(PAIRS) {
            html.put(
                "<article class=\"pair\">{}<div class=\"texts\">{}{}</div></article>",
                &[
                    &text_block("Query", &pair.query),
                    &text_block(&format!("Positive, similarity {}", fixed(pair.positive_score, 3)), &pair.positive),
                    &text_block(&format!("Negative, similarity {}", fixed(pair.negative_score, 3)), &pair.negative),
                ],
            );
        }
        html.put("</details>", &[]);
    }
    html
}

#[cfg(test)]
mod tests {
    #[test]
    fn runs_of_numbers_are_ranges() {
        assert_eq!(super::ranges(&[1, 3, 4, 6, 7, 8, 9]), "1, 3, 4, 6–9");
        assert_eq!(super::ranges(&[2]), "2");
    }
}
