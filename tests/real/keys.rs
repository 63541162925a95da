//! The operator's own keys: in a real ssh-agent, in files of real ssh-keygen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use k8sha::ssh::{Command, Error, Identity, KeyPair, Keys, Remote};
use tempfile::TempDir;

use crate::sshd::{KEEN, Setup, Sshd};
use crate::{needs, wait};

const PROGRAMS: &[&str] =
    &["sshd", "ssh-keygen", "ssh-agent", "ssh-add", "sudo", "unshare", "setpriv"];

/// A folder with keys from ssh-keygen.
pub struct Ring {
    folder: TempDir,
}

impl Ring {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Creates a key and returns its file.
    pub fn make(&self, name: &str, kind: &[&str], passphrase: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut make = Program::new("ssh-keygen");
        make.args(["-q", "-C", name, "-N", passphrase, "-t"]).args(kind).arg("-f").arg(&path);
        assert!(make.status().unwrap().success());
        path
    }

    /// Certifies a key for a user with another key.
    fn certify(&self, authority: &Path, key: &Path, user: &str) {
        let mut sign = Program::new("ssh-keygen");
        sign.args(["-q", "-I", "test", "-n", user, "-s"]).arg(authority).arg(public_file(key));
        assert!(sign.status().unwrap().success());
    }
}

fn public_file(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

pub fn public(key: &Path) -> String {
    fs::read_to_string(public_file(key)).unwrap()
}

/// A real ssh-agent, which ends with the test.
pub struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let child = Program::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "ssh-agent", "-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let there = || socket.exists().then_some(());
        wait::until("ssh-agent listens", Duration::from_secs(10), there, String::new);
        Self { child, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Runs ssh-add with these arguments.
    pub fn add(&self, words: &[&str], key: &Path) {
        let mut add = Program::new("ssh-add");
        add.arg("-q").args(words).arg(key).env("SSH_AUTH_SOCK", self.socket());
        assert!(add.stderr(Stdio::null()).status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with(sshd: &Sshd, keys: Keys) -> Remote {
    let mut target = sshd.target(KEEN);
    target.keys = keys;
    Remote::new(target)
}

fn stranger() -> Identity {
    Identity::from_openssh(&KeyPair::generate("stranger").unwrap().private).unwrap()
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn every_key_of_the_agent_is_offered_until_one_is_taken() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let (ring, agent) = (Ring::new(), Agent::start());
    let kinds: [(&str, &[&str]); 3] =
        [("first", &["ed25519"]), ("second", &["ecdsa"]), ("third", &["rsa", "-b", "2048"])];
    let files = kinds.map(|(name, kind)| ring.make(name, kind, ""));
    for file in &files {
        agent.add(&[], file);
    }
    // The private halves are only in the agent.
    let publics = files.each_ref().map(|file| public(file));
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    for (nth, wanted) in publics.iter().enumerate() {
        let sshd = Setup::new().key(wanted).start();
        let keys = Keys::from(stranger()).agent(agent.socket());
        let remote = with(&sshd, keys);
        assert_eq!(remote.run_ok(&Command::new("whoami")).await.unwrap().stdout_text(), "keen\n");
        let log = sshd.log();
        // k8sha's key first, then the agent's in its order, none after the right one.
        assert_eq!(log.matches("Failed publickey for keen").count(), nth + 1, "{log}");
        assert_eq!(log.matches("Accepted publickey for keen").count(), 1, "{log}");
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn offered_and_refused_keys_are_reported_one_by_one() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let (ring, agent, empty) = (Ring::new(), Agent::start(), Agent::start());
    let files = [ring.make("first", &["ed25519"], ""), ring.make("second", &["ecdsa"], "")];
    files.iter().for_each(|file| agent.add(&[], file));
    let sshd = Sshd::start();
    let keys = Keys::from(stranger()).agent(empty.socket()).agent(agent.socket());
    let error = with(&sshd, keys).run(&Command::new("id")).await.unwrap_err();
    let Error::AuthRefused { offered, .. } = &error else { panic!("{error}") };
    for text in [
        "k8sha's own key (ed25519 SHA256:",
        "it holds none, the agent's key `first` (ed25519 SHA256:",
        "the agent's key `second` (ecdsa-sha2-nistp256 SHA256:",
    ] {
        assert!(offered.contains(text), "{text}: {offered}");
    }
    // A server that disconnects after two keys is reported as such.
    let sshd = Setup::new().config("MaxAuthTries 2\n").start();
    let keys = Keys::from(stranger()).agent(agent.socket());
    let error = with(&sshd, keys).run(&Command::new("id")).await.unwrap_err();
    let Error::AuthRefused { offered, .. } = &error else { panic!("{error}") };
    assert!(offered.ends_with("(MaxAuthTries)"), "{offered}");
    assert!(offered.contains("`first`") && !offered.contains("`second`"), "{offered}");
    // One that requires something besides the key, too.
    let more = "AuthenticationMethods publickey,password\nPasswordAuthentication yes\n";
    let sshd = Setup::new().config(more).start();
    let error = sshd.remote(KEEN).run(&Command::new("id")).await.unwrap_err();
    let Error::AuthRefused { offered, .. } = &error else { panic!("{error}") };
    assert!(
        offered.ends_with("which is accepted but not sufficient: password also required"),
        "{offered}"
    );
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn an_agent_that_does_not_sign_or_is_gone_leaves_the_other_keys() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let (ring, agent) = (Ring::new(), Agent::start());
    let asks = ring.make("asks", &["ed25519"], "");
    // It asks for a confirmation, and no user is there to give it.
    agent.add(&["-c"], &asks);
    let sshd = Setup::new().key(&public(&asks)).start();
    let keys = Keys::none().agent("/nowhere/agent").agent(agent.socket());
    let error = with(&sshd, keys.clone()).run(&Command::new("id")).await.unwrap_err();
    let Error::AuthRefused { offered, .. } = &error else { panic!("{error}") };
    assert!(offered.contains("no key of the ssh-agent at /nowhere/agent: "), "{offered}");
    assert!(offered.contains("but the agent refused to sign with it"), "{offered}");
    let remote = with(&sshd, keys.key("k8sha's own key", sshd.identity()));
    assert!(remote.run_ok(&Command::new("true")).await.is_ok());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_certificate_in_the_agent_logs_in_if_its_key_alone_does_not() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let (ring, agent) = (Ring::new(), Agent::start());
    let (authority, key) = (ring.make("ca", &["ed25519"], ""), ring.make("me", &["ed25519"], ""));
    ring.certify(&authority, &key, KEEN);
    agent.add(&[], &key);
    let sshd = Setup::new().trusting(&public(&authority)).start();
    let remote = with(&sshd, Keys::none().agent(agent.socket()));
    assert!(remote.run_ok(&Command::new("true")).await.is_ok(), "{}", sshd.log());
    assert!(sshd.log().contains("Accepted publickey for keen") && sshd.log().contains("CERT"));
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn private_keys_as_ssh_keygen_writes_them_log_in() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let ring = Ring::new();
    let cases: [(&str, &[&str], &str); 5] = [
        ("ed25519", &["ed25519"], ""),
        ("ecdsa", &["ecdsa", "-b", "384"], ""),
        ("locked", &["ed25519"], "open sesame"),
        ("pkcs8", &["ecdsa", "-m", "PKCS8"], ""),
        ("locked-pkcs8", &["ecdsa", "-m", "PKCS8"], "open sesame"),
    ];
    let files =
        cases.map(|(name, kind, passphrase)| (ring.make(name, kind, passphrase), passphrase));
    let setup = files.iter().fold(Setup::new(), |setup, (file, _)| setup.key(&public(file)));
    let sshd = setup.start();
    for (file, passphrase) in &files {
        let pem = fs::read_to_string(file).unwrap().into();
        assert_eq!(Identity::is_locked(&pem), !passphrase.is_empty(), "{}", file.display());
        let word = (*passphrase).into();
        let given = (!passphrase.is_empty()).then_some(&word);
        let identity = Identity::unlock(&pem, given).unwrap();
        let remote = with(&sshd, Keys::none().key("file", identity));
        assert!(remote.run_ok(&Command::new("true")).await.is_ok(), "{}", file.display());
        if !passphrase.is_empty() {
            let wrong = Identity::unlock(&pem, Some(&"hush".into())).unwrap_err();
            assert!(wrong.to_string().contains("the passphrase does not open it"), "{wrong}");
        }
    }
    // RSA signatures are made only by the agent, and this is reported, in either form.
    let forms: [(&str, &[&str]); 2] =
        [("rsa", &["rsa", "-b", "2048"]), ("rsa-pem", &["rsa", "-b", "2048", "-m", "PEM"])];
    for (name, kind) in forms {
        let file = ring.make(name, kind, "");
        let pem = fs::read_to_string(file).unwrap().into();
        let error = Identity::unlock(&pem, None).unwrap_err();
        assert!(error.to_string().contains("ssh-add"), "{name}: {error}");
    }
}
