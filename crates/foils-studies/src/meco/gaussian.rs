//! The paper's own example: the mean θ of an unnormalised Gaussian, log p̃_θ(x) = −(x − θ)²/2, whose Z = √(2π) the methods are not
//! told.

use foils::losses::energy::{Ence, Meco, Nce};
use foils::nn::GradientDescent;
use foils::{Error, Result, seed};
use rayon::prelude::*;

/// ½ log 2π.
pub const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

/// How θ is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Gradient descent with momentum.
    Meco { beta: f64, gamma: f64 },
    /// MECO with β = 1.
    MlePlugin { gamma: f64 },
    /// Gradient descent on θ and log_z.
    Nce,
    /// Normalised gradient descent on θ and log_z.
    NceNormalized,
    /// Normalised gradient descent on θ and log_z.
    EnceNormalized,
}

/// q = N(mean, std²).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    mean: f64,
    std: f64,
}

impl Noise {
    /// # Errors
    /// When the mean is not finite or `std` is not a finite number above 0.
    pub fn new(mean: f64, std: f64) -> Result<Self> {
        finite("noise_mean", mean)?;
        if !(std > 0.0 && std.is_finite()) {
            return Err(Error::invalid(format!("noise_std = {std}, must be a finite number above 0")));
        }
        Ok(Self { mean, std })
    }

    fn log_density(self, x: f64) -> f64 {
        -0.5 * ((x - self.mean) / self.std).powi(2) - self.std.ln() - HALF_LOG_TAU
    }
}

/// Where learning begins, and how fast it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    pub theta: f64,
    /// Of the methods that learn log_z.
    pub log_z: f64,
    pub learning_rate: f64,
}

/// θ after each step, and log Z as the method has it: learned (after the step), or estimated at the θ before the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    pub theta: Vec<f64>,
    pub log_z: Vec<f64>,
}

/// Step t uses row t of `data` `[T, n]` and of `samples` `[T, m]` of the noise, the number of columns being `(n, m)`.
///
/// # Errors
/// When n or m is 0, the rows are ragged or not as many, a value is not finite, or the method fails (θ diverged).
pub fn trajectory(method: Method, start: Start, noise: Noise, data: &[f64], samples: &[f64], (n, m): (usize, usize)) -> Result<Trajectory> {
    let Start { theta, log_z, learning_rate } = start;
    finite("theta_init", theta)?;
    finite("log_z_init", log_z)?;
    if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
        return Err(Error::invalid(format!("learning_rate = {learning_rate}, must be a finite number of at least 0")));
    }
    for (name, values, columns) in [("data", data, n), ("noise", samples, m)] {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(Error::invalid(format!("{name}: {} values do not fill rows of {columns}", values.len())));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("{name}: row {}, column {} is {}", at / columns, at % columns, values[at])));
        }
    }
    if data.len() / n != samples.len() / m {
        return Err(Error::invalid(format!("data has {} rows, noise has {}", data.len() / n, samples.len() / m)));
    }

    let mut learner = Learner::new(method, start)?;
    let mut found = Trajectory { theta: Vec::new(), log_z: Vec::new() };
    for (t, (x, y)) in data.chunks(n).zip(samples.chunks(m)).enumerate() {
        let log_z = learner.step(noise, x, y).map_err(|e| Error::invalid(format!("step {t}, θ = {}: {e}", learner.state[0])))?;
        found.theta.push(learner.state[0]);
        found.log_z.push(log_z);
    }
    Ok(found)
}

/// θ, and log_z where it is learned.
struct Learner {
    method: Method,
    meco: Meco,
    descent: GradientDescent,
    learning_rate: f64,
    state: Vec<f64>,
}

impl Learner {
    fn new(method: Method, start: Start) -> Result<Self> {
        let (beta, gamma, learns_log_z) = match method {
            Method::Meco { beta, gamma } => (beta, gamma, false),
            Method::MlePlugin { gamma } => (1.0, gamma, false),
            Method::Nce | Method::NceNormalized | Method::EnceNormalized => (1.0, 1.0, true),
        };
        let normalized = matches!(method, Method::NceNormalized | Method::EnceNormalized);
        let state = if learns_log_z { vec![start.theta, start.log_z] } else { vec![start.theta] };
        let descent = GradientDescent::new(gamma)?.normalized(normalized);
        Ok(Self { method, meco: Meco::new(beta)?, descent, learning_rate: start.learning_rate, state })
    }

    /// One batch; returns log Z.
    fn step(&mut self, noise: Noise, data: &[f64], samples: &[f64]) -> Result<f64> {
        let theta = self.state[0];
        let model = |x: &f64| -0.5 * (x - theta).powi(2);
        let q = |x: &f64| noise.log_density(*x);
        let log_densities = |f: &dyn Fn(&f64) -> f64| [data, samples].map(|v| v.iter().map(f).collect::<Vec<_>>());
        let ([p_data, p_noise], [q_data, q_noise]) = (log_densities(&model), log_densities(&q));
        let loss = match self.method {
            Method::Meco { .. } | Method::MlePlugin { .. } => self.meco.step(&p_data, &p_noise, &q_noise)?,
            Method::Nce | Method::NceNormalized => Nce::new(1.0)?.evaluate(&p_data, &p_noise, &q_data, &q_noise, self.state[1])?,
            Method::EnceNormalized => Ence.evaluate(&p_data, &p_noise, &q_data, &q_noise, self.state[1])?,
        };
        // ∂ log p̃ / ∂θ = x − θ.
        let by_theta = |x: &[f64], gradient: &[f64]| x.iter().zip(gradient).map(|(x, g)| g * (x - theta)).sum::<f64>();
        let by_theta = by_theta(data, &loss.grad_log_model_data) + by_theta(samples, &loss.grad_log_model_noise);
        let gradient = &[by_theta, loss.grad_log_z][..self.state.len()];
        self.descent.step_numbers(self.learning_rate, &mut self.state, gradient);
        Ok(self.state.get(1).copied().or(self.meco.log_u()).unwrap_or(f64::NAN))
    }
}

/// Which loss [`population_loss`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// −E log p̃ + log Z; no log_z.
    Nll,
    Nce,
    Ence,
}

/// The loss and its gradient by θ, over all of N(data_mean, 1) and N(noise_mean, 1).
///
/// # Errors
/// When an argument is not finite, or the loss overflows.
pub fn population_loss(objective: Objective, theta: f64, log_z: f64, data_mean: f64, noise_mean: f64) -> Result<(f64, f64)> {
    finite("theta", theta)?;
    finite("data_mean", data_mean)?;
    if objective == Objective::Nll {
        let gap = theta - data_mean;
        return overflow((0.5 * (1.0 + gap * gap) + HALF_LOG_TAU, gap));
    }
    finite("log_z", log_z)?;
    finite("noise_mean", noise_mean)?;
    // Δ is linear in x.
    let slope = theta - noise_mean;
    let delta = |x: f64| slope * (x - 0.5 * (theta + noise_mean)) + HALF_LOG_TAU - log_z;
    overflow(match objective {
        Objective::Ence => {
            // E exp(±Δ/2) under a Gaussian of variance 1 is a log-normal mean, and x − θ has its mean shifted by ±slope/2.
            let term = |mean: f64, sign: f64| {
                let value = 0.5 * (0.5 * sign * delta(mean) + slope * slope / 8.0).exp();
                (value, 0.5 * sign * value * (mean + 0.5 * sign * slope - theta))
            };
            let ((a, a_theta), (b, b_theta)) = (term(data_mean, -1.0), term(noise_mean, 1.0));
            (a + b, a_theta + b_theta)
        }
        _ => {
            // softplus(∓Δ), and its derivative by θ; (1/2)(1 + tanh) is the sigmoid without overflow.
            let side = |sign: f64| {
                move |x: f64| {
                    let d = sign * delta(x);
                    (d.max(0.0) + (-d.abs()).exp().ln_1p(), sign * 0.5 * (1.0 + (0.5 * d).tanh()) * (x - theta))
                }
            };
            let ((a, a_theta), (b, b_theta)) = (expectation(data_mean, slope, side(-1.0)), expectation(noise_mean, slope, side(1.0)));
            (a + b, a_theta + b_theta)
        }
    })
}

/// E f(x) over N(mean, 1) by the trapezoidal rule, which converges exponentially for smooth f; the poles of a sigmoid of this slope
/// lie π/|slope| beside the line.
fn expectation(mean: f64, slope: f64, f: impl Fn(f64) -> (f64, f64)) -> (f64, f64) {
    const REACH: f64 = 38.0; // beyond, the density is 0 in f64
    let half = ((REACH * (64.0 + 8.0 * slope.abs())) as i64).min(500_000);
    let step = REACH / half as f64;
    (-half..=half).fold((0.0, 0.0), |(a, b), i| {
        let z = i as f64 * step;
        let weight = (-0.5 * z * z - HALF_LOG_TAU).exp() * step;
        let (x, y) = f(mean + z);
        (a + weight * x, b + weight * y)
    })
}

fn overflow(found: (f64, f64)) -> Result<(f64, f64)> {
    if found.0.is_finite() && found.1.is_finite() {
        return Ok(found);
    }
    Err(Error::invalid(format!("the population loss is {} and its gradient {}: the means are too far apart", found.0, found.1)))
}

fn finite(name: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::invalid(format!("{name} = {value}, must be finite"))) }
}

/// One way of putting data and noise apart.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The mean of the data; that of the noise is 0, where θ begins.
    pub data_mean: f64,
    pub noise_std: f64,
    pub steps: usize,
}

/// Means over repetitions.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps until |θ − θ*| < 0.2 for the first time; those that never come so near count with all their steps.
    pub steps: f64,
    /// Mean |θ − θ*| over the last 200 steps, or all if there are fewer.
    pub late_error: f64,
    /// The share that came so near.
    pub arrived: f64,
}

/// What `method` does with batches of 64 and 64 at learning rate 0.1, as a mean over `repetitions` with their own data. The data
/// depend on seed, setting and repetition and not on the method, so that methods are compared pair by pair.
///
/// # Errors
/// What [`trajectory`] returns.
pub fn progress(method: Method, setting: Setting, repetitions: usize, seed: u64) -> Result<Progress> {
    const BATCH: usize = 64;
    let Setting { data_mean, noise_std, steps } = setting;
    let start = Start { theta: 0.0, log_z: 0.0, learning_rate: 0.1 };
    let one = |repetition: usize| {
        let mut rng = seed::rng(seed, repetition as u64);
        let mut draw = |mean: f64, std: f64| (0..steps * BATCH).map(|_| mean + std * seed::normal(&mut rng)).collect::<Vec<_>>();
        let (data, samples) = (draw(data_mean, 1.0), draw(0.0, noise_std));
        let found = trajectory(method, start, Noise::new(0.0, noise_std)?, &data, &samples, (BATCH, BATCH))?;
        let errors: Vec<f64> = found.theta.iter().map(|theta| (theta - data_mean).abs()).collect();
        let arrived = errors.iter().position(|e| *e < 0.2);
        let late = &errors[steps.saturating_sub(200)..];
        let late_error = late.iter().sum::<f64>() / late.len() as f64;
        Ok(Progress { steps: arrived.map_or(steps, |at| at + 1) as f64, late_error, arrived: f64::from(u8::from(arrived.is_some())) })
    };
    let all = (0..repetitions).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let mean = |of: fn(&Progress) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    Ok(Progress { steps: mean(|p| p.steps), late_error: mean(|p| p.late_error), arrived: mean(|p| p.arrived) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Start = Start { theta: 0.5, log_z: 0.2, learning_rate: 0.1 };

    fn noise() -> Noise {
        Noise::new(-0.3, 1.5).unwrap()
    }

    #[test]
    fn the_plug_in_is_meco_with_beta_1() {
        let mut rng = seed::rng(1, 0);
        let (data, samples): (Vec<f64>, Vec<f64>) =
            (0..60).map(|_| (1.0 + seed::normal(&mut rng), -0.3 + 1.5 * seed::normal(&mut rng))).unzip();
        for gamma in [0.4, 1.0] {
            let by = |method| trajectory(method, START, noise(), &data, &samples, (5, 5)).unwrap();
            assert_eq!(by(Method::MlePlugin { gamma }), by(Method::Meco { beta: 1.0, gamma }));
            assert_ne!(by(Method::MlePlugin { gamma }), by(Method::Meco { beta: 0.5, gamma }));
        }
        let none = trajectory(Method::Nce, START, noise(), &[], &[], (5, 5)).unwrap();
        assert!(none.theta.is_empty() && none.log_z.is_empty());
    }

    #[test]
    fn population_losses_are_means_and_their_gradients_derivatives() {
        let (data_mean, noise_mean, log_z) = (1.5, -0.5, 0.7);
        for objective in [Objective::Nll, Objective::Nce, Objective::Ence] {
            let at = |theta: f64| population_loss(objective, theta, log_z, data_mean, noise_mean).unwrap();
            for theta in [-2.0, 0.3, 1.5, 4.0] {
                let (_, gradient) = at(theta);
                let difference = (at(theta + 1e-5).0 - at(theta - 1e-5).0) / 2e-5;
                assert!(
                    (gradient - difference).abs() < 1e-8 * (1.0 + difference.abs()),
                    "{objective:?} at {theta}: {gradient}, {difference}"
                );
            }
        }
        // By the library's losses over many draws.
        let mut rng = seed::rng(3, 0);
        let mut draw = |mean: f64| (0..200_000).map(|_| mean + seed::normal(&mut rng)).collect::<Vec<f64>>();
        let (x, y) = (draw(data_mean), draw(noise_mean));
        let q = Noise::new(noise_mean, 1.0).unwrap();
        let logs = |values: &[f64]| -> [Vec<f64>; 2] {
            [values.iter().map(|v| -0.5 * (v - 0.3f64).powi(2)).collect(), values.iter().map(|v| q.log_density(*v)).collect()]
        };
        let ([px, qx], [py, qy]) = (logs(&x), logs(&y));
        let nce = Nce::new(1.0).unwrap().evaluate(&px, &py, &qx, &qy, log_z).unwrap().loss;
        let ence = Ence.evaluate(&px, &py, &qx, &qy, log_z).unwrap().loss;
        for (objective, found) in [(Objective::Nce, nce), (Objective::Ence, ence)] {
            let expected = population_loss(objective, 0.3, log_z, data_mean, noise_mean).unwrap().0;
            assert!((found - expected).abs() < 0.01, "{objective:?}: {found} instead of {expected}");
        }
    }

    #[test]
    fn steep_and_far_populations_are_numbers_or_errors() {
        for gap in [10.0, 100.0, 1e4, 1e9] {
            let (loss, gradient) = population_loss(Objective::Nce, gap, 0.9, gap, 0.0).unwrap();
            assert!(loss.is_finite() && (0.0..1e-3).contains(&loss) && gradient.abs() < 1e-2, "{gap}: {loss}, {gradient}");
        }
        let far = population_loss(Objective::Ence, 400.0, 0.9, 0.0, 0.0).unwrap_err().to_string();
        assert!(far.contains("the population loss is inf"), "{far}");
    }

    #[test]
    fn bad_input_is_refused_with_its_value() {
        let said = |start, data: &[f64], samples: &[f64], columns| {
            trajectory(Method::Nce, start, noise(), data, samples, columns).unwrap_err().to_string()
        };
        assert!(said(START, &[], &[1.0], (0, 1)).contains("data"));
        assert!(said(START, &[1.0], &[], (1, 0)).contains("noise"));
        assert!(said(START, &[1.0, 2.0], &[1.0], (1, 1)).contains("data has 2 rows, noise has 1"));
        assert!(said(START, &[1.0, f64::NAN], &[1.0, 1.0], (1, 1)).contains("data: row 1, column 0 is NaN"));
        assert!(said(Start { theta: f64::NAN, ..START }, &[1.0], &[1.0], (1, 1)).contains("theta_init = NaN"));
        assert!(said(Start { learning_rate: -0.1, ..START }, &[1.0], &[1.0], (1, 1)).contains("learning_rate = -0.1"));
        let diverged = trajectory(Method::EnceNormalized, Start { learning_rate: 1e3, ..START }, noise(), &[1.0; 3], &[1.0; 3], (1, 1));
        assert!(diverged.unwrap_err().to_string().contains("step "), "an exponential loss far away overflows");
        assert!(Noise::new(0.0, f64::NAN).unwrap_err().to_string().contains("noise_std = NaN"));
    }
}
