//! The report at the end of a run, for people and for programs.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::duration;
use crate::error::{Exit, Failure};
use crate::table::Table;
use crate::text::{lines, one_line};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything asked for was done.
    Done,
    /// Everything was as asked already.
    Settled,
    /// Something failed.
    Failed,
    /// The person interrupted.
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
    /// Its Proxmox host.
    pub host: String,
    /// Its VMID.
    pub vmid: u32,
    /// What became of it, as a phrase.
    pub result: String,
    /// Seconds of work on it, without waiting for others.
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

/// How a step ended, without the failure's text (that stands under `failures`).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum EndLine {
    /// As asked.
    Done {
        /// Whether anything was changed.
        changed: bool,
    },
    /// With a failure.
    Failed,
    /// It never began.
    Blocked {
        /// The step that held it up.
        by: String,
    },
    /// Cut off.
    Interrupted,
}

/// A failure with what the machine printed last.
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

/// Something that is not as the profile asks, and that no step has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferenceLine {
    /// What, with what is there and what is asked for.
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
    /// Seconds of the longest chain of dependent steps; what is done before the first step, which
    /// all of them wait for, is its beginning.
    pub critical_path_s: f64,
    /// That chain.
    pub critical_path: Vec<String>,
    /// The nodes.
    pub nodes: Vec<NodeLine>,
    /// The steps.
    pub steps: Vec<StepLine>,
    /// What failed.
    pub failures: Vec<FailureLine>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Where what runs is not as the profile asks.
    pub differences: Vec<DifferenceLine>,
    /// What `kubectl get nodes -o wide` prints.
    pub kubectl: Option<String>,
    /// Where the admin kubeconfig lies.
    pub kubeconfig: Option<PathBuf>,
    /// Where the log lies.
    pub log: Option<PathBuf>,
    /// Commands to go on with.
    pub next: Vec<String>,
}

impl Report {
    /// The exit code that the report stands for.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Done | Verdict::Settled => Exit::Ok,
            Verdict::Interrupted => Exit::Interrupted,
            Verdict::Failed => {
                self.failures.first().map_or(Exit::NotAsAsked, |line| line.failure.exit)
            }
        }
    }

    /// Takes in the report of what the same command did before, up to its second look.
    pub fn follow(&mut self, first: Report) {
        if first.verdict == Verdict::Done && self.verdict == Verdict::Settled {
            self.verdict = Verdict::Done;
        }
        self.critical_path_s += first.critical_path_s;
        self.critical_path =
            [first.critical_path, std::mem::take(&mut self.critical_path)].concat();
        self.steps = [first.steps, std::mem::take(&mut self.steps)].concat();
        for line in &mut self.nodes {
            let Some(before) = first.nodes.iter().find(|before| before.node == line.node) else {
                continue;
            };
            line.seconds += before.seconds;
            if let Some(rest) = line.result.strip_prefix("kept") {
                line.result = format!("{}{rest}", before.result);
            }
        }
    }

    /// The report as a person reads it.
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
            writeln!(out, "\n{blocked} {word} not begun because of that.")?;
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
            1 => ", but 1 thing is not as the profile asks".to_owned(),
            many => format!(", but {many} things are not as the profile asks"),
        };
        let what = match self.verdict {
            Verdict::Done => format!("done{differs}"),
            Verdict::Settled if self.command == "destroy" => "nothing to remove".to_owned(),
            Verdict::Settled if differs.is_empty() => {
                "nothing to do: all is as the profile asks".to_owned()
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
