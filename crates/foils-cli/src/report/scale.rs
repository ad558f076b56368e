//! From values to places on an axis, and round numbers to write beside it.

use super::html::Html;

/// A linear or logarithmic axis. Places are percentages of the plot's width or height, so that a plot needs no size of its own.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Then `low` and `high` are logarithms, and ticks are values.
    logarithmic: bool,
    low: f64,
    high: f64,
    step: f64,
    ticks: Vec<f64>,
}

/// Beyond this, differences of values overflow.
const LARGEST: f64 = 1e100;

impl Scale {
    /// From the smallest to the largest of `values`, with about `ticks` round numbers inside.
    pub fn tight(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite()) {
            low = low.min(value.clamp(-LARGEST, LARGEST));
            high = high.max(value.clamp(-LARGEST, LARGEST));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // One value only, or values that differ by rounding: make room on both sides.
        let least = low.abs().max(high.abs()) * 1e-6;
        if high - low <= least {
            let room = if least == 0.0 { 0.5 } else { high.abs() * 0.05 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / ticks.max(1) as f64);
        Self { logarithmic: false, low, high, step, ticks: multiples(low, high, step) }
    }

    /// The same, widened to the round numbers outside.
    pub fn nice(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let Self { low, high, step, .. } = Self::tight(values, ticks);
        // The small shift keeps a value that is a round number from being pushed one step further by rounding.
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Self { logarithmic: false, low, high, step, ticks: multiples(low, high, step) }
    }

    /// From the smallest to the largest of `values` above 0, in equal steps of the logarithm. The values themselves are the ticks,
    /// or powers of ten where there are more than `ticks` different ones.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite() && *v > 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let Self { low, high, .. } = Self::tight(values.iter().map(|v| v.log10()), ticks);
        if values.len() > ticks {
            values = (low.ceil() as i32..=high.floor() as i32).map(|power| 10f64.powi(power)).collect();
        }
        Self { logarithmic: true, low, high, step: 0.0, ticks: values }
    }

    /// For counts (steps, queries): no ticks between whole numbers.
    pub fn whole(mut self) -> Self {
        if self.step < 1.0 {
            self.step = 1.0;
            self.ticks = multiples(self.low, self.high, 1.0);
        }
        self
    }

    /// The place of `value`, from 0 (low end) to 100 (high end); values outside are put at the ends.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        let share = (value.clamp(-LARGEST, LARGEST) - self.low) / (self.high - self.low);
        if share.is_nan() { 0.0 } else { 100.0 * share.clamp(0.0, 1.0) }
    }

    /// The round numbers.
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// A round number with as many digits as the axis needs.
    pub fn label(&self, tick: f64) -> String {
        if self.step < 1e-4 || self.step >= 1e7 {
            return super::html::plain(tick);
        }
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        if self.step >= 1000.0 && tick >= 0.0 { super::html::count(tick.round() as u64) } else { super::html::fixed(tick, digits) }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    // The slack accepts 0.2000…1 as 0.2.
    [1.0, 2.0, 5.0].into_iter().find(|f| step <= f * power * (1.0 + 1e-9)).unwrap_or(10.0) * power
}

/// Multiples of `step` from `low` to `high`, ends included.
fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    // Values far from 0 and close together have no such multiples in f64; an axis without ticks is then right.
    if !(first <= last && last - first < 100.0 && last.abs() < 1e9) {
        return Vec::new();
    }
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// A place as an attribute: `12.5%`.
pub fn place(percentage: f64) -> String {
    let text = format!("{percentage:.2}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The same from the top, as heights are counted in SVG.
pub fn from_top(percentage: f64) -> String {
    place(100.0 - percentage)
}

/// Tick labels along the bottom.
pub fn x_axis(scale: &Scale) -> Html {
    let mut html = Html::new();
    for &tick in scale.ticks() {
        let x = place(scale.at(tick));
        html.put("<text class=\"tick x\" x=\"{}\" y=\"100%\" dy=\"1.45em\">{}</text>", &[&x, &scale.label(tick)]);
    }
    html
}

/// Tick labels and grid lines along the left side.
pub fn y_axis(scale: &Scale) -> Html {
    let mut html = Html::new();
    for &tick in scale.ticks() {
        let y = from_top(scale.at(tick));
        html.put("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{}\" y2=\"{}\"/>", &[&y, &y]);
        html.put("<text class=\"tick y\" x=\"0\" dx=\"-0.6em\" y=\"{}\" dy=\"0.34em\">{}</text>", &[&y, &scale.label(tick)]);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logarithms_have_equal_steps() {
        let scale = Scale::logarithmic([1.0, 0.01, 0.1, 0.1], 8);
        assert_eq!([0.01, 0.1, 1.0, 0.0, 7.0].map(|v| scale.at(v)), [0.0, 50.0, 100.0, 0.0, 100.0]);
        assert_eq!(scale.ticks().iter().map(|&t| scale.label(t)).collect::<Vec<_>>(), ["0.01", "0.1", "1"]);
        assert_eq!(Scale::logarithmic((1..60).map(|i| 0.02 * f64::from(i)), 8).ticks(), [0.1, 1.0]);
        assert!(Scale::logarithmic([], 8).ticks().is_empty());
    }

    #[test]
    fn ticks_are_round_numbers() {
        let scale = Scale::nice([0.387, 0.449], 5);
        assert_eq!(scale.ticks().iter().map(|&t| scale.label(t)).collect::<Vec<_>>(), ["0.38", "0.40", "0.42", "0.44", "0.46"]);
        let scale = Scale::nice([0.0, 0.6], 3);
        assert_eq!(scale.ticks().iter().map(|&t| scale.label(t)).collect::<Vec<_>>(), ["0.0", "0.2", "0.4", "0.6"]);
        let scale = Scale::tight([1.0, 3.0], 8).whole();
        assert_eq!(scale.ticks(), [1.0, 2.0, 3.0]);
        let scale = Scale::nice([0.0, 48_000.0], 4);
        assert_eq!(scale.label(40_000.0), "40,000");
        let scale = Scale::nice([0.0, 2e-5], 2);
        assert_eq!(scale.label(1e-5), "1e−5");
        assert_eq!((scale.at(0.0), scale.at(2e-5), scale.at(-1.0)), (0.0, 100.0, 0.0));
    }

    proptest! {
        #[test]
        fn any_values_give_an_axis(values in prop::collection::vec(prop::num::f64::ANY, 0..6), ticks in 1usize..8, nice: bool) {
            let scale = if nice { Scale::nice(values.clone(), ticks) } else { Scale::tight(values.clone(), ticks) };
            prop_assert!(scale.ticks().len() <= ticks + 2, "{scale:?}");
            prop_assert!(scale.ticks().windows(2).all(|w| w[0] < w[1]), "{scale:?}");
            for value in values.iter().chain(scale.ticks()) {
                prop_assert!((0.0..=100.0).contains(&scale.at(*value)));
            }
            for &tick in scale.ticks() {
                prop_assert!(scale.label(tick).parse::<f64>().is_ok() || scale.label(tick).contains(['−', ',']), "{scale:?}");
            }
        }

        #[test]
        fn ordinary_values_have_ticks_and_keep_their_order(a in -1e4f64..1e4, width in 1e-3f64..1e4, share in 0f64..1.0) {
            let scale = Scale::nice([a, a + width], 5);
            prop_assert!((2..=7).contains(&scale.ticks().len()), "{scale:?}");
            prop_assert!(scale.at(a) <= scale.at(a + share * width));
            prop_assert!(scale.at(a) < 50.0 && scale.at(a + width) > 50.0);
        }
    }
}
