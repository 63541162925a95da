//! Takes, deletes and rolls back to snapshots (pve-guest-common src/PVE/AbstractConfig.pm).

use serde::{Deserialize, Serialize};

use super::{Next, Turn, no_config};
use crate::pve::calls::can_snapshot;
use crate::pve::drive;
use crate::pve::pace;
use crate::pve::state::Snapshot;
use crate::pve::task::vm_lock;

/// The action on a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Take it.
    Take {
        /// Its name.
        name: String,
        /// A comment.
        description: String,
    },
    /// Delete it.
    Delete {
        /// Its name.
        name: String,
        /// Whether to continue if the disks' snapshots cannot be deleted.
        force: bool,
    },
    /// Roll the VM back to it.
    Rollback {
        /// Its name.
        name: String,
        /// Whether to start the VM afterwards.
        start: bool,
    },
}

/// One stage.
pub fn step(turn: &mut Turn, vmid: u32, step: &Step) -> Result<Next, Next> {
    let host = turn.host();
    if turn.task.stage == 0 {
        turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    }
    let fail = |text: String| Err(Next::End(Err(text)));
    let Some(vm) = turn.dc().vm_on(&host, vmid).cloned() else {
        return fail(no_config(&host, vmid));
    };
    let missing = |name: &str| Next::End(Err(format!("snapshot '{name}' does not exist")));
    match step {
        Step::Take { name, .. } if vm.snapshots.contains_key(name) && turn.task.stage == 0 => {
            return fail(format!("snapshot name '{name}' already used"));
        }
        Step::Delete { name, .. } | Step::Rollback { name, .. } => {
            vm.snapshots.get(name).ok_or_else(|| missing(name))?;
        }
        Step::Take { .. } => {}
    }
    if let Some(lock) = &vm.lock {
        return fail(format!("VM is locked ({lock})"));
    }
    if turn.task.stage == 0 {
        if vm.is_template() {
            return fail("you can't take a snapshot if it's a template".to_owned());
        }
        if matches!(step, Step::Take { .. }) {
            if !can_snapshot(turn.dc(), &vm) {
                return fail("snapshot feature is not available".to_owned());
            }
            for (key, disk) in vm.drives().filter(|(_, disk)| !disk.is_cdrom()) {
                turn.say(format!("snapshotting 'drive-{key}' ({})", disk.volume));
            }
        }
        return Ok(turn.after(1, pace::SNAPSHOT));
    }
    match step {
        Step::Take { name, description } => take(turn, vmid, name, description),
        Step::Delete { name, .. } => delete(turn, vmid, name),
        Step::Rollback { name, start } => {
            if vm.running.is_some() {
                super::power::switch_off(turn, vmid, true);
            }
            rollback(turn, vmid, name);
            if *start {
                super::power::switch_on(turn, vmid);
            }
        }
    }
    Ok(Next::End(Ok(())))
}

fn take(turn: &mut Turn, vmid: u32, name: &str, description: &str) {
    let time = turn.unix();
    let Some(vm) = turn.dc().vms.get_mut(&vmid) else { return };
    let mut config = vm.config.clone();
    config.retain(|key, _| !key.starts_with("unused") && key != "description");
    let parent = config.remove("parent");
    let description = description.to_owned();
    vm.snapshots.insert(name.to_owned(), Snapshot { config, time, description, parent });
    vm.config.insert("parent".to_owned(), name.to_owned());
}

/// The snapshots after it get the one before it as their parent.
fn delete(turn: &mut Turn, vmid: u32, name: &str) {
    let Some(vm) = turn.dc().vms.get_mut(&vmid) else { return };
    let before = vm.snapshots.remove(name).and_then(|snapshot| snapshot.parent);
    for snapshot in vm.snapshots.values_mut() {
        if snapshot.parent.as_deref() == Some(name) {
            snapshot.parent.clone_from(&before);
        }
    }
    if vm.config.get("parent").is_some_and(|parent| parent == name) {
        match before {
            Some(before) => drop(vm.config.insert("parent".to_owned(), before)),
            None => drop(vm.config.remove("parent")),
        }
    }
}

fn rollback(turn: &mut Turn, vmid: u32, name: &str) {
    let generation = turn.world.pve.new_uuid();
    let host = turn.host();
    let dc = turn.dc();
    let Some(vm) = dc.vms.get_mut(&vmid) else { return };
    let Some(snapshot) = vm.snapshots.get(name) else { return };
    let mut config = snapshot.config.clone();
    config.extend(
        vm.config
            .iter()
            .filter(|(key, _)| *key == "description")
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    config.insert("parent".to_owned(), name.to_owned());
    // A new generation id tells the guest that it was rolled back.
    if config.contains_key("vmgenid") {
        config.insert("vmgenid".to_owned(), generation);
    }
    vm.config = config;
    vm.pending.clear();
    let sizes: Vec<_> = vm
        .drives()
        .filter_map(|(_, disk)| {
            Some((disk.volume.clone(), drive::parse_size(disk.options.get("size")?)?))
        })
        .collect();
    for (volid, size) in sizes {
        if let Some(volume) = dc.volume_mut(&host, &volid) {
            volume.size = size;
        }
    }
}
