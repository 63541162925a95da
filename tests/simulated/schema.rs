//! The simulator checks requests against Proxmox's own schema: violations are refused, logged and
//! reported at the end.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::standing::Server;
use crate::world::{World, k8sha, violations};

/// A schema that has one path, with an unusual parameter.
fn narrow(world: &World) -> PathBuf {
    let version = json!({"parameters": {"additionalProperties": 0, "properties": {
        "who": {"type": "string"},
    }}});
    let file = world.path().parent().unwrap().join("narrow.json");
    fs::write(&file, json!({"endpoints": {"/version": {"GET": version}}}).to_string()).unwrap();
    file
}

#[test]
fn a_run_with_schema_violations_ends_with_their_list() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    assert_eq!(violations(&world.path()), Vec::<String>::new());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_k8sha"));
    command.args(["doctor", "--json", "--simulate"]).arg(world.path()).env("HOME", world.path());
    let output = command.arg("--schema").arg(narrow(&world)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    let line = "GET /api2/json/version on pve1: who: property is missing and it is not optional";
    assert!(text.contains(line), "{text}");
    let kept = violations(&world.path());
    assert!(
        // Requests that are not in the narrow schema at all are answered with 501.
        !kept.is_empty()
            && kept.iter().all(|line| line.contains("\"status\":400") || line.contains(":501")),
        "{kept:?}"
    );
}

#[test]
fn a_schema_requires_the_built_in_simulator() {
    let file = "no-such-file.json";
    let ran = k8sha(&["plan", "--profile", "k8s1", "--schema", file]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("real world"), "{}", ran.stderr);
    let ran = k8sha(&["plan", "--endpoints", file, "--schema", file]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("k8sha sim"), "{}", ran.stderr);
    let world = World::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_k8sha"));
    command.args(["plan", "--simulate"]).arg(world.path()).env("HOME", world.path());
    let output = command.args(["--schema", file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("`no-such-file.json`"), "{text}");
}

/// The running simulator's answer to a request, and the number of violations it has counted.
fn refused(server: &Server, method: &str, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let before = violations(&server.site()).len();
    let (status, body) = server.api().try_call(method, path, form);
    assert_eq!(violations(&server.site()).len(), before + 1, "{method} {path} is not counted");
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn wrong_requests_are_refused_by_the_running_simulator_as_proxmox_does() {
    if crate::world::schema().is_none() {
        return;
    }
    let server = Server::start();
    let api = server.api();
    let new = [("vmid", "700"), ("name", "t"), ("memory", "512"), ("scsi0", "local-lvm:1")];
    api.call("POST", "/nodes/pve1/qemu", &new);
    let config = "/nodes/pve1/qemu/700/config";
    let long = "x".repeat(8193);
    for (name, value, about) in [
        ("core", "2", "property is not defined in schema"),
        ("cores", "two", "type check ('integer') failed"),
        ("cores", "0", "minimum value of 1"),
        ("onboot", "yes", "type check ('boolean') failed"),
        ("description", long.as_str(), "8192 characters"),
        ("ostype", "l25", "in the enumeration"),
        ("name", "a_b", "valid DNS name"),
        ("tags", "a;b/c", "tag"),
        ("net32", "virtio", "property is not defined in schema"),
        ("net0", "virtio,bridge=vmbr0,colour=red", "colour"),
        ("net0", "virtio,bridge=vmbr0,tag=4095", "maximum value of 4094"),
        ("net0", "bridge=vmbr0", "net0.model"),
        ("ipconfig0", "ip=10.0.0.3", "ipconfig0.ip"),
        ("ipconfig0", "gw=10.0.0.1", "ipconfig0.ip"),
        ("scsi0", "local-lvm:1,size=large", "scsi0.size"),
        ("agent", "enabled=1,kind=x", "kind"),
        ("boot", "legacy=scsi0", "boot.legacy"),
    ] {
        let (status, body) = refused(&server, "PUT", config, &[(name, value)]);
        assert_eq!(status, 400, "{name}={value}: {body}");
        assert_eq!(body["message"], "Parameter verification failed.\n", "{name}={value}");
        let text = body["errors"][name].as_str().unwrap_or_default();
        assert!(text.contains(about), "{name}={value}: {body}");
    }
    for (method, path) in [("GET", "/nodes/pve1/qemus"), ("PUT", "/version")] {
        let (status, body) = refused(&server, method, path, &[]);
        assert_eq!(status, 501, "{body}");
        assert_eq!(body["message"], format!("Method '{method} {path}' not implemented"));
    }
    let kept = violations(&server.site()).len();
    api.call("PUT", config, &[("cores", "2"), ("net0", "virtio,bridge=vmbr0,tag=5")]);
    assert_eq!(violations(&server.site()).len(), kept, "what is allowed is not counted");
}
