//! The mean of a few results, and how sure it is (Student's t).

/// Of some seeds, say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleMean {
    /// The mean.
    pub mean: f64,
    /// The standard deviation with n − 1; none of one value.
    pub sd: Option<f64>,
    /// The 95 % interval of the mean, from the quantile of Student's t; none of one value.
    pub interval: Option<(f64, f64)>,
}

/// Mean, standard deviation and interval of `values`; none where there are none.
///
/// ```
/// let m = foils::metrics::sample_mean(&[0.05, 0.055, 0.045]).unwrap();
/// let (low, high) = m.interval.unwrap();
/// assert!((m.mean - 0.05).abs() < 1e-12 && low > 0.037 && high < 0.063);
/// ```
pub fn sample_mean(values: &[f64]) -> Option<SampleMean> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.len() > 1).then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    let interval = sd.map(|sd| {
        let half = t_quantile(0.975, values.len() - 1) * sd / n.sqrt();
        (mean - half, mean + half)
    });
    Some(SampleMean { mean, sd, interval })
}

/// P(|T| ≤ t) for Student's t with `freedom` ≥ 1 degrees of freedom: the finite series for whole degrees (Abramowitz and
/// Stegun 26.7.3 and 26.7.4).
fn t_within(t: f64, freedom: usize) -> f64 {
    let theta = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = theta.sin_cos();
    // Odd: cosθ + 2/3 cos³θ + …, up to cos^(ν−2); even: 1 + 1/2 cos²θ + …
    let odd = freedom % 2 == 1;
    let (mut term, mut sum, mut power) = if odd { (cos, 0.0, 1) } else { (1.0, 0.0, 0) };
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cos * cos * (power - 1) as f64 / power as f64;
    }
    if odd { (theta + sin * sum) * 2.0 / std::f64::consts::PI } else { sin * sum }
}

/// The quantile of Student's t with `freedom` ≥ 1 degrees of freedom at 0.5 ≤ `p` < 1, by bisection to the last bits.
fn t_quantile(p: f64, freedom: usize) -> f64 {
    let within = 2.0 * p - 1.0;
    let (mut low, mut high) = (0.0, 1.0);
    while t_within(high, freedom) < within {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if t_within(middle, freedom) < within { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_quantiles_are_those_of_the_tables() {
        // 97.5 %: any printed table of Student's t.
        for (freedom, table) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)]
        {
            let ours = t_quantile(0.975, freedom);
            assert!((ours - table).abs() < 5.1e-4, "{freedom}: {ours} instead of {table}");
        }
        // In closed form: tan(π(p − ½)) for one degree, and for two t = x√2 / √(1 − x²) with x = 2p − 1.
        assert!((t_quantile(0.9, 1) - (std::f64::consts::PI * 0.4).tan()).abs() < 1e-12);
        assert!((t_quantile(0.9, 2) - 0.8 * 2f64.sqrt() / 0.6).abs() < 1e-12);
    }

    #[test]
    fn one_value_has_no_spread() {
        assert_eq!(sample_mean(&[]), None);
        assert_eq!(sample_mean(&[2.0]), Some(SampleMean { mean: 2.0, sd: None, interval: None }));
        assert_eq!(sample_mean(&[2.0, 2.0]).unwrap().interval, Some((2.0, 2.0)));
    }
}
