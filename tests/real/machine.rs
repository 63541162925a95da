//! A separate machine: a network namespace of the lab, its own processes and host name, and a root
//! folder that is a layer over this machine's. Everything ends with the test, even with a killed one.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::lab::Lab;
use crate::wait;

/// Folders that are empty in each machine: this machine's contents must be neither visible nor changed
/// there.
const EMPTIED: &str = "run tmp var/log var/lib/etcd var/lib/kubelet etc/kubernetes etc/containerd";

/// A machine that runs until it is dropped.
pub struct Machine {
    _folder: TempDir,
    outer: Child,
    inner: Pid,
}

impl Machine {
    /// Starts a machine of the lab, with these files over this machine's own, and this program as its
    /// first process. It is up once the path `up` exists in it.
    pub fn start(
        lab: &Lab,
        name: &str,
        files: &[(&str, u32, &str)],
        first: &[&str],
        up: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("layer");
        for (path, mode, content) in files {
            let path = layer.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
        let setup = format!(
            "set -eu\nmount -t tmpfs tmpfs \"$0/disk\"\ncd \"$0/disk\"\nmkdir up work root\n\
             mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root\n\
             mount -t proc proc root/proc\nmount --rbind /dev root/dev\n\
             for folder in {EMPTIED}; do\n  mkdir -p root/$folder\n\
             \x20 mount -t tmpfs -o mode=0755 tmpfs root/$folder\ndone\n\
             cp -R \"$0/layer/.\" root/\nhostname {name}\nexec chroot root \"$@\"\n"
        );
        fs::create_dir(folder.path().join("disk")).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut outer = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "ip", "netns", "exec", &lab.name(name)])
            .args(["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--"])
            .args(["/bin/sh", "-c", &setup])
            .arg(folder.path())
            .args(first)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let read_log = || fs::read_to_string(folder.path().join("log")).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut begun = || {
            let ended = outer.try_wait().unwrap();
            assert!(ended.is_none(), "{name}: {}", read_log());
            Pid::from_raw(fs::read_to_string(&children).ok()?.trim().parse().ok()?)
        };
        let limit = Duration::from_secs(20);
        let inner = wait::until("the machine begins", limit, &mut begun, read_log);
        let root = format!("/proc/{}/root", inner.as_raw_nonzero());
        let path = Path::new(&root).join(up.trim_start_matches('/'));
        wait::until("the machine is up", limit, || path.exists().then_some(()), read_log);
        Self { _folder: folder, outer, inner }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inner.as_raw_nonzero().to_string()]);
        command.args(["--mount", "--uts", "--pid", "--net", "--root", "--wd", "--"]);
        command.args(words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env_remove("KUBECONFIG");
        command
    }

    /// Runs a program on it to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// The same with this on standard input.
    pub fn feed(&self, words: &[&str], input: &str) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Writes a file that only root can read, with k8sha's command.
    pub fn write(&self, path: &str, content: &str) {
        let words = ["install", "-D", "-m", "0600", "-o", "root", "-g", "root", "/dev/stdin", path];
        assert!(self.feed(&words, content).status.success(), "{path}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process kills all others of its namespace.
        let _ = kill_process(self.inner, Signal::KILL);
        let _ = self.outer.wait();
    }
}
