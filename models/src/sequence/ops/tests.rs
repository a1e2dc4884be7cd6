//! Values and gradients of the fused operations against their composition, and independence of threads.

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn leaf(rng: &mut ChaCha8Rng, count: usize, scale: f32) -> Result<Var> {
    let numbers: Vec<f32> = (0..count).map(|_| rng.random_range(-scale..scale)).collect();
    Var::from_vec(numbers, count, &Device::Cpu)
}

fn assert_close(a: &Tensor, b: &Tensor, what: &str) -> Result<()> {
    let size = b.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?.max(1.0);
    let distance = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(distance < 3e-6 * size, "{what}: {distance} at a size of {size}");
    Ok(())
}

/// Checks that two graphs over the same leaves have equal values and gradients.
fn assert_same_graph(leaves: &[&Var], fused: &Tensor, composed: &Tensor) -> Result<()> {
    assert_close(fused, composed, "value")?;
    let (fused, composed) = (fused.sqr()?.sum_all()?.backward()?, composed.sqr()?.sum_all()?.backward()?);
    for (position, leaf) in leaves.iter().enumerate() {
        let gradients = fused.get(leaf).zip(composed.get(leaf)).expect("every leaf has a gradient");
        assert_close(gradients.0, gradients.1, &format!("gradient of leaf {position}"))?;
    }
    Ok(())
}

/// A GRU over two tasks, one of them short, with sessions that start anywhere; and the leaves it takes.
fn gru(rng: &mut ChaCha8Rng, lanes: usize, steps: usize, width: usize) -> Result<(Gru, Var, Var)> {
    let gru = Gru {
        width,
        lanes,
        state: (0..lanes * width).map(|_| rng.random_range(-1.0..1.0)).collect(),
        starts: (0..lanes * steps).map(|_| rng.random_bool(0.2)).collect(),
        trace: std::sync::Mutex::default(),
    };
    let inputs = Var::from_tensor(&leaf(rng, lanes * steps * 3 * width, 2.0)?.reshape((lanes * steps, 3 * width))?)?;
    Ok((gru, inputs, leaf(rng, 3 * width * width + 6 * width, 1.0)?))
}

#[test]
fn gru_equals_its_composition() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (lanes, steps, width) in [(1, 1, 1), (3, 2, 5), (37, 4, 16)] {
        let (gru, inputs, recurrent) = gru(&mut rng, lanes, steps, width)?;
        let composed = composed::gru(&inputs, &recurrent, &gru)?;
        let fused = inputs.apply_op2(&recurrent, gru)?;
        assert_same_graph(&[&inputs, &recurrent], &fused, &composed)?;
    }
    Ok(())
}

fn softmax(rng: &mut ChaCha8Rng, queries: usize, candidates: u32) -> SampledSoftmax {
    let label = |_| rng.random_bool(0.9).then(|| rng.random_range(0..candidates));
    SampledSoftmax {
        labels: (0..queries).map(label).collect(),
        log_chances: (0..candidates).map(|_| rng.random_range(-4.0..-0.01)).collect(),
        penalty: 0.3,
        gradients: std::sync::Mutex::default(),
    }
}

#[test]
fn sampled_softmax_equals_its_composition() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (queries, candidates, width) in [(1, 1, 1), (3, 4, 2), (70, 130, 12)] {
        let softmax = softmax(&mut rng, queries, candidates);
        let candidates = candidates as usize;
        let vectors = |rng: &mut ChaCha8Rng, count: usize| {
            Var::from_tensor(&leaf(rng, count * width, 1.0)?.reshape((count, width))?)
        };
        let (queries, vectors) = (vectors(&mut rng, queries)?, vectors(&mut rng, candidates)?);
        let biases = leaf(&mut rng, candidates, 1.0)?;
        let composed = composed::sampled_softmax(&queries, &vectors, &biases, &softmax)?;
        let fused = queries.apply_op3(&vectors, &biases, softmax)?;
        assert_same_graph(&[&queries, &vectors, &biases], &fused, &composed)?;
    }
    Ok(())
}

#[test]
fn sampled_softmax_equals_its_definition() -> Result<()> {
    let (scores, biases, log_chances) = ([0.3_f64, -1.2, 2.0], [0.1_f64, 0.0, -0.4], [-0.1_f64, -1.0, -2.5]);
    let (label, penalty) = (1, 0.3);
    let plain = [0, 1, 2].map(|place: usize| scores[place] + biases[place]);
    let shifted = [0, 1, 2].map(|place: usize| plain[place] - log_chances[place]);
    let sum: f64 = shifted.iter().map(|score| score.exp()).sum();
    let partition = (sum - shifted[label].exp() + plain[label].exp()).ln();
    let expected = sum.ln() - shifted[label] + penalty * partition * partition;
    let narrow = |numbers: [f64; 3]| numbers.map(|number| number as f32).to_vec();
    let softmax = SampledSoftmax {
        labels: vec![None, Some(1)],
        log_chances: narrow(log_chances),
        penalty: penalty as f32,
        gradients: std::sync::Mutex::default(),
    };
    let queries = Tensor::new(&[[9.0_f32], [1.0]], &Device::Cpu)?;
    let candidates = Tensor::from_vec(narrow(scores), (3, 1), &Device::Cpu)?;
    let found = queries.apply_op3(&candidates, &Tensor::from_vec(narrow(biases), 3, &Device::Cpu)?, softmax)?;
    assert!((f64::from(found.to_scalar::<f32>()?) - expected).abs() < 1e-5);
    Ok(())
}
