//! Where the time went.

use super::super::RunFiles;
use super::super::cells::{self, Head::*};
use super::super::html::{Html, duration};
use super::super::scale::Scale;
use serde_json::Value;
use std::collections::BTreeMap;

/// A step's name and its parts with their seconds.
type Step = (&'static str, Vec<(String, f64)>);

/// The steps of `foils tune` in the order in which they run.
const ORDER: [&str; 8] = ["data", "read", "embed", "mine", "score", "race", "train", "eval"];

/// What `foils tune` timed, in the table.
const WHOLE: &str = "whole run";

/// The steps of the run in their order, as far as they said how long they took.
fn steps(files: &RunFiles) -> Vec<Step> {
    let parts = |seconds: &BTreeMap<String, f64>| {
        // A step may give its total beside the parts.
        let total = seconds.get("total").filter(|_| seconds.len() == 1).map(|s| ("all".to_owned(), *s));
        total.map_or_else(|| seconds.iter().filter(|(name, _)| *name != "total").map(|(n, s)| (n.clone(), *s)).collect(), |t| vec![t])
    };
    let steps: [Step; 3] = [
        ("mine", files.mine.as_ref().map(|m| parts(&m.seconds)).unwrap_or_default()),
        ("train", files.train.as_ref().map(|t| parts(&t.seconds)).unwrap_or_default()),
        ("eval", files.eval.as_ref().filter(|e| e.seconds > 0.0).map(|e| vec![("all".to_owned(), e.seconds)]).unwrap_or_default()),
    ];
    let whole = (WHOLE, tune_seconds(files));
    std::iter::once(whole).chain(steps).filter(|(_, parts)| !parts.is_empty()).collect()
}

/// `seconds` or `timings` of tune.json: numbers by name, without the total.
fn tune_seconds(files: &RunFiles) -> Vec<(String, f64)> {
    let map = files.tune.as_ref().and_then(|t| t.get("seconds").or_else(|| t.get("timings"))).and_then(Value::as_object);
    let seconds = map.into_iter().flatten().filter(|(name, _)| *name != "total").filter_map(|(name, v)| Some((name.clone(), v.as_f64()?)));
    let mut seconds: Vec<(String, f64)> = seconds.collect();
    // A JSON object has no order; a run has. Steps that are not known here come last.
    seconds.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    seconds
}

/// Seconds by step, for the headline. `foils tune` times its steps itself; those it knows are not counted twice.
pub fn step_seconds(files: &RunFiles) -> Vec<(String, f64)> {
    let mut sums = tune_seconds(files);
    for (name, parts) in steps(files).into_iter().filter(|(name, _)| *name != WHOLE) {
        if !sums.iter().any(|(known, _)| known == name) {
            sums.push((name.to_owned(), parts.iter().map(|(_, s)| s).sum()));
        }
    }
    sums
}

/// The table of times.
pub fn table(files: &RunFiles) -> Html {
    let steps = steps(files);
    let Some(longest) = steps.iter().flat_map(|(_, parts)| parts).map(|(_, s)| *s).max_by(f64::total_cmp) else {
        return Html::new();
    };
    let scale = Scale::nice([0.0, longest], 4);
    let mut rows = Html::new();
    for (step, parts) in &steps {
        rows.put("<tbody>", &[]);
        for (i, (part, seconds)) in parts.iter().enumerate() {
            rows.put("<tr>", &[]);
            if i == 0 {
                rows.put("<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>", &[&parts.len(), step]);
            }
            rows.put(
                "<th scope=\"row\">{}</th>{}{}</tr>",
                &[part, &cells::number(&duration(*seconds)), &cells::bar(&scale, 0.0, *seconds, "kept")],
            );
        }
        rows.put("</tbody>", &[]);
    }
    rows.add(&cells::axis(&scale, "seconds", 3, 0));
    cells::table(
        "Wall-clock time",
        "Look for the part that takes longest: it is the one to make smaller.",
        &[Text("Step"), Text("Part"), Number("Time"), Plot("Seconds")],
        &rows,
    )
}
