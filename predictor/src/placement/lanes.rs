//! Numbers in lanes: rows padded to whole groups, so that a loop over them has no rest and no bounds to check.

/// Numbers that are worked on together.
pub(super) const LANES: usize = 16;

/// One group of them.
pub(super) type Lanes = [f32; LANES];

/// So many numbers take so many groups.
pub(super) fn groups(numbers: usize) -> usize {
    numbers.div_ceil(LANES)
}

/// Not [`f32::max`], which minds what is not a number and takes thrice as long.
#[inline(always)]
pub(super) fn above_zero(number: f32) -> f32 {
    if number > 0.0 { number } else { 0.0 }
}

/// The lanes of which something holds, as bits.
#[inline(always)]
pub(super) fn bits(holds: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for lane in 0..LANES {
        bits |= u32::from(holds(lane)) << lane;
    }
    bits
}

/// The places of bits, in order.
#[inline(always)]
pub(super) fn each(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// A sum whose parts need not wait for each other, in the same order on every machine.
#[inline(always)]
pub(super) fn sum(lanes: Lanes) -> f32 {
    reduce(lanes, |a, b| a + b)
}

/// The least of all, infinity when there is none.
#[inline(always)]
pub(super) fn least(groups: &[Lanes]) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    for group in groups {
        for lane in 0..LANES {
            least[lane] = if group[lane] < least[lane] { group[lane] } else { least[lane] };
        }
    }
    reduce(least, |a, b| if b < a { b } else { a })
}

/// The place of the greatest of all that are above zero.
#[inline(always)]
pub(super) fn greatest(groups: &[Lanes]) -> Option<usize> {
    let (mut most, mut at) = ([0.0_f32; LANES], [0_u32; LANES]);
    for (place, group) in (0_u32..).zip(groups) {
        for lane in 0..LANES {
            let is_more = group[lane] > most[lane];
            most[lane] = if is_more { group[lane] } else { most[lane] };
            at[lane] = if is_more { place } else { at[lane] };
        }
    }
    let greatest = reduce(most, |a, b| if b > a { b } else { a });
    if greatest <= 0.0 {
        return None;
    }
    let lane = bits(|lane| most[lane] >= greatest).trailing_zeros() as usize;
    Some(at[lane] as usize * LANES + lane)
}

#[inline(always)]
fn reduce(mut lanes: Lanes, join: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_gone_through_whole() {
        let numbers: Vec<Lanes> =
            (0..3).map(|group| std::array::from_fn(|lane| (16 * group + lane) as f32 - 3.0)).collect();
        assert_eq!((greatest(&numbers), least(&numbers)), (Some(47), -3.0));
        assert_eq!((greatest(&[[0.0; LANES]]), greatest(&[]), least(&[])), (None, None, f32::INFINITY));
        assert!((sum(numbers[1]) - 328.0).abs() < 1e-3);
        assert_eq!((groups(0), groups(16), groups(17)), (0, 1, 2));
    }
}
