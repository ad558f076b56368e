//! The sections of the page, in the order in which they are read: a file a section.

mod mining;
mod negatives;
mod queries;
mod result;
mod settings;
mod similarity;
mod strategies;
pub mod timing;
mod training;

pub use result::headline;

use super::RunFiles;
use super::html::{Html, shorten};

/// A section.
pub struct Section {
    /// Its anchor.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What follows the heading.
    pub body: Html,
}

impl Section {
    /// As HTML.
    pub fn render(&self) -> Html {
        let Self { id, title, body } = self;
        Html::from("<section id=\"{}\" aria-labelledby=\"{}-title\"><h2 id=\"{}-title\">{}</h2>{}</section>\n", &[id, id, id, title, body])
    }
}

/// All sections; one whose file is missing says so.
pub fn all(files: &RunFiles) -> Vec<Section> {
    let (mine, score, train, eval) = (files.mine.as_ref(), files.score.as_ref(), files.train.as_ref(), files.eval.as_ref());
    let mut sections = vec![
        Section { id: "result", title: "Ranking metrics", body: or_missing(eval.map(result::body), "eval.json", "foils eval") },
        Section { id: "similarity", title: "Similarities", body: or_missing(eval.map(similarity::body), "eval.json", "foils eval") },
        Section { id: "training", title: "Training", body: or_missing(train.map(training::body), "train.json", "foils train") },
        Section { id: "mining", title: "Mining and filters", body: or_missing(mine.map(mining::body), "mine.json", "foils mine") },
        Section {
            id: "negatives",
            title: "Negatives scored before training",
            body: or_missing(score.map(negatives::body), "score.json", "foils score"),
        },
    ];
    if let Some(body) = files.tune.as_ref().and_then(strategies::body) {
        sections.push(Section { id: "strategies", title: "Strategies", body });
    }
    sections.push(Section {
        id: "queries",
        title: "Queries that moved",
        body: or_missing(eval.map(queries::body), "eval.json", "foils eval"),
    });
    sections.push(Section { id: "settings", title: "Settings and time", body: settings::body(files) });
    sections
}

fn or_missing(body: Option<Html>, file: &'static str, command: &'static str) -> Html {
    body.unwrap_or_else(|| {
        Html::from(
            "<p class=\"missing\">Left out: the run folder has no <code>{}</code>. <code>{}</code> writes it.</p>",
            &[&file, &command],
        )
    })
}

/// A metric as it is written in the field.
pub fn metric_name(metric: &str) -> &str {
    match metric {
        "ndcg" => "nDCG",
        "mrr" => "MRR",
        "map" => "MAP",
        "recall" => "Recall",
        "precision" => "Precision",
        other => other,
    }
}

/// Characters of a document that a report shows; whole files of code would make it unreadable.
const SHOWN: usize = 3000;

/// A text under its label, with its line breaks; scrolls when it is long.
fn text_block(label: &str, text: &str) -> Html {
    let mut html = Html::from("<div class=\"text\"><p class=\"text-label\">{}</p>", &[&label]);
    if text.trim().is_empty() {
        html.put("<p class=\"missing\">an empty text</p></div>", &[]);
    } else {
        html.put("<pre tabindex=\"0\" aria-label=\"{}\">{}</pre></div>", &[&label, &shorten(text.trim_matches('\n'), SHOWN)]);
    }
    html
}
