//! The page from a whole run folder, from parts of one, and from broken ones.

use super::{RunFiles, fixture, render};
use std::path::Path;

fn run(write: impl FnOnce(&Path)) -> (tempfile::TempDir, foils::Result<String>) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let page = RunFiles::read(folder.path()).map(|files| render(&files));
    (folder, page)
}

/// The names of all elements and attributes that the page has as markup (texts cannot hold a bare `<`).
fn markup(page: &str) -> Vec<String> {
    let body = &page[page.find("</style>").unwrap()..];
    body.split('<').skip(1).map(|part| part[..part.find('>').unwrap()].to_owned()).collect()
}

#[test]
fn the_page_has_every_section_and_its_numbers() {
    let (_folder, page) = run(fixture::write);
    let page = page.unwrap();
    for id in ["result", "similarity", "training", "mining", "negatives", "strategies", "queries", "settings"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert!(!page.contains("class=\"missing\">Left out"), "no section is left out");
    let said = [
        "<h1>nDCG@10 rose from\u{a0}0.391 to\u{a0}0.436 on 3,208 held-out queries</h1>",
        "<strong>0.391 → 0.436</strong><span>before [0.373, 0.409], after [0.418, 0.454]</span>",
        "<strong>+0.045</strong><span>[+0.032, +0.058], paired over queries</span>",
        "<strong>+11.5\u{a0}%</strong>",
        "<strong>376.0</strong><span>62.7 in batch, 4.9 own, 308.4 of others</span>",
        "<strong>3\u{a0}min 4\u{a0}s</strong><span>mine 19.7\u{a0}s, score 4.3\u{a0}s, race 1\u{a0}min 1\u{a0}s, train 1\u{a0}min 26\u{a0}s, eval 12.8\u{a0}s</span>",
        "<th scope=\"rowgroup\" rowspan=\"5\">whole run</th>",
        "<th scope=\"rowgroup\" rowspan=\"4\">mine</th>",
        "<td class=\"verdict rose\">▲ better</td>",
        "<td class=\"verdict fell\">▼ worse</td>",
        "<td class=\"verdict unclear\">○ unclear</td>",
        "Filter: relative_margin</th><td class=\"number\">−61,207</td><td class=\"number\">39.7\u{a0}%</td>",
        "Equals a positive: same text</th><td class=\"number\">−214</td>",
        "Passed, but not needed</th><td class=\"number\">−56,132</td>",
        "41,702 candidates (27.0\u{a0}%) score above the lowest positive of their query; of the negatives kept, 212 (0.8\u{a0}%) do.",
        "<td class=\"number\">31.0\u{a0}%<small>[29.9\u{a0}%, 32.1\u{a0}%]</small></td>",
        "131 of 5,142 queries got too few negatives; the first 20",
        "⚠ Do not trust ECI here.",
        "✓ Chosen: hybrid, relative margin 0.05",
        ">best 0.447</text>",
        "untuned 0.412",
        "<code>bm25.k1</code></th><td class=\"prose\"><code>1.2</code>",
    ];
    for text in said {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<details class=\"mover\"").count(), 10, "five that rose and five that fell");
    let ranks: Vec<&str> = page.split(" rank ").skip(1).map(|p| &p[..p.find('<').unwrap()]).collect();
    assert_eq!(ranks, ["61 → 1", "48 → 3", "39 → 1", "22 → 2", "20 → 4", "6 → 1,204", "2 → 31", "4 → 25", "3 → 17", "1 → 11"]);
}

#[test]
fn texts_stay_texts() {
    let (_folder, page) = run(fixture::write);
    let page = page.unwrap();
    let tags = markup(&page);
    let known = [
        "a",
        "article",
        "aside",
        "body",
        "circle",
        "code",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "h1",
        "h2",
        "h3",
        "head",
        "header",
        "html",
        "li",
        "line",
        "main",
        "nav",
        "p",
        "path",
        "pre",
        "rect",
        "section",
        "small",
        "span",
        "strong",
        "style",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "text",
        "tfoot",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
    ];
    for tag in &tags {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert!(known.contains(&name), "<{tag}>");
        // Outside of quoted values no attribute that runs code or fetches.
        let bare: String = tag.split('"').step_by(2).collect();
        assert!(!["on", "src", "style", "xlink"].iter().any(|a| bare.contains(&format!(" {a}"))), "<{tag}>");
        assert!(!bare.contains("href") || tag.starts_with("a ") && (tag.contains("href=\"#")), "<{tag}>");
    }
    assert!(page.contains("&lt;script&gt;document.title=&#39;ran&#39;&lt;/script&gt;"));
    assert!(page.contains("naïve 検索 🦀 عربى") && !page.contains('\u{202e}') && !page.contains('\u{0}'));
    assert!(page.contains("… (2,000 more characters)"), "an endless line is cut");
    let style = include_str!("style.css");
    assert!(!style.contains("url(") && !style.contains("@import"), "the style sheet fetches nothing");
}

#[test]
fn tags_are_balanced() {
    let (_folder, page) = run(fixture::write);
    let mut open = vec!["html".to_owned()];
    for tag in markup(&page.unwrap()).into_iter().skip_while(|t| t != "body") {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name), "closed where {open:?} is open");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "all are closed");
}

#[test]
fn missing_files_leave_notes() {
    for (kept, ids) in [
        ("mine.json", ["result", "similarity", "training", "negatives", "queries"].as_slice()),
        ("eval.json", &["training", "mining", "negatives"]),
        ("tune.json", &["result", "similarity", "training", "mining", "negatives", "queries"]),
    ] {
        let (_folder, page) = run(|folder| {
            fixture::write(folder);
            for name in ["mine.json", "score.json", "train.json", "eval.json", "tune.json"] {
                if name != kept {
                    std::fs::remove_file(folder.join(name)).unwrap();
                }
            }
        });
        let page = page.unwrap();
        let left_out = |id: &&str| {
            page.split(&format!("<section id=\"{id}\"")).nth(1).unwrap().split("</section>").next().unwrap().contains("Left out: ")
        };
        assert!(ids.iter().all(left_out), "{kept}");
        assert_eq!(page.matches("Left out: ").count(), ids.len(), "{kept}");
        assert!(page.contains("<h1>nDCG@10 rose") == (kept == "eval.json"));
    }
}

#[test]
fn empty_values_give_a_page() {
    let empty = RunFiles {
        folder: "run".into(),
        mine: Some(Default::default()),
        score: Some(Default::default()),
        train: Some(Default::default()),
        eval: Some(Default::default()),
        tune: Some(
            serde_json::from_str(
                r#"{"strategies": [{}, {"name": 3, "rounds": [{"steps": 50, "ndcg": 0.4}, "x"]}], "seconds": {"a": "b"}}"#,
            )
            .unwrap(),
        ),
    };
    let page = render(&empty);
    assert!(
        page.contains("A run without an evaluation")
            && page.contains("No checkpoint beat")
            && page.contains("0.400 (50 steps) → &quot;x&quot;")
    );
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn absurd_values_give_a_page() {
    let mut files =
        RunFiles { mine: Some(fixture::mine()), train: Some(fixture::train()), eval: Some(fixture::eval()), ..RunFiles::default() };
    let (mine, train, eval) = (files.mine.as_mut().unwrap(), files.train.as_mut().unwrap(), files.eval.as_mut().unwrap());
    mine.removed.iter_mut().for_each(|r| r.count = u64::MAX);
    mine.candidates = 3;
    mine.positive_scores.max = f64::MAX;
    mine.positive_scores.min = f64::MIN;
    train.validations[3].ndcg = f64::MAX;
    train.steps[0].loss = f64::MIN;
    train.steps[1].loss = f64::MAX;
    train.steps[2].step = usize::MAX;
    eval.positive_similarity[0].counts[50] = u64::MAX;
    eval.negative_similarity[1].high = f64::MIN_POSITIVE;
    eval.metrics[0].difference = Some(foils::metrics::Interval { mean: 1.0, low: f64::MAX, high: f64::MIN });
    eval.movers[0].rank_after = usize::MAX;
    eval.seconds = f64::MAX;
    let page = render(&files);
    assert!(markup(&page).iter().all(|tag| !tag.contains("NaN") && !tag.contains("inf")), "every place is a number");
}

#[test]
fn one_encoder_alone_has_no_before() {
    let mut eval = fixture::eval();
    for metric in &mut eval.metrics {
        (metric.before, metric.difference) = (None, None);
    }
    eval.positive_similarity.truncate(1);
    eval.negative_similarity.truncate(1);
    let page = render(&RunFiles { folder: "run".into(), eval: Some(eval), train: Some(fixture::train()), ..RunFiles::default() });
    assert!(
        page.contains("<strong>1\u{a0}min 39\u{a0}s</strong><span>train 1\u{a0}min 26\u{a0}s, eval 12.8\u{a0}s</span>"),
        "without tune.json the steps' own times"
    );
    assert!(page.contains("<h1>nDCG@10 is 0.436 on 3,208 held-out queries</h1>") && !page.contains("Relative gain"));
    assert!(page.contains("one encoder evaluated") && !page.contains("Similarities before training"));
}

#[test]
fn an_interval_that_holds_0_is_no_gain() {
    let mut eval = fixture::eval();
    for (low, word) in [(-0.001, "did not change measurably"), (0.001, "rose")] {
        for metric in &mut eval.metrics {
            metric.difference = metric.difference.map(|d| foils::metrics::Interval { low, ..d });
        }
        let page = render(&RunFiles { folder: "run".into(), eval: Some(eval.clone()), ..RunFiles::default() });
        assert!(page.contains(&format!("<h1>nDCG@10 {word}")), "{low}");
    }
}

#[test]
fn broken_files_are_named_with_their_line() {
    let (folder, result) = run(|folder| {
        fixture::write(folder);
        std::fs::write(folder.join("train.json"), "{\n  \"settings\": {},\n  \"examples\": \"many\"\n}").unwrap();
    });
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:3: ", folder.path().join("train.json").display())), "{error}");

    let (folder, result) = run(|folder| std::fs::write(folder.join("eval.json"), "{\n\"queries\": 3,").unwrap());
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:2: ", folder.path().join("eval.json").display())), "{error}");

    let (_folder, result) = run(|folder| std::fs::write(folder.join("tune.json"), "[]").unwrap());
    assert!(result.unwrap_err().to_string().ends_with("tune.json:1: expected a JSON object"));
    let (_folder, result) = run(|_| ());
    assert!(result.unwrap_err().to_string().contains("holds none of"));
    assert!(RunFiles::read(Path::new("no/such/folder")).unwrap_err().to_string().contains("is not a folder"));
}
