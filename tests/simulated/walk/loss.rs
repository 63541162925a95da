//! Losses, and manual changes in Proxmox VE.

use k8sha::cluster::{NodeName, VmId};
use k8sha::mark::Mark;
use k8sha::proxmox::{CreateRequest, Params};
use k8sha_simulator::inspect;

use super::Walk;
use super::model::{self, Card, Known, Seen, pool};
use crate::living::administer;

impl Walk {
    /// A machine, a Node object or a setting is lost.
    pub(super) fn lose(&mut self) {
        let seen = self.look();
        let vmids: Vec<u32> = seen.vms.keys().copied().collect();
        let vmid = self.dice.pick(&vmids);
        let host = seen.vms[&vmid].host.clone();
        let Some(made) = self.known.made.get(&vmid).cloned() else { return };
        let name = made.row.name.clone();
        match self.dice.roll(12) {
            10 | 11 => self.by_hand(vmid, &host, &seen),
            0..=4 => {
                let mut after = self.known.clone();
                after.made.remove(&vmid);
                after.lost.insert(name.clone());
                let quorum = |known: &Known| model::quorum(&self.asked, known, &seen).is_none();
                // The loss of a whole cluster happens only occasionally.
                if quorum(&self.known) && !quorum(&after) && self.dice.roll(6) != 0 {
                    return;
                }
                self.note(format!("destroy {name} (VM {vmid} on {host})"));
                administer(&self.world, &host, async |client| {
                    let _ = client.stop_vm(VmId(vmid)).await;
                    client.destroy_vm(VmId(vmid)).await.unwrap();
                });
                if made.row.role != "load-balancer" {
                    self.known.lost.insert(name.clone());
                }
                self.known.deleted.remove(&name);
                self.known.made.remove(&vmid);
            }
            5..=7 => {
                self.note(format!("stop {name} (VM {vmid} on {host})"));
                administer(&self.world, &host, async |client| {
                    client.stop_vm(VmId(vmid)).await.unwrap();
                });
                if made.row.role == "worker" {
                    self.known.deleted.remove(&name);
                }
            }
            8 if made.row.role == "worker" => {
                let fqdn = format!("{name}.{}", made.domain);
                if inspect::delete_node(&self.world.path(), &fqdn).unwrap() {
                    self.note(format!("delete the Node {fqdn}"));
                    if seen.vms[&vmid].running.is_some() {
                        self.known.deleted.insert(name);
                    }
                }
            }
            _ => self.stranger(&seen),
        }
    }

    /// A user changes a machine's hardware in Proxmox VE.
    fn by_hand(&mut self, vmid: u32, host: &str, seen: &Seen) {
        let vm = &seen.vms[&vmid];
        let Some(card) = vm.config.get("net0") else { return };
        let other = card.replacen(&Card::of(card).mac, "02:00:00:00:07:07", 1);
        let (key, value) = match self.dice.roll(5) {
            0 => ("net0", format!("{card},link_down=1")),
            1 => ("net0", format!("{},tag=7", card.split(",tag=").next().unwrap())),
            2 => ("net0", other),
            3 => ("cpu", "kvm64".to_owned()),
            _ => ("memory", "3072".to_owned()),
        };
        if card.contains("link_down") && key == "net0" {
            return;
        }
        self.note(format!("set {key} of VM {vmid} on {host} to {value} by hand"));
        let params = Params::new().with(key, value);
        administer(&self.world, host, async |client| {
            client.set_config(VmId(vmid), &params, &[], None).await.unwrap();
        });
    }

    /// Another user's VM is created on the VMID of a row.
    pub(super) fn stranger(&mut self, seen: &Seen) {
        if let Some(vmid) = self.foreign.keys().next().copied() {
            self.note(format!("the foreign VM {vmid} goes"));
            administer(&self.world, "pve1", async |client| {
                client.destroy_vm(VmId(vmid)).await.unwrap();
            });
            self.foreign.remove(&vmid);
            return;
        }
        let free: Vec<u32> =
            pool().iter().map(|row| row.vmid).filter(|at| !seen.vms.contains_key(at)).collect();
        if free.is_empty() {
            return;
        }
        let vmid = self.dice.pick(&free);
        self.note(format!("a foreign VM {vmid} on pve1"));
        let request = CreateRequest {
            vmid: VmId(vmid),
            name: format!("theirs-{vmid}"),
            pool: None,
            claim: Mark {
                cluster: "another".into(),
                node: Some(NodeName("n".into())),
                spec: "x".into(),
                creation: "x".into(),
                read: None,
                machine: None,
            }
            .claim("theirs"),
            settings: Params::new().with("memory", 16).with("scsi0", "local-lvm:1"),
        };
        administer(&self.world, "pve1", async |client| {
            client.create_vm(&request).await.unwrap();
        });
        self.foreign.insert(vmid, String::new());
        self.foreign = self.of_others();
    }
}
