//! The few transcendental functions the policy needs, in plain arithmetic: fast, free of branches, and the same to the
//! bit on every machine.

/// `1.5 * 2^23`: adding it to a small number leaves the nearest integer in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;

/// `2^x` within a ten-thousandth of itself, for `x` between -60 and 60; beyond, the nearer end.
pub(super) fn exp2(x: f32) -> f32 {
    let x = x.clamp(-60.0, 60.0);
    let rounded = x + ROUNDER;
    let rest = x - (rounded - ROUNDER);
    let root = 1.0 + rest * (std::f32::consts::LN_2 + rest * (0.240_226_5 + rest * (0.055_504_1 + rest * 0.009_618_1)));
    f32::from_bits(root.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// The logistic function.
pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + exp2(-logit * std::f32::consts::LOG2_E))
}

/// `log2(1 + 2^x)` within 1e-3.
pub(super) fn log2_one_plus_exp2(x: f32) -> f32 {
    let y = 1.0 + exp2(x.min(30.0));
    let bits = y.to_bits();
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000) - 1.0;
    let exponent = (bits >> 23) as f32 - 127.0;
    // log2(1 + m) on [0, 1), exact at both ends.
    exponent + mantissa * (1.440_8 - mantissa * (0.680_8 - mantissa * (0.323_2 - mantissa * 0.083_2)))
}

/// Eight times the base-2 logarithm, rounded down: the scale on which durations are kept and compared.
pub(super) fn eighths_of_octave(duration: u32) -> i32 {
    let duration = duration.max(1);
    let octave = duration.ilog2();
    let leading = if octave >= 3 { duration >> (octave - 3) } else { duration << (3 - octave) };
    let eighths = leading & 7;
    (octave * 8 + eighths) as i32
}

#[cfg(test)]
mod tests {
    use super::{eighths_of_octave, exp2, log2_one_plus_exp2, sigmoid};

    #[test]
    fn approximations_stay_close() {
        for step in -800..=800 {
            let x = step as f32 * 0.025;
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 1e-4, "2^{x}");
            assert!((log2_one_plus_exp2(x) - (1.0 + x.exp2()).log2()).abs() < 2e-3, "log2(1 + 2^{x})");
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-4, "sigmoid({x})");
        }
    }

    #[test]
    fn durations_are_ordered_on_the_octave_scale() {
        let of = |durations: [u32; 6]| durations.map(eighths_of_octave);
        assert_eq!(of([0, 1, 2, 8, 9, 16]), [0, 0, 8, 24, 25, 32]);
        assert!((1..5_000).all(|duration| eighths_of_octave(duration) <= eighths_of_octave(duration + 1)));
        assert_eq!(eighths_of_octave(u32::MAX), 31 * 8 + 7);
    }
}
