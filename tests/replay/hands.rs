//! Actions on the recorded host outside the recording, repeated by API calls.

use std::sync::Arc;

use k8sha_simulator::Sim;
use k8sha_simulator::faults::{FaultKind, Faults};
use k8sha_simulator::pve::state::Volume;
use k8sha_simulator::world::SimTime;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::names::Names;
use crate::setting::Step;
use crate::wire::{Answer, Door, Sent};

/// The recorded secret of `root@pam!full`, of `prov@pve!tok`, and the passwords.
const ROOT_SECRET: &str = "aaaaaaaa-0000-4000-8000-000000000006";
const PROV_SECRET: &str = "aaaaaaaa-0000-4000-8000-000000000005";
const ROOT_PASSWORD: &str = "Pve-root-1";
const PROV_PASSWORD: &str = "Prov-pw-12345";
/// The privileges of the role that performed everything.
const PROVISIONER: &str = "Datastore.AllocateSpace,Datastore.AllocateTemplate,Datastore.Audit,\
    SDN.Use,Sys.Audit,VM.Allocate,VM.Audit,VM.Clone,VM.Config.CDROM,VM.Config.CPU,\
    VM.Config.Cloudinit,VM.Config.Disk,VM.Config.HWType,VM.Config.Memory,VM.Config.Network,\
    VM.Config.Options,VM.GuestAgent.Audit,VM.PowerMgmt";

/// A user with `root@pam`'s privileges on a simulated site.
pub struct Hands {
    sim: Arc<Sim>,
    door: Door,
    auth: Vec<(String, String)>,
    /// The grants of `prov@pve` for the current exchange: (path, privilege).
    grants: Vec<(String, String)>,
    /// The actions that failed since the last query.
    failed: Vec<String>,
}

/// Form-encodes fields.
fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The role with a single privilege, as the recorded world named it.
fn role_of(privilege: &str) -> String {
    format!("P_{}", privilege.replace('.', "_"))
}

impl Hands {
    /// Logs in at `pve1` and creates the root user's token of the recorded world.
    pub async fn new(sim: Arc<Sim>, names: &mut Names) -> Self {
        sim.shared().act(|world, _| world.pve.told = true);
        let endpoint = sim.endpoints().hosts["pve1"].clone();
        let door = Door::new(&endpoint);
        let mut hands =
            Self { sim, door, auth: Vec::new(), grants: Vec::new(), failed: Vec::new() };
        let password = endpoint.root_password.as_str();
        let login = [("username", "root@pam"), ("password", password)];
        let ticket = hands.call("POST", "/access/ticket", &login).await;
        let word = |key: &str| ticket[key].as_str().unwrap().to_owned();
        hands.auth = vec![
            ("Cookie".to_owned(), format!("PVEAuthCookie={}", word("ticket"))),
            ("CSRFPreventionToken".to_owned(), word("CSRFPreventionToken")),
        ];
        names.learn(ROOT_PASSWORD, password);
        let full = "/access/users/root@pam/token/full";
        let token = hands.call("POST", full, &[("privsep", "0")]).await;
        names.learn(ROOT_SECRET, token["value"].as_str().unwrap());
        // A token's tasks are shown with the token, like those of the recording.
        let secret = names.translate(ROOT_SECRET);
        let token = format!("PVEAPIToken=root@pam!full={secret}");
        hands.auth = vec![("Authorization".to_owned(), token)];
        hands
    }

    /// The same, and creates the user `prov@pve` with a token.
    pub async fn with_provisioner(sim: Arc<Sim>, names: &mut Names) -> Self {
        let mut hands = Self::new(sim, names).await;
        let user = [("userid", "prov@pve"), ("password", PROV_PASSWORD)];
        hands.call("POST", "/access/users", &user).await;
        let tok = "/access/users/prov@pve/token/tok";
        let token = hands.call("POST", tok, &[("privsep", "0")]).await;
        names.learn(PROV_SECRET, token["value"].as_str().unwrap());
        hands
    }

    /// The root user's password.
    pub fn password(&self) -> String {
        self.sim.endpoints().hosts["pve1"].root_password.clone()
    }

    /// The simulated time.
    pub fn now(&self) -> SimTime {
        self.sim.shared().clock.now()
    }

    /// Advances the time.
    pub fn skip_to(&self, at: SimTime) {
        self.sim.shared().clock.skip_to(at);
    }

    /// Makes `pvestatd` report.
    pub fn report(&self) {
        self.sim.shared().act(|world, _| world.pve.report());
    }

    async fn send(&self, sent: &Sent) -> Answer {
        self.door.open().await.ask(sent).await
    }

    /// The actions that failed since the last query.
    pub fn failed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failed)
    }

    /// A call that should succeed; returns the answer's `data`.
    async fn call(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> Value {
        let in_query = matches!(method, "GET" | "DELETE") && !fields.is_empty();
        let query = if in_query { format!("?{}", form(fields)) } else { String::new() };
        let mut headers = self.auth.clone();
        headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
        let body = (!matches!(method, "GET" | "DELETE")).then(|| form(fields).into_bytes());
        let target = format!("/api2/json{path}{query}");
        let answer = self.send(&Sent { method: method.into(), target, headers, body }).await;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != Some(200) {
            self.failed.push(format!("{method} {path} {fields:?}: {:?} {text}", answer.status));
            return Value::Null;
        }
        serde_json::from_str::<Value>(&text).unwrap_or_default()["data"].take()
    }

    /// A call; waits for its task, if it starts one.
    async fn done(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) {
        let data = self.call(method, path, fields).await;
        let Some(upid) = data.as_str().filter(|data| data.starts_with("UPID:")) else { return };
        let node = upid.split(':').nth(1).unwrap();
        let status = format!("/nodes/{node}/tasks/{upid}/status");
        for _ in 0..2000 {
            let status = self.call("GET", &status, &[]).await;
            if status["status"] == "stopped" {
                if status["exitstatus"] != "OK" {
                    self.failed.push(format!("{method} {path} {fields:?}: {status}"));
                }
                return;
            }
            self.skip_to(self.now().after(0.1));
        }
        self.failed.push(format!("{method} {path} {fields:?}: {upid} does not end"));
    }

    /// Waits until no task runs.
    async fn idle(&mut self) {
        for _ in 0..20_000 {
            let path = "/nodes/pve1/tasks";
            let tasks = self.call("GET", path, &[("source", "active")]).await;
            let mut tasks = tasks.as_array().into_iter().flatten();
            if tasks.all(|task| task.get("endtime").is_some()) {
                return;
            }
            self.skip_to(self.now().after(0.5));
        }
        self.failed.push("something runs for ever".to_owned());
    }

    /// Waits until a task has ended, as the client of the recording did before such an exchange.
    pub async fn wait_for(&mut self, upid: &str) {
        let node = upid.split(':').nth(1).unwrap_or_default();
        let status = format!("/nodes/{node}/tasks/{upid}/status");
        for _ in 0..2000 {
            let status = self.call("GET", &status, &[]).await;
            if status["status"] != "running" {
                break;
            }
            self.skip_to(self.now().after(0.1));
        }
        // If the task does not exist, the exchange itself reports it.
        self.failed.clear();
    }

    /// Performs a step.
    pub async fn take(&mut self, step: &Step, names: &mut Names) {
        let vm = |vmid: u32| format!("/nodes/pve1/qemu/{vmid}");
        match *step {
            Step::Call(method, path, fields) => self.done(method, path, fields).await,
            Step::Try(method, path, fields) => {
                self.call(method, path, fields).await;
                self.failed.clear();
            }
            Step::Clone(newid, fields) => {
                let newid = newid.to_string();
                let fields: Vec<_> =
                    [("newid", newid.as_str())].into_iter().chain(fields.iter().copied()).collect();
                self.done("POST", "/nodes/pve1/qemu/9000/clone", &fields).await;
            }
            Step::Config(vmid, fields) => {
                self.done("PUT", &format!("{}/config", vm(vmid)), fields).await;
            }
            Step::Start(vmid) => {
                self.done("POST", &format!("{}/status/start", vm(vmid)), &[]).await;
            }
            Step::Stop(vmid) => {
                self.done("POST", &format!("{}/status/stop", vm(vmid)), &[]).await;
            }
            Step::Destroy(vmid) => {
                self.idle().await;
                self.done("DELETE", &vm(vmid), &[("purge", "1")]).await;
            }
            Step::Idle => self.idle().await,
            Step::Snippet(name, size) => self.snippet(name, size),
            Step::Image => self.image().await,
            Step::Grants(grants) => self.grant(grants).await,
            Step::Provisioner => self.provisioner("0").await,
            Step::NoProvisioner => self.provisioner("1").await,
            Step::ProvisionerRole => {
                let role = [("roleid", "Provisioner"), ("privs", PROVISIONER)];
                self.call("POST", "/access/roles", &role).await;
            }
            Step::Digest(vmid, recorded) => {
                let config = self.call("GET", &format!("{}/config", vm(vmid)), &[]).await;
                names.learn(recorded, config["digest"].as_str().unwrap_or_default());
            }
            Step::Ticket(recorded) => {
                let password = names.translate(ROOT_PASSWORD);
                let login = [("username", "root@pam"), ("password", password.as_str())];
                let ticket = self.call("POST", "/access/ticket", &login).await;
                names.learn(recorded, ticket["ticket"].as_str().unwrap_or_default());
            }
            Step::CutOff(host) => self.sim.shared().act(|world, _| {
                world.pve.set_online(host, false);
                let fault = format!("{}@pve1", FaultKind::NoQuorum);
                world.faults = Faults::new(vec![fault.parse().unwrap()]);
            }),
            Step::Reached(host) => self.sim.shared().act(|world, _| {
                world.pve.set_online(host, true);
                world.faults = Faults::default();
            }),
        }
    }

    /// Gives `prov@pve` the role `Provisioner` on its paths, or removes it.
    async fn provisioner(&mut self, delete: &str) {
        for path in ["/vms", "/storage/local", "/sdn/zones/localnetwork", "/nodes/pve1"] {
            let acl = [
                ("path", path),
                ("roles", "Provisioner"),
                ("users", "prov@pve"),
                ("delete", delete),
            ];
            self.call("PUT", "/access/acl", &acl).await;
        }
    }

    /// Adds a file to the snippets, which no call can do.
    fn snippet(&self, name: &str, size: u64) {
        self.sim.shared().act(|world, _| {
            let ctime = world.unix();
            world.pve.datacenters[0].volumes.push(Volume {
                volid: format!("local:snippets/{name}"),
                storage: "local".to_owned(),
                host: Some("pve1".to_owned()),
                content: "snippets".to_owned(),
                format: "snippet".to_owned(),
                size,
                disk: None,
                ctime,
                vmid: None,
                parent: None,
                blob: None,
                sha256: None,
                system: false,
            });
        });
    }

    /// Uploads the small image of the template.
    async fn image(&mut self) {
        let mut headers = self.auth.clone();
        headers.push(("Content-Type".into(), "multipart/form-data; boundary=b".into()));
        let target = "/api2/json/nodes/pve1/storage/local/upload".to_owned();
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\nimport\r\n\
            --b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"tiny.qcow2\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n"
            .to_vec();
        // qcow2's header: magic, version 3, and 48 MiB at byte 24.
        let mut image = vec![0; 4096];
        image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        image[24..32].copy_from_slice(&(48u64 << 20).to_be_bytes());
        body.extend_from_slice(&image);
        body.extend_from_slice(b"\r\n--b--\r\n");
        let sent = Sent { method: "POST".into(), target, headers, body: Some(body) };
        let answer = self.send(&sent).await;
        assert_eq!(answer.status, Some(200), "{answer:?}");
        self.skip_to(self.now().after(5.0));
    }

    /// Gives `prov@pve` exactly these privileges, `/path:Privilege` each.
    pub async fn grant(&mut self, grants: &str) {
        let wanted: Vec<(String, String)> = grants
            .split(", ")
            .filter_map(|grant| grant.rsplit_once(':'))
            .map(|(path, privilege)| (path.to_owned(), privilege.to_owned()))
            .collect();
        let given = std::mem::take(&mut self.grants);
        for (path, privilege) in given.iter().filter(|grant| !wanted.contains(grant)) {
            self.acl(path, privilege, true).await;
        }
        // An earlier grant is not repeated: destroying a VM removes it silently, and the recorded
        // search for the smallest role ran into that.
        for (path, privilege) in wanted.iter().filter(|grant| !given.contains(grant)) {
            self.acl(path, privilege, false).await;
        }
        self.grants = wanted;
    }

    async fn acl(&mut self, path: &str, privilege: &str, delete: bool) {
        let role = role_of(privilege);
        if !delete {
            let roles = self.call("GET", "/access/roles", &[]).await;
            let mut roles = roles.as_array().into_iter().flatten();
            if !roles.any(|known| known["roleid"] == role.as_str()) {
                let fields = [("roleid", role.as_str()), ("privs", privilege)];
                self.call("POST", "/access/roles", &fields).await;
            }
        }
        let mut fields = vec![("path", path), ("roles", role.as_str()), ("users", "prov@pve")];
        if delete {
            fields.push(("delete", "1"));
        }
        self.call("PUT", "/access/acl", &fields).await;
    }

    /// Finds the simulator's task for a recorded UPID that is in no recorded answer.
    pub async fn find_task(&mut self, recorded: &str, names: &mut Names) {
        let what = |upid: &str| upid.splitn(6, ':').nth(5).map(str::to_owned);
        let node = recorded.split(':').nth(1).unwrap_or_default();
        let known = self.sim.endpoints().hosts.contains_key(node);
        if !known || names.knows(recorded) {
            return;
        }
        let tasks = self.call("GET", &format!("/nodes/{node}/tasks"), &[("limit", "500")]).await;
        let upids = tasks.as_array().into_iter().flatten().filter_map(|task| task["upid"].as_str());
        let found = upids.filter(|upid| what(upid) == what(recorded)).find(|u| !names.is_taken(u));
        if let Some(found) = found.map(str::to_owned) {
            names.learn(recorded, &found);
        }
    }
}
