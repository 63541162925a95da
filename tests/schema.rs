//! Checks requests against Proxmox VE's own schema: small cases, a real host's recorded ones, and those
//! in a request log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

mod pve_recordings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use k8sha_simulator::pve::apidoc::{Refusal, Request, Schema};
use k8sha_simulator::pve::wire::{self, Params};
use serde_json::{Value, json};

use pve_recordings::{exchanges, material, tell};

/// A small schema with only the rules under test.
fn small() -> Schema {
    Schema::new(json!({
        "_meta": {
            "indexed": {"net[n]": [0, 31], "ipconfig[n]": [0, 31], "scsi[n]": [0, 30]},
            "opaque_formats": ["anything"],
            "privileges": ["VM.Audit", "VM.Clone"],
        },
        "formats": {
            "dns-name": {"regex": "^[A-Za-z0-9][A-Za-z0-9.\\-]*$", "error": "no name: $name"},
            "tag": {"regex": "^(?i)[a-z0-9_]+$", "error": "bad tag"},
            "vmid": {"regex": "^[1-9][0-9]{2,8}$", "error": "no VM ID"},
            "ipv4": {"regex": "^\\d+\\.\\d+\\.\\d+\\.\\d+$", "error": "no address"},
            "pve-ipv4-config": {"semantic": "dhcp, manual or CIDR", "error": "no network"},
            "pve-priv": {"semantic": "a privilege", "error": "invalid privilege '$priv'"},
            "ipconfig": {"property_string": {
                "ip": {"type": "string", "optional": 1, "format": "pve-ipv4-config"},
                "gw": {"type": "string", "optional": 1, "format": "ipv4", "requires": "ip"},
            }},
        },
        "endpoints": {
            "/version": {"GET": {"parameters": {"additionalProperties": 0, "properties": {}}}},
            "/roles": {"POST": {"parameters": {"additionalProperties": 0, "properties": {
                "privs": {"type": "string", "format": "pve-priv-list"},
            }}}},
            "/vm/{vmid}": {"PUT": {"parameters": {"additionalProperties": 0, "properties": {
                "vmid": {"type": "integer", "format": "vmid", "maximum": 999_999_999},
                "name": {"type": "string", "optional": 1, "format": "dns-name", "maxLength": 9},
                "cores": {"type": "integer", "optional": 1, "minimum": "1"},
                "onboot": {"type": "boolean", "optional": 1},
                "kind": {"type": "string", "optional": 1, "enum": ["raw", "qcow2"]},
                "size": {"type": "string", "optional": 1, "pattern": "\\+?\\d+[KMG]?"},
                "tags": {"type": "string", "optional": 1, "format": "tag-list"},
                "mail": {"type": "string", "optional": 1, "format": "dns-name-opt"},
                "other": {"type": "string", "optional": 1, "format": "anything"},
                "command": {"type": "array", "optional": 1, "items": {"type": "string"}},
                "ipconfig[n]": {"type": "string", "optional": 1, "format": "ipconfig"},
                "net[n]": {"type": "string", "optional": 1, "format": {
                    "model": {"type": "string", "default_key": 1, "enum": ["virtio", "e1000"]},
                    "virtio": {"keyAlias": "model", "alias": "macaddr"},
                    "macaddr": {"type": "string", "optional": 1},
                    "bridge": {"type": "string", "optional": 1},
                    "firewall": {"type": "boolean", "optional": 1},
                    "tag": {"type": "integer", "optional": 1, "minimum": 1, "maximum": 4094},
                }},
            }}}},
            "/content/{volume}": {"DELETE": {"parameters": {"additionalProperties": 0,
                "properties": {"volume": {"type": "string"}}}}},
        },
    }))
}

fn put(name: &str, value: impl Into<Value>) -> Result<(), Refusal> {
    small().check(&Request::new("PUT", "/api2/json/vm/101").with(name, value))
}

/// The text of a request's only error.
fn fault(name: &str, value: impl Into<Value>) -> String {
    match put(name, value) {
        Err(Refusal::Parameters(errors)) if errors.len() == 1 => errors[name].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_paths_and_methods_are_distinguished() {
    let check = |method, url| small().check(&Request::new(method, url));
    assert_eq!(check("GET", "/api2/json/version"), Ok(()));
    assert_eq!(check("GET", "/api2/json/version?_dc=17"), Ok(()));
    assert_eq!(check("GET", "/api2/json/versions"), Err(Refusal::NoPath));
    assert_eq!(check("POST", "/api2/json/version"), Err(Refusal::NoMethod));
    assert_eq!(check("DELETE", "/api2/json/content/local%3Aiso%2Fa.iso"), Ok(()));
    assert_eq!(check("DELETE", "/api2/json/content/iso/a.iso"), Ok(()));
}

#[test]
fn values_in_the_path_are_checked_and_cannot_be_overridden() {
    let check = |url| small().check(&Request::new("PUT", url));
    let Err(Refusal::Parameters(errors)) = check("/vm/7") else { panic!() };
    assert_eq!(errors["vmid"], "invalid format - no VM ID\n");
    assert_eq!(check("/vm/101?vmid=101"), Ok(()));
    assert!(matches!(check("/vm/101?vmid=102"), Err(Refusal::Parameters(_))));
}

#[test]
fn types_follow_perls_rules() {
    assert_eq!(put("onboot", "1"), Ok(()));
    assert_eq!(put("onboot", true), Ok(()));
    assert_eq!(fault("onboot", "true"), "type check ('boolean') failed - got 'true'");
    assert_eq!(fault("onboot", ""), "type check ('boolean') failed - got ''");
    assert_eq!(put("cores", 2), Ok(()));
    assert_eq!(fault("cores", "2.5"), "type check ('integer') failed - got '2.5'");
    assert_eq!(fault("cores", json!(["1", "2"])), "type check ('integer') failed - got 'ARRAY'");
    assert_eq!(put("command", "ls"), Ok(()));
}

#[test]
fn limits_are_enforced() {
    assert_eq!(fault("cores", "0"), "value must have a minimum value of 1");
    assert_eq!(fault("name", "abcdefghij"), "value may only be 9 characters long");
    assert_eq!(fault("name", "a_b"), "invalid format - no name: a_b\n");
    let unknown = "value 'vmdk' does not have a value in the enumeration 'raw, qcow2'";
    assert_eq!(fault("kind", "vmdk"), unknown);
    assert_eq!(fault("size", "2GB"), "value does not match the regex pattern");
    assert!(fault("colour", "red").starts_with("property is not defined in schema"));
    assert_eq!(put("other", "§"), Ok(()));
}

#[test]
fn lists_are_checked_element_by_element() {
    assert_eq!(put("tags", "a;b,c d"), Ok(()));
    assert_eq!(put("tags", ""), Ok(()));
    assert_eq!(put("tags", json!(["a", "b"])), Ok(()));
    assert_eq!(fault("tags", "a;b/c"), "invalid format - bad tag\n");
    assert_eq!(put("mail", ""), Ok(()));
    let role = Request::new("POST", "/roles").with("privs", "VM.Audit,VM.Monitor");
    let Err(Refusal::Parameters(errors)) = small().check(&role) else { panic!() };
    assert_eq!(errors["privs"], "invalid format - invalid privilege 'VM.Monitor'\n");
    let Err(Refusal::Parameters(errors)) = small().check(&Request::new("POST", "/roles")) else {
        panic!()
    };
    assert_eq!(errors["privs"], "property is missing and it is not optional");
}

#[test]
fn property_strings_are_checked_key_by_key() {
    assert_eq!(put("net0", "virtio,bridge=vmbr0"), Ok(()));
    assert_eq!(put("net31", "virtio=BC:24:11:00:00:01,firewall=off,tag=5"), Ok(()));
    assert_eq!(put("net0", "bridge=vmbr0,model=e1000"), Ok(()));
    assert!(fault("net32", "virtio").starts_with("property is not defined in schema"));
    assert!(fault("net0", "foo").contains("net0.model: value 'foo' does not have"));
    assert!(fault("net0", "virtio,bridge=a,bridge=b").contains("duplicate key"));
    assert!(fault("net0", "virtio,colour=red").contains("net0.colour: property is not defined"));
    assert!(fault("net0", "virtio,tag=4095").contains("net0.tag: value must have a maximum"));
    assert!(fault("net0", "bridge=vmbr0").contains("net0.model: property is missing"));
    assert_eq!(put("ipconfig0", "ip=10.0.0.3/24,gw=10.0.0.1"), Ok(()));
    assert_eq!(
        fault("ipconfig0", "gw=10.0.0.1"),
        "invalid format - format error\nipconfig0.ip: missing property required by 'ipconfig0.gw'\n"
    );
    assert_eq!(
        fault("ipconfig0", "ip=10.0.0.3"),
        "invalid format - format error\nipconfig0.ip: invalid format - no network\n\n"
    );
}

#[test]
fn unparsable_rules_are_reported_and_refuse_requests() {
    assert_eq!(small().unreadable(), BTreeSet::new());
    let rule = |rule: Value| {
        let call = json!({"GET": {"parameters": {"properties": {"a": rule}}}});
        Schema::new(json!({"formats": {"x": {}}, "endpoints": {"/call": call}}))
    };
    for (bad, about) in [
        (json!({"type": "string", "pattern": "(?!a)b"}), "the pattern `(?!a)b`"),
        (json!({"type": "string", "format": "nobody-knows"}), "the format `nobody-knows`"),
        (json!({"type": "tree"}), "the type `tree`"),
    ] {
        let schema = rule(bad);
        let told: Vec<String> = schema.unreadable().into_iter().collect();
        assert!(told.len() == 1 && told[0].contains(about), "{told:?}");
        let refused = schema.check(&Request::new("GET", "/call?a=b"));
        assert!(matches!(refused, Err(Refusal::Parameters(_))), "{refused:?}");
    }
}

#[test]
fn the_published_script_of_proxmoxs_api_viewer_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apidoc.js");
    let version = json!({"GET": {"parameters": {"additionalProperties": 0}}});
    let vm = json!({"PUT": {"parameters": {"additionalProperties": 0, "properties": {
        "vmid": {"type": "integer", "format": "pve-vmid"},
        "cores": {"type": "integer", "optional": 1, "minimum": 1},
        "net[n]": {"type": "string", "optional": 1, "format": {
            "model": {"type": "string", "default_key": 1}}},
    }}}});
    let tree = json!([
        {"path": "/version", "leaf": 1, "info": version},
        {"path": "/vm", "children": [{"path": "/vm/{vmid}", "leaf": 1, "info": vm}]},
    ]);
    let viewer = "let method2cmd = { GET: 'get' };\nExt.onReady(function() {});\n";
    std::fs::write(&file, format!("const apiSchema = {tree};\n\n{viewer}")).unwrap();
    let schema = Schema::read(&file).unwrap();
    let check = |method, url| schema.check(&Request::new(method, url));
    assert_eq!(check("GET", "/version"), Ok(()));
    assert_eq!(check("GET", "/vm"), Err(Refusal::NoPath));
    assert_eq!(check("PUT", "/vm/101?cores=2&net7=virtio"), Ok(()));
    assert!(matches!(check("PUT", "/vm/101?cores=0"), Err(Refusal::Parameters(_))));
    assert!(matches!(check("PUT", "/vm/101?core=1"), Err(Refusal::Parameters(_))));

    std::fs::write(&file, "{}").unwrap();
    assert!(Schema::read(&file).unwrap_err().to_string().contains("holds no API"));
}

/// Proxmox's schema, if it is present beside the checkout.
fn proxmox() -> Option<Schema> {
    let Ok(text) = std::fs::read(material().join("pve-api-schema.json")) else {
        tell("SKIPPED: no schema of Proxmox VE beside this checkout");
        return None;
    };
    Some(Schema::new(serde_json::from_slice(&text).unwrap()))
}

/// Recorded lines for which this checker and the real host differ, each with its reason.
const EXCEPTIONS: &[(&[u64], &str)] = &[
    (&[135], "setting and deleting the same option is refused in code, not by the schema"),
    (&[271, 674], "refused because of what exists"),
    (&[289, 290, 318, 319, 321], "the multipart parser refuses before the schema is asked"),
    (&[295, 354], "file extensions are checked in code"),
    (&[729, 731, 732, 733, 807], "tasks are looked up in code"),
];

/// The fields of a recorded multipart body, with the file's name as the value of its field. The bodies
/// were shortened when they were recorded, so this parses what is left of them.
fn parts(body: &str) -> Vec<(String, String)> {
    let part = |part: &str| {
        let (disposition, rest) = part.split_once('\n')?;
        let quoted = |key: &str| {
            let (_, after) = disposition.split_once(&format!("{key}=\""))?;
            after.split('"').next().map(str::to_owned)
        };
        let content = rest.split_once('\n').map(|(_, body)| body.lines().next().unwrap_or(""));
        let value = quoted("filename").filter(|_| disposition.contains(" filename="));
        Some((quoted("name")?, value.or(content.map(str::to_owned))?))
    };
    body.split("Content-Disposition: form-data; ").skip(1).filter_map(part).collect()
}

/// A recorded body's parameters.
fn parameters(kind: &str, body: &str) -> Params {
    if kind.starts_with("multipart/form-data") {
        let mut params = Params::default();
        parts(body).into_iter().for_each(|(name, value)| params.add(name, value));
        return params;
    }
    if kind.starts_with("application/json") {
        return wire::read_json(body.as_bytes()).unwrap_or_default();
    }
    wire::read_form(body)
}

/// A recorded exchange's request as its server decoded it.
fn recorded(exchange: &Value) -> Option<Request> {
    let request = Request::new(exchange["method"].as_str()?, exchange["url"].as_str()?);
    let kind = exchange["req_headers"]["Content-Type"].as_str().unwrap_or_default();
    let body = match &exchange["req_body"] {
        Value::Null => return Some(request),
        Value::String(body) => body.clone(),
        body => body.to_string(),
    };
    Some(request.with_all(&parameters(kind, &body)))
}

/// The parameters that a real host reported as wrong.
fn complaints(exchange: &Value) -> BTreeMap<String, String> {
    let body = exchange["resp_body"].as_str().unwrap_or_default();
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    serde_json::from_value(answer["errors"].clone()).unwrap_or_default()
}

#[test]
fn recorded_requests_get_the_real_hosts_verdicts() {
    let (Some(schema), Some(exchanges)) = (proxmox(), exchanges()) else { return };
    let (mut taken, mut beyond, mut rejected, mut verbatim) = (0, BTreeSet::new(), 0, 0);
    let (mut used, mut wrong) = (BTreeSet::new(), Vec::new());
    for exchange in &exchanges {
        let Some(request) = recorded(exchange) else { continue };
        let (line, status) = (exchange["line"].as_u64().unwrap(), exchange["status"].as_u64());
        let verdict = schema.check(&request);
        let (method, path) = (&request.method, &request.path);
        let agrees = match (status, &verdict) {
            (Some(200..=299), Err(Refusal::NoPath | Refusal::NoMethod)) => {
                // The file has 198 of Proxmox's methods; requests to others are only counted.
                beyond.insert(format!("{method} {path}"));
                true
            }
            (Some(200..=299), verdict) => {
                taken += usize::from(verdict.is_ok());
                verdict.is_ok()
            }
            (Some(400), Err(Refusal::Parameters(errors))) => {
                let real = complaints(exchange);
                rejected += 1;
                verbatim += usize::from(*errors == real);
                errors.keys().eq(real.keys())
            }
            (Some(400), _) => false,
            // A request that failed later had passed the schema.
            (Some(500), verdict) => verdict.is_ok(),
            _ => true,
        };
        if !agrees {
            match EXCEPTIONS.iter().find(|(lines, _)| lines.contains(&line)) {
                Some(_) => drop(used.insert(line)),
                None => wrong.push(format!("line {line} {method} {path}: {verdict:?}")),
            }
        }
    }
    tell(&format!(
        "schema: {taken} requests that a real host took pass, {} are beyond the schema, {rejected} \
         that it refused are refused ({verbatim} word for word), {} differ for a listed reason",
        beyond.len(),
        used.len(),
    ));
    eprintln!("beyond the schema: {beyond:?}");
    assert!(wrong.is_empty(), "{} unexplained:\n{}", wrong.len(), wrong.join("\n"));
    let listed: BTreeSet<u64> = EXCEPTIONS.iter().flat_map(|(lines, _)| *lines).copied().collect();
    assert_eq!(used, listed, "the table of exceptions holds lines that need none");
    assert!(taken > 300 && rejected > 30, "{taken} {rejected}");
}

/// Runs the program on a simulated world that checks its requests against Proxmox's schema.
fn run(home: &Path, profile: &str, args: &[&str]) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_k8sha"));
    program.env("HOME", home).env_remove("XDG_STATE_HOME").stdin(Stdio::null());
    program.args(args).args(["--quiet", "--profile", profile, "--speed", "150", "--simulate"]);
    program.arg(home.join("world")).arg("--schema").arg(material().join("pve-api-schema.json"));
    let output = program.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn proxmox_would_accept_every_request_of_a_run() {
    if proxmox().is_none() {
        return;
    }
    for profile in ["k8s1", "homelab"] {
        let home = tempfile::tempdir().unwrap();
        run(home.path(), profile, &["doctor"]);
        run(home.path(), profile, &["up"]);
        run(home.path(), profile, &["destroy", "--yes"]);
        let log = std::fs::read_to_string(home.path().join("world/requests.jsonl")).unwrap();
        let writes = log.lines().filter(|line| !line.contains(r#""method":"GET""#)).count();
        let all = log.lines().count();
        tell(&format!("schema: {profile}: {all} requests, {writes} of them writes"));
        assert!(writes > 20, "{writes}");
        let refused: Vec<&str> = log.lines().filter(|line| line.contains("violation")).collect();
        assert!(refused.is_empty(), "{} refused:\n{}", refused.len(), refused.join("\n"));
    }
}

#[test]
fn every_rule_of_the_schema_can_be_applied() {
    let Some(schema) = proxmox() else { return };
    assert_eq!(schema.unreadable(), BTreeSet::new());
}
