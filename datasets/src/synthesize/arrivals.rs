//! When sessions start and whose they are: a Poisson process per region whose rate follows the local time of day.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::config::{SESSION_GAP, WorkloadConfig};
use crate::Timestamp;

/// The sessions that start in one region.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    peak_per_micro: f64,
    amplitude: f64,
    utc_offset_hours: f64,
    clients: Clients,
    random: ChaCha8Rng,
}

impl Arrivals {
    /// The arrivals of region `index`, whose clients are numbered from `first_client`; `random` is their own.
    pub(crate) fn new(config: &WorkloadConfig, index: usize, first_client: u32, random: ChaCha8Rng) -> Self {
        let mean_per_micro = config.session_count() * config.share(index) / (config.days * 86_400e6);
        Self {
            peak_per_micro: mean_per_micro * (1.0 + config.diurnal_amplitude),
            amplitude: config.diurnal_amplitude,
            utc_offset_hours: config.regions[index].utc_offset_hours,
            clients: Clients::new(first_client, config.region_client_count(index)),
            random,
        }
    }

    /// The start of the next session after `now`.
    pub(crate) fn next(&mut self, now: Timestamp) -> Timestamp {
        let mut micros = now.micros() as f64;
        loop {
            let gap: f64 = Exp1.sample(&mut self.random);
            micros += gap / self.peak_per_micro;
            // Candidates come at the peak's rate; at other hours only some of them are taken.
            if self.random.random::<f64>() * (1.0 + self.amplitude) < self.demand(micros) {
                return Timestamp::from_micros(micros as i64);
            }
        }
    }

    /// A client that is in no session and was silent for the session gap; it is busy from now on.
    pub(crate) fn take_client(&mut self, now: Timestamp) -> Option<u32> {
        self.clients.take(now, &mut self.random)
    }

    /// A client's session ended with its request at `now`.
    pub(crate) fn release_client(&mut self, client: u32, now: Timestamp) {
        self.clients.release(client, now);
    }

    /// Demand against the mean of the day: highest at [`PEAK_HOUR`] local time, lowest twelve hours away.
    fn demand(&self, micros: f64) -> f64 {
        let local_hours = micros / 3_600e6 + self.utc_offset_hours;
        1.0 + self.amplitude * (std::f64::consts::TAU * (local_hours - PEAK_HOUR) / 24.0).cos()
    }
}

/// The local hour of the highest demand.
pub(crate) const PEAK_HOUR: f64 = 20.0;

/// Clients of one region, some of them more active than others.
#[derive(Clone, Debug)]
struct Clients {
    first: u32,
    /// When each is free for a new session; in one now: never.
    free_from: Vec<Timestamp>,
}

impl Clients {
    fn new(first: u32, count: u32) -> Self {
        Self { first, free_from: vec![Timestamp::MIN; count as usize] }
    }

    fn take(&mut self, now: Timestamp, random: &mut impl Rng) -> Option<u32> {
        for _ in 0..TRIES {
            let point = random.random::<f64>();
            let index = ((point * point * self.free_from.len() as f64) as usize).min(self.free_from.len() - 1);
            if self.free_from[index] <= now {
                self.free_from[index] = Timestamp::MAX;
                return Some(self.first + index as u32);
            }
        }
        None
    }

    fn release(&mut self, client: u32, now: Timestamp) {
        // One microsecond more, so that the gap is exceeded and not just reached.
        self.free_from[(client - self.first) as usize] = Timestamp::from_micros(now.after(SESSION_GAP).micros() + 1);
    }
}

/// At most half of a region's clients are busy, so that this many draws almost never fail.
const TRIES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::keys::random;

    #[test]
    fn demand_peaks_in_the_evening_of_the_region() {
        let config = WorkloadConfig { days: 20.0, ..WorkloadConfig::default() };
        let mut arrivals = Arrivals::new(&config, 2, 0, random(5, 0));
        let (mut now, mut by_hour) = (config.start, [0_u32; 24]);
        let mut count = 0.0;
        while now.since(config.start).as_secs() < 20 * 86_400 {
            now = arrivals.next(now);
            by_hour[((now.micros() / 3_600_000_000 + 8) % 24) as usize] += 1;
            count += 1.0;
        }
        let expected = config.session_count() * config.share(2);
        assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{count} sessions, {expected} expected");
        let (evening, morning) = (by_hour[19] + by_hour[20], by_hour[7] + by_hour[8]);
        let ratio = f64::from(evening) / f64::from(morning);
        assert!((6.5..=12.0).contains(&ratio), "1.8 / 0.2 is expected, found {ratio}");
    }

    #[test]
    fn a_client_rests_for_the_session_gap() {
        let mut clients = Clients::new(40, 1);
        let mut random = random(5, 0);
        let start = Timestamp::from_micros(0);
        assert_eq!((clients.take(start, &mut random), clients.take(start, &mut random)), (Some(40), None));
        clients.release(40, start);
        assert_eq!(clients.take(start.after(SESSION_GAP), &mut random), None);
        assert_eq!(clients.take(Timestamp::from_micros(start.after(SESSION_GAP).micros() + 1), &mut random), Some(40));
    }
}
