//! `--expect acked=100%,p99<50ms`: what must be true of a report for the run to be a success.

use std::fmt;
use std::time::Duration;

use crate::report::Tally;

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectations(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    what: What,
    relation: Relation,
    bound: Bound,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Acked,
    Refused,
    Lost,
    Confirmed,
    Visible,
    Errors,
    /// A quantile of the time to an ack.
    Submit(f64),
    /// A quantile of the time to a confirm's answer.
    Confirm(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Is,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Count(f64),
    /// Of what was sent; for `confirmed` and `visible` of what was acknowledged.
    Percent(f64),
    Ms(f64),
}

const NAMES: &str = "acked, refused, lost, confirmed, visible, errors, p50, p90, p99, max, confirm_p50, confirm_p99";

/// An expectation that makes no sense, and how to write one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The part of the text it is about.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.part, self.why)
    }
}

impl std::error::Error for NotUnderstood {}

impl std::str::FromStr for Expectations {
    type Err = NotUnderstood;

    fn from_str(text: &str) -> Result<Self, NotUnderstood> {
        text.split(',').map(|part| Condition::parse(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl Condition {
    fn parse(part: &str) -> Result<Self, NotUnderstood> {
        let fault = |why: &str| NotUnderstood { part: part.to_owned(), why: why.to_owned() };
        let at = part.find(['=', '<', '>']).ok_or_else(|| fault("no `=`, `<`, `<=`, `>` or `>=` in it"))?;
        let (name, rest) = part.split_at(at);
        let (relation, bound) = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("=", Relation::Is),
            ("<", Relation::Less),
            (">", Relation::More),
        ]
        .into_iter()
        .find_map(|(sign, relation)| Some((relation, rest.strip_prefix(sign)?)))
        .ok_or_else(|| fault("no relation in it"))?;
        let what = match name.trim() {
            "acked" => What::Acked,
            "refused" => What::Refused,
            "lost" => What::Lost,
            "confirmed" => What::Confirmed,
            "visible" => What::Visible,
            "errors" => What::Errors,
            "p50" => What::Submit(0.5),
            "p90" => What::Submit(0.9),
            "p99" => What::Submit(0.99),
            "max" => What::Submit(1.0),
            "confirm_p50" => What::Confirm(0.5),
            "confirm_p99" => What::Confirm(0.99),
            other => return Err(fault(&format!("there is no `{other}`; there are {NAMES}"))),
        };
        let timed = matches!(what, What::Submit(_) | What::Confirm(_));
        let bound = Bound::parse(bound.trim(), timed).map_err(|why| fault(&why))?;
        Ok(Self { what, relation, bound, text: part.to_owned() })
    }

    /// `None` when it holds; else what was found instead.
    fn broken(&self, tally: &Tally) -> Option<String> {
        let visible = tally.acked.saturating_sub(tally.invisible);
        let (found, of) = match self.what {
            What::Acked => (tally.acked, tally.sent),
            What::Refused => (tally.refused_in_all(), tally.sent),
            What::Lost => (tally.lost, tally.sent),
            What::Confirmed => (tally.confirmed, tally.acked),
            What::Visible => (visible, tally.acked),
            What::Errors => (tally.errors, tally.sent),
            What::Submit(quantile) => return self.judge(tally.submit.ms(quantile), "ms"),
            What::Confirm(quantile) => return self.judge(tally.confirm.ms(quantile), "ms"),
        };
        match self.bound {
            // Nothing sent is nothing shown.
            Bound::Percent(_) if of == 0 => Some("nothing to take a share of".to_owned()),
            Bound::Percent(_) => self.judge(found as f64 * 100.0 / of as f64, "%"),
            Bound::Count(_) | Bound::Ms(_) => self.judge(found as f64, ""),
        }
    }

    fn judge(&self, found: f64, unit: &str) -> Option<String> {
        let (Bound::Count(bound) | Bound::Percent(bound) | Bound::Ms(bound)) = self.bound;
        let holds = match self.relation {
            Relation::Is => (found - bound).abs() < 1e-9,
            Relation::Less => found < bound,
            Relation::AtMost => found <= bound,
            Relation::More => found > bound,
            Relation::AtLeast => found >= bound,
        };
        (!holds).then(|| format!("{}{unit}", (found * 1_000.0).round() / 1_000.0))
    }
}

impl Bound {
    fn parse(text: &str, timed: bool) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let duration = |text: &str| {
            let units = [("ms", 1.0), ("us", 0.001), ("s", 1_000.0)];
            units.into_iter().find_map(|(unit, ms)| Some(number(text.strip_suffix(unit)?)? * ms))
        };
        match timed {
            true => duration(text).map(Self::Ms).ok_or_else(|| "a time is written like 50ms, 1.5s or 800us".to_owned()),
            false => match text.strip_suffix('%') {
                Some(share) => number(share).filter(|share| *share <= 100.0).map(Self::Percent),
                None => number(text).map(Self::Count),
            }
            .ok_or_else(|| "a count is written like 100, a share like 99.5%".to_owned()),
        }
    }
}

impl Expectations {
    /// What does not hold, one line each; empty when all is well.
    pub fn broken(&self, tally: &Tally) -> Vec<String> {
        let line = |condition: &Condition| Some(format!("{} but is {}", condition.text, condition.broken(tally)?));
        self.0.iter().filter_map(line).collect()
    }

    /// Whether anything is expected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A share such as `10%` or `0.1`.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |text| (text, 100.0));
    number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|share| share / scale)
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share is written like 10% or 0.1".to_owned())
}

/// The longest any single wait may take; a server that says nothing for so long is gone.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Answer;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for ms in 1..=99 {
            tally.answer(&Answer::Acked, 1, Duration::from_millis(ms));
        }
        tally.answer(&Answer::Refused("rate_limited".to_owned()), 1, Duration::ZERO);
        tally
    }

    fn broken(text: &str) -> Vec<String> {
        text.parse::<Expectations>().expect("an expectation").broken(&tally())
    }

    #[test]
    fn what_holds_is_not_named_and_what_does_not_is() {
        let none: [String; 0] = [];
        assert_eq!(broken("acked>=99%, acked=99 ,refused=1,lost=0,p99<100ms,max<=1s"), none);
        assert_eq!(broken("acked=100%"), ["acked=100% but is 99%"]);
        assert_eq!(broken("p50<10ms").len(), 1);
        assert_eq!(broken("acked>99,refused<1,visible<100%").len(), 3);
    }

    #[test]
    fn a_share_of_nothing_never_holds() {
        let expectations: Expectations = "acked=100%".parse().expect("an expectation");
        assert_eq!(expectations.broken(&Tally::default()), ["acked=100% but is nothing to take a share of"]);
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (text, hint) in [
            ("acked", "no `=`"),
            ("akced=1", "there are acked"),
            ("acked=many", "written like"),
            ("acked=101%", "written like"),
            ("acked=-1", "written like"),
            ("p99<50", "50ms"),
            ("p99=5%", "50ms"),
            ("", "no `=`"),
            ("acked=NaN", "written like"),
        ] {
            let fault = text.parse::<Expectations>().expect_err(text);
            assert!(fault.to_string().contains(hint), "{fault}");
        }
    }

    #[test]
    fn shares_are_between_nothing_and_all() {
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["101%", "-0.1", "x", "", "2"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
