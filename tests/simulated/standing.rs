//! `k8sha sim` as a server, and its Proxmox VE as an administrator uses it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8sha::proxmox::Trust;
use k8sha::proxmox::tls::{self, Fingerprint};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Ran, SPEED, assert_allowed, held, ours, program, run};

/// `k8sha sim` as a server.
pub struct Server {
    child: Child,
    pub folder: TempDir,
    pub endpoints: Value,
}

impl Server {
    /// Serves an empty site for the profile `k8s1`.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Serves an empty site; `args` are more arguments of `k8sha sim`.
    pub fn with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_k8sha"));
        command.args(["sim", "--quiet", "--speed", SPEED]).args(args).env("HOME", folder.path());
        command.env("TMPDIR", folder.path()).arg("--simulate").arg(folder.path().join("site"));
        held(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoints = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        Self { child, folder, endpoints }
    }

    /// Runs the program against these endpoints.
    pub fn run(&self, args: &[&str], endpoints: &Value) -> Ran {
        let ran = run(self.command(args, endpoints));
        assert_allowed(&self.site());
        ran
    }

    /// The program against these endpoints.
    pub fn command(&self, args: &[&str], endpoints: &Value) -> Command {
        let (file, state) =
            (self.folder.path().join("endpoints.json"), self.folder.path().join("state"));
        fs::write(&file, endpoints.to_string()).unwrap();
        let mut command = program(self.folder.path());
        let (ours, theirs) = args.split_at(ours(args));
        command.args(ours).arg("--endpoints").arg(file).arg("--state").arg(state).args(theirs);
        command
    }

    /// The folder of its world.
    pub fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// The endpoints with another token for every host.
    pub fn endpoints_with(&self, token: &str) -> Value {
        let mut endpoints = self.endpoints.clone();
        for (_, host) in endpoints["hosts"].as_object_mut().unwrap() {
            host["token"] = Value::from(token);
        }
        endpoints
    }

    /// The API of `pve1`, with all privileges.
    pub fn api(&self) -> Api {
        let host = &self.endpoints["hosts"]["pve1"];
        let text = |key: &str| host[key].as_str().unwrap().to_owned();
        let pin: Fingerprint = text("fingerprint").parse().unwrap();
        let tls = tls::client_config(&Trust::Fingerprint(pin.0)).unwrap();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).http1_only();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Api { runtime, http: http.build().unwrap(), url: text("url"), token: text("token") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Proxmox VE as an administrator uses it.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    /// Makes a call and waits for its task; panics unless it succeeds.
    pub fn call(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Value {
        let data = self.send(method, path, form);
        if let Some(upid) = data.as_str().filter(|text| text.starts_with("UPID:")) {
            let node = upid.split(':').nth(1).unwrap();
            loop {
                let status = self.send("GET", &format!("/nodes/{node}/tasks/{upid}/status"), &[]);
                if status["status"] == "stopped" {
                    assert_eq!(status["exitstatus"], "OK", "{path}");
                    break;
                }
            }
        }
        data
    }

    fn send(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Value {
        let (status, text) = self.try_call(method, path, form);
        assert_eq!(status, 200, "{path}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        body["data"].clone()
    }

    /// Makes a call; returns its status and body.
    pub fn try_call(&self, method: &str, path: &str, form: &[(&str, &str)]) -> (u16, String) {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, format!("{}/api2/json{path}", self.url));
        request = request.header("authorization", format!("PVEAPIToken={}", self.token));
        if !form.is_empty() {
            request = request.form(form);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    /// Runs a `pveum` command line as Proxmox VE's own tool does: through the API. Returns its output.
    pub fn pveum(&self, line: &str) -> Value {
        let words = words(line);
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        let split = all.iter().position(|word| word.starts_with("--")).unwrap_or(all.len());
        let (plain, options) = all.split_at(split);
        let mut form: Vec<(&str, &str)> =
            options.chunks(2).map(|pair| (pair[0].strip_prefix("--").unwrap(), pair[1])).collect();
        match plain {
            ["pveum", "user", "add", id] => {
                form.push(("userid", id));
                self.call("POST", "/access/users", &form)
            }
            ["pveum", "role", "add", name] => {
                form.push(("roleid", name));
                self.call("POST", "/access/roles", &form)
            }
            ["pveum", "role", "modify", name] => {
                self.call("PUT", &format!("/access/roles/{name}"), &form)
            }
            ["pveum", "acl", "modify", path] => {
                form.push(("path", path));
                self.call("PUT", "/access/acl", &form)
            }
            ["pveum", "user", "token", "add", user, name] => {
                self.call("POST", &format!("/access/users/{user}/token/{name}"), &form)
            }
            _ => panic!("no such command: {line}"),
        }
    }
}

/// The words of a command line, as a shell splits them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.trim().chars().chain([' ']) {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (' ', None) if word.is_empty() => {}
            (' ', None) => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words
}

/// A shipped profile with some of its text replaced, in a folder.
pub fn variant(folder: &Path, profile: &str, changes: &[(&str, &str)]) -> String {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/{profile}.yaml"));
    let mut text = fs::read_to_string(ours).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in the profile");
        text = text.replace(from, to);
    }
    let path = folder.join("mine.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
