//! The table of `foils tune --auto`: what was tried, how it was judged, what was chosen. Read leniently: a field that is
//! missing or of another shape is a dash.

use super::super::cells::{self, Head::*};
use super::super::charts::{Figure, dot};
use super::super::html::{Html, fixed, plain};
use super::super::scale::{Scale, from_top, place};
use serde_json::{Map, Value};

/// One strategy, as far as it is known.
struct Strategy<'a> {
    name: &'a str,
    eci: Option<f64>,
    ndcg: Option<f64>,
    rounds: String,
    chosen: bool,
}

/// The section, or `None` when no strategies were tried.
pub fn body(tune: &Map<String, Value>) -> Option<Html> {
    let strategies: Vec<Strategy> = tune.get("strategies")?.as_array()?.iter().map(strategy).collect();
    if strategies.is_empty() {
        return None;
    }
    let text = |key: &str| tune.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut html = Html::new();
    if let Some(chosen) = strategies.iter().find(|s| s.chosen) {
        html.put(
            "<p class=\"callout good\"><strong>✓ Chosen: {}</strong>{} {}</p>",
            &[&chosen.name, &judged(text("judge")), &text("reason")],
        );
    } else {
        html.put("<p>No strategy was chosen{} {}</p>", &[&judged(text("judge")), &text("reason")]);
    }
    html.add(&table(&strategies));
    html.add(&scatter(&strategies).unwrap_or_default());
    Some(html)
}

fn judged(judge: &str) -> String {
    match judge {
        "" => ".".into(),
        "race" => " by the judge “race” (successive halving of short trainings on validation data).".into(),
        "eci" => " by the judge “eci” (no training).".into(),
        other => format!(" by the judge “{other}”."),
    }
}

fn strategy(value: &Value) -> Strategy<'_> {
    Strategy {
        name: value.get("name").and_then(Value::as_str).unwrap_or("(no name)"),
        eci: value.get("eci").and_then(number),
        ndcg: value.get("validation_ndcg").and_then(number),
        rounds: value
            .get("rounds")
            .and_then(Value::as_array)
            .map(|r| r.iter().map(round).collect::<Vec<_>>().join(" → "))
            .unwrap_or_default(),
        chosen: value.get("chosen").and_then(Value::as_bool).unwrap_or(false),
    }
}

/// A number, or the mean of an interval.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.get("mean")?.as_f64())
}

/// A round is its nDCG, with its steps where they are named; anything else is shown as it is.
fn round(value: &Value) -> String {
    let named = |keys: &[&str]| keys.iter().find_map(|k| value.get(k).and_then(number));
    match (number(value).or_else(|| named(&["ndcg", "validation_ndcg"])), named(&["steps", "step"])) {
        (Some(ndcg), Some(steps)) => format!("{} ({} steps)", fixed(ndcg, 3), plain(steps)),
        (Some(ndcg), None) => fixed(ndcg, 3),
        (None, _) => value.to_string(),
    }
}

fn table(strategies: &[Strategy]) -> Html {
    let known = strategies.iter().filter_map(|s| s.ndcg);
    let (low, high) = known.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let scale = Scale::nice([low - 0.1 * (high - low), high], 3);
    let mut rows = Html::from("<tbody>", &[]);
    for (i, s) in strategies.iter().enumerate() {
        let (class, sign) = if s.chosen { ("chosen", "✓ chosen") } else { ("", "") };
        rows.put(
            "<tr class=\"{}\"><td class=\"number\">{}</td><th scope=\"row\">{} <span class=\"tag\">{}</span></th>",
            &[&class, &(i + 1), &s.name, &sign],
        );
        rows.put("{}{}", &[&cells::number(&shown(s.eci)), &cells::number(&shown(s.ndcg))]);
        match s.ndcg {
            Some(value) => rows.add(&cells::point(&scale, value, if s.chosen { "rose" } else { "unclear" })),
            None => rows.put("<td></td>", &[]),
        }
        rows.put("<td class=\"rounds\">{}</td></tr>", &[&if s.rounds.is_empty() { "–".to_owned() } else { s.rounds.clone() }]);
    }
    rows.put("</tbody>", &[]);
    if known.count() > 0 {
        rows.add(&cells::axis(&scale, "validation nDCG@10", 4, 1));
    }
    let look = "Look how far the chosen strategy leads: small leads may be chance, and then the cheapest strategy is as good.";
    let head = [Number("#"), Text("Strategy"), Number("ECI"), Number("nDCG@10"), Plot("Validation nDCG@10"), Text("After each round")];
    cells::table("Mining strategies tried", look, &head, &rows)
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |v| fixed(v, 3))
}

/// ECI against what training gave, where both are known for three strategies or more.
fn scatter(strategies: &[Strategy]) -> Option<Html> {
    let points: Vec<(usize, &Strategy, f64, f64)> =
        strategies.iter().enumerate().filter_map(|(i, s)| Some((i + 1, s, s.eci?, s.ndcg?))).collect();
    if points.len() < 3 {
        return None;
    }
    let (x, y) = (Scale::nice(points.iter().map(|p| p.2), 5), Scale::nice(points.iter().map(|p| p.3), 4));
    let mut marks = Html::new();
    for &(number, s, eci, ndcg) in &points {
        let tooltip = format!("{}: ECI {}, nDCG@10 {}", s.name, fixed(eci, 3), fixed(ndcg, 3));
        marks.add(&dot(if s.chosen { "best" } else { "tuned" }, (eci, ndcg), &tooltip, &x, &y));
        marks.put(
            "<text class=\"point\" x=\"{}\" y=\"{}\" dx=\"0.6em\" dy=\"-0.35em\">{}</text>",
            &[&place(x.at(eci)), &from_top(y.at(ndcg)), &number],
        );
    }
    let figure = Figure {
        title: "Did ECI order the strategies as training did?",
        look: "Look for points that rise from left to right: there ECI predicts training. A cloud or a fall says that it does not. Numbers are those of the table.",
        summary: format!("{} strategies by ECI and validation nDCG@10; the numbers are in the table above.", points.len()),
        x_label: "ECI before training",
        y_label: "validation nDCG@10 after training",
        x,
        y,
        legend: Vec::new(),
        shapes: Html::new(),
        marks,
        numbers: Html::new(),
    };
    Some(figure.render())
}
