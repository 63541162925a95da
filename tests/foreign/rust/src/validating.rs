//! `proxmox-client`, which validates its requests and has structs for the answers.

use std::time::Duration;

use proxmox_client::nodes::DownloadUrlParams;
use proxmox_client::nodes::qemu::{
    AgentExecParams, SnapshotCreateParams, VmCloneParams, VmConfigUpdateParams, VmCreateParams,
    VmDeleteParams, VmResizeParams,
};
use proxmox_client::{Error, PoolCreateParams, ProxmoxClient};
use serde_json::{Value, json};

use crate::{NODE, Site};

pub const MADE: u32 = 920;
pub const SYSTEM: u32 = 921;
const CLONE: u32 = 922;
const SEEDED: u32 = 923;

fn by_token(site: &Site) -> ProxmoxClient {
    let id = format!("{}!{}", site.user, site.token);
    ProxmoxClient::with_api_token(&site.url, &id, &site.secret).expect("a client")
}

/// A single read, for which this program is run once more.
pub async fn look(site: &Site) -> Result<(), Error> {
    by_token(site).version().await.map(drop)
}

/// Waits until a task ends, and checks its result.
async fn follow(client: &ProxmoxClient, upid: &str, ends: &str) {
    assert!(upid.starts_with(&format!("UPID:{NODE}:")), "{upid}");
    loop {
        let status = client.get_task_status(NODE, upid).await.expect("the task's status");
        if !status.is_running() {
            let how = status.exitstatus.clone().unwrap_or_default();
            assert!(how.contains(ends), "{upid} ended with {how}");
            assert_eq!(status.is_ok(), ends == "OK");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks that a call was refused, and the error text.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, words: &str) {
    let error = answer.expect_err("this was not refused");
    let text = format!("{error} {error:?}");
    assert!(text.contains(words), "{words} is not in: {text}");
}

pub async fn the_site_is_listed(site: &Site) {
    let client = by_token(site);
    let version = client.version().await.expect("the version");
    assert!(version.release.expect("a release").starts_with("9."));
    let nodes = client.list_nodes().await.expect("the nodes");
    let mut names: Vec<_> = nodes.iter().filter_map(|node| node.node.as_deref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["pve1", "pve2"]);
    assert!(nodes.iter().all(|node| node.status.as_deref() == Some("online")));
    let storages = client.list_node_storages(NODE, None).await.expect("the storages");
    let local = storages.iter().find(|one| one.storage.as_deref() == Some("local-lvm"));
    let local = local.expect("local-lvm");
    assert_eq!((local.active, local.shared), (Some(1), Some(0)));
    assert_eq!(local.total, Some(local.used.unwrap() + local.avail.unwrap()));
    let status = client.get_cluster_status().await.expect("the cluster's status");
    assert_eq!((status[0].quorate, status[0].nodes), (Some(1), Some(2)));
    assert_eq!(client.get_next_id().await.expect("a VMID"), "100");
    assert!(client.list_vms(NODE).await.expect("VMs").is_empty());
    assert!(client.list_containers(NODE).await.expect("containers").is_empty());
    let kinds: Vec<_> = client.list_cluster_resources().await.expect("resources");
    assert!(kinds.len() >= 4, "{kinds:?}");
}

pub async fn a_ticket_logs_in_and_writes(site: &Site) {
    let client = ProxmoxClient::new(&site.url).expect("a client");
    refused(client.version().await, "NotAuthenticated");
    client.login("root@pam", &site.password).await.expect("a login");
    client.create_pool(&PoolCreateParams::new("foreign")).await.expect("a pool");
    let pools = client.list_pools().await.expect("the pools");
    assert_eq!(pools[0].poolid.as_deref(), Some("foreign"));
    client.delete_pool("foreign").await.expect("the pool is empty");
    assert!(client.list_pools().await.expect("the pools").is_empty());
}

pub async fn a_wrong_login_is_refused(site: &Site) {
    let client = ProxmoxClient::new(&site.url).expect("a client");
    let login = client.login("root@pam", "not the password").await;
    assert!(matches!(login, Err(Error::Unauthorized { .. })), "{login:?}");
    let id = format!("{}!{}", site.user, site.token);
    let stranger =
        ProxmoxClient::with_api_token(&site.url, &id, &"0".repeat(36)).expect("a client");
    let version = stranger.version().await;
    assert!(matches!(version, Err(Error::Unauthorized { .. })), "{version:?}");
}

pub async fn a_vm_is_created_and_its_task_followed(site: &Site) {
    let client = by_token(site);
    let mut vm = VmCreateParams::new(MADE);
    vm.name = Some("foreign".into());
    vm.memory = Some(512);
    vm.cores = Some(1);
    vm.agent = Some("enabled=1".into());
    // A JSON boolean.
    vm.onboot = Some(true);
    vm.scsihw = Some("virtio-scsi-single".into());
    vm.extra.insert("scsi0".into(), json!("local-lvm:4"));
    vm.extra.insert("net0".into(), json!("virtio,bridge=vmbr0"));
    let upid = client.create_vm(NODE, &vm).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let log = client.get_task_log(NODE, &upid, None, Some(500)).await.expect("a log");
    assert_eq!(log.last().and_then(|line| line.t.as_deref()), Some("TASK OK"));
    let listed = client.list_vms(NODE).await.expect("VMs");
    assert_eq!(listed.len(), 1);
    let (listed, status) = (&listed[0], client.get_vm_status(NODE, MADE).await.expect("a status"));
    assert_eq!((listed.vmid, listed.maxmem), (Some(MADE), Some(512 << 20)));
    assert_eq!((status.vmid, status.maxmem), (Some(MADE), Some(512 << 20)));
    assert_eq!(status.qmpstatus.as_deref(), Some("stopped"));
    let again = client.create_vm(NODE, &VmCreateParams::new(MADE)).await;
    refused(
        again,
        &format!("unable to create VM {MADE} - VM {MADE} already exists on node '{NODE}'"),
    );
}

/// The client's structs for these answers do not match a real Proxmox VE 9.2: its `memory` is a text,
/// and its booleans are 0 and 1.
pub async fn what_this_client_reads_wrongly_is_what_proxmox_says(site: &Site) {
    let client = by_token(site);
    let config = client.get_vm_config(NODE, MADE).await;
    refused(config, "invalid type");
    let storage = client.get_node_storage_status(NODE, "local").await;
    refused(storage, "invalid type: integer `1`, expected a boolean");
}

pub async fn a_file_is_downloaded_and_none_uploaded(site: &Site) {
    let client = by_token(site);
    // It sends JSON instead of a multipart form; a real Proxmox VE also closes such a connection
    // without an answer.
    let upload = client.upload_to_storage(NODE, "local", "iso", "foreign.iso").await;
    assert!(matches!(upload, Err(Error::Request(_))), "{upload:?}");
    let mut file =
        DownloadUrlParams::new("import", "foreign.qcow2", "https://images.example/a.qcow2");
    file.checksum_algorithm = Some("sha256".into());
    file.checksum = Some("ab".repeat(32));
    let upid = client.download_url_to_storage(NODE, "local", &file).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let content =
        client.list_storage_content(NODE, "local", Some("import"), None).await.expect("content");
    assert_eq!(content[0].volid.as_deref(), Some("local:import/foreign.qcow2"));
    assert!(content[0].size > Some(0));
    file.filename = "foreign.exe".into();
    refused(client.download_url_to_storage(NODE, "local", &file).await, "filename");
}

pub async fn a_template_is_cloned(site: &Site) {
    let client = by_token(site);
    let mut vm = VmCreateParams::new(SYSTEM);
    vm.name = Some("foreign-system".into());
    vm.memory = Some(1024);
    vm.boot = Some("order=scsi0".into());
    vm.scsihw = Some("virtio-scsi-single".into());
    let disk = "local-lvm:0,import-from=local:import/foreign.qcow2,discard=on";
    vm.extra.insert("scsi0".into(), json!(disk));
    vm.extra.insert("net0".into(), json!("virtio,bridge=vmbr0"));
    follow(&client, &client.create_vm(NODE, &vm).await.expect("a task"), "OK").await;
    client.convert_vm_to_template(NODE, SYSTEM).await.expect("a template");
    // The client does not return its task's name; the VM is listed as a template when the task is done.
    let is_template = async || {
        let all = client.list_vms(NODE).await.expect("VMs");
        all.iter().any(|vm| vm.vmid == Some(SYSTEM) && vm.template == Some(1))
    };
    for _ in 0..100 {
        if is_template().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_template().await);
    let mut clone = VmCloneParams::new(CLONE);
    clone.name = Some("full".into());
    clone.full = Some(true);
    let upid = client.clone_vm(NODE, SYSTEM, &clone).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let all = client.list_cluster_resources_by_type("vm").await.expect("VMs");
    let mut vmids: Vec<_> = all.iter().filter_map(|vm| vm.vmid).collect();
    vmids.sort_unstable();
    assert_eq!(vmids, [MADE, SYSTEM, CLONE].map(i64::from));
    refused(client.clone_vm(NODE, SYSTEM, &VmCloneParams::new(MADE)).await, "already exists");
}

pub async fn a_vm_is_configured_and_its_disk_grows(site: &Site) {
    let client = by_token(site);
    let change = VmConfigUpdateParams {
        cores: Some(2),
        memory: Some(2048),
        tags: Some("rust;foreign".into()),
        ..VmConfigUpdateParams::default()
    };
    client.update_vm_config(NODE, CLONE, &change).await.expect("a change at once");
    let description = Some("two\nlines".into());
    let change = VmConfigUpdateParams { description, ..VmConfigUpdateParams::default() };
    let upid = client.set_vm_config_async(NODE, CLONE, &change).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let pending = client.get_vm_pending(NODE, CLONE).await.expect("options");
    let value = |key: &str| {
        pending.iter().find(|one| one.key.as_deref() == Some(key)).and_then(|one| one.value.clone())
    };
    assert_eq!((value("cores"), value("memory")), (Some(json!(2)), Some(json!("2048"))));
    assert_eq!(value("tags"), Some(json!("foreign;rust")));
    assert_eq!(value("description"), Some(json!("two\nlines")));
    let resize = VmResizeParams::new("scsi0", "32G");
    let upid = client.resize_vm_disk(NODE, CLONE, &resize).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let status = client.get_vm_status(NODE, CLONE).await.expect("a status");
    assert_eq!(status.maxdisk, Some(32 << 30));
    let upid = client.resize_vm_disk(NODE, CLONE, &VmResizeParams::new("scsi0", "1G")).await;
    follow(&client, &upid.expect("a task"), "shrinking disks is not supported").await;
}

pub async fn a_snapshot_is_taken_and_removed(site: &Site) {
    let client = by_token(site);
    let upid = client.create_vm_snapshot(NODE, CLONE, &SnapshotCreateParams::new("before")).await;
    follow(&client, &upid.expect("a task"), "OK").await;
    let all = client.list_vm_snapshots(NODE, CLONE).await.expect("snapshots");
    let mut names: Vec<_> = all.iter().filter_map(|one| one.name.as_deref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["before", "current"]);
    let upid = client.rollback_vm_snapshot(NODE, CLONE, "before").await.expect("a task");
    follow(&client, &upid, "OK").await;
    let upid = client.delete_vm_snapshot(NODE, CLONE, "before").await.expect("a task");
    follow(&client, &upid, "OK").await;
    assert_eq!(client.list_vm_snapshots(NODE, CLONE).await.expect("snapshots").len(), 1);
}

pub async fn a_vm_is_started_queried_and_stopped(site: &Site) {
    let client = by_token(site);
    refused(client.agent_ping(NODE, MADE).await, &format!("VM {MADE} is not running"));
    let upid = client.start_vm(NODE, MADE, None).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let status = client.get_vm_status(NODE, MADE).await.expect("a status");
    assert_eq!(status.status.as_deref(), Some("running"));
    assert!(status.pid > Some(0));
    // Its disk has no operating system.
    refused(client.agent_ping(NODE, MADE).await, "QEMU guest agent is not running");
    let command = AgentExecParams::new("/bin/true");
    refused(client.agent_exec(NODE, MADE, &command).await, "QEMU guest agent is not running");
    refused(client.delete_vm(NODE, MADE, None).await, "is running - destroy failed");
    let upid = client.stop_vm(NODE, MADE, None).await.expect("a task");
    follow(&client, &upid, "OK").await;
}

/// Neither of the crates can upload: their HTTP library does.
async fn upload(site: &Site, name: &str, body: &[u8]) -> String {
    let (edge, kind) = ("foreign-edge", "application/octet-stream");
    let head = format!(
        "--{edge}\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--{edge}\r\n\
         Content-Disposition: form-data; name=\"filename\"; filename=\"{name}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    );
    let body = [head.as_bytes(), body, format!("\r\n--{edge}--\r\n").as_bytes()].concat();
    let token = format!("PVEAPIToken={}!{}={}", site.user, site.token, site.secret);
    let url = format!("{}/api2/json/nodes/{NODE}/storage/local/upload", site.url);
    let request = reqwest::Client::new().post(url).header("Authorization", token).body(body);
    let form = format!("multipart/form-data; boundary={edge}");
    let answer = request.header("Content-Type", form).send().await.expect("an answer");
    let answer: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON");
    answer["data"].as_str().expect("a task").to_owned()
}

pub async fn a_guest_with_a_seed_has_an_agent(site: &Site) {
    let client = by_token(site);
    follow(&client, &upload(site, "foreign-seed.iso", &site.seed).await, "OK").await;
    let mut vm = VmCreateParams::new(SEEDED);
    vm.agent = Some("enabled=1".into());
    vm.boot = Some("order=scsi0".into());
    let disk = "local-lvm:0,import-from=local:import/foreign.qcow2";
    vm.extra.insert("scsi0".into(), json!(disk));
    vm.extra.insert("ide0".into(), json!("local:iso/foreign-seed.iso,media=cdrom"));
    vm.extra.insert("net0".into(), json!("virtio,bridge=vmbr0"));
    follow(&client, &client.create_vm(NODE, &vm).await.expect("a task"), "OK").await;
    let upid = client.start_vm(NODE, SEEDED, None).await.expect("a task");
    follow(&client, &upid, "OK").await;
    let mut rounds = 0;
    while let Err(error) = client.agent_ping(NODE, SEEDED).await {
        rounds += 1;
        let text = error.to_string();
        assert!(rounds < 60 && text.contains("QEMU guest agent is not running"), "{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let name = client.agent_get_hostname(NODE, SEEDED).await.expect("a name");
    assert_eq!(name["result"]["host-name"], "seeded");
    let cards = client.agent_network_get_interfaces(NODE, SEEDED).await.expect("cards");
    assert!(cards.to_string().contains("10.101.1.88"), "{cards}");
    let file = client.agent_file_read(NODE, SEEDED, "/etc/os-release").await.expect("a file");
    assert!(file["content"].as_str().is_some_and(|text| text.contains("ID=ubuntu")), "{file}");
    let command = AgentExecParams::new("/bin/true");
    let pid = client.agent_exec(NODE, SEEDED, &command).await.expect("a process").pid;
    // A real Proxmox VE also sends `"exited":1`, for which this client's struct has a boolean.
    let pid = u32::try_from(pid).expect("a process id");
    let status = client.agent_exec_status(NODE, SEEDED, pid).await;
    refused(status, "invalid type: integer `1`, expected a boolean");
    let upid = client.shutdown_vm(NODE, SEEDED, None).await.expect("a task");
    follow(&client, &upid, "OK").await;
}

pub async fn everything_is_removed(site: &Site) {
    let client = by_token(site);
    for vmid in [SEEDED, CLONE, SYSTEM, MADE] {
        let options = VmDeleteParams {
            purge: Some(true),
            destroy_unreferenced_disks: Some(true),
            ..VmDeleteParams::default()
        };
        let upid = client.delete_vm(NODE, vmid, Some(&options)).await.expect("a task");
        follow(&client, &upid, "OK").await;
        refused(client.get_vm_status(NODE, vmid).await, "does not exist");
    }
    for volume in ["local:import/foreign.qcow2", "local:iso/foreign-seed.iso"] {
        client.delete_storage_volume(NODE, "local", volume).await.expect("the file goes");
    }
    for storage in ["local", "local-lvm"] {
        let left = async || client.list_storage_content(NODE, storage, None, None).await;
        // The client does not return the names of deletion tasks.
        for _ in 0..100 {
            if left().await.expect("content").is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(left().await.expect("content"), []);
    }
}
