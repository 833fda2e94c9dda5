//! Instruction counts that were stored once, and what has grown since.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

/// What changes by a larger share has to be said in the commit, by storing the counts anew: growth, so that it is meant; and
/// shrinking, since what was gained could be lost again unseen under a baseline that knows nothing of it.
pub const TOLERANCE: f64 = 0.03;

/// Counts of one compiler and architecture; others' are not comparable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// As `rustc --version` says.
    pub compiler: String,
    /// As `std::env::consts::ARCH` says.
    pub architecture: String,
    /// Of doing it once, by path.
    pub instructions: BTreeMap<String, f64>,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// A line for each path: before, now, and by how much.
    pub text: String,
    /// What must not be: which path has grown or shrunk, and by how much; which is not in the baseline, or not counted.
    pub faults: Vec<String>,
}

impl Baseline {
    /// Holds these counts against those of before.
    ///
    /// # Errors
    /// That they are of another compiler or architecture.
    pub fn since(&self, before: &Self) -> Result<Growth, String> {
        let of = |counts: &Self| format!("{} on {}", counts.compiler, counts.architecture);
        if of(self) != of(before) {
            return Err(format!(
                "the baseline was counted with {}, this with {}",
                of(before),
                of(self)
            ));
        }
        let mut growth = Growth::default();
        for (name, now) in &self.instructions {
            let Some(before) = before.instructions.get(name) else {
                growth.faults.push(format!("{name} is not in the baseline"));
                continue;
            };
            let change = now / before - 1.0;
            let percent = change * 100.0;
            // Writing to a text cannot fail.
            let _ = writeln!(
                growth.text,
                "{name:<32} {before:>12.1} -> {now:>12.1} instructions  {percent:+.2} %"
            );
            if change.abs() > TOLERANCE {
                let how = if change > 0.0 { "grew" } else { "shrank" };
                growth.faults.push(format!(
                    "{name} {how} by {:.1} %, from {before:.1} to {now:.1}",
                    percent.abs()
                ));
            }
        }
        let gone = before.instructions.keys();
        let gone = gone.filter(|name| !self.instructions.contains_key(*name));
        let gone = gone.map(|name| format!("{name} is in the baseline and not counted"));
        growth.faults.extend(gone);
        Ok(growth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(paths: &[(&str, f64)]) -> Baseline {
        let paths = paths
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Baseline {
            compiler: "rustc 1.0".to_owned(),
            architecture: "x86_64".to_owned(),
            instructions: paths.collect(),
        }
    }

    #[test]
    fn a_path_that_grew_by_more_than_three_percent_is_named_with_by_how_much() {
        let before = counts(&[("head", 100.0), ("publish", 2_000.0)]);
        let growth = counts(&[("head", 102.9), ("publish", 2_062.0)]).since(&before);
        let growth = growth.unwrap();
        assert_eq!(
            growth.faults,
            ["publish grew by 3.1 %, from 2000.0 to 2062.0"]
        );
        assert!(growth.text.contains("+2.90 %"), "{}", growth.text);
    }

    #[test]
    fn a_path_that_shrank_wants_an_update_so_that_the_gain_is_not_lost_unseen() {
        let before = counts(&[("head", 100.0), ("publish", 2_000.0)]);
        let growth = counts(&[("head", 80.0), ("publish", 1_941.0)]).since(&before);
        let faults = growth.unwrap().faults;
        assert_eq!(faults, ["head shrank by 20.0 %, from 100.0 to 80.0"]);
    }

    #[test]
    fn a_path_that_is_new_or_gone_wants_an_update() {
        let before = counts(&[("head", 100.0)]);
        let growth = counts(&[("tail", 100.0)]).since(&before).unwrap();
        assert_eq!(
            growth.faults,
            [
                "tail is not in the baseline",
                "head is in the baseline and not counted"
            ]
        );
    }

    #[test]
    fn counts_of_another_compiler_are_not_compared() {
        let before = counts(&[("head", 100.0)]);
        let other = Baseline {
            compiler: "rustc 2.0".to_owned(),
            ..before.clone()
        };
        let error = other.since(&before).unwrap_err();
        assert!(error.contains("rustc 1.0 on x86_64"), "{error}");
        assert!(error.contains("rustc 2.0 on x86_64"), "{error}");
    }
}
