//! The record of how long steps took, by kind of step. Pure: the state folder keeps it as bytes.
//!
//! A kind is an action with the role of its node, such as `boot/master`, and never one node: a new
//! node and a rebuilt cluster have figures too. No text of a profile is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, Plan, Step};
use crate::cluster::Role;

/// How many runs of each kind count: few, so that a faster storage shows soon, and enough that one
/// slow download does not.
const RUNS: usize = 5;
/// More kinds than all actions have, with each role.
const MOST_KINDS: usize = 512;
/// Longer than the name of any kind.
const LONGEST_NAME: usize = 64;
/// Longer than the time limit of any step.
const LONGEST_STEP: f64 = 7.0 * 24.0 * 3600.0;

/// How long steps took in earlier runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Times {
    /// How fast the clock of these runs was: the times of a simulated world of one speed say nothing
    /// about another.
    speed: f64,
    /// For each kind, the seconds of its latest runs, the newest last.
    kinds: BTreeMap<String, Vec<f64>>,
}

/// The figure for a kind of step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// The seconds to expect.
    pub(crate) seconds: f64,
    /// How many runs it is from.
    pub(crate) runs: usize,
}

impl Times {
    /// An empty record for a clock of this speed.
    pub(crate) fn new(speed: f64) -> Self {
        Self { speed, kinds: BTreeMap::new() }
    }

    /// The record from its bytes; one of a clock of another speed counts as empty.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn read(bytes: &[u8], speed: f64) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.kinds.len() > MOST_KINDS {
            return Err(format!("it has more than {MOST_KINDS} kinds of step"));
        }
        let is_name = |name: &str| {
            let letter = |byte: u8| byte.is_ascii_lowercase() || b"-/".contains(&byte);
            name.len() <= LONGEST_NAME && name.bytes().all(letter)
        };
        let is_time = |seconds: &f64| (0.0..=LONGEST_STEP).contains(seconds);
        for (number, (name, runs)) in record.kinds.iter().enumerate() {
            let runs_fit = (1..=RUNS).contains(&runs.len()) && runs.iter().all(is_time);
            if !is_name(name) || !runs_fit {
                return Err(format!("entry {} is not one of k8sha's", number + 1));
            }
        }
        Ok(if record.speed == speed { record } else { Self::new(speed) })
    }

    /// The record as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// How fast the clock of these runs was.
    pub(crate) fn speed(&self) -> f64 {
        self.speed
    }

    /// The figure for a kind: the median of its latest runs, since one slow run must not count much.
    pub(crate) fn figure(&self, kind: &str) -> Option<Figure> {
        let runs = self.kinds.get(kind)?;
        Some(Figure { seconds: median(runs.clone())?, runs: runs.len() })
    }

    /// Adds a run: of the steps that succeeded, whether they changed something and their seconds.
    /// Returns whether any of them counts.
    ///
    /// A step counts only if it did its work in this run. One that writes must have changed
    /// something; the wait for a first boot must have begun with the start of the machine.
    pub(crate) fn learn(&mut self, plan: &Plan, took: &BTreeMap<&str, (bool, f64)>) -> bool {
        let changed = |id: &str| took.get(id).is_some_and(|(changed, _)| *changed);
        let mut run: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (step, kind) in plan.steps.iter().zip(kinds(plan)) {
            let Some((_, seconds)) = took.get(step.id.as_str()) else { continue };
            let worked = match &step.action {
                _ if step.writes() => changed(&step.id),
                Action::Boot(_) => start_of(step).is_some_and(changed),
                _ => true,
            };
            let (Some(kind), true) = (kind, worked) else { continue };
            if (0.0..=LONGEST_STEP).contains(seconds) {
                run.entry(kind).or_default().push(*seconds);
            }
        }
        let learned = !run.is_empty();
        for (kind, seconds) in run {
            let Some(seconds) = median(seconds) else { continue };
            let runs = self.kinds.entry(kind).or_default();
            runs.push((seconds * 1000.0).round() / 1000.0);
            let old = runs.len().saturating_sub(RUNS);
            runs.drain(..old);
        }
        learned
    }
}

/// The middle value; of two middle values the larger one, because a run ends with its slower steps.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The kind of each step; `None` where a part of its work was done by an earlier run, so that its
/// length is not known.
pub(crate) fn kinds(plan: &Plan) -> Vec<Option<String>> {
    let roles: BTreeMap<&str, Role> =
        plan.vms.iter().map(|vm| (vm.node.as_str(), vm.role)).collect();
    let kind = |step: &Step| {
        let variant = match &step.action {
            Action::Boot(it) if it.again => "-again",
            Action::Boot(_) => start_of(step).map(|_| "")?,
            Action::Init(it) if it.resumed => "-resumed",
            Action::Etcd(it) if it.resumed => "-resumed",
            // It evicts nothing.
            Action::Drain(it) if it.machine_id.is_none() => "-check",
            // A clone takes as long as its template is large, whatever the node is for.
            Action::Clone(it) if it.full => return Some("clone-full".to_owned()),
            Action::Clone(_) => return Some("clone".to_owned()),
            // It waits for load balancers that have just booted, or finds standing ones.
            Action::Vip(_) if step.needs.is_empty() => "-standing",
            _ => "",
        };
        let role = roles.get(step.on.as_str()).map(|role| format!("/{role}"));
        Some(format!("{}{variant}{}", family(step), role.unwrap_or_default()))
    };
    plan.steps.iter().map(kind).collect()
}

/// The first part of a step's name, which names its action.
pub(crate) fn family(step: &Step) -> &str {
    step.id.split('/').next().unwrap_or(&step.id)
}

/// The step that starts the machine for whose boot a step waits, if the plan has it.
fn start_of(boot: &Step) -> Option<&str> {
    boot.needs.iter().map(String::as_str).find(|id| id.starts_with("start/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{HostName, NodeName, VmId};
    use crate::plan::{Disposition, PlannedVm, action};

    fn step(id: &str, on: &str, action: impl Into<Action>, needs: &[&str]) -> Step {
        let needs = needs.iter().map(ToString::to_string).collect();
        Step { id: id.to_owned(), on: on.to_owned(), action: action.into(), needs }
    }

    fn start(name: &str) -> action::Start {
        let (node, host) = (NodeName(name.to_owned()), HostName("pve1".to_owned()));
        action::Start { node, host, vmid: VmId(1), disk_gib: 20 }
    }

    fn boot(name: &str) -> action::Boot {
        action::Boot { node: NodeName(name.to_owned()), again: false }
    }

    /// Machines that are started and whose boot is waited for; of `b` only the boot is left.
    fn plan() -> Plan {
        let vm = |name: &str| PlannedVm {
            node: NodeName(name.to_owned()),
            role: Role::Master,
            host: HostName("pve1".to_owned()),
            vmid: VmId(1),
            disposition: Disposition::Created,
        };
        Plan {
            cluster: "c".to_owned(),
            topology: String::new(),
            vms: vec![vm("a"), vm("b"), vm("c")],
            steps: vec![
                step("start/a", "a", start("a"), &[]),
                step("boot/a", "a", boot("a"), &["start/a"]),
                step("boot/b", "b", boot("b"), &[]),
                step("start/c", "c", start("c"), &[]),
                step("boot/c", "c", boot("c"), &["start/c"]),
                step("vip", "10.0.0.1", action::Vip, &["boot/a"]),
            ],
            differences: Vec::new(),
            unwell: Vec::new(),
            look_again: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn learned(took: &[(&str, bool, f64)]) -> Times {
        let mut times = Times::new(1.0);
        times.learn(&plan(), &took.iter().map(|(id, changed, s)| (*id, (*changed, *s))).collect());
        times
    }

    fn seconds(times: &Times, kind: &str) -> Option<f64> {
        times.figure(kind).map(|figure| figure.seconds)
    }

    #[test]
    fn a_kind_is_an_action_and_a_role_and_never_a_node() {
        let wanted = [
            Some("start/master"),
            Some("boot/master"),
            None,
            Some("start/master"),
            Some("boot/master"),
            Some("vip"),
        ];
        assert_eq!(kinds(&plan()), wanted.map(|kind| kind.map(str::to_owned)));
    }

    #[test]
    fn a_step_that_did_nothing_does_not_count() {
        let times = learned(&[
            ("start/a", false, 0.1),
            // The machine ran already, so this is a part of its boot only.
            ("boot/a", false, 2.0),
            ("boot/b", false, 3.0),
        ]);
        assert_eq!(times, Times::new(1.0));
        let times = learned(&[
            ("start/a", false, 0.1),
            ("boot/a", false, 2.0),
            ("start/c", true, 4.0),
            ("boot/c", false, 60.0),
            ("vip", false, 5.0),
        ]);
        assert_eq!(seconds(&times, "start/master"), Some(4.0));
        assert_eq!(seconds(&times, "boot/master"), Some(60.0));
        assert_eq!(seconds(&times, "vip"), Some(5.0), "reading is all that it does");
    }

    #[test]
    fn a_step_that_failed_or_never_ran_does_not_count() {
        // Such steps are not among those that succeeded.
        let times = learned(&[("start/a", true, 4.0)]);
        assert_eq!(seconds(&times, "start/master"), Some(4.0));
        assert_eq!(seconds(&times, "boot/master"), None);
        assert!(!Times::new(1.0).learn(&plan(), &BTreeMap::new()));
    }

    #[test]
    fn the_latest_runs_count_and_one_slow_run_does_not_show() {
        let mut times = Times::new(1.0);
        let mut run = |seconds: f64| {
            times.learn(&plan(), &[("start/a", (true, seconds))].into());
            times.figure("start/master").unwrap()
        };
        assert_eq!(run(100.0), Figure { seconds: 100.0, runs: 1 });
        for seconds in [10.0, 11.0, 900.0, 12.0] {
            run(seconds);
        }
        assert_eq!(run(13.0), Figure { seconds: 12.0, runs: RUNS });
        assert!(times.bytes().len() < 200);
    }

    #[test]
    fn a_record_survives_its_bytes_and_one_of_another_clock_is_empty() {
        let times = learned(&[("start/a", true, 4.25)]);
        assert_eq!(Times::read(&times.bytes(), 1.0), Ok(times.clone()));
        assert_eq!(Times::read(&times.bytes(), 20.0), Ok(Times::new(20.0)));
    }

    #[test]
    fn a_damaged_record_is_not_used() {
        let many: BTreeMap<String, Vec<f64>> = (0..=MOST_KINDS)
            .map(|n| ("x".repeat(n % 60) + &"y".repeat(n / 60), vec![1.0]))
            .collect();
        let many = serde_json::json!({ "speed": 1.0, "kinds": many }).to_string();
        for text in [
            "",
            "{",
            "[]",
            "null",
            "\u{0}\u{0}",
            r#"{"speed":1.0}"#,
            r#"{"speed":1.0,"kinds":{},"more":1}"#,
            r#"{"speed":1.0,"kinds":{"boot/master":[]}}"#,
            r#"{"speed":1.0,"kinds":{"boot/master":[-1.0]}}"#,
            r#"{"speed":1.0,"kinds":{"boot/master":[1e300]}}"#,
            r#"{"speed":1.0,"kinds":{"boot/master":["1"]}}"#,
            r#"{"speed":1.0,"kinds":{"boot/master":[1,2,3,4,5,6]}}"#,
            r#"{"speed":1.0,"kinds":{"\u001b[2J":[1.0]}}"#,
            &"[".repeat(100_000),
            &many,
        ] {
            let said = Times::read(text.as_bytes(), 1.0).unwrap_err();
            assert!(!said.contains('\n') && !said.contains('\u{1b}') && said.len() < 200, "{said}");
        }
        assert!(Times::read(&[0xff, 0xfe], 1.0).is_err());
    }
}
