//! Creates a VM (qemu-server src/PVE/API2/Qemu.pm, `create_vm`).

use serde::{Deserialize, Serialize};

use super::{Next, Options, Power, Turn, Work, no_room};
use crate::faults::FaultKind;
use crate::pve::state::Vm;
use crate::pve::task::{Task, storage_lock, vm_lock};
use crate::pve::{config, disks, drive, pace};

/// A requested VM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Create {
    /// Its id.
    pub vmid: u32,
    /// Its options, as given.
    pub options: Options,
    /// Its pool.
    pub pool: Option<String>,
    /// Whether to start it afterwards.
    pub start: bool,
}

/// One stage.
pub fn step(turn: &mut Turn, work: Create) -> Result<Next, Next> {
    let host = turn.host();
    let vmid = work.vmid;
    if turn.task.stage > 0 {
        let dc = turn.dc();
        if let Some(vm) = dc.vms.get_mut(&vmid) {
            vm.lock = work.options.get("lock").cloned();
        }
        if let Some(pool) = work.pool.as_ref().and_then(|pool| dc.pools.get_mut(pool)) {
            pool.vms.insert(vmid);
        }
        if work.start {
            // The result of the start is reported by its own task.
            turn.say("Execute autostart");
            let begin = (turn.at, turn.unix());
            let caller = turn.task.caller();
            let dc = turn.dc();
            let pid = dc.hosts.get_mut(&host).map_or(0, super::super::state::Host::take_pid);
            let power = Work::Power { vmid, power: Power::Start, skiplock: false };
            dc.tasks.push(Task::new(
                &host,
                "qmstart",
                &vmid.to_string(),
                &caller,
                pid,
                begin,
                power,
            ));
        }
        return Ok(Next::End(Ok(())));
    }
    turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    if let Some(there) = turn.dc().vms.get(&vmid) {
        let on = &there.host;
        let text = format!("unable to create VM {vmid} - VM {vmid} already exists on node '{on}'");
        return Ok(Next::End(Err(text)));
    }
    let drives: Vec<_> = work
        .options
        .iter()
        .filter(|(key, _)| drive::is_drive(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let storage = drives
        .iter()
        .find_map(|(_, value)| drive::Drive::parse(value).storage().map(str::to_owned));
    if let Some(storage) = storage {
        let section = turn.dc().storages.get(&storage).cloned();
        let shared = section.as_ref().is_some_and(|section| section.shared);
        let file = storage_lock(&host, &storage, shared);
        turn.lock(&file, false, pace::STORAGE_LOCK_WAIT)?;
        let (upid, at) = (turn.task.upid.clone(), turn.at);
        turn.dc().release(&upid, Some(&file), at);
        if turn.world.faults.active(FaultKind::DiskFull, &host) {
            let kind = section.map(|section| section.kind).unwrap_or_default();
            let text = no_room(&storage, &kind);
            return Ok(Next::End(Err(format!("unable to create VM {vmid} - {text}"))));
        }
    }
    let unix = turn.unix();
    let mut vm = Vm::new(&host);
    vm.lock = Some("create".to_owned());
    for (key, value) in &work.options {
        if !drive::is_drive(key) && key != "lock" {
            let value = config::normalised(&mut turn.world.pve, key, value);
            vm.config.insert(key.clone(), value);
        }
    }
    let (uuid, generation) = (turn.world.pve.new_uuid(), turn.world.pve.new_uuid());
    vm.config.entry("smbios1".to_owned()).or_insert_with(|| format!("uuid={uuid}"));
    vm.config.entry("vmgenid".to_owned()).or_insert(generation);
    vm.config.insert("meta".to_owned(), format!("creation-qemu=10.1.2,ctime={unix}"));
    turn.dc().vms.insert(vmid, vm);
    let mut import = false;
    for (key, value) in &drives {
        import |= value.contains("import-from=");
        match disks::place_drive(turn.dc(), &host, vmid, value, unix) {
            Ok(placed) => {
                turn.say(format!("{key}: successfully created disk '{placed}'"));
                if let Some(vm) = turn.dc().vms.get_mut(&vmid) {
                    vm.config.insert(key.clone(), placed);
                }
            }
            Err(text) => {
                turn.dc().vms.remove(&vmid);
                turn.dc().volumes.retain(|volume| volume.vmid != Some(vmid));
                return Ok(Next::End(Err(format!("unable to create VM {vmid} - {text}"))));
            }
        }
    }
    let seconds = if import { pace::CREATE_WITH_IMPORT } else { pace::CREATE };
    Ok(turn.after(1, seconds))
}
