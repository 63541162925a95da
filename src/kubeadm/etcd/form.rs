//! Forms k8sha's etcd, and restores members that were lost.
//!
//! The action for each member follows from the existing state, so that a run resumes wherever an
//! earlier one was killed: a member with data is started and never touched otherwise; one without
//! data starts with the cluster, or replaces its former self, one at a time and only if a quorum
//! agrees.

use std::time::Duration;

use tokio::task::JoinSet;

use super::member::{Initial, Listed, Machine};
use super::{Error, Fault, Trouble};
use crate::clock::{Clock, Expired, Wait};
use crate::report::event;

/// How long members may take to become healthy: the slowest loads a snapshot.
const LIMIT: Duration = Duration::from_secs(300);
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(1);

/// Makes every member healthy.
///
/// `formed` says whether the cluster has been complete before: then a member without data has lost
/// it. `token` distinguishes this cluster from every other one, including a former one with the
/// same name.
///
/// # Errors
/// [`Fault::Machine`] for a member that does not start; [`Fault::Lost`] if too few have data.
pub async fn run(
    machines: &[Machine],
    token: &str,
    formed: bool,
    clock: Clock,
) -> Result<bool, Error> {
    let (with, without) = by_data(machines).await?;
    let mut changed = false;
    for machine in &with {
        if !machine.runs().await? {
            event::progress(format!("start {}", machine.name));
            machine.start().await?;
            changed = true;
        }
    }
    if !without.is_empty() {
        changed = true;
        let needed = machines.len() / 2 + 1;
        if with.len() >= needed {
            // A quorum has data: it decides about the others.
            let healthy = any_healthy(&with, clock).await?;
            admit(machines, &without, healthy, token, clock).await?;
        } else if formed {
            let without = without.iter().map(|machine| machine.name.to_string()).collect();
            return Err(Fault::Lost { without, all: machines.len(), needed }.into());
        } else {
            event::progress(format!("form a cluster of {}", machines.len()));
            let initial = first(machines, token);
            for machine in &without {
                machine.begin(&initial).await?;
            }
        }
    }
    all_healthy(machines, clock).await?;
    Ok(changed)
}

/// The machines with data, and those without.
async fn by_data(machines: &[Machine]) -> Result<(Vec<&Machine>, Vec<&Machine>), Error> {
    let mut looking = JoinSet::new();
    for (index, machine) in machines.iter().cloned().enumerate() {
        looking.spawn(async move { (index, machine.look().await) });
    }
    let mut data = vec![false; machines.len()];
    for (index, seen) in looking.join_all().await {
        data[index] = seen?.data;
    }
    let (with, without): (Vec<_>, Vec<_>) = machines.iter().zip(data).partition(|(_, data)| *data);
    let plain = |pairs: Vec<(_, bool)>| pairs.into_iter().map(|(machine, _)| machine).collect();
    Ok((plain(with), plain(without)))
}

/// The initial configuration of a new cluster's members; the same on each.
fn first<'a>(machines: &[Machine], token: &'a str) -> Initial<'a> {
    let members =
        machines.iter().map(|machine| (machine.name.to_string(), machine.peer_url())).collect();
    Initial { new: true, members, token }
}

/// The status of a machine without data in the member list of a working cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// In the initial list, and never started: it still has to start.
    Awaited,
    /// Added, and not started yet.
    Added,
    /// Not listed.
    Stranger,
    /// It was a member, and lost its data.
    Former,
}

fn standing(list: &[Listed], machine: &Machine) -> Standing {
    let own = machine.peer_url();
    match list.iter().find(|listed| listed.peers.contains(&own)) {
        None => Standing::Stranger,
        Some(listed) if listed.name.is_empty() => Standing::Added,
        Some(listed) if listed.clients.is_empty() => Standing::Awaited,
        Some(_) => Standing::Former,
    }
}

/// Adds machines without data to a working cluster.
async fn admit(
    machines: &[Machine],
    without: &[&Machine],
    healthy: &Machine,
    token: &str,
    clock: Clock,
) -> Result<(), Error> {
    let list = healthy.list().await?;
    // Dead members are removed first: etcd adds no member while one is unreachable.
    for machine in without.iter().filter(|one| standing(&list, one) == Standing::Former) {
        enough(machines, &list).await?;
        let own = machine.peer_url();
        event::progress(format!("{} has lost its data: remove it from etcd", machine.name));
        for former in list.iter().filter(|listed| listed.peers.contains(&own)) {
            healthy.remove(&former.id).await?;
        }
    }
    let list = healthy.list().await?;
    let mut without = without.to_vec();
    without.sort_by_key(|machine| standing(&list, machine));
    for machine in without {
        let list = healthy.list().await?;
        match standing(&list, machine) {
            Standing::Awaited => {
                event::progress(format!("start {} for the first time", machine.name));
                machine.begin(&first(machines, token)).await?;
            }
            Standing::Added => machine.begin(&existing(&list, machine, token)).await?,
            Standing::Stranger | Standing::Former => {
                let list = add(healthy, machine, clock).await?;
                machine.begin(&existing(&list, machine, token)).await?;
            }
        }
        is_healthy(machine, &mut Wait::new(clock, LIMIT, LOOK)).await?;
    }
    Ok(())
}

/// Adds a member. etcd refuses that until it has been connected to all others for five seconds
/// (server/etcdserver/server.go, `mayAddMember` and `HealthInterval`).
async fn add(healthy: &Machine, machine: &Machine, clock: Clock) -> Result<Vec<Listed>, Error> {
    event::progress(format!("add {} to etcd", machine.name));
    let mut wait = Wait::new(clock, LIMIT, LOOK);
    loop {
        let error = match healthy.add(&machine.peer_url()).await {
            Ok(list) => return Ok(list),
            Err(error) => error,
        };
        match &error {
            Error::Etcd(Fault::Call { trouble: Trouble::Said(said), .. }) if passes(said) => {
                event::progress(format!("not yet: {said}"));
            }
            _ => return Err(error),
        }
        wait.not_yet(error).await.map_err(|expired| expired.seen)?;
    }
}

fn passes(said: &str) -> bool {
    ["unhealthy cluster", "not enough started members", "too many learner", "no leader"]
        .iter()
        .any(|words| said.contains(words))
}

/// The initial configuration of a member that a working cluster has added: with the current
/// members.
fn existing<'a>(list: &[Listed], machine: &Machine, token: &'a str) -> Initial<'a> {
    let own = machine.peer_url();
    let members = list.iter().flat_map(|listed| {
        let named = |url: &String| {
            let name = if *url == own { machine.name.to_string() } else { listed.name.clone() };
            (name, url.clone())
        };
        listed.peers.iter().map(named)
    });
    Initial { new: false, members: members.collect(), token }
}

/// Refuses to change the members unless more than half of them are healthy.
async fn enough(machines: &[Machine], list: &[Listed]) -> Result<(), Error> {
    let mut sick = Vec::new();
    for machine in machines {
        if machine.trouble().await?.is_some() {
            sick.push(machine.name.to_string());
        }
    }
    let needed = list.len() / 2 + 1;
    if machines.len() - sick.len() >= needed {
        return Ok(());
    }
    Err(Fault::Lost { without: sick, all: machines.len(), needed }.into())
}

/// Waits until one of these is healthy.
async fn any_healthy<'a>(machines: &[&'a Machine], clock: Clock) -> Result<&'a Machine, Error> {
    let mut wait = Wait::new(clock, LIMIT, LOOK).telling(|sick: &Option<(&Machine, Trouble)>| {
        if let Some((machine, trouble)) = sick {
            event::progress(format!("{}: {trouble}", machine.name));
        }
    });
    loop {
        let mut sick = None;
        for machine in machines {
            match machine.trouble().await? {
                None => return Ok(machine),
                Some(trouble) => sick = Some((*machine, trouble)),
            }
        }
        if let Err(Expired { seen: Some((machine, trouble)), .. }) = wait.not_yet(sick).await {
            return Err(machine.fault(trouble).await);
        }
    }
}

/// Waits until every member is healthy.
async fn all_healthy(machines: &[Machine], clock: Clock) -> Result<(), Error> {
    let mut wait = Wait::new(clock, LIMIT, LOOK);
    for machine in machines {
        is_healthy(machine, &mut wait).await?;
    }
    event::progress(format!("all {} etcd members are healthy", machines.len()));
    Ok(())
}

async fn is_healthy(machine: &Machine, wait: &mut Wait<'_, Trouble>) -> Result<(), Error> {
    loop {
        let Some(trouble) = machine.trouble().await? else { return Ok(()) };
        if lasting(&trouble) {
            return Err(machine.fault(trouble).await);
        }
        event::progress(format!("{}: {trouble}", machine.name));
        // If two members do not answer, either one can be reported: both are identified by their
        // machines.
        if let Err(expired) = wait.not_yet(trouble).await {
            return Err(machine.fault(expired.seen).await);
        }
    }
}

/// Whether waiting does not help.
fn lasting(trouble: &Trouble) -> bool {
    matches!(
        trouble,
        Trouble::WrongCa(_) | Trouble::Expired(_) | Trouble::BadFiles(_) | Trouble::NotEtcd(_)
    )
}

#[cfg(test)]
mod tests;
