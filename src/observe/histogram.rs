//! How often something took how long.

use std::fmt;
use std::time::Duration;

/// Buckets of one power of two.
const PARTS: u64 = 1 << PART_BITS;
const PART_BITS: u32 = 3;
/// Times of 2^40 ns (18 minutes) and more share the last bucket.
const TOP_BITS: u32 = 40;
const BUCKETS: usize = ((TOP_BITS - PART_BITS + 1) << PART_BITS) as usize + 1;

/// How often something took how long: counts in buckets that are an eighth of a power of two wide, so that
/// what it says is up to 12.5 % too much. Times of 18 minutes and more share one bucket, of which it says the
/// longest. It has a fixed size, and counting allocates nothing.
///
/// ```
/// use kiocb::observe::Histogram;
/// use std::time::Duration;
///
/// let mut histogram = Histogram::default();
/// (1..=100).for_each(|millis| histogram.record(Duration::from_millis(millis)));
/// assert_eq!(histogram.count(), 100);
/// assert_eq!(histogram.max(), Duration::from_millis(100));
/// let median = histogram.quantile(0.5).unwrap();
/// assert!(median >= Duration::from_millis(50) && median <= Duration::from_micros(56_250));
/// ```
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    sum: Duration,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: Box::new([0; BUCKETS]),
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Counts one that took so long.
    pub fn record(&mut self, took: Duration) {
        self.counts[bucket_of(took)] += 1;
        self.sum = self.sum.saturating_add(took);
        self.max = self.max.max(took);
    }

    /// Adds the counts of another one.
    pub fn merge(&mut self, other: &Histogram) {
        let pairs = self.counts.iter_mut().zip(other.counts.iter());
        pairs.for_each(|(mine, theirs)| *mine += theirs);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time of all together; no bucket makes it too much.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest, as it was; zero where nothing was counted.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The time within which this part of them was over: 0.5 is the median, 0.999 the time that one of a
    /// thousand exceeds. `None` where nothing was counted. A `part` below 0 counts as 0, one above 1 as 1.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = rank_of(part, count);
        let mut seen = 0;
        self.buckets().find_map(|(most, here)| {
            seen += here;
            (seen >= rank).then_some(most.min(self.max))
        })
    }

    /// The buckets that are not empty, shortest first: the time within which each of them was over, and how
    /// many there are. What a metrics exporter wants; its buckets are sums of these.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let full = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| (most_of(bucket), *count))
    }
}

/// Of so many the number, from 1, of the one that stands at this part.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the count"
)]
fn rank_of(part: f64, count: u64) -> u64 {
    ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1))
}

/// Times below 8 ns have a bucket each; from there on eight share a power of two.
fn bucket_of(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    if nanos < PARTS {
        return usize::try_from(nanos).unwrap_or_default();
    }
    let bits = nanos.ilog2();
    if bits >= TOP_BITS {
        return BUCKETS - 1;
    }
    let part = (nanos >> (bits - PART_BITS)) & (PARTS - 1);
    let power = u64::from(bits - PART_BITS + 1);
    usize::try_from(power * PARTS + part).unwrap_or(BUCKETS - 1)
}

/// The longest time in a bucket.
fn most_of(bucket: usize) -> Duration {
    if bucket == BUCKETS - 1 {
        return Duration::MAX;
    }
    let (power, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match power.checked_sub(1) {
        None => Duration::from_nanos(part),
        Some(shift) => Duration::from_nanos(((PARTS + part + 1) << shift) - 1),
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_and_not_in_the_one_before() {
        let shifts = (0..TOP_BITS).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for nanos in (0..5000)
            .chain(shifts)
            .filter(|nanos| *nanos < 1 << TOP_BITS)
        {
            let took = Duration::from_nanos(nanos);
            let bucket = bucket_of(took);
            assert!(took <= most_of(bucket), "{nanos}");
            assert!(bucket == 0 || took > most_of(bucket - 1), "{nanos}");
            let excess = most_of(bucket) - took;
            assert!(excess.as_nanos() * 8 <= took.as_nanos(), "{nanos}");
        }
    }

    #[test]
    fn times_beyond_the_last_bucket_are_counted_there() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_nanos((1 << TOP_BITS) - 1));
        histogram.record(Duration::from_nanos(1 << TOP_BITS));
        histogram.record(Duration::MAX);
        let counts: Vec<_> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2]);
        assert_eq!(histogram.quantile(1.0), Some(Duration::MAX));
    }
}
