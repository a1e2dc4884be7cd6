//! How skewed popularity is.

/// The exponent `s` for which a Zipf law over as many ranks, `p(rank) ∝ rank^-s`, most likely yields these counts.
///
/// Likelihood is at its peak where the law's expected log rank equals the counts' mean log rank, which falls as `s`
/// grows, so bisection finds it. `None` for fewer than two keys. The order of the counts does not matter.
pub(super) fn exponent(counts: &[u64]) -> Option<f64> {
    if counts.len() < 2 {
        return None;
    }
    let mut counts = counts.to_vec();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let log_ranks: Vec<f64> = (1..=counts.len()).map(|rank| (rank as f64).ln()).collect();
    let total: f64 = counts.iter().map(|count| *count as f64).sum();
    let observed = counts.iter().zip(&log_ranks).map(|(count, log)| *count as f64 * log).sum::<f64>() / total;
    let expected = |s: f64| {
        let weights = log_ranks.iter().map(|log| (-s * log).exp());
        let (weight, weighted) =
            weights.zip(&log_ranks).fold((0.0, 0.0), |sum, (weight, log)| (sum.0 + weight, sum.1 + weight * log));
        weighted / weight
    };
    let (mut low, mut high) = (0.0, EXPONENT_MAX);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if expected(middle) > observed { low = middle } else { high = middle }
    }
    Some(f64::midpoint(low, high))
}

/// No log is more skewed.
const EXPONENT_MAX: f64 = 8.0;
/// Leaves an error below 1e-6.
const BISECTIONS: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_the_exponent_that_made_the_counts() {
        for s in [0.0, 0.6, 1.0, 1.8] {
            let counts: Vec<u64> = (1..=2_000).map(|rank| (1e9 * f64::from(rank).powf(-s)).round() as u64).collect();
            let found = exponent(&counts).unwrap();
            assert!((found - s).abs() < 1e-3, "made with {s}, found {found}");
        }
        assert_eq!(exponent(&[7]), None);
    }
}
