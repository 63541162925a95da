//! How long a run was expected to take, and what made it as long as it was.

use std::collections::BTreeMap;

use serde::Serialize;

use super::duration;

/// How many steps of the longest chain are shown.
const SHOWN: usize = 3;
/// The smallest part of the longest chain that is worth a line.
const WORTH: f64 = 0.05;

/// How long the steps were expected to take, from earlier runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// Seconds from the first step to the end of the last one.
    pub seconds: f64,
    /// How many earlier runs each figure is from, at least.
    pub runs: usize,
    /// How many steps there are.
    pub steps: usize,
    /// How many of them have no record, and count as zero.
    pub unrecorded: usize,
}

impl Expected {
    /// The line at the start of a run; `what` says what the time is for, if not for all of the run.
    pub fn line(&self, what: &str) -> String {
        let Self { seconds, runs, steps, unrecorded } = self;
        let time = about(*seconds);
        let least = if *unrecorded > 0 { "at least " } else { "" };
        let word = if *runs == 1 { "run" } else { "runs" };
        let gaps = match unrecorded {
            0 => String::new(),
            1 => format!("; 1 of {steps} steps has no record"),
            many => format!("; {many} of {steps} steps have no record"),
        };
        format!("expected: {least}about {time}{what} (from {runs} earlier {word}{gaps})")
    }

    /// The sum of two parts of a run; unknown if one of them is.
    pub fn with(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        let (first, second) = (first?, second?);
        Some(Self {
            seconds: first.seconds + second.seconds,
            runs: first.runs.min(second.runs),
            steps: first.steps + second.steps,
            unrecorded: first.unrecorded + second.unrecorded,
        })
    }
}

/// A step of the longest chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// The step's id.
    pub step: String,
    /// How long it took.
    pub seconds: f64,
}

/// The longest steps of a chain, in the order of the chain.
pub(super) fn longest(chain: &[Link]) -> String {
    let mut by_length: Vec<usize> = (0..chain.len()).collect();
    by_length.sort_by(|&a, &b| chain[b].seconds.total_cmp(&chain[a].seconds));
    by_length.truncate(SHOWN);
    by_length.sort_unstable();
    let link = |at: usize| format!("{} {}", chain[at].step, duration(chain[at].seconds));
    let shown = by_length.into_iter().map(link).collect::<Vec<_>>().join(", ");
    match chain.len().saturating_sub(SHOWN) {
        0 => shown,
        1 => format!("{shown}, and 1 shorter step"),
        more => format!("{shown}, and {more} shorter steps"),
    }
}

/// What would shorten the longest chain most; `None` if nothing would by much.
pub(super) fn shorter(savings: &BTreeMap<String, f64>, chain_s: f64) -> Option<String> {
    let (action, saved) = savings.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
    let left = duration((chain_s - saved).max(0.0));
    let worth = *saved >= chain_s * WORTH;
    worth.then(|| format!("{left} if each `{action}` step took half as long"))
}

/// A duration as precise as an estimate is: `8 s`, `1 min 50 s`, `12 min`.
fn about(seconds: f64) -> String {
    let to = |step: f64| ((seconds / step).round() * step) as u64;
    match seconds {
        ..59.5 => format!("{} s", to(1.0).max(1)),
        ..597.5 => match (to(5.0) / 60, to(5.0) % 60) {
            (minutes, 0) => format!("{minutes} min"),
            (minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        },
        _ => format!("{} min", to(60.0) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(seconds: f64, runs: usize, unrecorded: usize) -> Expected {
        Expected { seconds, runs, steps: 45, unrecorded }
    }

    #[test]
    fn an_estimate_is_never_more_precise_or_more_certain_than_its_record() {
        for (it, line) in [
            (expected(109.2, 3, 0), "expected: about 1 min 50 s (from 3 earlier runs)"),
            (expected(0.2, 1, 0), "expected: about 1 s (from 1 earlier run)"),
            (expected(59.6, 2, 0), "expected: about 1 min (from 2 earlier runs)"),
            (expected(598.0, 2, 0), "expected: about 10 min (from 2 earlier runs)"),
            (
                expected(119.0, 3, 3),
                "expected: at least about 2 min (from 3 earlier runs; 3 of 45 steps have no record)",
            ),
        ] {
            assert_eq!(it.line(""), line);
        }
    }

    #[test]
    fn two_parts_are_known_only_if_both_are() {
        let sum = Expected::with(Some(expected(10.0, 3, 1)), Some(expected(20.0, 2, 0)));
        assert_eq!(sum, Some(Expected { seconds: 30.0, runs: 2, steps: 90, unrecorded: 1 }));
        assert_eq!(Expected::with(None, Some(expected(20.0, 2, 0))), None);
    }

    #[test]
    fn the_longest_steps_are_shown_in_the_order_of_the_chain() {
        let link = |(step, seconds): (&str, f64)| Link { step: step.to_owned(), seconds };
        let steps = [
            ("dns", 0.5),
            ("boot/m1", 46.0),
            ("node-dns/m1", 0.1),
            ("init", 20.0),
            ("join/m2", 30.0),
        ];
        let chain: Vec<Link> = steps.into_iter().map(link).collect();
        let wanted = "boot/m1 46 s, init 20 s, join/m2 30 s, and 2 shorter steps";
        assert_eq!(longest(&chain), wanted);
        assert_eq!(longest(&chain[..1]), "dns 0.5 s");
    }

    #[test]
    fn what_shortens_little_is_not_shown() {
        let savings = |boot| BTreeMap::from([("boot".to_owned(), boot), ("init".to_owned(), 1.0)]);
        let wanted = "86 s if each `boot` step took half as long".replace("86 s", "1 min 26 s");
        assert_eq!(shorter(&savings(23.0), 109.0), Some(wanted));
        assert_eq!(shorter(&savings(2.0), 109.0), None);
        assert_eq!(shorter(&BTreeMap::new(), 0.0), None);
    }
}
