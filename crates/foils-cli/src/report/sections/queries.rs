//! Ten queries: five whose positive rose most, five whose positive fell most.

use super::super::html::{Html, count, shorten};
use super::text_block;
use foils::metrics::{Evaluation, Mover};

/// Queries shown of each kind.
const SHOWN: usize = 5;

pub fn body(eval: &Evaluation) -> Html {
    // The file has those that rose most first and those that fell most last.
    let rose: Vec<&Mover> = eval.movers.iter().filter(|m| m.rank_after < m.rank_before).take(SHOWN).collect();
    let fell: Vec<&Mover> = eval.movers.iter().rev().filter(|m| m.rank_after > m.rank_before).take(SHOWN).collect();
    if rose.is_empty() && fell.is_empty() {
        return Html::from("<p class=\"missing\">No query's positive changed its rank.</p>", &[]);
    }
    let mut html = Html::from(
        "<p class=\"look\">Look at the falls first: what stands on top now? A document that answers the query as well is a gap in the labels; one that does not is a loss.</p>",
        &[],
    );
    for (title, movers, empty) in [("Rose most", rose, "No positive rose."), ("Fell most", fell, "No positive fell.")] {
        html.put("<h3>{}</h3>", &[&title]);
        if movers.is_empty() {
            html.put("<p class=\"missing\">{}</p>", &[&empty]);
        }
        for (i, mover) in movers.into_iter().enumerate() {
            html.add(&query(mover, i == 0));
        }
    }
    html
}

fn query(mover: &Mover, open: bool) -> Html {
    let (class, sign, word) = if mover.rank_after < mover.rank_before { ("rose", "▲", "rose") } else { ("fell", "▼", "fell") };
    let by = count(mover.rank_before.abs_diff(mover.rank_after) as u64);
    let ranks = format!("{} → {}", count(mover.rank_before as u64), count(mover.rank_after as u64));
    let mut html = if open { Html::from("<details class=\"mover\" open>", &[]) } else { Html::from("<details class=\"mover\">", &[]) };
    html.put(
        "<summary><span class=\"badge {}\" title=\"rank of the positive, before → after: {} by {}\">{} rank {}</span> ",
        &[&class, &word, &by, &sign, &ranks],
    );
    html.put("<span class=\"query\">{}</span></summary>", &[&shorten(mover.query.trim(), 400)]);
    let on_top = |label: &str, text: &str| {
        if text == mover.positive {
            Html::from("<div class=\"text\"><p class=\"text-label\">{}</p><p class=\"quiet\">the positive itself</p></div>", &[&label])
        } else {
            text_block(label, text)
        }
    };
    html.put(
        "<div class=\"texts\">{}{}{}</div></details>",
        &[
            &text_block("The positive", &mover.positive),
            &on_top("Ranked first before", &mover.top_before),
            &on_top("Ranked first after", &mover.top_after),
        ],
    );
    html
}
