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

fn matrix_leaf(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Result<Var> {
    Var::from_tensor(&leaf(rng, rows * columns, 1.0)?.reshape((rows, columns))?)
}

#[test]
fn gru_equals_its_composition() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // The last one takes two tasks, of which the second is short.
    for (lanes, steps, input_width, width) in [(1, 1, 1, 1), (3, 2, 4, 5), (37, 4, 12, 16)] {
        let gru = Gru {
            input_width,
            width,
            lanes,
            state: (0..lanes * width).map(|_| rng.random_range(-1.0..1.0)).collect(),
            starts: (0..lanes * steps).map(|_| rng.random_bool(0.2)).collect(),
            trace: std::sync::Mutex::default(),
        };
        let inputs = matrix_leaf(&mut rng, lanes * steps, input_width)?;
        let weights = leaf(&mut rng, gru.weight_ends()[3], 1.0)?;
        let composed = composed::gru(&inputs, &weights, &gru)?;
        let fused = inputs.apply_op2(&weights, gru)?;
        assert_same_graph(&[&inputs, &weights], &fused, &composed)?;
    }
    Ok(())
}

#[test]
fn sampled_softmax_equals_its_composition() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (cells, candidates, vector_width, width) in [(1, 1, 1, 1), (3, 4, 2, 3), (70, 130, 12, 8)] {
        let label = |_| rng.random_bool(0.9).then(|| rng.random_range(0..candidates));
        let softmax = SampledSoftmax {
            vector_width,
            labels: (0..cells).map(label).collect(),
            log_chances: (0..candidates).map(|_| rng.random_range(-4.0..-0.01)).collect(),
            penalty: 0.3,
            gradients: std::sync::Mutex::default(),
        };
        let states = matrix_leaf(&mut rng, cells, width)?;
        let weights = leaf(&mut rng, softmax.weight_ends(width)[2], 1.0)?;
        let composed = composed::sampled_softmax(&states, &weights, &softmax)?;
        let fused = states.apply_op2(&weights, softmax)?;
        assert_same_graph(&[&states, &weights], &fused, &composed)?;
    }
    Ok(())
}

/// On the CPU, and on a GPU where there is one and the feature `cuda`.
#[test]
fn a_device_teaches_what_the_composition_teaches() -> Result<()> {
    let devices = [Some(Device::Cpu), Device::new_cuda(0).ok()];
    for device in devices.iter().flatten() {
        for (lanes, steps, candidates, input_width, width) in [(1, 1, 1, 1, 1), (3, 2, 4, 2, 5), (37, 4, 130, 12, 16)] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let gru = Gru {
                input_width,
                width,
                lanes,
                state: (0..lanes * width).map(|_| rng.random_range(-1.0..1.0)).collect(),
                starts: (0..lanes * steps).map(|_| rng.random_bool(0.2)).collect(),
                trace: std::sync::Mutex::default(),
            };
            let label = |_| rng.random_bool(0.9).then(|| rng.random_range(0..candidates));
            let softmax = SampledSoftmax {
                vector_width: input_width,
                labels: (0..lanes * steps).map(label).collect(),
                log_chances: (0..candidates).map(|_| rng.random_range(-4.0..-0.01)).collect(),
                penalty: 0.3,
                gradients: std::sync::Mutex::default(),
            };
            let inputs = matrix_leaf(&mut rng, lanes * steps, input_width)?;
            let recurrent = leaf(&mut rng, gru.weight_ends()[3], 1.0)?;
            let output = leaf(&mut rng, softmax.weight_ends(width)[2], 1.0)?;
            let states = composed::gru(&inputs, &recurrent, &gru)?;
            let loss = composed::sampled_softmax(&states, &output, &softmax)?;
            let gradients = loss.backward()?;
            let there = |tensor: &Var| tensor.to_device(device);
            let lesson = device::lesson(&there(&inputs)?, &there(&recurrent)?, &there(&output)?, &gru, &softmax)?;
            let gradient = |leaf: &Var| gradients.get(leaf).expect("every leaf has a gradient").flatten_all();
            let last = states.narrow(0, (steps - 1) * lanes, lanes)?.flatten_all()?;
            for (what, found, expected) in [
                ("loss", vec![lesson.loss], loss.flatten_all()?),
                ("state", lesson.state, last),
                ("gradient to the inputs", lesson.inputs, gradient(&inputs)?),
                ("gradient to the recurrent weights", lesson.recurrent, gradient(&recurrent)?),
                ("gradient to the output weights", lesson.output, gradient(&output)?),
            ] {
                assert_close(&Tensor::new(found, &Device::Cpu)?, &expected, what)?;
            }
        }
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
        vector_width: 1,
        labels: vec![None, Some(1)],
        log_chances: narrow(log_chances),
        penalty: penalty as f32,
        gradients: std::sync::Mutex::default(),
    };
    // The state halves and the projection doubles what the scores are products with.
    let states = Tensor::new(&[[9.0_f32], [0.5]], &Device::Cpu)?;
    let weights = [vec![2.0], narrow(scores), narrow(biases)].concat();
    let found = states.apply_op2(&Tensor::from_vec(weights, 7, &Device::Cpu)?, softmax)?;
    assert!((f64::from(found.to_scalar::<f32>()?) - expected).abs() < 1e-5);
    Ok(())
}
