//! An embedding table that learns sparsely: only rows that a step touched cost anything.

/// Keeps the first steps of a fresh row finite.
const EPSILON: f32 = 1e-8;

/// Row-major numbers with row-wise Adagrad: one sum of squares per row, so that rare rows keep learning fast.
#[derive(Clone, Debug)]
pub(crate) struct RowTable {
    width: usize,
    values: Vec<f32>,
    /// Per row: the sum over past steps of its mean squared gradient.
    squares: Vec<f32>,
    /// Per row: one more than its place in `touched`, or zero.
    places: Vec<u32>,
    touched: Vec<u32>,
    /// Gradients of the touched rows, in order of `touched`.
    gradients: Vec<f32>,
}

impl RowTable {
    pub(crate) fn new(width: usize, values: Vec<f32>) -> Self {
        let rows = values.len() / width;
        debug_assert_eq!(values.len(), rows * width);
        Self::with_squares(width, values, vec![0.0; rows])
    }

    /// A table that has learned: as many rows as there are sums of squares.
    pub(crate) fn with_squares(width: usize, values: Vec<f32>, squares: Vec<f32>) -> Self {
        let places = vec![0; squares.len()];
        Self { width, values, squares, places, touched: Vec::new(), gradients: Vec::new() }
    }

    /// Adds `factor·gradient` to what the next [`RowTable::learn`] applies to `row`.
    pub(crate) fn add_gradient(&mut self, row: u32, factor: f32, gradient: &[f32]) {
        let place = &mut self.places[row as usize];
        if *place == 0 {
            self.touched.push(row);
            // A step touches fewer rows than there are, and those are numbered by u32.
            *place = u32::try_from(self.touched.len()).expect("rows are numbered by u32");
            self.gradients.resize(self.touched.len() * self.width, 0.0);
        }
        let start = (*place as usize - 1) * self.width;
        crate::kernel::add_scaled(&mut self.gradients[start..start + self.width], factor, gradient);
    }

    /// Applies the gradients gathered since the last call and forgets them.
    pub(crate) fn learn(&mut self, learning_rate: f32) {
        for (row, gradient) in self.touched.drain(..).zip(self.gradients.chunks_exact(self.width)) {
            let row = row as usize;
            self.places[row] = 0;
            self.squares[row] += gradient.iter().map(|g| g * g).sum::<f32>() / self.width as f32;
            let step = -learning_rate / (self.squares[row].sqrt() + EPSILON);
            crate::kernel::add_scaled(&mut self.values[row * self.width..][..self.width], step, gradient);
        }
        self.gradients.clear();
    }

    pub(crate) fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.width..][..self.width]
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Per row: the sum over past steps of its mean squared gradient.
    pub(crate) fn squares(&self) -> &[f32] {
        &self.squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_gradients_of_a_row_and_leaves_other_rows_alone() {
        let mut table = RowTable::new(2, vec![1.0; 6]);
        table.add_gradient(2, 1.0, &[1.0, 0.0]);
        table.add_gradient(2, 2.0, &[1.0, 4.0]);
        table.learn(0.1);
        // g = (3, 8), mean square 36.5.
        let scale = 0.1 / 36.5_f32.sqrt();
        assert_eq!((table.row(0), table.row(1)), (&[1.0, 1.0][..], &[1.0, 1.0][..]));
        assert!((table.row(2)[0] - (1.0 - 3.0 * scale)).abs() < 1e-6);
        assert!((table.row(2)[1] - (1.0 - 8.0 * scale)).abs() < 1e-6);
    }

    #[test]
    fn steps_shrink_as_a_row_learns() {
        let mut table = RowTable::new(1, vec![0.0; 1]);
        let mut moved = Vec::new();
        for _ in 0..3 {
            let before = table.row(0)[0];
            table.add_gradient(0, 1.0, &[5.0]);
            table.learn(1.0);
            moved.push(before - table.row(0)[0]);
        }
        let expected = [1.0, 1.0 / 2.0_f32.sqrt(), 1.0 / 3.0_f32.sqrt()];
        assert!(moved.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{moved:?}");
    }
}
