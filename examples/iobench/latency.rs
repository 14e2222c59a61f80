//! How long requests took: a histogram with 1 % resolution from a nanosecond to a minute.

use std::time::Duration;

use hdrhistogram::Histogram;

const LONGEST: Duration = Duration::from_secs(60);
/// Two digits: buckets less than 1 % wide, and a table small enough to stay out of the caches' way.
const DIGITS: u8 = 2;

pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        Latency(
            Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS)
                .expect("fixed bounds that are valid"),
        )
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(nanos(took));
    }

    pub(crate) fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(crate) fn samples(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share of the requests completed, in microseconds; `None` where there are
    /// too few samples for one to lie above it.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<f64> {
        let above = self.samples() as f64 * (1.0 - share);
        // A little less than one, as 1 - 0.999 is rounded.
        (above >= 0.9999).then(|| micros(self.0.value_at_quantile(share)))
    }

    /// The distribution, ascending: (microseconds, share of the requests that completed within them).
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let mut within = 0;
        let points = self.0.iter_recorded().map(|bucket| {
            within += bucket.count_since_last_iteration();
            (
                micros(bucket.value_iterated_to()),
                within as f64 / self.samples() as f64,
            )
        });
        points.collect()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_that_no_sample_lies_above_is_not_known() {
        let mut latency = Latency::new();
        assert_eq!(latency.quantile_us(0.5), None);
        for count in 1..=1000 {
            latency.record(Duration::from_micros(7));
            let known = [0.5, 0.99, 0.999].map(|share| latency.quantile_us(share).is_some());
            assert_eq!(known, [count >= 2, count >= 100, count >= 1000], "{count}");
        }
    }
}
