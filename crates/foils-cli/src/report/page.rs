//! The page around the sections: head, headline numbers, what to know first, contents.

use super::RunFiles;
use super::html::{Html, count, duration, fixed, percent, signed};
use super::sections::{self, headline, metric_name, timing::step_seconds};

/// The page. Every section whose file is missing is a note that says which command writes it.
pub fn render(files: &RunFiles) -> String {
    let sections = sections::all(files);
    let verdict = verdict(files);
    let run = run_name(files);
    let mut main = Html::from("{}{}", &[&tiles(files), &notes(files)]);
    for section in &sections {
        main.add(&section.render());
    }
    let footer = Html::from("Written by foils {} from the JSON files of the run. ", &[&env!("CARGO_PKG_VERSION")]);
    let footer = Html::from("{}Intervals are 95 % bootstrap intervals over queries.", &[&footer]);
    let kicker = Html::from("foils report · <code>{}</code>", &[&run]);
    let title = format!("{run} · foils report");
    let contents: Vec<(&str, &str)> = sections.iter().map(|s| (s.id, s.title)).collect();
    Frame { title: &title, kicker: &kicker, heading: &verdict, contents: &contents, main: &main, footer: &footer }.render()
}

/// What every page has around its content.
pub struct Frame<'a> {
    /// The window's title.
    pub title: &'a str,
    /// A line above the heading: what this is.
    pub kicker: &'a Html,
    /// What was found, in a sentence.
    pub heading: &'a str,
    /// Anchors and names of the sections.
    pub contents: &'a [(&'a str, &'a str)],
    /// The sections.
    pub main: &'a Html,
    /// How the page was made and is to be read.
    pub footer: &'a Html,
}

impl Frame<'_> {
    /// The page.
    pub fn render(&self) -> String {
        let mut html = Html::new();
        // No script at all may run and nothing may be fetched, whatever the texts of a run hold.
        html.put(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"generator\" content=\"foils {}\">\n<title>{}</title>\n<style>\n",
            &[&env!("CARGO_PKG_VERSION"), &self.title],
        );
        html.raw(include_str!("style.css"));
        html.put("</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the numbers</a>\n", &[]);
        html.put("<header><p class=\"run\">{}</p><h1>{}</h1></header>\n", &[self.kicker, &self.heading]);
        html.put("<nav aria-label=\"Contents\"><ul>", &[]);
        for (id, title) in self.contents {
            html.put("<li><a href=\"#{}\">{}</a></li>", &[id, title]);
        }
        html.put("</ul></nav>\n<main id=\"main\">\n{}</main>\n<footer><p>{}</p></footer>\n</body>\n</html>\n", &[self.main, self.footer]);
        html.into_string()
    }
}

/// The folder's last name, which is what people call a run.
fn run_name(files: &RunFiles) -> String {
    let whole = files.folder.canonicalize().unwrap_or_else(|_| files.folder.clone());
    whole.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| whole.to_string_lossy().into_owned())
}

/// What happened, in a sentence.
fn verdict(files: &RunFiles) -> String {
    let Some((eval, metric)) = files.eval.as_ref().and_then(|e| Some((e, headline(e)?))) else {
        return "A run without an evaluation".into();
    };
    let name = format!("{}@{}", metric_name(&metric.metric), metric.k);
    let queries = format!("on {} held-out queries", count(eval.queries as u64));
    match (&metric.before, &metric.difference) {
        (Some(before), Some(difference)) => {
            let (from, to) = (fixed(before.mean, 3), fixed(metric.after.mean, 3));
            if difference.low > 0.0 {
                format!("{name} rose from\u{a0}{from} to\u{a0}{to} {queries}")
            } else if difference.high < 0.0 {
                format!("{name} fell from\u{a0}{from} to\u{a0}{to} {queries}")
            } else {
                format!("{name} did not change measurably: {from} before, {to} after, {queries}")
            }
        }
        _ => format!("{name} is {} {queries}", fixed(metric.after.mean, 3)),
    }
}

/// The headline numbers.
fn tiles(files: &RunFiles) -> Html {
    let mut html = Html::from("<dl class=\"tiles\">", &[]);
    let mut tile = |label: &str, value: &str, below: &str| {
        html.put("<div><dt>{}</dt><dd><strong>{}</strong><span>{}</span></dd></div>", &[&label, &value, &below]);
    };
    if let Some(eval) = &files.eval {
        if let Some(metric) = headline(eval) {
            let name = format!("{}@{}", metric_name(&metric.metric), metric.k);
            let after = format!("[{}, {}]", fixed(metric.after.low, 3), fixed(metric.after.high, 3));
            match &metric.before {
                Some(before) => {
                    let below = format!("before [{}, {}], after {after}", fixed(before.low, 3), fixed(before.high, 3));
                    tile(
                        &format!("{name}, before → after"),
                        &format!("{} → {}", fixed(before.mean, 3), fixed(metric.after.mean, 3)),
                        &below,
                    );
                }
                None => tile(&name, &fixed(metric.after.mean, 3), &after),
            }
            if let Some(d) = &metric.difference {
                let below = format!("[{}, {}], paired over queries", signed(d.low, 3), signed(d.high, 3));
                tile("Difference", &signed(d.mean, 3), &below);
                if let Some(before) = metric.before.filter(|b| b.mean > 0.0) {
                    let sign = if d.mean > 0.0 { "+" } else { "" };
                    tile("Relative gain", &format!("{sign}{}", percent(d.mean / before.mean)), "difference ÷ value before");
                }
            }
        }
        tile("Held-out queries", &count(eval.queries as u64), &format!("ranked among {} documents", count(eval.documents as u64)));
    }
    if let Some(seen) = files.train.as_ref().map(|t| &t.negatives) {
        let below = format!("{} in batch, {} own, {} of others", fixed(seen.in_batch, 1), fixed(seen.own, 1), fixed(seen.others, 1));
        tile("Negatives an anchor saw", &fixed(seen.effective, 1), &below);
    }
    let steps = step_seconds(files);
    if !steps.is_empty() {
        let total = steps.iter().map(|(_, s)| s).sum();
        let below = steps.iter().map(|(name, s)| format!("{name} {}", duration(*s))).collect::<Vec<_>>().join(", ");
        tile("Time", &duration(total), &below);
    }
    html.put("</dl>\n", &[]);
    html
}

/// What one must know before believing the numbers.
fn notes(files: &RunFiles) -> Html {
    let mut notes: Vec<String> = Vec::new();
    if let Some(train) = &files.train {
        if !train.improved {
            notes.push("Training: no checkpoint beat the untuned encoder on validation data, so the untuned encoder was kept.".into());
        }
        if train.left_out > 0 {
            let share = percent(train.left_out as f64 / train.examples.max(1) as f64);
            notes.push(format!(
                "Training: {} of {} examples ({share}) could not be placed in a batch without duplicates.",
                count(train.left_out as u64),
                count(train.examples as u64)
            ));
        }
    }
    if let Some(score) = files.score.as_ref().filter(|s| !s.trusted) {
        notes.push(score.trust_reason.clone());
    }
    if let Some(mine) = &files.mine {
        notes.extend(mine.warnings.iter().map(|w| format!("Mining: {w}")));
        if mine.too_few > 0 {
            let share = percent(mine.too_few as f64 / mine.queries.max(1) as f64);
            notes.push(format!(
                "Mining: {} of {} queries ({share}) got fewer negatives than asked for.",
                count(mine.too_few as u64),
                count(mine.queries as u64)
            ));
        }
    }
    if let Some(eval) = files.eval.as_ref().filter(|e| e.queries_without_relevant > 0) {
        notes.push(format!(
            "Evaluation: {} queries have no relevant document and are left out.",
            count(eval.queries_without_relevant as u64)
        ));
    }
    if notes.is_empty() {
        return Html::new();
    }
    let mut html =
        Html::from("<aside class=\"notes\" aria-labelledby=\"notes-title\"><h2 id=\"notes-title\">Know before you read</h2><ul>", &[]);
    for note in &notes {
        html.put("<li>{}</li>", &[note]);
    }
    html.put("</ul></aside>\n", &[]);
    html
}
