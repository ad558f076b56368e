//! Correctly rounded sums. A rounded sum depends on the order of its terms and need not shrink when a term does; the exact sum,
//! rounded once, does neither. That is what makes the promises of [`super::eci`] (order changes nothing, a worse set never scores higher) hold exactly.

/// The sum of the values, correctly rounded (Shewchuk 1997, as Python's `math.fsum`). NaN or infinite when a value or a partial sum is.
pub(super) fn exact_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    // Their sum is the exact sum so far; each is smaller than the last place of the next.
    let mut partials: Vec<f64> = Vec::with_capacity(8);
    for mut x in values {
        let mut kept = 0;
        for j in 0..partials.len() {
            let mut y = partials[j];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    let Some(mut high) = partials.pop() else { return 0.0 };
    while let Some(y) = partials.pop() {
        let x = high;
        high = x + y;
        let low = y - (high - x);
        if low != 0.0 {
            // What is left decides a tie that rounding to even would decide wrongly.
            if partials.last().is_some_and(|rest| (low < 0.0) == (*rest < 0.0)) {
                let twice = low * 2.0;
                let up = high + twice;
                if up - high == twice {
                    high = up;
                }
            }
            break;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(exact_sum([0.1; 10]), 1.0);
        assert_eq!(exact_sum([1e16, 1.0, -1e16]), 1.0);
        // Half of the last place of 1 is a tie; the tiny rest decides it.
        assert_eq!(exact_sum([1.0, f64::EPSILON / 2.0, 1e-40]), 1.0 + f64::EPSILON);
        assert_eq!(exact_sum([1.0, f64::EPSILON / 2.0, -1e-40]), 1.0);
        assert_eq!(exact_sum([]), 0.0);
    }

    proptest! {
        /// Multiples of 2^-60 within [-8, 8] add up exactly in integers.
        #[test]
        fn sums_are_those_of_integers(values in prop::collection::vec(-(1i64 << 53)..(1i64 << 53), 0..50), shifts in prop::collection::vec(0u32..11, 50)) {
            let exact: i128 = values.iter().zip(&shifts).map(|(v, s)| i128::from(*v) << s).sum();
            let terms = values.iter().zip(&shifts).map(|(v, s)| *v as f64 * f64::from(1u32 << s) * 2f64.powi(-60));
            prop_assert_eq!(exact_sum(terms), exact as f64 * 2f64.powi(-60));
        }
    }
}
