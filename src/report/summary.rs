//! The report at the end of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::duration;
use super::time::{self, Expected, Link};
use crate::error::{Exit, Failure};
use crate::table::Table;
use crate::text::{lines, one_line};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All steps succeeded.
    Done,
    /// Everything already matched the profile.
    Settled,
    /// Something failed.
    Failed,
    /// The user interrupted the run.
    Interrupted,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeLine {
    /// Its short name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// Its address.
    pub ip: String,
    /// Its Proxmox VE host.
    pub host: String,
    /// Its VMID.
    pub vmid: u32,
    /// What happened to it, as a phrase.
    pub result: String,
    /// Seconds of work on it, without waiting for other nodes.
    pub seconds: f64,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepLine {
    /// The step's id.
    pub step: String,
    /// How it ended.
    #[serde(flatten)]
    pub end: EndLine,
    /// How long it took.
    pub seconds: Option<f64>,
}

/// How a step ended, without the failure's text (which is under `failures`).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum EndLine {
    /// Successfully.
    Done {
        /// Whether anything was changed.
        changed: bool,
    },
    /// With a failure.
    Failed,
    /// It never started.
    Blocked {
        /// The step that blocked it.
        by: String,
    },
    /// Interrupted.
    Interrupted,
}

/// A failure with the last output of the machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureLine {
    /// The step's id.
    pub step: String,
    /// The failure.
    #[serde(flatten)]
    pub failure: Failure,
    /// The last lines that the machine printed while the step ran.
    pub tail: Vec<String>,
}

/// A difference from the profile that no step has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferenceLine {
    /// The difference: the current and the wanted value.
    pub text: String,
    /// What to do about it.
    pub next: String,
}

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The command, such as `up`.
    pub command: String,
    /// Whether all of this was simulated.
    pub simulated: bool,
    /// The cluster's name.
    pub cluster: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Seconds from the program's start to this report.
    pub wall_s: f64,
    /// Seconds of the longest chain of dependent steps, including the time before the first step,
    /// for which all of them wait.
    pub critical_path_s: f64,
    /// That chain.
    pub critical_path: Vec<String>,
    /// That chain with the time of each step.
    pub longest_chain: Vec<Link>,
    /// By how many seconds it would be shorter if all steps of an action took half as long, for
    /// each action on it.
    pub half_time_saves_s: BTreeMap<String, f64>,
    /// How long the steps were expected to take; `None` if earlier runs say too little.
    pub expected: Option<Expected>,
    /// The nodes.
    pub nodes: Vec<NodeLine>,
    /// The steps.
    pub steps: Vec<StepLine>,
    /// What failed.
    pub failures: Vec<FailureLine>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Differences from the profile.
    pub differences: Vec<DifferenceLine>,
    /// The output of `kubectl get nodes -o wide`.
    pub kubectl: Option<String>,
    /// The path of the admin kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The path of the log.
    pub log: Option<PathBuf>,
    /// Commands to run next.
    pub next: Vec<String>,
}

impl Report {
    /// The exit code for the report.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Done | Verdict::Settled => Exit::Ok,
            Verdict::Interrupted => Exit::Interrupted,
            Verdict::Failed => {
                self.failures.first().map_or(Exit::NotAsAsked, |line| line.failure.exit)
            }
        }
    }

    /// Adds the steps and the times of what the command did before; returns its nodes.
    pub fn after(&mut self, before: Report) -> Vec<NodeLine> {
        self.critical_path_s += before.critical_path_s;
        self.critical_path.splice(..0, before.critical_path);
        self.longest_chain.splice(..0, before.longest_chain);
        for (action, saved) in before.half_time_saves_s {
            *self.half_time_saves_s.entry(action).or_default() += saved;
        }
        self.expected = Expected::with(before.expected, self.expected.take());
        self.steps.splice(..0, before.steps);
        before.nodes
    }

    /// Merges the report of the same command's first part, up to its second look.
    pub fn follow(&mut self, first: Report) {
        if first.verdict == Verdict::Done && self.verdict == Verdict::Settled {
            self.verdict = Verdict::Done;
        }
        let nodes = self.after(first);
        for line in &mut self.nodes {
            let Some(before) = nodes.iter().find(|before| before.node == line.node) else {
                continue;
            };
            line.seconds += before.seconds;
            if let Some(rest) = line.result.strip_prefix("kept") {
                line.result = format!("{}{rest}", before.result);
            }
        }
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_else(|_| unreachable!("a String takes all that is written"));
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if !self.nodes.is_empty() {
            out.push_str(&self.table().text());
        }
        if let Some(kubectl) = &self.kubectl {
            writeln!(out, "\n$ kubectl get nodes -o wide\n{}", lines(kubectl).join("\n"))?;
        }
        for line in &self.failures {
            writeln!(out, "\nerror: {}", line.failure)?;
            if !line.tail.is_empty() {
                writeln!(out, "  the machine's last lines:")?;
                for text in &line.tail {
                    writeln!(out, "  | {}", one_line(text))?;
                }
            }
        }
        let blocked =
            self.steps.iter().filter(|step| matches!(step.end, EndLine::Blocked { .. })).count();
        if blocked > 0 {
            let word = if blocked == 1 { "step was" } else { "steps were" };
            writeln!(out, "\n{blocked} {word} not started because of that.")?;
        }
        if !self.notes.is_empty() {
            writeln!(out)?;
        }
        for note in &self.notes {
            writeln!(out, "note: {}", one_line(note))?;
        }
        for difference in &self.differences {
            let (text, next) = (one_line(&difference.text), one_line(&difference.next));
            writeln!(out, "\ndiffers: {text}\n         {next}")?;
        }
        let differs = match self.differences.len() {
            0 => String::new(),
            1 => ", but 1 difference from the profile remains".to_owned(),
            many => format!(", but {many} differences from the profile remain"),
        };
        let what = match self.verdict {
            Verdict::Done => format!("done{differs}"),
            Verdict::Settled if self.command == "destroy" => "nothing to remove".to_owned(),
            Verdict::Settled if differs.is_empty() => {
                "nothing to do: the cluster matches the profile".to_owned()
            }
            Verdict::Settled => format!("nothing to do{differs}"),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::Interrupted => "interrupted".to_owned(),
        };
        let simulated = if self.simulated { " (SIMULATED: no Proxmox was touched)" } else { "" };
        writeln!(out, "\n{} {}: {what}{simulated}", self.command, self.cluster)?;
        writeln!(
            out,
            "  time        {}, of which {} on the longest chain of steps",
            duration(self.wall_s),
            duration(self.critical_path_s)
        )?;
        if self.verdict == Verdict::Done && self.longest_chain.len() > 1 {
            writeln!(out, "  chain       {}", time::longest(&self.longest_chain))?;
            if let Some(text) = time::shorter(&self.half_time_saves_s, self.critical_path_s) {
                writeln!(out, "  shorter     {text}")?;
            }
        }
        if let Some(path) = &self.kubeconfig {
            writeln!(out, "  kubeconfig  {}", path.display())?;
        }
        if let Some(path) = &self.log {
            writeln!(out, "  log         {}", path.display())?;
        }
        for (number, command) in self.next.iter().enumerate() {
            let command = one_line(command);
            writeln!(out, "  {:11} {command}", if number == 0 { "next" } else { "" })?;
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let header = ["node", "role", "address", "host", "VM", "time", "result"];
        let mut table = Table::with_header(header);
        for node in &self.nodes {
            table.add([
                node.node.clone(),
                node.role.clone(),
                node.ip.clone(),
                node.host.clone(),
                node.vmid.to_string(),
                duration(node.seconds),
                one_line(&node.result).into_owned(),
            ]);
        }
        table
    }
}
