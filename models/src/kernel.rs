//! The few vector loops that serving runs on, written so that the compiler turns them into vector instructions.

/// Independent sums that a dot product keeps, so that additions need not wait for each other.
const PARTS: usize = 16;

/// Σ a·b over two slices of equal length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut sums = [0.0_f32; PARTS];
    let (a_chunks, b_chunks) = (a.chunks_exact(PARTS), b.chunks_exact(PARTS));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for part in 0..PARTS {
            sums[part] += x[part] * y[part];
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// `out[row] += Σ matrix[row, ·]·x`: matrix (rows, x.len()) row by row, out (rows).
pub(crate) fn add_product(matrix: &[f32], x: &[f32], out: &mut [f32]) {
    debug_assert_eq!(matrix.len(), x.len() * out.len());
    for (row, sum) in matrix.chunks_exact(x.len().max(1)).zip(out) {
        *sum += dot(row, x);
    }
}

/// `sum += factor·x`, element by element.
#[inline(always)]
pub(crate) fn add_scaled(sum: &mut [f32], factor: f32, x: &[f32]) {
    debug_assert_eq!(sum.len(), x.len());
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

/// 1 / (1 + e⁻ˣ).
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `sum += x`, element by element.
#[inline(always)]
pub(crate) fn add(sum: &mut [f32], x: &[f32]) {
    debug_assert_eq!(sum.len(), x.len());
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

/// `sums += Σ rows`: rows (any number, sums.len()) one after another.
#[inline(always)]
pub(crate) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        add(sums, row);
    }
}

/// Reads from every cache line of some numbers, for nothing.
///
/// Rows of a large table lie far apart: read one after another before they are worked on, they come from memory all at
/// the same time.
#[inline(always)]
pub(crate) fn touch(numbers: &[f32]) {
    const LINE: usize = 16;
    std::hint::black_box(numbers.iter().step_by(LINE).sum::<f32>());
}

/// The highest of some numbers; of none, or of none that is a number, the lowest that `f32` has.
#[inline(always)]
pub(crate) fn highest(numbers: &[f32]) -> f32 {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let chunks = numbers.chunks_exact(PARTS);
    let rest = chunks.remainder().iter().copied().fold(f32::MIN, higher);
    let mut parts = [f32::MIN; PARTS];
    for chunk in chunks {
        for part in 0..PARTS {
            parts[part] = higher(parts[part], chunk[part]);
        }
    }
    parts.into_iter().fold(rest, higher)
}

/// Replaces each x by [`exp`] of x − `highest`, and returns the sum of what comes out.
#[inline(always)]
pub(crate) fn exp_all(numbers: &mut [f32], highest: f32) -> f32 {
    let mut sums = [0.0_f32; PARTS];
    let mut chunks = numbers.chunks_exact_mut(PARTS);
    for chunk in &mut chunks {
        for part in 0..PARTS {
            chunk[part] = exp(chunk[part] - highest);
            sums[part] += chunk[part];
        }
    }
    let mut rest = 0.0;
    for number in chunks.into_remainder() {
        *number = exp(*number - highest);
        rest += *number;
    }
    rest + sums.iter().sum::<f32>()
}

/// 1 / (1 + e⁻ˣ) with an error below 2e-7, by [`exp`].
#[inline(always)]
pub(crate) fn sigmoid_fast(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x with an error below 3e-7, by [`exp`].
#[inline(always)]
pub(crate) fn tanh_fast(x: f32) -> f32 {
    2.0 / (1.0 + exp(-2.0 * x)) - 1.0
}

/// Runs `work` compiled for the widest vectors that this machine has; what it calls must be inlined for that.
///
/// The results are the same on every machine: nothing is fused or reordered.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// 1 / √x for x > 0, with a relative error below 0.002; unlike `f32::sqrt` it needs no division.
///
/// The exponent halved on the bits, then one step of Newton's method (Lomont, 2003).
pub(crate) fn inverse_root(x: f32) -> f32 {
    let guess = f32::from_bits(0x5f37_5a86 - (x.to_bits() >> 1));
    guess * (1.5 - 0.5 * x * guess * guess)
}

/// eˣ with a relative error below 3e-7 for |x| ≤ 87, held there beyond; unlike `f32::exp` it works on whole vectors.
///
/// Cephes' method: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial for eʳ, and n added to the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut sum = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + coefficient;
    }
    let power = sum * r * r + r + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// ln x for a normal x > 0, with an absolute error below 2e-6; unlike `f32::ln` it works on whole vectors.
///
/// x = m·2ⁿ with m near 1, and ln m = 2·artanh((m − 1)/(m + 1)) by its power series.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // The bits of √½: mantissas are taken from there to √2.
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(ROOT_HALF);
    let n = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + ROOT_HALF);
    let r = (m - 1.0) / (m + 1.0);
    let square = r * r;
    let series = 2.0 + square * (0.666_666_7 + square * (0.4 + square * (0.285_714_3 + square * 0.222_222_2)));
    n * std::f32::consts::LN_2 + r * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_agrees_with_the_standard_library() {
        for step in -8_000..=8_000_i16 {
            let x = (f32::from(step) / 100.0).exp();
            assert!((ln(x) - x.ln()).abs() < 2e-6 * x.ln().abs().max(1.0), "ln({x}) is {}, not {}", x.ln(), ln(x));
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8_700..=8_700_i16 {
            let x = f32::from(step) / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "exp({x}) is {expected}, not {found}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
    }

    #[test]
    fn fast_gates_agree_with_the_standard_library() {
        for step in -20_000..=20_000_i16 {
            let x = f32::from(step) / 500.0;
            assert!((f64::from(sigmoid_fast(x)) - 1.0 / (1.0 + f64::from(-x).exp())).abs() < 2e-7, "sigmoid({x})");
            assert!((f64::from(tanh_fast(x)) - f64::from(x).tanh()).abs() < 3e-7, "tanh({x})");
        }
        assert!(sigmoid_fast(f32::NAN).is_nan() && tanh_fast(f32::NAN).is_nan());
        assert!(sigmoid_fast(-1e9) < 1e-37 && (tanh_fast(1e9) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn sums_of_exponentials_agree_with_the_definition_at_every_remainder() {
        for length in 1..40_i16 {
            let numbers: Vec<f32> = (0..length).map(|number| f32::from(number * 7 % 11) - 5.0).collect();
            let most = numbers.iter().copied().fold(f32::MIN, f32::max);
            assert!((highest(&numbers) - most).abs() < f32::EPSILON);
            let mut found = numbers.clone();
            let sum = exp_all(&mut found, most);
            let expected: f32 = numbers.iter().map(|number| (number - most).exp()).sum();
            assert!((sum / expected - 1.0).abs() < 1e-6, "{sum} instead of {expected}");
        }
        assert!(exp_all(&mut [f32::NAN, 1.0], 1.0).is_nan());
    }

    #[test]
    fn inverse_root_agrees_with_the_standard_library() {
        for step in 0..4_000_u16 {
            let x = (f32::from(step) / 100.0 - 20.0).exp();
            assert!((inverse_root(x) * x.sqrt() - 1.0).abs() < 2e-3, "1/sqrt({x}) is not {}", inverse_root(x));
        }
    }

    #[test]
    fn dot_agrees_with_the_definition_at_every_remainder() {
        for length in 0..40_u16 {
            let a: Vec<f32> = (0..length).map(f32::from).collect();
            let expected: f32 = a.iter().map(|x| x * (x + 1.0)).sum();
            let b: Vec<f32> = a.iter().map(|x| x + 1.0).collect();
            assert!((dot(&a, &b) - expected).abs() <= expected.abs() * 1e-6);
        }
    }
}
