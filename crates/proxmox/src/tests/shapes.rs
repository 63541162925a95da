//! The answers of Proxmox VE 8.4 beside those of 9.x, written by hand from their schemas and sources;
//! and answers with more fields than any release has.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::VmId;
use crate::scripted::{Script, no};
use crate::wire::*;
use crate::{Error, Params};

/// An answer with unknown fields added to each of its objects, one kind of value after the other.
pub(super) fn strewn(answer: &Value) -> Vec<Value> {
    fn strew(value: &mut Value, more: &Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| strew(item, more)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| strew(field, more));
                fields.insert("of-a-later-release".to_owned(), more.clone());
            }
            _ => {}
        }
    }
    let kinds = [
        json!(null),
        json!(true),
        json!(-1.5),
        json!("text"),
        json!(["a", 1]),
        json!({"deep": {"deeper": []}}),
    ];
    let with = |more: &Value| {
        let mut answer = answer.clone();
        strew(&mut answer, more);
        answer
    };
    kinds.iter().map(with).collect()
}

fn read<T: DeserializeOwned>(data: &Value) -> T {
    let body = json!({"data": data}).to_string();
    let read = serde_json::from_str::<Envelope<T>>(&body);
    read.unwrap_or_else(|error| panic!("{error}: {body}")).data
}

/// Parses the answer of each release, and each with unknown fields: all must give `seen`.
fn both<T: DeserializeOwned, S: PartialEq + std::fmt::Debug>(
    old: Value,
    new: Value,
    seen: impl Fn(T) -> S,
) -> S {
    let wanted = seen(read(&new));
    assert_eq!(seen(read(&old)), wanted, "8.4 and 9.x are read alike");
    for data in strewn(&old).into_iter().chain(strewn(&new)) {
        assert_eq!(seen(read(&data)), wanted, "{data}");
    }
    wanted
}

#[test]
fn each_release_reports_its_version() {
    let version =
        |data: Value| strewn(&data).iter().map(|data| read::<Version>(data).major()).max();
    let old = json!({"release": "8.4", "version": "8.4.14", "repoid": "b502d23c55afcba1"});
    let new = json!({"release": "9.2", "version": "9.2.11", "repoid": "14a22df35955d97d"});
    assert_eq!((version(old), version(new)), (Some(Some(8)), Some(Some(9))));
}

#[test]
fn clusters_and_nodes_are_parsed_alike() {
    let status = json!([
        {"type": "cluster", "id": "cluster", "name": "lab", "nodes": 2, "quorate": 1, "version": 4},
        {"type": "node", "id": "node/pve1", "name": "pve1", "online": 1, "local": 1, "nodeid": 1,
         "ip": "10.0.0.11", "level": ""},
    ]);
    let quorate = both(status.clone(), status, |status: ClusterStatus| {
        (status.is_quorate(), status.nodes().count(), status.cluster().map(|c| c.name.clone()))
    });
    assert_eq!(quorate, (true, 1, Some("lab".to_owned())));
    // 9 also has the available memory, and the kernel separately.
    let old = json!({"cpuinfo": {"cpus": 16, "mhz": "2994.4"}, "uptime": 100,
        "memory": {"total": 64, "used": 16, "free": 48}, "kversion": "Linux 6.8.12-9-pve",
        "pveversion": "pve-manager/8.4.14/b502d23c55afcba1"});
    let new = json!({"cpuinfo": {"cpus": 16, "mhz": 2994.4}, "uptime": 100,
        "memory": {"total": 64, "used": 16, "free": 40, "available": 48},
        "current-kernel": {"sysname": "Linux"}, "pveversion": "pve-manager/9.2.11/14a22df3"});
    let seen = |node: NodeStatus| (node.cpuinfo.cpus, node.memory.total, node.memory.used);
    assert_eq!(both(old, new, seen), (16, 64, 16));
    let nodes = json!([{"node": "pve1", "status": "online", "ssl_fingerprint": "AB:CD"}]);
    let seen = |nodes: Vec<NodeEntry>| nodes[0].ssl_fingerprint.clone();
    assert_eq!(both(nodes.clone(), nodes, seen), Some("AB:CD".to_owned()));
}

#[test]
fn vms_are_parsed_alike() {
    // 9 has the host's side of the memory and pressure figures; 8 an empty `template`.
    let old = json!([{"vmid": 101, "name": "m1", "status": "running", "template": "", "cpus": 2,
        "maxmem": 4294967296u64, "mem": 1073741824, "pid": "1234", "netin": 0}]);
    let new = json!([{"vmid": 101, "name": "m1", "status": "running", "cpus": 2, "maxmem": 4294967296u64,
        "mem": 1073741824, "memhost": 1288490188, "pid": 1234, "pressurecpusome": 0.0}]);
    let seen = |vms: Vec<VmSummary>| (vms[0].vmid, vms[0].maxmem, vms[0].template, vms.len());
    assert_eq!(both(old, new, seen), (VmId(101), 4 << 30, false, 1));
    // Since 8.1 the memory is a property string; its value is a text or a number.
    let old = json!({"memory": 4096, "cores": 2, "scsi0": "local-lvm:vm-101-disk-0,size=20G",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "tags": "k8sha;lab", "digest": "ab",
        "smbios1": "uuid=1", "vmgenid": "2", "meta": "creation-qemu=9.2.0,ctime=1"});
    let new = json!({"memory": "4096", "cores": 2, "scsi0": "local-lvm:vm-101-disk-0,size=20G",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "tags": "k8sha;lab", "digest": "ab",
        "ha-managed": 0, "allow-ksm": 1});
    let seen = |vm: VmConfig| {
        (vm.memory_mib(), vm.cores(), vm.disk_size("scsi0"), vm.tags().len(), vm.is_template())
    };
    assert_eq!(both(old, new, seen), (4096, 2, Some(20 << 30), 2, false));
    let old = json!({"status": "running", "qmpstatus": "running", "name": "m1", "vmid": 101,
        "agent": 1, "ha": {"managed": 0}, "uptime": 7, "running-machine": "pc-i440fx-9.2+pve1"});
    let new = json!({"status": "running", "qmpstatus": "running", "name": "m1", "vmid": 101,
        "agent": 1, "ha": {"managed": 0}, "uptime": 7, "memhost": 0, "pressureiofull": 0});
    assert!(both(old, new, |vm: VmStatus| vm.is_running() && vm.uptime == 7));
    let agent = json!({"result": [{"name": "eth0", "hardware-address": "bc:24:11:00:00:01",
        "ip-addresses": [{"ip-address": "10.0.0.5", "ip-address-type": "ipv4", "prefix": 24}],
        "statistics": {"rx-bytes": 1}}]});
    let seen = |agent: AgentInterfaces| agent.result[0].ip_addresses[0].ip_address.to_string();
    assert_eq!(both(agent.clone(), agent, seen), "10.0.0.5");
    let resource = json!([{"id": "qemu/101", "vmid": 101, "type": "qemu", "node": "pve1",
        "status": "unknown"}]);
    let seen = |all: Vec<VmResource>| (all[0].vmid, all[0].name.clone(), all[0].template);
    assert_eq!(both(resource.clone(), resource, seen), (VmId(101), String::new(), false));
}

#[test]
fn storages_networks_and_tasks_are_parsed_alike() {
    // 8 has no `formats`; both have `import` as a content type, if an administrator has set it.
    let old = json!([{"storage": "local", "type": "dir", "content": "iso,vztmpl,import", "active": 1,
        "enabled": 1, "shared": 0, "total": 100, "used": 40, "avail": 60, "used_fraction": 0.4}]);
    let new = json!([{"storage": "local", "type": "dir", "content": "import,iso,vztmpl", "active": 1,
        "enabled": 1, "shared": 0, "total": 100, "used": 40, "avail": 60, "used_fraction": 0.4,
        "formats": {"default": "raw", "supported": ["raw", "qcow2"]}, "select_existing": 0}]);
    let seen = |all: Vec<StorageStatus>| {
        (all[0].content.clone(), all[0].active && all[0].enabled, all[0].avail)
    };
    let (content, usable, avail) = both(old, new, seen);
    assert!(content.contains("import") && usable && avail == 60, "{content:?}");
    let volume = json!([{"volid": "local:iso/a.iso", "format": "iso", "content": "iso", "size": 3,
        "ctime": 1}]);
    let seen = |all: Vec<StorageContent>| (all[0].file_name().to_owned(), all[0].size);
    assert_eq!(both(volume.clone(), volume, seen), ("a.iso".to_owned(), 3));
    // 8 writes flags of a bridge as numbers, 9 lists alternative names.
    let old = json!([{"iface": "vmbr0", "type": "bridge", "active": 1, "bridge_vlan_aware": 1,
        "cidr": "10.0.0.11/24", "priority": 5}]);
    let new = json!([{"iface": "vmbr0", "type": "bridge", "active": "1", "bridge_vlan_aware": "1",
        "cidr": "10.0.0.11/24", "altnames": ["enp1s0"]}]);
    let seen = |all: Vec<NetworkIface>| all[0].is_bridge() && all[0].active && all[0].vlan_aware;
    assert!(both(old, new, seen));
    let status = json!({"status": "stopped", "exitstatus": "OK", "upid": "UPID:", "pid": 1});
    let seen = |task: TaskStatus| (task.status, task.exitstatus);
    let ended = both(status.clone(), status, seen);
    assert_eq!(ended, ("stopped".to_owned(), Some("OK".to_owned())));
    let log = json!([{"n": 1, "t": "TASK OK"}]);
    assert_eq!(both(log.clone(), log, |log: Vec<TaskLogLine>| log[0].t.clone()), "TASK OK");
    let tasks = json!([{"upid": "UPID:", "type": "qmclone", "id": "9000", "user": "a@pve!t",
        "starttime": 5, "status": "OK", "endtime": 6}]);
    assert!(!both(tasks.clone(), tasks, |tasks: Vec<TaskSummary>| tasks[0].is_running()));
    let certificates = json!([{"filename": "pve-ssl.pem", "fingerprint": "AB", "notafter": 5}]);
    let seen = |all: Vec<Certificate>| all[0].notafter;
    assert_eq!(both(certificates.clone(), certificates, seen), Some(5));
}

#[test]
fn the_agents_privileges_have_other_names() {
    let old = json!({"/vms": {"VM.Monitor": 1, "VM.Clone": 1}});
    let new = json!({"/vms": {"VM.GuestAgent.Audit": 1, "VM.Clone": 1}});
    let seen = |held: Permissions| {
        (held.allows("/vms/101", "VM.Clone"), held.allows("/vms/101", "VM.Config.Disk"))
    };
    assert_eq!(both(old, new, seen), (true, false));
}

#[tokio::test]
async fn errors_are_read_from_the_reason_if_the_body_has_no_message() {
    let words = async |status: u16, reason: &str, body: &str| {
        let script = Script::play([no(status, reason, body)]).await;
        let wanted = Params::new().with("cores", 0);
        script.client().set_config(VmId(101), &wanted, &[], None).await.unwrap_err()
    };
    let old = words(500, "VM is locked (clone)", r#"{"data":null}"#).await;
    let new =
        words(500, "VM is locked (clone)", r#"{"data":null,"message":"VM is locked (clone)\n"}"#)
            .await;
    assert_eq!(old.to_string(), new.to_string());
    assert_eq!(old.words().as_deref(), Some("VM is locked (clone)"));
    assert!(old.hint().is_some() && old.hint() == new.hint());

    let errors = r#""errors":{"cores":"value must have a minimum value of 1"}"#;
    let reason = "Parameter verification failed.";
    let old = words(400, reason, &format!(r#"{{"data":null,{errors}}}"#)).await;
    let message = r#""message":"Parameter verification failed.\n""#;
    let new = words(400, reason, &format!(r#"{{"data":null,{message},{errors}}}"#)).await;
    assert_eq!(old.to_string(), new.to_string());
    assert!(old.to_string().contains("`cores`: value must have"), "{old}");
    // Anything else that an error may contain.
    let more = r#"{"data":null,"errors":{"cores":{"at":[1]}},"success":0,"trace":["a"]}"#;
    assert!(words(400, reason, more).await.to_string().contains(reason));

    let reason = "Permission check failed (/vms/101, VM.Config.CPU)";
    for body in ["", r#"{"data":null}"#, r#"{"data":null,"message":"Permission check failed\n"}"#] {
        let error = words(403, reason, body).await;
        let Error::Forbidden(denial) = &error else { panic!("{error}") };
        assert_eq!(denial.privileges, ["VM.Config.CPU"]);
    }
}
