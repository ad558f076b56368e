//! The learning rate by step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// In a straight line towards 0, reached one step after the last.
    #[default]
    Linear,
    /// In half a cosine wave towards 0, likewise.
    Cosine,
}

/// Linear warm-up from 0, then decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    warmup: usize,
    total: usize,
    decay: Decay,
}

impl Schedule {
    /// `peak` is reached at the last of `warmup_share · total` warm-up steps (rounded up).
    pub fn new(peak: f64, warmup_share: f64, total: usize, decay: Decay) -> Self {
        let warmup = ((warmup_share * total as f64).ceil() as usize).min(total);
        Self { peak, warmup, total, decay }
    }

    /// The learning rate of step `step`, counted from 1.
    pub fn at(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let peak_at = self.warmup.max(1);
        let left = 1.0 - ((step - peak_at) as f64 / (self.total - peak_at + 1) as f64).min(1.0);
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Linear => self.peak * left,
            Decay::Cosine => self.peak * 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_the_peak_and_falls_towards_zero() {
        let linear = Schedule::new(1.0, 0.2, 10, Decay::Linear);
        let got: Vec<f64> = (1..=10).map(|s| linear.at(s)).collect();
        let expected = [0.5, 1.0, 8.0 / 9.0, 7.0 / 9.0, 6.0 / 9.0, 5.0 / 9.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0];
        assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12), "{got:?}");
        let cosine = Schedule::new(2.0, 0.0, 4, Decay::Cosine);
        assert!((cosine.at(1) - 2.0).abs() < 1e-12);
        assert!((cosine.at(3) - 1.0).abs() < 1e-12);
        assert!(cosine.at(4) > 0.0 && cosine.at(4) < 0.4);
        let constant = Schedule::new(3.0, 1.0, 3, Decay::Constant);
        assert_eq!([constant.at(1), constant.at(3)], [1.0, 3.0]);
        assert_eq!(Schedule::new(3.0, 0.0, 1, Decay::Linear).at(1), 3.0);
    }
}
