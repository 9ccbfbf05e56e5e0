//! One fault of the configuration: what, where, why, what next.

use std::fmt;

/// A fault, as `check-config` prints it. Never holds the value of a secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    /// `file:line:col  text of the line`, or the variable's or flag's name.
    pub(crate) place: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) next: Option<String>,
}

impl Fault {
    pub(crate) fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, why: None, next: None }
    }

    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A key that does not exist, with the nearest one that does.
    pub(crate) fn unknown_key(key: &str, known: impl Iterator<Item = String>) -> Self {
        let nearest = known.map(|k| (distance(key, &k), k)).min();
        let next = match nearest {
            Some((steps, known)) if steps <= 3.max(key.len() / 4) => format!("did you mean `{known}`?"),
            _ => "see config/claimd.toml for every key".to_owned(),
        };
        Self::plain(format!("unknown key `{key}`"))
            .why("unknown keys are refused so that a typo cannot switch a setting off")
            .next(next)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(place) = &self.place {
            write!(f, "\n  {place}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\nwhy   {why}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\nnext  {next}")?;
        }
        Ok(())
    }
}

/// Edits between two short texts, a swap of neighbours being one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + change).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
