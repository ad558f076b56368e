//! Training curves, and how many negatives an anchor really saw.

use super::super::cells::{self, Head::*};
use super::super::charts::{Figure, dot, hover, line, mark, rule, side_by_side};
use super::super::html::{Html, count, fixed, percent, plain, plural, signed};
use super::super::scale::Scale;
use foils::train::{StepRecord, TrainSummary};

pub fn body(train: &TrainSummary) -> Html {
    let mut html = Html::from("<p>{}</p>", &[&sentence(train)]);
    let last = train.steps.iter().map(|s| s.step).chain(train.validations.iter().map(|v| v.step)).max().unwrap_or(1).max(1);
    let x = Scale::tight([0.0, last as f64], 5).whole();
    let mut figures = Vec::new();
    if !train.validations.is_empty() {
        figures.push(validation(train, &x));
    }
    if !train.steps.is_empty() {
        figures.push(loss(train, &x));
        figures.push(learning_rate(train, &x));
    }
    figures.push(seen(train));
    html.add(&side_by_side(&figures));
    html
}

/// What happened, in words.
fn sentence(train: &TrainSummary) -> String {
    let examples = plural(train.examples as u64, "example", "examples");
    let stopped = match train.stopped.as_str() {
        "epochs" => "all epochs were done".to_owned(),
        "early stopping" => "validation no longer improved (early stopping)".to_owned(),
        "time" => "the time was up".to_owned(),
        other => other.to_owned(),
    };
    let outcome = if train.improved {
        let gain = signed(train.best_ndcg - train.untuned_ndcg, 3);
        format!(
            "The best checkpoint, after step {}, reached a validation nDCG@10 of {} ({gain} over the untuned encoder's {}).",
            count(train.best_step as u64),
            fixed(train.best_ndcg, 3),
            fixed(train.untuned_ndcg, 3)
        )
    } else {
        format!("No checkpoint beat the untuned encoder's validation nDCG@10 of {}, so it was kept.", fixed(train.untuned_ndcg, 3))
    };
    let end = if stopped.is_empty() { String::new() } else { format!("; it ended because {stopped}") };
    format!("Trained on {examples}{end}. {outcome}")
}

fn validation(train: &TrainSummary, x: &Scale) -> Html {
    let points: Vec<(f64, f64)> = train.validations.iter().map(|v| (v.step as f64, v.ndcg)).collect();
    let (low, high) =
        points.iter().map(|p| p.1).chain([train.untuned_ndcg]).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    // Room above for the label of the best step, below for that of the untuned line.
    let y = Scale::nice([low - 0.12 * (high - low), high + 0.25 * (high - low)], 4);
    let shapes = line("tuned", points.iter().copied(), x, &y);
    let mut marks = rule("untuned", train.untuned_ndcg, &format!("untuned {}", fixed(train.untuned_ndcg, 3)), false, &y);
    if train.improved {
        marks.add(&mark("best", train.best_step as f64, &format!("best {}", fixed(train.best_ndcg, 3)), true, 0, x));
    }
    let mut numbers = Html::from(
        "<table><thead><tr><th scope=\"col\">Step</th><th scope=\"col\">Epoch</th><th scope=\"col\">nDCG@10</th><th scope=\"col\">Over untuned</th></tr></thead><tbody>",
        &[],
    );
    for v in &train.validations {
        let best = train.improved && v.step == train.best_step;
        let (step, ndcg, over) = (count(v.step as u64), fixed(v.ndcg, 4), signed(v.ndcg - train.untuned_ndcg, 4));
        marks.add(&dot(
            if best { "best" } else { "tuned" },
            (v.step as f64, v.ndcg),
            &format!("step {step}: nDCG@10 {ndcg}, {over} over untuned"),
            x,
            &y,
        ));
        numbers.put(
            "<tr><th scope=\"row\" class=\"number\">{}</th>{}{}{}</tr>",
            &[&step, &cells::number(&fixed(v.epoch, 2)), &cells::number(&ndcg), &cells::number(&over)],
        );
    }
    numbers.put("</tbody></table>", &[]);
    Figure {
        title: "Validation nDCG@10",
        look: "Look for a curve above the dashed line of the untuned encoder that flattens; one that falls again after its best step is overfitting.",
        summary: sentence(train),
        x_label: "optimiser step",
        y_label: "nDCG@10",
        x: x.clone(),
        y,
        legend: vec![("tuned", "while training".into()), ("untuned", "untuned".into())],
        shapes,
        marks,
        numbers,
    }
    .render()
}

fn loss(train: &TrainSummary, x: &Scale) -> Html {
    let smooth = moving_mean(&train.steps);
    let y = Scale::nice(train.steps.iter().map(|s| s.loss), 4);
    let mut shapes = line("raw", train.steps.iter().map(|s| (s.step as f64, s.loss)), x, &y);
    shapes.add(&line("tuned", smooth.iter().copied(), x, &y));
    // About a hundred columns: a tooltip a pixel is of no use.
    let mut marks = Html::new();
    let mut from = 0.0;
    for chunk in smooth.chunks(smooth.len().div_ceil(100).max(1)) {
        let &(step, loss) = chunk.last().expect("chunks are not empty");
        marks.add(&hover(from, step, &format!("step {}: loss {}", count(step as u64), plain(loss)), x));
        from = step;
    }
    let (first, last) = (smooth[0].1, smooth[smooth.len() - 1].1);
    Figure {
        title: "Loss",
        look: "Look for a steady fall. A jump or a rise asks for a lower learning rate or a longer warm-up; a loss near its floor at once means that the negatives are too easy.",
        summary: format!("The mean loss goes from {} to {}.", plain(first), plain(last)),
        x_label: "optimiser step",
        y_label: "loss of the batch",
        x: x.clone(),
        y,
        legend: vec![("raw", "each batch".into()), ("tuned", "moving mean".into())],
        shapes,
        marks,
        numbers: Html::new(),
    }
    .render()
}

/// Means over a fiftieth of the steps around each step.
fn moving_mean(steps: &[StepRecord]) -> Vec<(f64, f64)> {
    let reach = steps.len() / 100;
    (0..steps.len())
        .map(|i| {
            let window = &steps[i.saturating_sub(reach)..(i + reach + 1).min(steps.len())];
            (steps[i].step as f64, window.iter().map(|s| s.loss).sum::<f64>() / window.len() as f64)
        })
        .collect()
}

fn learning_rate(train: &TrainSummary, x: &Scale) -> Html {
    let y = Scale::nice(train.steps.iter().map(|s| s.learning_rate).chain([0.0]), 3);
    let highest = train.steps.iter().max_by(|a, b| a.learning_rate.total_cmp(&b.learning_rate)).copied().unwrap_or_default();
    let peak = format!("{} at step {}", plain(highest.learning_rate), count(highest.step as u64));
    Figure {
        title: "Learning rate",
        look: "Look for the schedule that you meant: a short warm-up, then decay. A best step early in the decay says that fewer epochs would do.",
        summary: format!("The learning rate peaks with {peak}."),
        x_label: "optimiser step",
        y_label: "learning rate",
        x: x.clone(),
        shapes: line("tuned", train.steps.iter().map(|s| (s.step as f64, s.learning_rate)), x, &y),
        y,
        legend: vec![("tuned", format!("peak {peak}"))],
        marks: Html::new(),
        numbers: Html::new(),
    }
    .render()
}

/// How many negatives the loss saw for an anchor, by where they come from.
fn seen(train: &TrainSummary) -> Html {
    let n = &train.negatives;
    let most = [n.in_batch, n.own, n.others, n.queued, n.masked, n.masked_by_teacher, n.effective].into_iter().fold(0.0, f64::max);
    let scale = Scale::nice([0.0, most], 3);
    let mut rows = Html::from("<tbody>", &[]);
    let sources = [
        ("Other examples' positives (in batch)", n.in_batch, "kept"),
        ("Its own mined negatives", n.own, "kept"),
        ("Other examples' mined negatives", n.others, "kept"),
    ];
    let queue = (n.queued > 0.0).then_some(("Candidates of earlier batches (queue)", n.queued, "kept"));
    let by = if train.settings.get("teacher").is_some() { "Masked: too near by the teacher" } else { "Masked: cancelled by the weights" };
    let teacher = (n.masked_by_teacher > 0.0).then_some((by, n.masked_by_teacher, "removed"));
    for (name, value, class) in sources
        .into_iter()
        .chain(queue)
        .chain([("All that the loss saw", n.effective, "total"), ("Masked: text equals a positive", n.masked, "removed")])
        .chain(teacher)
    {
        rows.put(
            "<tr><th scope=\"row\">{}</th>{}{}</tr>",
            &[&name, &cells::number(&fixed(value, 1)), &cells::bar(&scale, 0.0, value, class)],
        );
    }
    rows.put("</tbody>{}", &[&cells::axis(&scale, "mean count", 2, 0)]);
    let left_out = percent(train.left_out as f64 / train.examples.max(1) as f64);
    let look = format!(
        "Look for many masked candidates: they are copies of positives that would have been false negatives. The batch sampler left out {left_out} of the examples."
    );
    Html::from(
        "<div>{}</div>",
        &[&cells::table("Negatives that an anchor saw", &look, &[Text("Source"), Number("Mean"), Plot("For an anchor")], &rows)],
    )
}
