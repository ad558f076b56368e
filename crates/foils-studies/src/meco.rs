//! Unnormalised models by compositional optimisation (meco).
//!
//! Maximum likelihood of an energy-based model needs log Z = log E_q[p̃/q], q being a noise distribution. The logarithm of a mean over
//! few noise samples is biased; MECO puts a running estimate u of the mean in its place. NCE, which needs no Z, has a landscape that is
//! flat where data and noise are far apart.
//!
//! Three parts: the paper's own example, the mean of a Gaussian ([`gaussian`]); the density of images of digits in a few whitened
//! dimensions ([`density`]); and whether the energy tells digits of other classes from those learned. Z of a trained network comes from
//! importance sampling; where fewer than 1 % of the draws count, the likelihood is not to be trusted, and no claim rests on it.

mod density;
pub(crate) mod gaussian;

use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use density::{HeldOut, Objective, Training};
use foils::data::images::Images;
use foils::data::registry;
use foils::diagnostics::PrincipalAxes;
use foils::losses::energy::estimate_partition;
use foils::metrics::auroc;
use foils::{Error, Result, seed};
use gaussian::{Method, Setting};
use rayon::prelude::*;

/// The study.
pub const STUDY: Study = Study {
    slug: "meco",
    says: "A running estimate of the normaliser makes maximum likelihood of unnormalised models possible without Markov chains and with \
           few noise samples; its landscape is more favourable than NCE's, so that it converges faster on the mean of a Gaussian, and its \
           densities and out-of-distribution detection are better.",
    checks: "On the mean of a Gaussian, batches of 64, learning rate 0.1: steps to |θ − θ*| < 0.2 (a run that never comes so near counts with \
             all its steps) and the error late in the run, with noise as narrow as the data and with wider noise. On digits: held-out \
             likelihood against maximum likelihood with the estimate of one batch, NCE and eNCE, with 6 settings tried for each on \
             validation images. That the densities are better than NCE's is printed and not claimed. AUROC of −log p̃ for unseen classes.",
    data: "Draws of Gaussians; MNIST, 6,804 training, 1,200 validation and 1,996 test digits, principal components, whitened; an energy of \
           64-64 SiLU units minus ‖x‖²/8, noise N(0, 1.5² I), 1,500 steps of Adam.",
    claims: &[
        Claim {
            says: "at least 4 times fewer steps than NCE, noise as narrow as the data",
            metric: "steps of NCE / steps of MECO, noise sd 1, smallest",
            baseline: Baseline::Value(4.0),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "at least 2.5 times fewer steps than NCE, wider noise",
            metric: "steps of NCE / steps of MECO, wider noise, smallest",
            baseline: Baseline::Value(2.5),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "late error at least 2 times smaller than with one batch's estimate",
            metric: "late error of plug-in / of MECO, wider noise, smallest",
            baseline: Baseline::Value(2.0),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "with 10 noise samples a better density than one batch's estimate, 8 dimensions",
            metric: "NLL of MECO, 8 dims, m = 10",
            baseline: Baseline::Metric("NLL of plug-in, 8 dims, m = 10"),
            margin: 0.0,
            better: Better::Lower,
        },
        Claim {
            says: "the same in 3 dimensions",
            metric: "NLL of MECO, 3 dims, m = 10",
            baseline: Baseline::Metric("NLL of plug-in, 3 dims, m = 10"),
            margin: 0.0,
            better: Better::Lower,
        },
        Claim {
            says: "the energy of digits 0 to 4 tells digits 5 to 9 from them",
            metric: "AUROC of MECO",
            baseline: Baseline::Value(0.5),
            margin: 0.05,
            better: Better::Higher,
        },
    ],
    run,
};

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    gaussian_mean(context, &mut outcome, seed)?;
    densities(context, &mut outcome, seed)?;
    out_of_distribution(context, &mut outcome, seed)?;
    identities(&mut outcome, seed)?;
    Ok(outcome)
}

/// Part (a). θ begins at the mean of the noise, log_z at 0.
fn gaussian_mean(context: &Context, outcome: &mut Outcome, seed: u64) -> Result<()> {
    let methods = [
        ("MECO", Method::Meco { beta: 0.1, gamma: 1.0 }),
        ("plug-in", Method::MlePlugin { gamma: 1.0 }),
        ("NCE", Method::Nce),
        ("NCE, normalised steps", Method::NceNormalized),
        ("eNCE, normalised steps", Method::EnceNormalized),
    ];
    let repetitions = context.pick(30, 3);
    let (mut narrow, mut wide, mut late) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for (data_mean, noise_std, steps) in [(2.0, 1.0, 2_000), (4.0, 1.0, 2_000), (6.0, 1.0, 2_000), (4.0, 2.0, 1_000), (6.0, 3.0, 1_000)] {
        let setting = Setting { data_mean, noise_std, steps: context.pick(steps, steps / 5) };
        let all = methods.iter().map(|(_, m)| gaussian::progress(*m, setting, repetitions, seed)).collect::<Result<Vec<_>>>()?;
        for ((name, _), progress) in methods.iter().zip(&all) {
            let of = format!("{name}, gap {data_mean}, noise sd {noise_std}");
            outcome.measure(format!("steps of {of}"), progress.steps);
            outcome.measure(format!("late error of {of}"), progress.late_error);
        }
        outcome.measure(format!("share of NCE that arrived, gap {data_mean}, noise sd {noise_std}"), all[2].arrived);
        let factor = all[2].steps / all[0].steps;
        if noise_std == 1.0 {
            narrow = narrow.min(factor);
        } else {
            wide = wide.min(factor);
            late = late.min(all[1].late_error / all[0].late_error);
        }
    }
    outcome.measure("steps of NCE / steps of MECO, noise sd 1, smallest", narrow);
    outcome.measure("steps of NCE / steps of MECO, wider noise, smallest", wide);
    outcome.measure("late error of plug-in / of MECO, wider noise, smallest", late);
    Ok(())
}

/// The objectives of parts (b) and (c), and what is tried for each: as many settings for one as for another.
const OBJECTIVES: [(&str, [(Objective, f64); 6]); 4] = {
    const fn rates(objective: Objective) -> [(Objective, f64); 6] {
        [(objective, 3e-4), (objective, 1e-3), (objective, 3e-3), (objective, 6e-3), (objective, 1e-2), (objective, 3e-2)]
    }
    let [slow, fast] = [Objective::Meco { beta: 0.05 }, Objective::Meco { beta: 0.2 }];
    [
        ("MECO", [(fast, 3e-3), (fast, 1e-3), (fast, 1e-2), (slow, 1e-3), (slow, 3e-3), (slow, 1e-2)]),
        ("plug-in", rates(Objective::MlePlugin)),
        ("NCE", rates(Objective::Nce)),
        ("eNCE", rates(Objective::Ence)),
    ]
};

/// Dimensions, and noise samples a step.
const SIZES: [(usize, usize); 4] = [(8, 100), (8, 10), (3, 100), (3, 10)];

/// Part (b).
fn densities(context: &Context, outcome: &mut Outcome, seed: u64) -> Result<()> {
    let codes = context.once("codes", || Digits::load(context)?.codes(SIZES[0].0))?;
    let chosen = context.once("settings", || search(context, &codes))?;
    let (device, draws) = (context.device()?, context.pick(200_000, 2_000));
    let progress = context.progress(SIZES.len(), format!("meco, seed {seed}: densities"));
    for ((dim, samples), settings) in SIZES.into_iter().zip(chosen.chunks(OBJECTIVES.len())) {
        let codes = codes.first(dim);
        let one = |training: &Training| {
            let energy = density::train(&codes.train, dim, *training, seed, &device)?;
            density::held_out(&energy, &codes.test, dim, draws, seed)
        };
        let all = settings.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        for ((name, _), found) in OBJECTIVES.iter().zip(all) {
            let of = format!("NLL of {name}, {dim} dims, m = {samples}");
            outcome.measure(&of, found.nll);
            outcome.measure(format!("draws that count of {name}, {dim} dims, m = {samples}"), found.share());
            if !found.partition.is_reliable() {
                outcome.doubt(of, "fewer than 1 % of the draws count in the estimate of Z");
            }
        }
        progress.inc(1);
    }
    Ok(())
}

/// For each size and objective the best of its settings, judged with seed 0 on validation digits: the lowest likelihood loss among
/// those that can be trusted, else the one whose draws count most.
fn search(context: &Context, codes: &Codes) -> Result<Vec<Training>> {
    let (steps, draws, tries) = context.pick((1_500, 50_000, 6), (20, 1_000, 1));
    let device = context.device()?;
    let progress = context.progress(SIZES.len() * OBJECTIVES.len(), "meco: settings");
    let mut chosen = Vec::new();
    for (dim, noise_samples) in SIZES {
        let codes = codes.first(dim);
        for (name, settings) in OBJECTIVES {
            let one = |&(objective, learning_rate): &(Objective, f64)| {
                let training = Training { objective, learning_rate, noise_samples, steps };
                // A training that diverges is a setting that is not taken.
                let energy = density::train(&codes.train, dim, training, 0, &device).ok()?;
                let found = density::held_out(&energy, &codes.validation, dim, draws, 0).ok()?;
                Some((found, training))
            };
            let found: Vec<(HeldOut, Training)> = settings[..tries].par_iter().filter_map(one).collect();
            let trusted = found.iter().filter(|(found, _)| found.partition.is_reliable()).count();
            let best = found.into_iter().reduce(|best, other| if better(&other.0, &best.0) { other } else { best });
            let (found, training) = best.ok_or_else(|| Error::invalid(format!("{name} diverged with every setting, {dim} dims")))?;
            let mut settings = serde_json::json!({
                "learning rate": training.learning_rate,
                "validation NLL": found.nll,
                "draws that count": found.share(),
                "tries to be trusted": format!("{trusted} of {tries}"),
            });
            if let Objective::Meco { beta } = training.objective {
                settings["beta"] = beta.into();
            }
            context.note(format!("{name}, {dim} dims, m = {noise_samples}"), settings)?;
            chosen.push(training);
            progress.inc(1);
        }
    }
    Ok(chosen)
}

fn better(a: &HeldOut, b: &HeldOut) -> bool {
    match (a.partition.is_reliable(), b.partition.is_reliable()) {
        (true, true) => a.nll < b.nll,
        (false, false) => a.share() > b.share(),
        (reliable, _) => reliable,
    }
}

/// Part (c): energies of digits 0 to 4, in the settings of part (b), asked about all test digits. Z cancels.
fn out_of_distribution(context: &Context, outcome: &mut Outcome, seed: u64) -> Result<()> {
    let all = context.once("codes", || Digits::load(context)?.codes(SIZES[0].0))?;
    let settings = context.once("settings", || search(context, &all))?;
    let codes = context.once("codes of digits 0 to 4", || Digits::load(context)?.low_classes()?.codes(SIZES[0].0))?;
    let dim = codes.dim;
    let other = |score: &[f64]| {
        let of = |high: bool| score.iter().zip(&codes.test_labels).filter(|(_, l)| (**l >= 5) == high).map(|(s, _)| *s).collect::<Vec<_>>();
        auroc(&of(true), &of(false))
    };
    let device = context.device()?;
    let one = |training: &Training| {
        let energy = density::train(&codes.train, dim, *training, seed, &device)?;
        other(&energy.log_model(&codes.test, dim).iter().map(|log| -log).collect::<Vec<_>>())
    };
    // The settings of the first size.
    let all = settings[..OBJECTIVES.len()].par_iter().map(one).collect::<Result<Vec<_>>>()?;
    for ((name, _), area) in OBJECTIVES.iter().zip(all) {
        outcome.measure(format!("AUROC of {name}"), area);
    }
    // A Gaussian's energy, in the same dimensions.
    let norms: Vec<f64> = codes.test.chunks(dim).map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
    outcome.measure("AUROC of the distance from the mean", other(&norms)?);
    Ok(())
}

/// What holds of the mathematics whatever the data.
fn identities(outcome: &mut Outcome, seed: u64) -> Result<()> {
    // log g of few samples lies below log Z on average, the more the fewer: q = N(0, 1.5²), p̃ = exp(−x²/2).
    let mut rng = seed::rng(seed, 4);
    let mut bias = |m: usize| -> Result<f64> {
        let mut sum = 0.0;
        for _ in 0..20_000 {
            let x: Vec<f64> = (0..m).map(|_| 1.5 * seed::normal(&mut rng)).collect();
            let p: Vec<f64> = x.iter().map(|x| -0.5 * x * x).collect();
            let q: Vec<f64> = x.iter().map(|x| -0.5 * (x / 1.5).powi(2) - 1.5f64.ln() - gaussian::HALF_LOG_TAU).collect();
            sum += estimate_partition(&p, &q)?.log_z;
        }
        Ok(sum / 20_000.0 - gaussian::HALF_LOG_TAU)
    };
    let bias = [bias(1)?, bias(2)?, bias(8)?];
    let holds = bias.is_sorted_by(|a, b| a < b) && bias[2] < 0.0;
    outcome.check("one batch's log Z is too small on average, the more the fewer its samples", holds, format!("{bias:.4?} with 1, 2, 8"));

    // Half a unit beside the optimum, log_z being right.
    let slope =
        |gap: f64| gaussian::population_loss(gaussian::Objective::Nce, gap - 0.5, gaussian::HALF_LOG_TAU, gap, 0.0).map(|l| l.1.abs());
    let (near, far) = (slope(4.0)?, slope(8.0)?);
    let rate = (near / far).ln() / (64.0 - 16.0);
    let says = "NCE's gradient near the optimum falls as exp(−c · gap²) with c near 1/8";
    outcome.check(says, (rate - 0.125).abs() < 0.04, format!("{near:.1e} at gap 4, {far:.1e} at gap 8: c = {rate:.3}"));
    Ok(())
}

/// Images of digits, split.
struct Digits {
    train: Images,
    validation: Images,
    test: Images,
}

/// Whitened principal components, fitted on the training rows.
struct Codes {
    dim: usize,
    test_labels: Vec<u8>,
    train: Vec<f32>,
    validation: Vec<f32>,
    test: Vec<f32>,
}

impl Digits {
    /// Validation digits come from the training part.
    fn load(context: &Context) -> Result<Self> {
        let all = registry::mnist()?;
        let mut rows: Vec<u32> = (0..all.train.len() as u32).collect();
        seed::shuffle(&mut rows, &mut seed::rng(0, 0));
        let (validation, train) = rows.split_at(1_200);
        let train = &train[..context.pick(train.len(), 1_000)];
        Ok(Self { train: all.train.select(train)?, validation: all.train.select(validation)?, test: all.test })
    }

    fn codes(&self, dim: usize) -> Result<Codes> {
        let pixels = |images: &Images| images.batch(&(0..images.len() as u32).collect::<Vec<_>>());
        let train = pixels(&self.train)?;
        let axes = PrincipalAxes::of(&train, self.train.shape().iter().product(), dim)?;
        let white = |pixels: &[f32]| -> Result<Vec<f32>> { Ok(axes.whiten(pixels)?.into_iter().map(|v| v as f32).collect()) };
        let (validation, test) = (white(&pixels(&self.validation)?)?, white(&pixels(&self.test)?)?);
        Ok(Codes { dim, test_labels: self.test.labels().to_vec(), train: white(&train)?, validation, test })
    }

    /// The digits below 5 to train on, all to be tested on.
    fn low_classes(&self) -> Result<Self> {
        let low = |images: &Images| {
            let rows: Vec<u32> = (0..images.len() as u32).filter(|&i| images.labels()[i as usize] < 5).collect();
            images.select(&rows)
        };
        Ok(Self { train: low(&self.train)?, validation: low(&self.validation)?, test: self.test.clone() })
    }
}

impl Codes {
    /// The first `dim` components.
    fn first(&self, dim: usize) -> Self {
        let cut = |rows: &[f32]| rows.chunks(self.dim).flat_map(|row| &row[..dim]).copied().collect();
        let [train, validation, test] = [&self.train, &self.validation, &self.test].map(|rows| cut(rows));
        Self { dim, test_labels: self.test_labels.clone(), train, validation, test }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Budget;
    use foils::device::DeviceName;
    use foils::losses::energy::PartitionEstimate;

    /// The whole recipe on little data; fetches 5 MB the first time.
    #[test]
    fn the_recipe_runs() {
        let report = STUDY.reproduce(1..2, Budget::Quick, DeviceName::Cpu).unwrap();
        assert!(report.must_hold, "{:?}", report.runs[0].outcome.checks);
        assert_eq!(report.claims.len(), STUDY.claims.len());
        let of = |name: &str| report.summary.iter().find(|s| s.name == name).unwrap().mean;
        // What 3 repetitions show already: NCE needs several times the steps, and the plug-in runs away.
        assert!(of("steps of NCE, gap 2, noise sd 1") > 3.0 * of("steps of MECO, gap 2, noise sd 1"));
        assert!(of("late error of plug-in, gap 6, noise sd 1") > 50.0 * of("late error of MECO, gap 6, noise sd 1"));
        // 20 steps beat none: untrained, the energy is a Gaussian with twice the data's spread.
        let untrained = 8.0 * ((2.0 * std::f64::consts::TAU.sqrt()).ln() + 0.125);
        assert!(of("NLL of MECO, 8 dims, m = 100") < untrained);
        assert!(report.runs[0].outcome.measured.iter().all(|(_, value)| value.is_finite()));
    }

    #[test]
    fn the_settings_are_chosen_by_what_can_be_trusted() {
        let held_out = |nll, effective_sample_size| {
            let partition = PartitionEstimate { log_z: 0.0, effective_sample_size, samples: 1_000 };
            HeldOut { nll, partition }
        };
        assert!(better(&held_out(5.0, 20.0), &held_out(6.0, 900.0)));
        assert!(better(&held_out(6.0, 10.0), &held_out(5.0, 9.0)));
        assert!(!better(&held_out(5.0, 9.0), &held_out(6.0, 10.0)));
        assert!(better(&held_out(6.0, 9.0), &held_out(5.0, 8.0)));
    }
}
