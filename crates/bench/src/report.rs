//! What was measured, as people and programs read it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::Run;
use crate::measure::{median, spread};

/// Who was measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The bytes and nothing else.
    Floor(&'static str),
    /// What people run today.
    Peer(&'static str),
    Claimd,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor(name) | Self::Peer(name) => name,
            Self::Claimd => "claimd",
        }
    }
}

/// One round of one server.
pub(crate) struct Sample {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Sample {
    pub(crate) fn new(run: &Run, cpu_ns: u64) -> Self {
        let operations = run.operations.max(1) as f64;
        Self {
            cpu_us: cpu_ns as f64 / 1_000.0 / operations,
            per_second: operations / run.took.as_secs_f64(),
            p50_us: run.latency.value_at_quantile(0.5) as f64,
            p99_us: run.latency.value_at_quantile(0.99) as f64,
        }
    }
}

struct Series {
    name: &'static str,
    contender: Contender,
    samples: Vec<Sample>,
}

impl Series {
    fn middle(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }
}

/// A figure that stands alone, with its target.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    most: Option<f64>,
}

/// The most that claimd may take of its peer's CPU time.
const OF_PEER: &[(&str, f64)] = &[
    ("mqtt-window-1", 1.0),
    ("mqtt-window-16", 0.4),
    ("mqtt-cycle", 1.0),
    ("coap-256", 0.7),
    ("http-keep-alive", 1.6),
];

/// See the module's head.
pub(crate) struct Report {
    quick: bool,
    series: Vec<Series>,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        Self { quick, series: Vec::new(), figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, contender: Contender, sample: Sample) {
        match self.series.iter_mut().find(|series| series.name == name && series.contender == contender) {
            Some(series) => series.samples.push(sample),
            None => self.series.push(Series { name, contender, samples: vec![sample] }),
        }
    }

    /// A figure; with `most`, whether it is held is said too.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str, most: Option<f64>) {
        self.figures.push(Figure { name: name.into(), value, unit, most });
    }

    fn of(&self, name: &str, wanted: impl Fn(Contender) -> bool) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name && wanted(series.contender))
    }

    fn ratio(&self, name: &str, below: impl Fn(Contender) -> bool) -> Option<f64> {
        let claimd = self.of(name, |contender| contender == Contender::Claimd)?.middle(|sample| sample.cpu_us);
        Some(claimd / self.of(name, below)?.middle(|sample| sample.cpu_us))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| path | server | CPU µs/op | spread | of floor | operations/s | p50 µs | p99 µs |\n|---|---|---|---|---|---|---|---|\n",
        );
        for series in &self.series {
            let floor = self.of(series.name, |contender| matches!(contender, Contender::Floor(_)));
            let cpu = series.middle(|sample| sample.cpu_us);
            let of_floor = floor.map_or(f64::NAN, |floor| cpu / floor.middle(|sample| sample.cpu_us));
            let spread = spread(&series.samples.iter().map(|sample| sample.cpu_us).collect::<Vec<_>>());
            let _ = writeln!(
                text,
                "| {} | {} | {cpu:.2} | {spread:.2} | {of_floor:.2} | {:.0} | {:.0} | {:.0} |",
                series.name,
                series.contender.name(),
                series.middle(|sample| sample.per_second),
                series.middle(|sample| sample.p50_us),
                series.middle(|sample| sample.p99_us),
            );
        }
        text.push_str("\n| figure | reached | target |\n|---|---|---|\n");
        for &(name, most) in OF_PEER {
            if let Some(ratio) = self.ratio(name, |contender| matches!(contender, Contender::Peer(_))) {
                let _ = writeln!(text, "| {name}, CPU of the peer's | {ratio:.2} | ≤ {most} {} |", held(ratio, most));
            }
        }
        for figure in &self.figures {
            let target = figure.most.map_or_else(String::new, |most| format!("≤ {most} {}", held(figure.value, most)));
            let _ = writeln!(text, "| {} | {:.1} {} | {target} |", figure.name, figure.value, figure.unit);
        }
        if self.quick {
            text.push_str("\nA quick run: fewer operations and rounds, not for the record.\n");
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                json!({"path": series.name, "server": series.contender.name(), "rounds": series.samples.len(),
                    "cpu_us": series.middle(|sample| sample.cpu_us),
                    "per_second": series.middle(|sample| sample.per_second),
                    "p50_us": series.middle(|sample| sample.p50_us), "p99_us": series.middle(|sample| sample.p99_us)})
            })
            .collect();
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit, "most": figure.most}))
            .collect();
        json!({"quick": self.quick, "paths": series, "figures": figures}).to_string()
    }
}

fn held(value: f64, most: f64) -> &'static str {
    if value <= most { "(held)" } else { "(NOT held)" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: f64) -> Sample {
        Sample { cpu_us, per_second: 1.0, p50_us: 1.0, p99_us: 1.0 }
    }

    #[test]
    fn ratios_are_of_medians_and_targets_are_judged() {
        let mut report = Report::new(false);
        for (contender, figures) in [
            (Contender::Floor("raw"), [1.0, 9.0, 2.0]),
            (Contender::Peer("peer"), [10.0, 10.0, 10.0]),
            (Contender::Claimd, [3.0, 5.0, 4.0]),
        ] {
            figures.into_iter().for_each(|cpu| report.add("mqtt-window-16", contender, sample(cpu)));
        }
        report.figure("memory", 200.0, "B", Some(100.0));
        let text = report.markdown();
        assert!(text.contains("| mqtt-window-16 | claimd | 4.00 | 1.67 | 2.00 |"), "{text}");
        assert!(text.contains("| 0.40 | ≤ 0.4 (held) |"), "{text}");
        assert!(text.contains("| memory | 200.0 B | ≤ 100 (NOT held) |"), "{text}");
        assert!(serde_json::from_str::<Value>(&report.json()).is_ok());
    }
}
