//! The guest's agent, once it is installed.

use hadris_iso::write::options::CreationFeatures;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::Bench;
use crate::guests::iso::tests::write;

const AGENT: &str = "/nodes/pve1/qemu/101/agent";

impl Bench {
    /// VM 101, whose seed installs the agent, as soon as the agent answers.
    async fn with_agent() -> Self {
        let bench = Self::new().await;
        bench.template("local-lvm").await;
        bench.cloned("101", "a").await;
        let user = "#cloud-config\npackages: [qemu-guest-agent]\n\
                    runcmd: [[systemctl, enable, --now, qemu-guest-agent]]\n";
        let network = "version: 2\nethernets:\n  id0:\n    match: {name: 'e*'}\n    addresses: \
                       [10.101.1.77/24]\n    routes: [{to: default, via: 10.101.1.1}]\n    \
                       nameservers: {addresses: [10.101.1.2]}\n";
        let meta = "instance-id: agent-1\nlocal-hostname: itself\n";
        let files = [("user-data", user), ("meta-data", meta), ("network-config", network)];
        let image = write("cidata", &files, CreationFeatures::rock_ridge());
        let file = Part::bytes(image).file_name("seed.iso");
        let form = Form::new().text("content", "iso").part("filename", file);
        let upload = bench.request("POST", "/nodes/pve1/storage/local/upload").multipart(form);
        let token = format!("PVEAPIToken={}", bench.host().token);
        let sent = bench.send(upload.header("Authorization", token)).await;
        assert_eq!(bench.wait(sent.data().as_str().unwrap()).await, "OK");
        let drive = [("ide0", "local:iso/seed.iso,media=cdrom"), ("delete", "ide2")];
        assert_eq!(bench.put(101, &drive).await.status, 200);
        bench.start().await;
        bench
    }

    async fn start(&self) {
        assert_eq!(self.task("POST", "/nodes/pve1/qemu/101/status/start", &[]).await, "OK");
        for _ in 0..100 {
            if self.call("POST", &format!("{AGENT}/ping"), &[]).await.status == 200 {
                return;
            }
        }
        panic!("the agent does not answer");
    }

    async fn run(&self, words: &[&str]) -> i64 {
        let form: Vec<_> = words.iter().map(|word| ("command", *word)).collect();
        let reply = self.call("POST", &format!("{AGENT}/exec"), &form).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.data()["pid"].as_i64().unwrap()
    }

    async fn ran(&self, pid: i64) -> Result<Value, String> {
        let reply = self.call("GET", &format!("{AGENT}/exec-status?pid={pid}"), &[]).await;
        if reply.status == 200 { Ok(reply.data().clone()) } else { Err(reply.reason) }
    }
}

#[tokio::test]
async fn a_guest_reports_its_own_name_and_not_that_of_the_vm() {
    let bench = Bench::with_agent().await;
    assert_eq!(bench.config(101).await["name"], "a");
    let name = bench.get(&format!("{AGENT}/get-host-name")).await;
    assert_eq!(name, json!({"result": {"host-name": "itself"}}));
}

#[tokio::test]
async fn the_output_of_a_command_is_reported_once() {
    let bench = Bench::with_agent().await;
    let hi = bench.run(&["/bin/echo", "hi", "there"]).await;
    let quiet = bench.run(&["/bin/true"]).await;
    assert_ne!(hi, quiet);
    // Recorded on a real guest: lines 426 and 427 of the first recording.
    let said = json!({"exited": 1, "exitcode": 0, "out-data": "hi there\n", "out-truncated": 0});
    assert_eq!(bench.ran(hi).await, Ok(said));
    assert_eq!(bench.ran(quiet).await, Ok(json!({"exited": 1, "exitcode": 0})));
    let gone = Err("Agent error: PID ld does not exist".to_owned());
    for pid in [hi, quiet, 99_999] {
        assert_eq!(bench.ran(pid).await, gone, "{pid}");
    }
}

#[tokio::test]
async fn a_switched_off_guest_loses_the_output_of_its_commands() {
    let bench = Bench::with_agent().await;
    let pid = bench.run(&["echo", "hi"]).await;
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/101/status/stop", &[]).await, "OK");
    assert_eq!(bench.ran(pid).await, Err("VM 101 is not running".to_owned()));
    bench.start().await;
    assert_eq!(bench.ran(pid).await, Err("Agent error: PID ld does not exist".to_owned()));
}
