//! A run folder with values such as real runs have, and with texts that try to break out of the page.

use foils::diagnostics::{Baselines, ComponentIntervals, ScoreReport, SetScore, UnsafePair};
use foils::metrics::{Comparison, Evaluation, Histogram, Interval, Mover};
use foils::negatives::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
use foils::train::{NegativesSeen, StepRecord, TrainSummary, Validation};
use serde_json::json;
use std::path::Path;

/// Texts that must stay texts; each would change the page's title to "ran" or ask the network if it became markup.
pub const NASTY: [&str; 6] = [
    "<script>document.title='ran'</script>",
    "\"><img src=http://127.0.0.1:9/image.png onerror=\"document.title='ran'\">",
    "</pre></style></title><svg onload=\"document.title='ran'\"><link rel=stylesheet href=http://127.0.0.1:9/style.css>",
    "' onmouseover='document.title=1' style='background:url(http://127.0.0.1:9/back.png)",
    "&lt;script&gt; &amp; {} {{}} <!-- --> ]]> \u{202e}desrever\u{0} naïve 検索 🦀 عربى",
    "if a < b && c > d: return \"x\" % {'k': v}",
];

/// Writes all five files into `folder`.
pub fn write(folder: &Path) {
    let files = [
        ("mine.json", serde_json::to_value(mine()).unwrap()),
        ("score.json", serde_json::to_value(score()).unwrap()),
        ("train.json", serde_json::to_value(train()).unwrap()),
        ("eval.json", serde_json::to_value(eval()).unwrap()),
        ("tune.json", tune()),
    ];
    for (name, value) in files {
        foils::files::write_json(folder.join(name), &value).unwrap();
    }
}

fn interval(mean: f64, half: f64) -> Interval {
    Interval { mean, low: mean - half, high: mean + half }
}

/// A function body of `lines` lines.
fn code(lines: usize) -> String {
    let mut text = String::from(
        "def evaluate(self, expression, *, strict=False):\n    if len(expression.args) < 2 and not \"&\" in strict:\n        return None\n",
    );
    for i in 0..lines {
        text.push_str(&format!("    result_{i} = self.cache.get(expression.args[{i}], default=<missing>)  # <b>{i}</b> & more\n"));
    }
    text
}

pub fn mine() -> MineSummary {
    let removed = [("range_min", 5_140, 0.0333), ("max_score", 912, 0.0059), ("relative_margin", 61_207, 0.3969)];
    let quantiles = |min: f64, step: f64| Quantiles {
        min,
        q25: min + 2.0 * step,
        median: min + 2.9 * step,
        q75: min + 3.6 * step,
        max: min + 5.0 * step,
        mean: min + 2.8 * step,
    };
    let mut mine = MineSummary {
        settings: json!({"method": "hybrid", "bm25": {"k1": 1.2, "b": 0.75}, "num_negatives": 5, "relative_margin": 0.05, "max_score": 0.9, "seed": 7, "note": NASTY[1]}),
        queries: 5_142,
        documents: 9_871,
        candidates: 154_260,
        removed: removed.map(|(filter, count, share)| Removed { filter: filter.into(), count, share }).into(),
        equal_to_positive: EqualToPositive { by_id: 5_090, by_text: 214, nearly: 377 },
        kept: 25_188,
        too_few_examples: (0..24)
            .map(|i| TooFew {
                id: format!("sympy:{i}{}", NASTY[0]),
                text: format!("Return the {i}-th root. {}", NASTY[i % 6]),
                found: i % 5,
            })
            .collect(),
        positive_scores: quantiles(0.05, 0.17),
        negative_scores: quantiles(-0.06, 0.15),
        differences: quantiles(0.004, 0.13),
        warnings: vec![format!("3 positives score below 0, where the relative margin is computed from their absolute value {}", NASTY[2])],
        seconds: [("embed", 3.1), ("bm25", 6.4), ("dense", 9.8), ("filter", 0.42)].map(|(k, v)| (k.to_owned(), v)).into(),
        ..MineSummary::default()
    };
    mine.too_few = 131;
    mine.unused = 56_132;
    mine.candidates_above_positive = 41_702;
    mine.kept_above_positive = 212;
    mine
}

pub fn score() -> ScoreReport {
    let names = [
        "hybrid, relative margin 0.05",
        "dense, relative margin 0.05",
        "BM25 top 5",
        "dense ranks 20–50",
        "hybrid, unfiltered",
        "random",
        NASTY[0],
    ];
    let set = |(i, name): (usize, &&str)| {
        let eci = 0.41 - 0.052 * i as f64;
        let mut set = SetScore {
            name: (*name).into(),
            eci: interval(eci, 0.014 + 0.002 * i as f64),
            eci_mean_margin: interval(0.45 - 0.02 * ((i * 5) % 7) as f64, 0.012),
            capacity: 1.792,
            hardness: 0.41 - 0.05 * i as f64,
            safety: 0.14 + 0.03 * ((i * 3) % 5) as f64,
            efficiency: eci / 1.792,
            unsafe_rate: 0.31 / (i + 1) as f64,
            baselines: Baselines {
                mean_similarity: 0.43 - 0.05 * i as f64,
                mean_margin: 0.06 + 0.04 * i as f64,
                size: 25_188 - 93 * i,
                near_positive: 0.4 / (i + 1) as f64,
                info_nce: 1.61 - 0.2 * i as f64,
            },
            unsafe_pairs: if i % 2 == 1 { Vec::new() } else { (0..5).map(|j| unsafe_pair(i + j)).collect() },
            ..SetScore::default()
        };
        set.queries_without_negatives = 17 * i;
        set.intervals = ComponentIntervals {
            capacity: interval(set.capacity, 0.0),
            hardness: interval(set.hardness, 0.006),
            safety: interval(set.safety, 0.009),
            efficiency: interval(set.efficiency, 0.008),
            unsafe_rate: interval(set.unsafe_rate, 0.011),
        };
        set
    };
    let sets: Vec<SetScore> = names.iter().enumerate().map(set).collect();
    let different = (0..sets.len()).flat_map(|i| (i + 1..names.len()).map(move |j| (i, j))).filter(|(i, j)| j - i > 1 || *j > 3);
    ScoreReport {
        different: different.map(|(i, j)| (names[i].into(), names[j].into())).collect(),
        sets,
        encoder_ndcg: 0.391,
        encoder_positive_above: 0.884,
        trust_reason: "81.0 % of the dense top 5 score above the positive, so safety measures the encoder and not the negatives.".into(),
        ..ScoreReport::default()
    }
}

fn unsafe_pair(i: usize) -> UnsafePair {
    UnsafePair {
        query: format!("Return True if the expression is a polynomial in the given generators. {}", NASTY[i % 6]),
        positive: code(3 + i),
        negative: code(2 + 40 * (i % 2)),
        positive_score: 0.52 - 0.01 * i as f64,
        negative_score: 0.71 - 0.01 * i as f64,
    }
}

pub fn train() -> TrainSummary {
    let wave = |i: usize| ((i as f64 * 12.9898).sin() * 43_758.545_3).rem_euclid(1.0) - 0.5;
    let steps = 618;
    let validations: Vec<Validation> = (0..=12)
        .map(|i| {
            let t = i as f64 / 12.0;
            Validation {
                step: i * 51,
                epoch: i as f64 / 1.5,
                ndcg: 0.412 + 0.041 * (1.0 - (-5.0 * t).exp()) - 0.012 * t * t + 0.002 * wave(i) * t,
            }
        })
        .collect();
    let best = validations.iter().copied().max_by(|a, b| a.ndcg.total_cmp(&b.ndcg)).unwrap();
    let mut train = TrainSummary {
        settings: json!({"loss": "mnrl", "scale": 20.0, "batch": 64, "epochs": 8, "learning_rate": 0.002, "warmup": 0.1, "seed": 7, "teacher": "minilm"}),
        examples: 5_142,
        steps: (1..=steps)
            .map(|step| {
                let t = step as f64 / steps as f64;
                let learning_rate = 2e-3 * (t / 0.1).min((1.0 - t) / 0.9);
                StepRecord { step, loss: 1.1 + 2.3 * (-5.0 * t).exp() + 0.5 * wave(step), learning_rate }
            })
            .collect(),
        validations,
        untuned_ndcg: 0.412,
        best_ndcg: best.ndcg,
        best_step: best.step,
        improved: true,
        stopped: "early stopping".into(),
        negatives: NegativesSeen {
            in_batch: 62.7,
            own: 4.9,
            others: 308.4,
            queued: 0.0,
            masked: 3.1,
            masked_by_teacher: 7.6,
            effective: 376.0,
        },
        seconds: [("training", 71.3), ("validation", 14.9)].map(|(k, v)| (k.to_owned(), v)).into(),
        ..TrainSummary::default()
    };
    train.left_out = 23;
    train
}

fn histogram(mean: f64, deviation: f64, total: f64) -> Histogram {
    let (low, high, bins) = (-1.0, 1.0, 100);
    let width = (high - low) / bins as f64;
    let height = |i: usize| {
        let z = (low + (i as f64 + 0.5) * width - mean) / deviation;
        (total * width / (deviation * 2.5066) * (-0.5 * z * z).exp()).round() as u64
    };
    Histogram { low, high, counts: (0..bins).map(height).collect() }
}

pub fn eval() -> Evaluation {
    let metric = |metric: &str, k: usize, before: f64, gain: f64, half: f64| Comparison {
        metric: metric.into(),
        k,
        before: Some(interval(before, 0.0756 * before * (1.0 - before))),
        after: interval(before + gain, 0.0756 * before * (1.0 - before)),
        difference: Some(interval(gain, half)),
    };
    let query = |i: usize, (rank_before, rank_after): (usize, usize)| Mover {
        query: format!("Compute the shortest path between source and all other reachable nodes. {}", NASTY[i % 6]),
        positive: if i == 2 { "x".repeat(5_000) } else { code(4 + 9 * i) },
        rank_before,
        rank_after,
        top_before: code(6),
        top_after: if rank_after == 1 { code(4 + 9 * i) } else { code(1) },
    };
    let ranks = [(61, 1), (48, 3), (39, 1), (22, 2), (20, 4), (12, 2), (2, 9), (1, 11), (3, 17), (4, 25), (2, 31), (6, 1_204)];
    let metrics = [
        metric("recall", 1, 0.281, 0.036, 0.014),
        metric("recall", 5, 0.472, 0.047, 0.015),
        metric("recall", 10, 0.553, 0.051, 0.014),
        metric("recall", 100, 0.842, 0.004, 0.009),
        metric("precision", 1, 0.281, 0.036, 0.014),
        metric("precision", 10, 0.055, 0.005, 0.001),
        metric("precision", 100, 0.009, -0.0012, 0.0009),
        metric("mrr", 10, 0.361, 0.041, 0.012),
        metric("ndcg", 1, 0.281, 0.036, 0.014),
        metric("ndcg", 10, 0.391, 0.045, 0.013),
        metric("ndcg", 100, 0.452, 0.038, 0.011),
        metric("map", 10, 0.349, 0.040, 0.012),
    ];
    let mut eval = Evaluation {
        queries: 3_208,
        queries_without_relevant: 12,
        documents: 7_415,
        metrics: metrics.into(),
        positive_similarity: vec![histogram(0.47, 0.14, 3_208.0), histogram(0.56, 0.13, 3_208.0)],
        negative_similarity: vec![histogram(0.45, 0.11, 32_080.0), histogram(0.39, 0.10, 32_080.0)],
        movers: ranks.into_iter().enumerate().map(|(i, r)| query(i, r)).collect(),
        ..Evaluation::default()
    };
    eval.seconds = 12.8;
    eval
}

pub fn tune() -> serde_json::Value {
    let strategy = |i: usize, name: &str, eci: f64, ndcg: Option<f64>| {
        let rounds: Vec<f64> = ndcg.map(|n| (0..3 - i / 3).map(|r| n - 0.01 * (2 - i / 3 - r) as f64).collect()).unwrap_or_default();
        json!({"name": name, "eci": eci, "validation_ndcg": ndcg, "chosen": i == 0, "rounds": rounds})
    };
    json!({
        "settings": {"auto": true, "model": "wordllama", "seed": 7, "out": "runs/code <search>", "query": NASTY[3]},
        "seconds": {"mine": 19.7, "score": 4.3, "race": 61.0, "train": 86.2, "eval": 12.8, "total": 184.0},
        "strategies": [
            strategy(0, "hybrid, relative margin 0.05", 0.41, Some(0.449)),
            strategy(1, "dense, relative margin 0.05", 0.358, Some(0.446)),
            strategy(2, "dense ranks 20–50", 0.254, Some(0.441)),
            strategy(3, "BM25 top 5", 0.306, Some(0.433)),
            strategy(4, "random", 0.15, Some(0.434)),
            strategy(5, "hybrid, unfiltered", 0.202, Some(0.427)),
            strategy(6, NASTY[2], 0.098, None),
        ],
        "judge": "race",
        "reason": format!("It leads on validation data after three rounds, 0.003 before the next. {}", NASTY[4]),
    })
}
