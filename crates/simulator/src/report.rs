//! How a simulation went: counts, reasons, latencies.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::transport::Answer;

/// Latencies, kept to a hundredth and up to five minutes; longer ones count as five minutes.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

const LONGEST_MICROS: u64 = 300_000_000;

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        Self(histogram.expect("bounds that a histogram can have"))
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.clamp(1, LONGEST_MICROS));
    }

    /// Counts all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds at a quantile between 0 and 1; 0 when there is none.
    pub fn ms(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1_000.0 }
    }

    /// Rows of `milliseconds,count` of the whole distribution.
    pub fn csv(&self) -> String {
        let mut text = String::from("up_to_ms,count\n");
        for step in self.0.iter_recorded() {
            let (value, count) = (step.value_iterated_to() as f64 / 1_000.0, step.count_at_value());
            text.push_str(&format!("{value},{count}\n"));
        }
        text
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("Latencies", 4)?;
        members.serialize_field("p50_ms", &self.ms(0.5))?;
        members.serialize_field("p90_ms", &self.ms(0.9))?;
        members.serialize_field("p99_ms", &self.ms(0.99))?;
        members.serialize_field("max_ms", &self.ms(1.0))?;
        members.end()
    }
}

/// What happened on one transport.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Claims sent.
    pub sent: u64,
    /// Claims acknowledged.
    pub acked: u64,
    /// Claims refused, by the server's reason.
    pub refused: BTreeMap<String, u64>,
    /// Claims without an answer: the connection broke, or none came in time.
    pub lost: u64,
    /// Claims whose answer was not waited for, on purpose.
    pub dropped: u64,
    /// Bytes of claim messages.
    pub bytes: u64,
    /// Devices that the owner got.
    pub confirmed: u64,
    /// Confirms that were refused, by the server's reason. Wrong codes shown on purpose are not among them.
    pub confirm_refused: BTreeMap<String, u64>,
    /// Wrong codes shown on purpose, and refused as they should be.
    pub wrong_refused: u64,
    /// Wrong codes shown on purpose that were taken: a hole.
    pub wrong_taken: u64,
    /// Confirms sent right after the ack that found no claim: the ack was no promise.
    pub invisible: u64,
    /// Transport errors other than a refused claim.
    pub errors: u64,
    /// From sending a claim to its ack.
    pub submit: Latencies,
    /// From sending a confirm to its answer.
    pub confirm: Latencies,
}

impl Tally {
    /// Counts a claim's answer.
    pub fn answer(&mut self, answer: &Answer, bytes: usize, took: Duration) {
        self.answers(answer, 1, bytes, took);
    }

    /// Counts the answer to a message with so many claims in it.
    pub fn answers(&mut self, answer: &Answer, claims: u64, bytes: usize, took: Duration) {
        self.sent += claims;
        self.bytes += bytes as u64;
        match answer {
            Answer::Acked => {
                self.acked += claims;
                self.submit.add(took);
            }
            Answer::Refused(reason) => *self.refused.entry(reason.clone()).or_default() += claims,
            Answer::Lost => self.lost += claims,
            Answer::Dropped => self.dropped += claims,
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.bytes += other.bytes;
        self.confirmed += other.confirmed;
        self.wrong_refused += other.wrong_refused;
        self.wrong_taken += other.wrong_taken;
        self.invisible += other.invisible;
        self.errors += other.errors;
        for (mine, others) in [(&mut self.refused, &other.refused), (&mut self.confirm_refused, &other.confirm_refused)]
        {
            for (reason, count) in others {
                *mine.entry(reason.clone()).or_default() += count;
            }
        }
        self.submit.merge(&other.submit);
        self.confirm.merge(&other.confirm);
    }

    /// Claims refused, for whatever reason.
    pub fn refused_in_all(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// A whole simulation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// By transport, in the order they ran.
    pub transports: Vec<Row>,
    /// Repeats the run.
    pub seed: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// A transport's line of a report.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The transport's name.
    pub transport: String,
    /// What happened on it.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Report {
    /// All transports together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.transports.iter().for_each(|row| total.merge(&row.tally));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.ms(0.99), 0.0);
        for ms in 1..=100 {
            latencies.add(Duration::from_millis(ms));
        }
        assert!((latencies.ms(0.5) - 50.0).abs() < 0.1, "{}", latencies.ms(0.5));
        assert!((latencies.ms(1.0) - 100.0).abs() < 0.2);
        latencies.add(Duration::from_secs(100_000));
        assert!((latencies.ms(1.0) - 300_000.0).abs() < 300.0);
        assert_eq!(latencies.csv().lines().count(), 102);
    }

    #[test]
    fn every_answer_is_counted_once() {
        let mut tally = Tally::default();
        let took = Duration::from_millis(1);
        tally.answer(&Answer::Acked, 10, took);
        tally.answers(&Answer::Refused("malformed".to_owned()), 3, 10, took);
        tally.answer(&Answer::Lost, 10, took);
        tally.answer(&Answer::Dropped, 10, took);
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!((twice.sent, twice.acked, twice.refused_in_all(), twice.lost, twice.dropped), (12, 2, 6, 2, 2));
        assert_eq!((twice.bytes, twice.submit.count()), (80, 2));
    }
}
