//! The page of a study: what the paper says, what came out, and the plots of the first seed.

use super::cells::{self, Head};
use super::charts::{Figure, cloud, density, dot, line, side_by_side, steps};
use super::html::{Html, count, duration, fixed, plain, plural, signed};
use super::page::Frame;
use super::scale::Scale;
use super::sections::Section;
use foils::metrics::Histogram;
use foils_studies::papers::Paper;
use foils_studies::plot::{Marks, Plot, Series};
use foils_studies::report::{Report, Verdict};
use foils_studies::study::{Baseline, Better, Budget};

/// Classes of lines, clouds and shapes in the style sheet; a plot with more series begins again.
const SERIES: [&str; 10] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];

/// The page.
pub fn render(report: &Report, paper: &Paper) -> String {
    let mut sections = vec![Section { id: "claims", title: "Claims", body: claims(report) }];
    let plots = report.runs.first().map_or(&[][..], |run| &run.outcome.plots);
    if !plots.is_empty() {
        let figures: Vec<Html> = plots.iter().map(figure).collect();
        sections.push(Section { id: "plots", title: "Plots", body: side_by_side(&figures) });
    }
    sections.push(Section { id: "measured", title: "Measured", body: measured(report) });
    if report.runs.iter().any(|run| !run.outcome.checks.is_empty()) {
        sections.push(Section { id: "checks", title: "What must hold", body: checks(report) });
    }
    if !report.notes.is_empty() {
        sections.push(Section { id: "notes", title: "Notes", body: notes(report) });
    }
    let mut main = Html::from("{}<p><strong>The paper:</strong> {}</p>", &[&tiles(report), &report.says]);
    main.put("<p><strong>Checked:</strong> {}</p><p><strong>Data:</strong> {}</p>", &[&report.checks, &report.data]);
    if report.budget == Budget::Quick {
        main.put("<p class=\"callout\">This was --quick: too little data to say anything about the paper.</p>", &[]);
    }
    if !report.must_hold {
        main.put(
            "<p class=\"callout\">Something that must hold on any data does not. Until that is understood the verdict means nothing.</p>",
            &[],
        );
    }
    sections.iter().for_each(|section| main.add(&section.render()));
    let contents: Vec<(&str, &str)> = sections.iter().map(|s| (s.id, s.title)).collect();
    let title = format!("{} · foils reproduce", report.slug);
    let kicker = Html::from("foils reproduce <code>{}</code>", &[&report.slug]);
    let heading = format!("{}: {}", paper.title, report.verdict);
    let footer = Html::from(
        "Written by foils {}. Verdicts follow from the paired differences over seeds and their 95 % intervals (Student's t); plots are those of the first seed.",
        &[&env!("CARGO_PKG_VERSION")],
    );
    Frame { title: &title, kicker: &kicker, heading: &heading, contents: &contents, main: &main, footer: &footer }.render()
}

fn tiles(report: &Report) -> Html {
    let mut html = Html::from("<dl class=\"tiles\">", &[]);
    let mut tile = |label: &str, value: &str, below: &str| {
        html.put("<div><dt>{}</dt><dd><strong>{}</strong><span>{}</span></dd></div>", &[&label, &value, &below]);
    };
    let seeds = plural(report.runs.len() as u64, "seed", "seeds");
    tile("Verdict", &report.verdict.to_string(), &format!("over {seeds}, {}", plural(report.claims.len() as u64, "claim", "claims")));
    let checks = report.runs.iter().flat_map(|run| &run.outcome.checks);
    let (all, hold) = checks.fold((0, 0), |(all, hold), check| (all + 1, hold + u64::from(check.holds)));
    if all > 0 {
        tile("What must hold", &format!("{hold} of {all}"), "checks hold, all seeds counted");
    }
    tile("Time", &duration(report.seconds), &plural(report.threads as u64, "thread", "threads"));
    html.put("</dl>\n", &[]);
    html
}

fn claims(report: &Report) -> Html {
    let mut body = Html::from("<tbody>", &[]);
    for judged in &report.claims {
        let claim = &judged.claim;
        let baseline = match claim.baseline {
            Baseline::Metric(name) => name.to_owned(),
            Baseline::Value(value) => plain(value),
        };
        let beats = if claim.better == Better::Higher { "above" } else { "below" };
        let by = format!("{} {beats} {baseline} by more than {}", claim.metric, plain(claim.margin));
        body.put("<tr><th scope=\"row\">{}</th><td class=\"prose\">{}</td>", &[&claim.says, &by]);
        match judged.interval {
            Some((low, high)) => body.add(&cells::with_interval(&signed(judged.mean, 4), &signed(low, 4), &signed(high, 4))),
            None => body.add(&cells::number(&signed(judged.mean, 4))),
        }
        let (class, sign) = match judged.verdict {
            Verdict::Reproduced => ("rose", "▲"),
            Verdict::NotReproduced => ("fell", "▼"),
            Verdict::Inconclusive => ("unclear", "○"),
        };
        body.put("<td class=\"verdict {}\">{} {}</td></tr>", &[&class, &sign, &judged.verdict.to_string()]);
    }
    body.put("</tbody>", &[]);
    let head = [Head::Text("Claim"), Head::Text("Means"), Head::Number("Found"), Head::Text("Verdict")];
    cells::table("Claims", "", &head, &body)
}

fn measured(report: &Report) -> Html {
    let mut html = Html::from("<div class=\"scroll\" role=\"region\" aria-label=\"Measured\" tabindex=\"0\"><table><thead><tr>", &[]);
    html.put(
        "<th scope=\"col\">Measured</th><th scope=\"col\" class=\"number\">Mean</th><th scope=\"col\" class=\"number\">± sd</th>",
        &[],
    );
    for run in &report.runs {
        html.put("<th scope=\"col\" class=\"number\">Seed {}</th>", &[&(run.seed as usize)]);
    }
    html.put("</tr></thead><tbody>", &[]);
    for (row, summary) in report.summary.iter().enumerate() {
        let (mean, sd) = (plain(summary.mean), summary.sd.map(plain).unwrap_or_default());
        html.put("<tr><th scope=\"row\">{}</th>{}{}", &[&summary.name, &cells::number(&mean), &cells::number(&sd)]);
        for run in &report.runs {
            let value = run.outcome.measured.get(row).map(|(_, v)| plain(*v)).unwrap_or_default();
            html.add(&cells::number(&value));
        }
        html.put("</tr>", &[]);
    }
    html.put("</tbody></table></div>", &[]);
    html
}

fn checks(report: &Report) -> Html {
    let mut body = Html::from("<tbody>", &[]);
    for run in &report.runs {
        for check in &run.outcome.checks {
            let (class, mark) = if check.holds { ("rose", "✓ holds") } else { ("fell", "✗ does not") };
            body.put("<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td>", &[&check.says, &(run.seed as usize)]);
            body.put("<td class=\"prose\">{}</td><td class=\"verdict {}\">{}</td></tr>", &[&check.found, &class, &mark]);
        }
    }
    body.put("</tbody>", &[]);
    let head = [Head::Text("Must hold"), Head::Number("Seed"), Head::Text("Found"), Head::Text("")];
    cells::table("What must hold", "", &head, &body)
}

fn notes(report: &Report) -> Html {
    let mut html = Html::from("<div class=\"scroll\"><table><tbody>", &[]);
    for (name, value) in &report.notes {
        html.put("<tr><th scope=\"row\">{}</th><td class=\"prose\"><code>{}</code></td></tr>", &[name, &value.to_string()]);
    }
    html.put("</tbody></table></div>", &[]);
    html
}

/// A plot of a study as a figure of the page.
pub fn figure(plot: &Plot) -> Html {
    match &plot.marks {
        Marks::Lines { series, logarithmic } => lines(plot, series, *logarithmic),
        Marks::Scatter(series) => scatter(plot, series),
        Marks::Histograms(shapes) => histograms(plot, shapes),
    }
}

fn class(index: usize) -> &'static str {
    SERIES[index % SERIES.len()]
}

fn finite(series: &[Series]) -> impl Iterator<Item = (f64, f64)> {
    series.iter().flat_map(|s| &s.points).copied().filter(|(x, y)| x.is_finite() && y.is_finite())
}

fn lines(plot: &Plot, series: &[Series], logarithmic: bool) -> Html {
    let xs = finite(series).map(|p| p.0);
    let x = if logarithmic { Scale::logarithmic(xs, 8) } else { Scale::tight(xs, 6) };
    let y = Scale::nice(finite(series).map(|p| p.1), 5);
    let (mut shapes, mut marks) = (Html::new(), Html::new());
    let mut numbers = table_head(&[&plot.x, "Series", &plot.y]);
    for (i, s) in series.iter().enumerate() {
        let points: Vec<(f64, f64)> = finite(std::slice::from_ref(s)).collect();
        shapes.add(&line(class(i), points.iter().copied(), &x, &y));
        for &(px, py) in &points {
            let (at, value) = (plain(px), plain(py));
            // More dots than these hide the line.
            if points.len() <= 40 {
                marks.add(&dot(class(i), (px, py), &format!("{}, {at}: {value}", s.name), &x, &y));
            }
            numbers.put("<tr><th scope=\"row\" class=\"number\">{}</th><td>{}</td>{}</tr>", &[&at, &s.name, &cells::number(&value)]);
        }
    }
    numbers.put("</tbody></table>", &[]);
    let ends = |s: &Series| {
        let mut values = finite(std::slice::from_ref(s)).map(|p| plain(p.1));
        let first = values.next()?;
        Some(format!("{} goes from {first} to {}", s.name, values.last().unwrap_or_else(|| first.clone())))
    };
    let summary = series.iter().filter_map(ends).collect::<Vec<_>>().join("; ");
    let legend = if series.len() > 1 { legend(series.iter().map(|s| &s.name)) } else { Vec::new() };
    drawn(plot, (x, y), summary, legend, (shapes, marks), numbers)
}

fn scatter(plot: &Plot, series: &[Series]) -> Html {
    let x = Scale::nice(finite(series).map(|p| p.0), 5);
    let y = Scale::nice(finite(series).map(|p| p.1), 5);
    let mut marks = Html::new();
    let mut numbers = table_head(&["Series", "Points", "Mean x", "Mean y"]);
    let mut summary = Vec::new();
    for (i, s) in series.iter().enumerate() {
        let points: Vec<(f64, f64)> = finite(std::slice::from_ref(s)).collect();
        marks.add(&cloud(class(i), &s.name, &points, &x, &y));
        let n = points.len().max(1) as f64;
        let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
        let cells = [count(points.len() as u64), fixed(mx, 3), fixed(my, 3)];
        numbers.put("<tr><th scope=\"row\">{}</th>", &[&s.name]);
        cells.iter().for_each(|c| numbers.add(&cells::number(c)));
        numbers.put("</tr>", &[]);
        summary.push(format!("{} around ({}, {})", s.name, fixed(mx, 2), fixed(my, 2)));
    }
    numbers.put("</tbody></table>", &[]);
    let legend = legend(series.iter().map(|s| &s.name));
    drawn(plot, (x, y), summary.join("; "), legend, (Html::new(), marks), numbers)
}

fn histograms(plot: &Plot, shapes: &[(String, Histogram)]) -> Html {
    let ends = shapes.iter().flat_map(|(_, h)| {
        let filled = |i: Option<usize>| i.unwrap_or(0);
        [h.bin(filled(h.counts.iter().position(|&n| n > 0))).0, h.bin(filled(h.counts.iter().rposition(|&n| n > 0))).1]
    });
    let x = Scale::tight(ends, 7);
    let y = Scale::nice(shapes.iter().flat_map(|(_, h)| h.counts.iter().map(|&n| density(h, n, h.total()))).chain([0.0]), 4);
    let mut drawing = Html::new();
    let mut numbers = table_head(&["Shape", "Counted", "Mean"]);
    // What is drawn last lies on top: the first.
    for (i, (_, h)) in shapes.iter().enumerate().rev() {
        drawing.add(&steps(class(i), h, &x, &y));
    }
    for (name, h) in shapes {
        let (n, mean) = (count(h.total()), fixed(h.mean(), 3));
        numbers.put("<tr><th scope=\"row\">{}</th>{}{}</tr>", &[name, &cells::number(&n), &cells::number(&mean)]);
    }
    numbers.put("</tbody></table>", &[]);
    let means = shapes.iter().map(|(name, h)| format!("{name} have a mean of {}", fixed(h.mean(), 2))).collect::<Vec<_>>().join(", ");
    let shared = match shapes {
        [(_, a), (_, b)] => a.overlap(b).map(|o| format!("; they overlap by {}", fixed(o, 3))).unwrap_or_default(),
        _ => String::new(),
    };
    drawn(plot, (x, y), format!("{means}{shared}."), legend(shapes.iter().map(|s| &s.0)), (drawing, Html::new()), numbers)
}

fn legend<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(&'static str, String)> {
    names.enumerate().map(|(i, name)| (class(i), name.clone())).collect()
}

fn table_head(titles: &[&str]) -> Html {
    let mut html = Html::from("<table><thead><tr>", &[]);
    titles.iter().for_each(|title| html.put("<th scope=\"col\">{}</th>", &[title]));
    html.put("</tr></thead><tbody>", &[]);
    html
}

fn drawn(
    plot: &Plot,
    (x, y): (Scale, Scale),
    summary: String,
    legend: Vec<(&'static str, String)>,
    (shapes, marks): (Html, Html),
    numbers: Html,
) -> Html {
    Figure { title: &plot.title, look: &plot.look, summary, x_label: &plot.x, y_label: &plot.y, x, y, legend, shapes, marks, numbers }
        .render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foils::device::DeviceName;
    use foils::diagnostics::SimilarityHistograms;
    use foils_studies::study::{Claim, Context, Outcome, Study};

    const STUDY: Study = Study {
        slug: "x",
        says: "<b>Says</b>",
        checks: "Checks.",
        data: "Data.",
        claims: &[Claim { says: "a beats b", metric: "a", baseline: Baseline::Metric("b"), margin: 0.01, better: Better::Higher }],
        run,
    };

    /// One plot of each kind.
    fn run(context: &Context, seed: u64) -> foils::Result<Outcome> {
        context.note("rate", 0.5)?;
        let mut outcome = Outcome::default();
        outcome.measure("a", 0.5 + 0.01 * seed as f64);
        outcome.measure("b", 0.4 + 0.012 * seed as f64);
        outcome.check("seed is even", seed.is_multiple_of(2), format!("{seed}"));
        let temperatures = [0.03, 0.1, 0.3, 1.0];
        let of = |shift: f64| temperatures.map(|t: f64| (t, shift + t.log10())).into_iter().chain([(2.0, f64::NAN)]);
        let series = vec![Series::new("InfoNCE", of(3.0)), Series::new("hard & truncated", of(3.4))];
        outcome.plot(Plot::lines("Uniformity", "Look for a rise.", ["temperature τ", "−uniformity"], series).logarithmic());
        let mut rng = foils::seed::rng(seed, 0);
        let mut rows = Vec::new();
        let labels: Vec<i64> = (0..300).map(|i| i % 10).collect();
        for label in &labels {
            rows.extend((0..4).map(|c| (foils::seed::normal(&mut rng) * 0.4 + (*label as f64 * f64::from(c + 1)).sin() * 2.0) as f32));
        }
        let classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
        let similar = SimilarityHistograms::of_classes(&rows, 4, &labels, 40)?;
        outcome.plot(Plot::similarities("Similarities", "Look for the two shapes moving apart.", &similar));
        outcome.plot(Plot::embedding("Embeddings", "Look for classes that lie apart.", &rows, 4, &labels, &classes)?);
        outcome.plot(Plot::lines("Nothing", "", ["x", "y"], vec![]));
        Ok(outcome)
    }

    #[test]
    fn the_page_has_the_verdict_the_numbers_and_the_plots() {
        let report = STUDY.reproduce(1..3, Budget::Quick, DeviceName::Cpu).unwrap();
        let paper =
            Paper { slug: "x".into(), title: "On X".into(), authors: 1, date: "2021".into(), family: "f".into(), functions: Vec::new() };
        let page = render(&report, &paper);
        if let Some(path) = std::env::var_os("FOILS_SHOW_PAGE") {
            std::fs::write(path, &page).unwrap();
        }
        let said = [
            "<h1>On X: reproduced</h1>",
            "&lt;b&gt;Says&lt;/b&gt;",
            "a above b by more than 0.01",
            "<td class=\"number\">+0.0970<small>[",
            "<td class=\"verdict rose\">▲ reproduced</td>",
            "✗ does not",
            "Something that must hold on any data does not.",
            "This was --quick",
            ">0.03</text>",
            "hard &amp; truncated, 0.1: 2.4",
            "<g class=\"cloud s9\"><title>Ankle boot</title>",
            "principal axis 1",
        ];
        for text in said {
            assert!(page.contains(text), "{text}");
        }
        assert_eq!(page.matches("<figure").count(), 4);
        assert_eq!(page.matches("<path class=\"area s").count(), 2);
        assert_eq!(page.matches("<circle cx").count(), 300);
        assert!(!page.contains("NaN") && !page.contains("<b>"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["runs"][0]["outcome"]["plots"][0]["marks"]["lines"]["logarithmic"], true);
    }
}
