//! Changes the power state of VMs (qemu-server src/PVE/QemuServer.pm).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Next, Turn, no_config};
use crate::faults::FaultKind;
use crate::pve::resolver::Resolver;
use crate::pve::state::{Datacenter, Lock, Processes, Vm};
use crate::pve::task::vm_lock;
use crate::pve::{cloudinit, nic, pace};
use crate::site::Site;
use crate::store::Store;
use crate::world::{Machine, SimTime, World};

/// The change of the power state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Power {
    /// Start.
    Start,
    /// Stop, at once.
    Stop,
    /// Shut down, through the guest.
    Shutdown(Shutdown),
    /// Reboot, through the guest.
    Reboot(Shutdown),
    /// Reset: stop and start at once.
    Reset,
    /// Suspend.
    Pause,
    /// Resume.
    Resume,
}

/// The settings of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shutdown {
    /// The timeout in seconds.
    pub limit: f64,
    /// Whether to stop a guest that does not react.
    pub force: bool,
}

/// The guest reacted and has shut down.
const DOWN: u8 = 1;
/// The guest did not react in time.
const DEAF: u8 = 2;
/// The result of a start if QEMU rejects its arguments.
const QEMU_REFUSED: &str = "start failed: QEMU exited with code 1";

/// One stage.
pub fn step(turn: &mut Turn, vmid: u32, power: Power, skiplock: bool) -> Result<Next, Next> {
    let host = turn.host();
    if turn.task.stage == 0 {
        turn.lock(&vm_lock(&host, vmid), false, pace::VM_LOCK_WAIT)?;
    }
    let Some(vm) = turn.dc().vm_on(&host, vmid).cloned() else {
        // A stop that had to wait checks for it in another way.
        let waited = turn.task.log.iter().any(|line| line.starts_with("trying to acquire lock"));
        let text = match power {
            Power::Stop | Power::Shutdown(_) if waited => {
                format!("unable to find configuration file for VM {vmid} on node '{host}'")
            }
            _ => no_config(&host, vmid),
        };
        return Ok(Next::End(Err(text)));
    };
    let acts = power == Power::Start && !vm.is_template() || vm.running.is_some();
    if let Some(lock) = vm.lock.as_ref().filter(|_| acts && !skiplock && turn.task.stage == 0) {
        return Ok(Next::End(Err(format!("VM is locked ({lock})"))));
    }
    match (power, turn.task.stage) {
        (Power::Start, 0) => {
            check_start(turn, &host, vmid, &vm).map_err(|text| Next::End(Err(text)))?;
            if vm.drives().any(|(_, drive)| drive.is_cloudinit()) {
                turn.say("generating cloud-init ISO");
            }
            Ok(turn.after(1, pace::START))
        }
        (Power::Start, _) => {
            let name = vm.name(vmid);
            let short = name.split('.').next().unwrap_or_default();
            if turn.world.faults.take(FaultKind::StartFails, short) {
                turn.say("kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory");
                return Ok(Next::End(Err(QEMU_REFUSED.to_owned())));
            }
            switch_on(turn, vmid);
            Ok(Next::End(Ok(())))
        }
        (Power::Pause | Power::Resume, 0) => Ok(turn.after(1, pace::RESET)),
        (Power::Pause | Power::Resume, _) => {
            if let Some(vm) = turn.dc().vms.get_mut(&vmid) {
                let paused = power == Power::Pause && vm.running.is_some();
                vm.halted = paused.then(|| "paused".to_owned());
            }
            Ok(Next::End(Ok(())))
        }
        (Power::Reset, 0) => Ok(turn.after(1, pace::RESET)),
        (Power::Reset, _) => {
            reset(turn, vmid);
            Ok(Next::End(Ok(())))
        }
        (_, 0) if vm.running.is_none() => Ok(Next::End(Ok(()))),
        (Power::Stop, 0) => Ok(turn.after(1, pace::STOP)),
        (Power::Stop, _) => {
            switch_off(turn, vmid, true);
            Ok(Next::End(Ok(())))
        }
        (Power::Shutdown(how) | Power::Reboot(how), 0) => {
            let key = turn.key(vmid);
            let at = turn.at;
            if vm.agent() && !turn.world.guests.agent(&key, at) {
                turn.say(format!(
                    "QEMU Guest Agent is not running - VM {vmid} qga command 'guest-ping' failed \
                     - got timeout"
                ));
            }
            if turn.world.guests.reacts(&key, at) {
                return Ok(turn.after(DOWN, pace::SHUTDOWN.min(how.limit)));
            }
            Ok(turn.after(DEAF, how.limit + pace::AGENT_TIMEOUT))
        }
        (Power::Shutdown(how) | Power::Reboot(how), DEAF) if !how.force => {
            Ok(Next::End(Err("VM quit/powerdown failed - got timeout".to_owned())))
        }
        (Power::Shutdown(_), stage) => {
            if stage == DEAF {
                turn.say("VM still running - terminating now with SIGTERM");
            }
            switch_off(turn, vmid, stage == DEAF);
            Ok(Next::End(Ok(())))
        }
        (Power::Reboot(_), stage) => {
            switch_off(turn, vmid, stage == DEAF);
            switch_on(turn, vmid);
            Ok(Next::End(Ok(())))
        }
    }
}

fn check_start(turn: &mut Turn, host: &str, vmid: u32, vm: &Vm) -> Result<(), String> {
    if vm.is_template() {
        return Err("you can't start a vm if it's a template".to_owned());
    }
    if vm.running.is_some() {
        return Err(format!("VM {vmid} already running"));
    }
    let dc = turn.dc();
    let custom = vm.config.get("cicustom").map(String::as_str).unwrap_or_default();
    let snippets = custom.split(',').filter_map(|part| part.split_once('=')).map(|(_, id)| id);
    let drives = vm.drives().map(|(_, drive)| drive.volume);
    for volume in drives.chain(snippets.map(str::to_owned)) {
        if volume.contains(':') && dc.volume(host, &volume).is_none() {
            return Err(format!("volume '{volume}' does not exist"));
        }
    }
    if let Some(text) = dc.too_many_vcpus(vm) {
        return Err(text);
    }
    if vm.vcpus() > vm.max_vcpus() {
        return Err(QEMU_REFUSED.to_owned());
    }
    let bridges = dc.hosts.get(host).map(|host| host.bridges.clone()).unwrap_or_default();
    for (_, value) in vm.config.iter().filter(|(key, _)| nic::is_net(key)) {
        let bridge = nic::bridge(value).unwrap_or_default();
        if !bridge.is_empty() && !bridges.iter().any(|there| there == bridge) {
            return Err(format!("bridge '{bridge}' does not exist"));
        }
    }
    let (vmid_lock, at) = (vm_lock(host, vmid), turn.at);
    let recent = vm.stopped.is_some_and(|stopped| at < stopped.after(pace::CLEANUP_WINDOW));
    if recent {
        // The cleanup of the previous run finds the new one and waits for its end, holding the lock.
        let until = Some(at.after(pace::START + pace::CLEANUP_LOCK));
        let owner = format!("qm cleanup {vmid}");
        turn.dc().locks.push(Lock { file: vmid_lock, shared: false, owner, until });
    }
    Ok(())
}

/// Starts a VM. Its pending changes may require more than its host has: then it stays off, and a task
/// that did more than start it succeeds all the same, because Proxmox starts the VM in another task.
pub fn switch_on(turn: &mut Turn, vmid: u32) {
    let at = turn.at;
    let key = turn.key(vmid);
    let Some(vm) = turn.dc().vms.get_mut(&vmid) else { return };
    vm.settle();
    if !can_run(turn.dc(), vmid) {
        return;
    }
    let Some(vm) = turn.dc().vms.get_mut(&vmid) else { return };
    vm.running = Some(at);
    vm.processes = Processes::default();
    let dc = &turn.world.pve.datacenters[turn.dc];
    if let Some(machine) = machine(dc, &turn.world.site, vmid, key) {
        turn.world.guests.power_on(machine, at, turn.store);
    }
}

/// Whether QEMU accepts a VM's virtual CPUs.
fn can_run(dc: &Datacenter, vmid: u32) -> bool {
    let fits = |vm: &Vm| dc.too_many_vcpus(vm).is_none() && vm.vcpus() <= vm.max_vcpus();
    dc.vms.get(&vmid).is_some_and(fits)
}

/// The guest reboots inside the same QEMU process: changes pending until the VM stops remain pending.
fn reset(turn: &mut Turn, vmid: u32) {
    let (at, key) = (turn.at, turn.key(vmid));
    turn.world.guests.power_off(&key, true, at);
    let dc = &turn.world.pve.datacenters[turn.dc];
    if let Some(machine) = machine(dc, &turn.world.site, vmid, key) {
        turn.world.guests.power_on(machine, at, turn.store);
    }
}

/// A VM's configuration was written: a running guest sees the media that are in its drives now.
pub fn exchange(world: &mut World, dc: usize, vmid: u32, store: &Store) {
    let dc = &world.pve.datacenters[dc];
    if dc.vms.get(&vmid).is_none_or(|vm| vm.running.is_none()) {
        return;
    }
    if let Some(machine) = machine(dc, &world.site, vmid, dc.key(vmid)) {
        world.guests.media(machine, store);
    }
}

/// The hosts come back after an outage: every VM is off, and those with `onboot` start.
pub fn after_outage(world: &mut World, now: SimTime, store: &Store) {
    let mut machines = Vec::new();
    for dc in &mut world.pve.datacenters {
        let vmids: Vec<u32> = dc.vms.keys().copied().collect();
        for vmid in vmids {
            if let Some(vm) = dc.vms.get_mut(&vmid) {
                vm.running = None;
                vm.settle();
            }
            let fits = can_run(dc, vmid);
            let Some(vm) = dc.vms.get_mut(&vmid) else { continue };
            let starts = vm.config.get("onboot").is_some_and(|value| value == "1");
            let starts = starts && !vm.is_template() && vm.lock.is_none() && fits;
            vm.running = starts.then_some(now);
            if starts {
                machines.push((dc.name.clone(), vmid));
            }
        }
    }
    for (name, vmid) in machines {
        let dc = world.pve.datacenters.iter().find(|dc| dc.name == name);
        let found = dc.and_then(|dc| machine(dc, &world.site, vmid, dc.key(vmid)));
        if let Some(machine) = found {
            world.guests.power_on(machine, now, store);
        }
    }
}

/// Stops a VM.
pub fn switch_off(turn: &mut Turn, vmid: u32, hard: bool) {
    let at = turn.at;
    let key = turn.key(vmid);
    turn.world.guests.power_off(&key, hard, at);
    if let Some(vm) = turn.dc().vms.get_mut(&vmid) {
        vm.running = None;
        vm.stopped = Some(at);
        vm.settle();
    }
}

/// The hardware that the guest sees when it starts.
fn machine(dc: &Datacenter, site: &Site, vmid: u32, key: String) -> Option<Machine> {
    let vm = dc.vms.get(&vmid)?;
    let disk = vm.boot_disk().and_then(|(_, drive)| {
        let volume = dc.volume(&vm.host, &drive.volume)?;
        Some((volume.size as f64 / f64::from(1 << 30), volume.system))
    });
    // The guest sees IDE drives first, then SATA, then SCSI, each by its number.
    let mut blobs = Vec::new();
    let mut generated = None;
    for (_, drive) in vm.drives() {
        if drive.is_cloudinit() {
            let resolver = Resolver::of(dc.hosts.get(&vm.host), site);
            let documents = cloudinit::drive(vm, vmid, &resolver);
            generated = documents.map(|documents| (blobs.len(), documents));
        } else if drive.is_cdrom() {
            blobs.extend(dc.volume(&vm.host, &drive.volume).and_then(|volume| volume.blob.clone()));
        }
    }
    // qemu-server gives every VM one; a manually written configuration may lack it.
    let uuid = vm.config.get("smbios1").and_then(|value| {
        value.split(',').find_map(|part| part.strip_prefix("uuid=")).map(str::to_lowercase)
    });
    let uuid = uuid.unwrap_or_else(|| {
        let digest: String =
            Sha256::digest(&key).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        [&digest[..8], &digest[8..12], &digest[12..16], &digest[16..20], &digest[20..]].join("-")
    });
    Some(Machine {
        key,
        vmid,
        host: vm.host.clone(),
        name: vm.name(vmid),
        vcpu: vm.vcpus(),
        memory_mib: vm.memory_mib(),
        disk_gib: disk.map(|(gib, _)| gib),
        bootable: disk.is_some_and(|(_, system)| system),
        nics: vm
            .config
            .iter()
            .filter(|(key, _)| nic::is_net(key))
            .filter_map(|(_, value)| nic::nic(value))
            .collect(),
        cdroms: blobs,
        cloudinit: generated,
        uuid,
        agent: vm.agent(),
    })
}
