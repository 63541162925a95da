//! `k8sha routes`: shows, sets or removes blackhole routes on the Proxmox VE hosts.

use std::fmt::Write as _;
use std::time::Instant;

use ipnet::Ipv4Net;
use serde::Serialize;
use tokio::task::JoinSet;

use super::args::Common;
use super::session::Session;
use crate::error::{Exit, Failure};
use crate::routes::plan::{self, Clash, Plan, State};
use crate::routes::seen::Seen;
use crate::routes::{self, Host, login, unit};
use crate::text::one_line;

/// What to do about the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Show them.
    Show,
    /// Set them.
    Apply,
    /// Remove them.
    Remove,
}

/// What was found and done.
#[derive(Serialize)]
struct Report {
    cluster: String,
    /// Hosts on which something was changed.
    changed: Vec<String>,
    /// Each host as it is at the end.
    hosts: Vec<Plan>,
}

pub(super) async fn run(common: &Common, started: Instant, wish: Wish) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "routes").await?;
    if session.world.simulated() {
        return Err(Failure::new(
            Exit::Usage,
            "reach the Proxmox VE hosts by SSH",
            "simulated hosts have an API but no SSH server",
        )
        .hint("this command works on real hosts only".to_owned()));
    }
    if wish != Wish::Show {
        session.state.lock()?;
    }
    let cluster = session.cluster.name.clone();
    let asked = &session.cluster.proxmox.blackholes;
    let wanted = if wish == Wish::Remove { &[] } else { asked.as_slice() };
    let hosts = login::hosts(&session.cluster, &session.world.dialer()).await?;
    let seen = session.unless_interrupted("routes", look(&hosts, &cluster)).await?;
    let plans = plans(&cluster, wanted, &seen);
    if wish == Wish::Show {
        let settled = plans.iter().all(|plan| plan.settled);
        let report = Report { cluster, changed: Vec::new(), hosts: plans };
        publish(common, &report, &report.shown())?;
        return Ok(if settled { Exit::Ok } else { Exit::NotAsAsked });
    }
    refuse(&plans)?;
    let todo = planned(&cluster, &plans, wanted);
    if !common.json && !todo.is_empty() {
        super::print(&todo)?;
    }
    let mut changed = Vec::new();
    for (plan, (host, seen)) in plans.iter().zip(&seen) {
        if session.cancel.is_cancelled() {
            let said = format!("interrupted before {}; earlier changes are kept", host.name);
            return Err(Failure::new(Exit::Interrupted, "finish `routes`", said));
        }
        // Noted before the first write, so that after a kill the next run knows there may be routes.
        if !wanted.is_empty() {
            session.state.note_routes(&host.name, true)?;
        }
        if !plan.settled {
            // systemd rejects a unit without commands, so an empty list removes the unit.
            if wanted.is_empty() {
                routes::remove(host, &cluster, seen).await?;
            } else {
                routes::apply(host, &cluster, wanted, seen).await?;
            }
            changed.push(host.name.to_string());
        }
        if wanted.is_empty() {
            session.state.note_routes(&host.name, false)?;
        }
    }
    let after = self::plans(&cluster, wanted, &look(&hosts, &cluster).await?);
    let text = match changed.as_slice() {
        [] => "nothing to do: all routes match the profile".to_owned(),
        changed => format!("done on {}", changed.join(", ")),
    };
    publish(common, &Report { cluster, changed, hosts: after }, &text)?;
    Ok(Exit::Ok)
}

fn publish(common: &Common, report: &Report, text: &str) -> Result<(), Failure> {
    if common.json { super::print_json(report) } else { super::print(text) }
}

/// Looks at all hosts at once.
async fn look(hosts: &[Host], cluster: &str) -> Result<Vec<(Host, Seen)>, Failure> {
    let mut looking = JoinSet::new();
    for (nth, host) in hosts.iter().cloned().enumerate() {
        let cluster = cluster.to_owned();
        looking.spawn(async move {
            let seen = routes::look(&host, &cluster).await;
            (nth, seen.map(|seen| (host, seen)))
        });
    }
    let mut all = looking.join_all().await;
    all.sort_by_key(|(nth, _)| *nth);
    all.into_iter().map(|(_, seen)| seen).collect()
}

fn plans(cluster: &str, wanted: &[Ipv4Net], seen: &[(Host, Seen)]) -> Vec<Plan> {
    seen.iter().map(|(host, seen)| plan::plan(cluster, &host.name, wanted, seen)).collect()
}

/// Refuses to write anything while a route would harm any host.
fn refuse(plans: &[Plan]) -> Result<(), Failure> {
    let clashes: Vec<(&Plan, &Clash)> =
        plans.iter().flat_map(|plan| plan.clashes.iter().map(move |clash| (plan, clash))).collect();
    let Some((_, first)) = clashes.first() else { return Ok(()) };
    let said: Vec<String> = clashes
        .iter()
        .map(|(plan, clash)| format!("{}: {}", plan.host, one_line(&clash.text)))
        .collect();
    Err(Failure::new(Exit::NotAsAsked, "change the routes; nothing was changed", said.join("\n"))
        .hint(first.hint.clone()))
}

/// What will be done, before it is.
fn planned(cluster: &str, plans: &[Plan], wanted: &[Ipv4Net]) -> String {
    let mut text = String::new();
    for plan in plans.iter().filter(|plan| !plan.settled) {
        // Writing to a String cannot fail.
        for line in &plan.routes {
            let _ = match line.state {
                State::Set => Ok(()),
                State::Absent => writeln!(text, "+ {}  drop packets to {}", plan.host, line.net),
                State::Stale => writeln!(text, "- {}  drop packets to {}", plan.host, line.net),
            };
        }
        let _ = match (wanted.is_empty(), plan.persistent) {
            (true, _) => writeln!(text, "- {}  {}", plan.host, unit::path(cluster)),
            (false, true) => Ok(()),
            (false, false) => writeln!(text, "+ {}  {}", plan.host, unit::path(cluster)),
        };
    }
    text
}

impl Report {
    fn shown(&self) -> String {
        let mut text = format!("blackhole routes of cluster {}\n", self.cluster);
        for plan in &self.hosts {
            // Writing to a String cannot fail.
            for line in &plan.routes {
                let (sign, state) = match (line.state, plan.persistent) {
                    (State::Set, true) => (' ', "set"),
                    (State::Set, false) => ('!', "set, but not persistent across reboots"),
                    (State::Absent, _) => ('!', "absent"),
                    (State::Stale, _) => ('!', "set, but no longer in the profile"),
                };
                let net = line.net.to_string();
                let _ = writeln!(text, "{sign} {:8}  {net:18}  {state}", plan.host);
            }
            for clash in &plan.clashes {
                let _ = writeln!(text, "! {:8}  {}", plan.host, one_line(&clash.text));
            }
        }
        if self.hosts.iter().any(|plan| !plan.clashes.is_empty()) {
            let hints = self.hosts.iter().flat_map(|plan| &plan.clashes).map(|clash| &clash.hint);
            let _ = write!(text, "\ntry: {}", hints.take(1).cloned().collect::<String>());
        } else if self.hosts.iter().any(|plan| !plan.settled) {
            text.push_str("\n`k8sha routes --apply` sets them");
        }
        text
    }
}
