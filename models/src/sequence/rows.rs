//! An embedding table that learns sparsely: only rows that a step touched cost anything.

use rayon::prelude::*;

use crate::kernel;

/// Keeps the first steps of a fresh row finite.
const EPSILON: f32 = 1e-8;
/// Rows that one task updates.
const TASK_ROWS: usize = 64;

/// Vectors and biases with row-wise Adagrad: one sum of squares per vector, so that rare rows keep learning fast.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowTable {
    width: usize,
    /// (rows, width).
    vectors: Vec<f32>,
    rests: Vec<Rest>,
    touched: Vec<u32>,
    additions: Vec<Addition>,
}

/// What a row has besides its vector, in one place because it is looked at together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rest {
    bias: f32,
    learnt: Squares,
    /// One more than the row's place among those touched, or zero.
    place: u32,
}

/// What Adagrad remembers of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Squares {
    /// The sum over past steps of the vector's mean squared gradient.
    pub(crate) vector: f32,
    /// The sum over past steps of the bias's squared gradient.
    pub(crate) bias: f32,
}

/// A share of a gradient that goes to one of the rows touched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Addition {
    place: u32,
    source: u32,
    factor: f32,
}

/// A row that a step touched, and what it adds up to its gradient, in order.
struct TouchedRow<'a> {
    vector: &'a mut [f32],
    rest: &'a mut Rest,
    additions: &'a [Addition],
}

/// Vectors (count, width) and biases (count): those of a batch's items, or the gradients to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vectors {
    pub(crate) vectors: Vec<f32>,
    pub(crate) biases: Vec<f32>,
}

impl RowTable {
    /// A table that has learned nothing: vectors as given and biases of zero.
    pub(crate) fn new(width: usize, vectors: Vec<f32>) -> Self {
        let rests = vec![Rest::default(); vectors.len() / width];
        debug_assert_eq!(vectors.len(), rests.len() * width);
        Self { width, vectors, rests, touched: Vec::new(), additions: Vec::new() }
    }

    /// A table that has learned already; there are as many biases and squares as rows.
    pub(crate) fn restore(width: usize, vectors: Vec<f32>, biases: &[f32], squares: &[Squares]) -> Self {
        let rest = |(bias, learnt): (&f32, &Squares)| Rest { bias: *bias, learnt: *learnt, place: 0 };
        let rests = biases.iter().zip(squares).map(rest).collect();
        Self { width, vectors, rests, touched: Vec::new(), additions: Vec::new() }
    }

    /// Adds `factor` times gradient number `source` to what the next [`learn`] applies to `row`.
    pub(crate) fn add(&mut self, row: u32, factor: f32, source: u32) {
        let place = &mut self.rests[row as usize].place;
        if *place == 0 {
            self.touched.push(row);
            // A step touches fewer rows than there are, and those are numbered by u32.
            *place = u32::try_from(self.touched.len()).expect("rows are numbered by u32");
        }
        self.additions.push(Addition { place: *place - 1, source, factor });
    }

    /// The rows touched since the last [`learn`], with their shares of the gradients, which are `grouped`.
    fn touched_rows<'a>(&'a mut self, additions: &'a [Addition], ends: &[usize]) -> Vec<TouchedRow<'a>> {
        let mut order: Vec<usize> = (0..self.touched.len()).collect();
        order.sort_unstable_by_key(|place| self.touched[*place]);
        let (mut vectors, mut rests, mut next) = (&mut self.vectors[..], &mut self.rests[..], 0);
        let mut rows = Vec::with_capacity(order.len());
        for place in order {
            let row = self.touched[place] as usize;
            let (vector, vectors_after) = vectors.split_at_mut((row - next) * self.width).1.split_at_mut(self.width);
            let (rest, rests_after) = rests.split_at_mut(row - next).1.split_at_mut(1);
            (vectors, rests, next) = (vectors_after, rests_after, row + 1);
            let start = if place == 0 { 0 } else { ends[place - 1] };
            rows.push(TouchedRow { vector, rest: &mut rest[0], additions: &additions[start..ends[place]] });
        }
        self.touched.clear();
        self.additions.clear();
        rows
    }

    /// The row's vector.
    pub(crate) fn vector(&self, row: u32) -> &[f32] {
        &self.vectors[row as usize * self.width..][..self.width]
    }

    /// The row's bias.
    pub(crate) fn bias(&self, row: u32) -> f32 {
        self.rests[row as usize].bias
    }

    /// All vectors, (rows, width).
    pub(crate) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// All biases.
    pub(crate) fn biases(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.rests.iter().map(|rest| rest.bias)
    }

    /// What Adagrad remembers of all rows.
    pub(crate) fn squares(&self) -> impl ExactSizeIterator<Item = Squares> + '_ {
        self.rests.iter().map(|rest| rest.learnt)
    }
}

/// Applies the additions to these tables since the last call, which are shares of these gradients, and forgets them.
pub(crate) fn learn(tables: [&mut RowTable; 2], learning_rate: f32, gradients: &Vectors) {
    let width = tables[0].width;
    let additions = [&tables[0], &tables[1]].map(|table| grouped(&table.additions, table.touched.len()));
    let mut rows = Vec::new();
    for (table, (additions, ends)) in tables.into_iter().zip(&additions) {
        rows.extend(table.touched_rows(additions, ends));
    }
    rows.par_chunks_mut(TASK_ROWS).for_each(|rows| {
        let mut sum = vec![0.0; width];
        rows.iter().for_each(|row| kernel::touch(row.vector));
        kernel::vectorised(|| rows.iter_mut().for_each(|row| row.learn(learning_rate, gradients, &mut sum)));
    });
}

/// Additions by place, in order within it, and where those of each place end.
fn grouped(additions: &[Addition], places: usize) -> (Vec<Addition>, Vec<usize>) {
    let mut ends = vec![0; places];
    additions.iter().for_each(|addition| ends[addition.place as usize] += 1);
    let mut sum = 0;
    for end in &mut ends {
        // Where the place starts for now; filling it moves that to its end.
        (sum, *end) = (sum + *end, sum);
    }
    let mut grouped = vec![Addition::default(); additions.len()];
    for addition in additions {
        let at = &mut ends[addition.place as usize];
        grouped[*at] = *addition;
        *at += 1;
    }
    (grouped, ends)
}

impl TouchedRow<'_> {
    /// Moves the row by its additions; `sum` (width) is scratch space.
    #[inline(always)]
    fn learn(&mut self, learning_rate: f32, gradients: &Vectors, sum: &mut [f32]) {
        let width = sum.len();
        sum.fill(0.0);
        let mut bias = 0.0;
        for Addition { source, factor, .. } in self.additions {
            let source = *source as usize;
            kernel::add_scaled(sum, *factor, &gradients.vectors[source * width..][..width]);
            bias += factor * gradients.biases[source];
        }
        let squares = &mut self.rest.learnt;
        squares.vector += kernel::dot(sum, sum) / width as f32;
        squares.bias += bias * bias;
        kernel::add_scaled(self.vector, -learning_rate / (squares.vector.sqrt() + EPSILON), sum);
        self.rest.bias -= learning_rate / (squares.bias.sqrt() + EPSILON) * bias;
        self.rest.place = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_gradients_of_a_row_and_leaves_other_rows_alone() {
        let mut table = RowTable::new(2, vec![1.0; 8]);
        table.add(3, 1.0, 2);
        table.add(2, 1.0, 0);
        table.add(2, 2.0, 1);
        learn(
            [&mut table, &mut RowTable::new(2, Vec::new())],
            0.1,
            &Vectors { vectors: vec![1.0, 0.0, 1.0, 4.0, 0.5, 0.5], biases: vec![1.0, 2.0, 0.0] },
        );
        // g = (3, 8), mean square 36.5; of the bias 5.
        let scale = 0.1 / 36.5_f32.sqrt();
        assert_eq!((table.vector(0), table.vector(1)), (&[1.0, 1.0][..], &[1.0, 1.0][..]));
        assert!((table.vector(2)[0] - (1.0 - 3.0 * scale)).abs() < 1e-6);
        assert!((table.vector(2)[1] - (1.0 - 8.0 * scale)).abs() < 1e-6);
        assert!((table.bias(2) + 0.1).abs() < 1e-6);
        assert!((table.vector(3)[0] - 0.9).abs() < 1e-6);
        assert_eq!(table.bias(3).to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn steps_shrink_as_a_row_learns() {
        let mut table = RowTable::new(1, vec![0.0; 1]);
        let mut moved = Vec::new();
        for _ in 0..3 {
            let before = table.vector(0)[0];
            table.add(0, 1.0, 0);
            learn(
                [&mut table, &mut RowTable::new(1, Vec::new())],
                1.0,
                &Vectors { vectors: vec![5.0], biases: vec![0.0] },
            );
            moved.push(before - table.vector(0)[0]);
        }
        let expected = [1.0, 1.0 / 2.0_f32.sqrt(), 1.0 / 3.0_f32.sqrt()];
        assert!(moved.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{moved:?}");
    }
}
