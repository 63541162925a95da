//! What `tests/kubernetes/build.sh` caches and what it does not, with a fake `go` first in the PATH.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::needs;

/// A separate cache, and a `go` that records each build in `builds` and behaves as `mood` says.
struct Builds {
    folder: TempDir,
}

const GO: &str = r#"#!/bin/sh
case "$1 $2" in
'mod download') mkdir -p "$HERE/k8s.io/kubernetes@v1.34.4" && cd "$HERE/k8s.io/kubernetes@v1.34.4" &&
    printf 'module k8s.io/kubernetes\nreplace k8s.io/api => ./staging/src/k8s.io/api\n' > go.mod &&
    : > go.sum ;;
'env GOMODCACHE') echo "$HERE" ;;
'build '*)
    cat go.mod > "$HERE/go.mod"
    echo built >> "$HERE/builds"
    while [ "$1" != -o ]; do shift; done
    out=$2
    shift 2
    for package; do printf '#!/bin/sh\n' > "$out/${package##*/}"; chmod +x "$out/${package##*/}"; done
    case "$(cat "$HERE/mood")" in
    fails) exit 1 ;;
    killed) kill -KILL "$(ps -o ppid= -p "$PPID")" "$PPID" ;;
    esac ;;
esac
"#;

impl Builds {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let builds = Self { folder };
        fs::write(builds.at("bin/go"), GO).unwrap();
        fs::set_permissions(builds.at("bin/go"), fs::Permissions::from_mode(0o755)).unwrap();
        builds
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, mood: &str, args: &[&str]) -> Output {
        fs::write(self.at("mood"), mood).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/build.sh");
        let path = format!("{}:/usr/bin:/bin", self.at("bin").display());
        let mut command = Command::new(script);
        command.args(args).env("PATH", path).env("HERE", self.folder.path());
        command.env("XDG_CACHE_HOME", self.at("cache")).output().unwrap()
    }

    fn builds(&self) -> usize {
        fs::read_to_string(self.at("builds")).unwrap_or_default().lines().count()
    }
}

#[test]
#[ignore = "part of the real tier; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_build_runs_once_and_is_kept_once_complete() {
    if !needs::asked_for(&["flock"]) {
        return;
    }
    let builds = Builds::new();
    let kubeadm = ["1.34.4", "kubeadm"];
    for mood in ["fails", "killed"] {
        let before = builds.builds();
        assert!(!builds.run(mood, &kubeadm).status.success(), "{mood}");
        assert_eq!(builds.builds(), before + 1, "{mood}");
        let asked = builds.run(mood, &["--if-built", "1.34.4", "kubeadm"]);
        assert_eq!(asked.status.code(), Some(3), "{mood}: {asked:?}");
    }
    let before = builds.builds();
    for _ in 0..2 {
        let output = builds.run("works", &kubeadm);
        assert!(output.status.success(), "{output:?}");
        let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        assert!(folder.starts_with(builds.at("cache")), "{}", folder.display());
        assert!(folder.join("kubeadm").is_file());
    }
    assert_eq!(builds.builds(), before + 1);
    let module = fs::read_to_string(builds.at("go.mod")).unwrap();
    assert!(module.contains("replace k8s.io/api => k8s.io/api v0.34.4"), "{module}");
    // Another binary is built alone, and without Go none is.
    assert!(builds.run("works", &["1.34.4", "kubeadm", "kubectl"]).status.success());
    assert_eq!(builds.builds(), before + 2);
    fs::remove_file(builds.at("bin/go")).unwrap();
    assert!(builds.run("works", &["1.34.4", "kubectl"]).status.success());
    assert_eq!(builds.run("works", &["1.34.4", "kubelet"]).status.code(), Some(3));
}
