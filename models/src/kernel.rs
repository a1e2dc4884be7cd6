//! The few vector loops that serving runs on, written so that the compiler turns them into vector instructions.

/// Independent sums that a dot product keeps, so that additions need not wait for each other.
const PARTS: usize = 16;

/// Σ a·b over two slices of equal length.
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

#[cfg(test)]
mod tests {
    use super::*;

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
