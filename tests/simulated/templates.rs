//! Templates that a user has created: what is adapted in their clones, and what is refused, with the
//! commands that fix it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::golden::assert_golden;
use crate::privileges::token;
use crate::standing::{Api, Server, variant};
use crate::world::{Ran, redact, requests};

const IMAGE: &str = "https://cloud-images.ubuntu.com/releases/jammy/release-20260913/ubuntu-22.04-server-cloudimg-amd64.img";
const SHA256: &str = "9144540e8af7637d258b50dbabe82ce1aa6752c9574fedfb048270da0e087899";
const MINE: (&str, &str) = (
    "templates: { ubuntu-22.04: 9001 }",
    "templates: { ubuntu-22.04: { vmid: 9001, mine: true } }",
);

/// Makes a host download the cloud image.
fn download(api: &Api, content: &str, file: &str) {
    let form = [
        ("content", content),
        ("filename", file),
        ("url", IMAGE),
        ("checksum", SHA256),
        ("checksum-algorithm", "sha256"),
    ];
    api.call("POST", "/nodes/pve1/storage/local/download-url", &form);
}

/// Creates template 9001 from the cloud image on `pve1`, with its disk there and these settings.
fn template(api: &Api, disk: &str, settings: &[(&str, &str)]) {
    download(api, "import", "jammy.qcow2");
    let mut form = vec![
        ("vmid", "9001"),
        ("name", "golden"),
        ("memory", "2048"),
        (disk, "local-lvm:0,import-from=local:import/jammy.qcow2"),
    ];
    form.extend(settings);
    api.call("POST", "/nodes/pve1/qemu", &form);
    api.call("POST", "/nodes/pve1/qemu/9001/template", &[]);
}

fn config(api: &Api, vmid: u32) -> Value {
    api.call("GET", &format!("/nodes/pve1/qemu/{vmid}/config"), &[])
}

/// The volumes of a storage with this in their names.
fn volumes(api: &Api, storage: &str, part: &str) -> BTreeSet<String> {
    let all = api.call("GET", &format!("/nodes/pve1/storage/{storage}/content"), &[]);
    let names = all.as_array().unwrap().iter().map(|volume| volume["volid"].as_str().unwrap());
    names.filter(|name| name.contains(part)).map(str::to_owned).collect()
}

fn provision(server: &Server, profile: &str) -> Ran {
    server.run(&["provision", "--pve", "pve1", "--json", "--profile", profile], &server.endpoints)
}

/// The MAC address of a card.
fn mac(config: &Value, card: &str) -> String {
    let text = config[card].as_str().unwrap();
    text.split([',', '=']).nth(1).unwrap().to_owned()
}

#[test]
fn a_template_with_everything_adaptable_gives_machines_that_boot_and_can_be_removed() {
    let server = Server::start();
    let api = server.api();
    template(
        &api,
        "scsi0",
        &[
            ("ide0", "local-lvm:cloudinit"),
            ("ipconfig0", "ip=10.101.1.77/24,gw=10.101.1.1"),
            ("net0", "e1000,bridge=vmbr0,firewall=1"),
            ("net1", "virtio,bridge=vmbr0"),
            ("agent", "0"),
            ("sockets", "2"),
            ("balloon", "512"),
            ("protection", "1"),
        ],
    );
    let before = config(&api, 9001);
    let profile = variant(server.folder.path(), "k8s1", &[MINE]);
    // The smallest role, and the additional privilege for the drive.
    let least = server.endpoints_with(&token(&api, &[]));
    let doctor = server.run(&["doctor", "--json", "--profile", &profile], &least).json();
    let findings = doctor["findings"].as_array().unwrap().iter();
    let lacks = |finding: &&Value| finding["severity"] == "error";
    let lacking: Vec<&Value> = findings.filter(lacks).collect();
    assert_eq!(lacking.len(), 1, "{lacking:#?}");
    assert!(lacking[0]["what"].as_str().unwrap().contains("VM.Config.Cloudinit on /vms"));
    let fix = lacking[0]["fix"].as_array().unwrap().iter().filter_map(Value::as_str);
    fix.filter(|line| line.starts_with("pveum ")).for_each(|line| drop(api.pveum(line)));
    let plan = server.run(&["plan", "--profile", &profile], &server.endpoints).ok();
    let told = plan.stdout.lines().find(|line| line.contains("template 9001"));
    assert_eq!(
        told,
        Some(
            "note: pve1: template 9001: clones get its `net1` unchanged; clones do not keep its \
             `ide0`, `protection`, `balloon`"
        )
    );
    let args = ["provision", "--pve", "pve1", "--json", "--profile", &profile];
    server.run(&args, &least).ok();
    let mut addresses = BTreeSet::new();
    for vmid in [1011, 1101, 1102, 1103] {
        let config = config(&api, vmid);
        for gone in ["ide0", "protection", "balloon"] {
            assert_eq!(config.get(gone), None, "{gone} of {vmid}");
        }
        assert_eq!((&config["sockets"], &config["agent"]), (&1.into(), &"enabled=1".into()));
        assert_eq!(config["boot"], "order=scsi0;ide2");
        let net0 = config["net0"].as_str().unwrap();
        assert!(
            net0.starts_with("virtio=") && net0.ends_with(",bridge=vmbr0,firewall=0"),
            "{net0}"
        );
        assert_eq!(config["ide2"], "none,media=cdrom", "its seed has served");
        addresses.extend([mac(&config, "net0"), mac(&config, "net1")]);
        let left = volumes(&api, "local-lvm", &format!("vm-{vmid}-cloudinit"));
        assert_eq!(left, BTreeSet::new(), "the clone's cloud-init volume is gone");
    }
    assert_eq!(addresses.len(), 8, "{addresses:?}");
    assert_eq!(config(&api, 9001), before, "the template is as it was");
    assert_eq!(volumes(&api, "local-lvm", "cloudinit").len(), 1, "with its own volume");

    // A template that is not cloned blocks no run, whatever its state.
    download(&api, "iso", "installer.iso");
    let disc = [("ide3", "local:iso/installer.iso,media=cdrom")];
    api.call("PUT", "/nodes/pve1/qemu/9001/config", &disc);
    assert_eq!(provision(&server, &profile).ok().json()["verdict"], "settled");
    server.run(&["destroy", "--yes", "--quiet", "--profile", &profile], &server.endpoints).ok();
    let left = api.call("GET", "/nodes/pve1/qemu", &[]);
    let left: Vec<&Value> = left.as_array().unwrap().iter().map(|vm| &vm["vmid"]).collect();
    assert_eq!(left, [9001]);
}

#[test]
fn a_machines_mac_address_is_restored_and_its_other_settings_are_kept() {
    let server = Server::start();
    let api = server.api();
    template(&api, "scsi0", &[("net0", "virtio,bridge=vmbr0")]);
    let profile = variant(server.folder.path(), "k8s1", &[MINE]);
    provision(&server, &profile).ok();
    let (off, on) = ("/nodes/pve1/qemu/1102", "/nodes/pve1/qemu/1103");
    let (was, ran) = (mac(&config(&api, 1102), "net0"), mac(&config(&api, 1103), "net0"));
    api.call("POST", &format!("{off}/status/stop"), &[]);
    let other = "virtio=BC:24:11:00:00:77,bridge=vmbr0,queues=2";
    let changed = [("net0", other), ("sata0", "local-lvm:cloudinit"), ("balloon", "512")];
    api.call("PUT", &format!("{off}/config"), &changed);
    api.call("PUT", &format!("{on}/config"), &[("net0", other)]);
    let report = provision(&server, &profile).ok().json();
    assert_eq!(report["verdict"], "done", "{report:#}");
    let now = config(&api, 1102);
    assert_eq!(now["net0"], format!("virtio={was},bridge=vmbr0,queues=2"));
    assert_eq!(now.get("sata0"), None, "a second seed is taken out");
    assert_eq!(now["balloon"], 512, "what a person has set stays");
    // Without that address the running guest has no network at its next boot, or has already lost it.
    assert_eq!(mac(&config(&api, 1103), "net0"), ran);
    assert!(config(&api, 1103)["net0"].as_str().unwrap().ends_with("queues=2"));
}

/// Runs a `qm` command line on template 9001.
fn qm(api: &Api, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["qm", "set", "9001", options @ ..] = words.as_slice() else { panic!("{line}") };
    let pairs = options.chunks(2).map(|pair| (pair[0].strip_prefix("--").unwrap(), pair[1]));
    let form: Vec<(&str, &str)> = pairs.collect();
    api.call("PUT", "/nodes/pve1/qemu/9001/config", &form);
}

#[test]
fn an_unusable_template_is_refused_and_the_printed_commands_fix_it() {
    let server = Server::start();
    let api = server.api();
    download(&api, "iso", "installer.iso");
    template(
        &api,
        "virtio0",
        &[
            ("boot", "order=virtio0;net0"),
            ("net0", "virtio,bridge=vmbr0"),
            ("sata3", "local:iso/installer.iso,media=cdrom"),
            // ds=nocloud;s=http://10.0.0.1/
            ("smbios1", "serial=ZHM9bm9jbG91ZDtzPWh0dHA6Ly8xMC4wLjAuMS8=,base64=1"),
        ],
    );
    let profile = variant(server.folder.path(), "k8s1", &[MINE]);
    let run =
        |args: &[&str]| server.run(&[args, &["--profile", &profile]].concat(), &server.endpoints);
    let before = requests(&server.site()).len();
    let refused = run(&["up", "--quiet"]);
    let told = run(&["doctor"]);
    let after = requests(&server.site());
    let written = after[before..].iter().find(|request| request["method"] != "GET");
    assert_eq!(written, None, "nothing is written");
    let text = redact(&refused.stderr, server.folder.path());
    assert_golden("refused/template.txt", &format!("exit {}\n{text}", refused.code));
    let text = redact(&told.stdout, server.folder.path());
    assert_golden("doctor/template.txt", &format!("exit {}\n{text}", told.code));

    let json = run(&["doctor", "--json"]).json();
    let findings = json["findings"].as_array().unwrap();
    let fixes = findings.iter().flat_map(|finding| finding["fix"].as_array().unwrap());
    let lines: Vec<&str> = fixes.filter_map(Value::as_str).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    lines.into_iter().for_each(|line| qm(&api, line));
    assert_eq!(run(&["doctor"]).ok().stdout, "");
    provision(&server, &profile).ok();
    assert!(config(&api, 1101)["scsi0"].as_str().unwrap().ends_with(",size=20G"));
}
