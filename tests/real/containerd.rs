//! The configuration that a node writes, read by containerd itself: Debian's 1.6, and 1.7 and 2.x built
//! by `containerd-builds.sh` if Go is available.

use std::path::{Path, PathBuf};

use k8sha::cluster::Role;

use crate::cell::Cell;
use crate::{needs, profiles};

const SCRIPT: &str = "/usr/local/lib/k8sha/containerd";
/// The requests to systemd.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >> /run/asked\n";

/// An unpackaged version, or `None` and a prominent line.
fn built(version: &str) -> Option<PathBuf> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let path = cache.join("k8sha").join(format!("containerd-{version}"));
    if path.is_file() {
        return Some(path);
    }
    needs::say(&format!(
        "SKIPPED: no containerd {version}; with Go, tests/real/containerd-builds.sh builds it"
    ));
    None
}

/// containerd's effective configuration, after the node's own script has run twice.
fn dump(binary: &Path, more: &[&str]) -> (String, String) {
    let cluster = profiles::cluster("k8s1");
    let node = cluster.with_role(Role::Master).next().unwrap();
    let files = profiles::files(&profiles::seed(&cluster, node));
    let script = files.iter().find(|file| file.path == SCRIPT).unwrap();
    let binary = binary.display();
    let cell = Cell::new()
        .empty("/run")
        .empty("/usr/local/lib")
        .empty("/usr/local/sbin")
        .overlaid("/etc")
        .file(SCRIPT, &script.content, script.mode)
        .file("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755)
        // The package's own file, which disables Kubernetes' plugin.
        .file("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n", 0o644)
        .after(&format!("ln -s {binary} /usr/local/sbin/containerd"));
    let image = "registry.k8s.io/pause:3.9";
    let script = format!(
        "{SCRIPT} {image} && {SCRIPT} {image} && cp /run/asked /dev/stderr && containerd {}",
        more.join(" ")
    );
    let output = cell.run(&["/bin/sh", "-c", &script]);
    let (stdout, stderr) = (output.stdout, output.stderr);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(output.status.success(), "{binary}: {stderr}");
    // Once: the second run found it correct.
    assert_eq!(stderr.matches("restart containerd").count(), 1, "{binary}: {stderr}");
    (stdout, stderr)
}

/// The lines of a table of the file, by the end of its name.
fn table<'a>(toml: &'a str, ending: &str) -> Vec<&'a str> {
    let from = toml.lines().skip_while(|line| {
        let line = line.trim();
        !(line.starts_with('[') && line.trim_end_matches(']').ends_with(ending))
    });
    from.skip(1).map(str::trim).take_while(|line| !line.starts_with('[')).collect()
}

fn assert_ours(toml: &str, version: u8, pinned: (&str, &str), said: &str) {
    let top: Vec<&str> = toml.lines().take_while(|line| !line.starts_with('[')).collect();
    assert!(top.contains(&format!("version = {version}").as_str()), "{toml}");
    let disabled = top.iter().find(|line| line.starts_with("disabled_plugins"));
    assert!(disabled.is_none_or(|line| line.ends_with("= []")), "{disabled:?}");
    let options = table(toml, "runtimes.runc.options");
    assert!(options.contains(&"SystemdCgroup = true"), "{options:?} of\n{toml}");
    let images = table(toml, pinned.0);
    assert!(images.contains(&pinned.1), "{images:?} of\n{toml}");
    let lower = said.to_lowercase();
    for word in ["unknown", "deprecat", "invalid", "ignor"] {
        assert!(!lower.contains(word), "{said}");
    }
}

const ONE: (&str, &str) =
    ("\"io.containerd.grpc.v1.cri\"", "sandbox_image = \"registry.k8s.io/pause:3.9\"");
const TWO: (&str, &str) = ("pinned_images", "sandbox = 'registry.k8s.io/pause:3.9'");

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn containerd_one_runs_with_the_nodes_configuration() {
    if !needs::asked_for(&["containerd", "unshare", "setpriv"]) {
        return;
    }
    let packaged = PathBuf::from("/usr/bin/containerd");
    for binary in [Some(packaged), built("1.7.28")].into_iter().flatten() {
        let (toml, said) = dump(&binary, &["config", "dump"]);
        assert_ours(&toml, 2, ONE, &said);
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn containerd_two_runs_with_the_nodes_configuration_without_migration() {
    if !needs::asked_for(&["unshare", "setpriv"]) {
        return;
    }
    let Some(binary) = built("2.1.4") else { return };
    for how in ["dump", "migrate"] {
        let (toml, said) = dump(&binary, &["config", how]);
        assert_ours(&toml, 3, TWO, &said);
    }
}
