//! Medians, percentiles, spreads. Pure; an empty sample has none.

use serde::{Deserialize, Serialize};

/// The value below which `share` (0 to 1) of the sample lies, by nearest rank.
pub fn percentile(sample: &[f64], share: f64) -> Option<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // small and positive
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The middle value; the mean of the two middle ones in an even sample.
pub fn median(sample: &[f64]) -> Option<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The smallest and the largest value of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of a sample.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let min = sample.iter().copied().min_by(f64::total_cmp)?;
        let max = sample.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { min, max })
    }

    /// How far apart they are, as a share of the smaller one.
    pub fn relative(self) -> f64 {
        if self.min > 0.0 {
            self.max / self.min - 1.0
        } else {
            f64::INFINITY
        }
    }
}

/// Exponential gaps with the mean `1 / rate` seconds, the same for the same seed: a Poisson process.
pub fn arrivals(rate: f64, seconds: f64, seed: u64) -> Vec<f64> {
    let mut state = seed | 1;
    let mut uniform = move || {
        // xorshift64*: even enough for arrivals, and the same everywhere.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        #[allow(clippy::cast_precision_loss)] // 53 bits fit
        let value = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64;
        (value + 0.5) / 9_007_199_254_740_992.0
    };
    let (mut at, mut all) = (0.0, Vec::new());
    loop {
        at -= uniform().ln() / rate;
        if at >= seconds || !at.is_finite() {
            return all;
        }
        all.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_those_of_the_sorted_sample() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.95), Some(95.0));
        assert_eq!(percentile(&[7.0], 0.5), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_spread_is_from_the_smallest_to_the_largest() {
        let spread = Spread::of(&[2.0, 1.0, 1.5]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, max: 2.0 });
        assert!((spread.relative() - 1.0).abs() < 1e-9);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn arrivals_come_at_the_rate_and_are_the_same_for_the_same_seed() {
        let some = arrivals(100.0, 100.0, 7);
        assert_eq!(some, arrivals(100.0, 100.0, 7));
        assert_ne!(some, arrivals(100.0, 100.0, 8));
        assert!((9_500..10_500).contains(&some.len()), "{}", some.len());
        assert!(some.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
