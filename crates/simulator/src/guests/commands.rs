//! Commands that change only the guest on which they run. cloud-init's `runcmd` and a user over SSH run
//! the same ones.

use super::guest::Guest;
use super::units::short;
use super::{pace, packages};

/// The folder of the product's own scripts.
const OURS: &str = "/usr/local/lib/k8sha/";

/// The result of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Exit code.
    pub code: u32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Its duration in simulated seconds.
    pub seconds: f64,
}

impl Output {
    /// A command that succeeded.
    pub fn ok(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), seconds: pace::COMMAND, ..Self::default() }
    }

    /// A command that failed; a newline is added to the text.
    pub fn failed(code: u32, stderr: impl Into<String>) -> Self {
        let stderr = format!("{}\n", stderr.into());
        Self { code, stderr, seconds: pace::COMMAND, ..Self::default() }
    }

    /// The same, taking longer.
    pub fn lasting(self, seconds: f64) -> Self {
        Self { seconds, ..self }
    }

    /// Both streams, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().chain(self.stderr.lines()).map(str::to_owned).collect()
    }
}

/// The duration of a `runcmd` command.
pub fn pace(argv: &[String]) -> f64 {
    match argv.first().map(String::as_str) {
        Some(script) if script == format!("{OURS}kernel") => pace::KERNEL_INSTALL,
        Some(script) if script == format!("{OURS}etcd") => pace::ETCD_INSTALL,
        Some("apt-get") => argv.iter().skip(2).map(|name| packages::pace(name)).sum(),
        _ => pace::RUNCMD,
    }
}

/// Programs of a stock Ubuntu whose effects are not simulated.
const PLAIN: &str = "add-apt-repository cd chmod chown chronyc containerd crictl ctr curl cut depmod \
    dpkg dpkg-reconfigure echo env ethtool export find gpg grep haproxy hostnamectl ipset iptables \
    ipvsadm keepalived ln localectl logger ls lsmod mkdir modprobe mount netplan nft passwd printf \
    resolvectl sed set sleep snap ss swapoff systemd-sysusers systemd-tmpfiles tar tee timedatectl timeout true \
    truncate udevadm ufw umask umount update-ca-certificates update-grub update-initramfs usermod \
    visudo wget xargs";
/// Programs whose effects are simulated.
const COUNTED: &str = "apt-get apt-mark bash cloud-init cp false install mv poweroff reboot rm sh sysctl systemctl touch";

/// Whether [`run`] knows a command.
pub fn known(argv: &[String]) -> bool {
    argv.first().is_some_and(|name| {
        let mut all = PLAIN.split_whitespace().chain(COUNTED.split_whitespace());
        name.starts_with('/') || all.any(|known| known == base(name))
    })
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Runs a command as root.
pub fn run(guest: &mut Guest, argv: &[String], stdin: &str) -> Output {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let Some((name, rest)) = words.split_first() else { return Output::ok("") };
    if name.starts_with('/') && guest.disk.files.contains_key(*name) {
        return script(guest, name, rest);
    }
    match base(name) {
        "apt-get" => apt_get(guest, rest),
        "apt-mark" => {
            if let Some(("hold", names)) = rest.split_first().map(|(verb, names)| (*verb, names)) {
                guest.disk.held.extend(names.iter().map(|name| (*name).to_owned()));
            }
            Output::ok(
                rest.iter()
                    .skip(1)
                    .fold(String::new(), |text, name| format!("{text}{name} set on hold.\n")),
            )
        }
        "systemctl" => systemctl(guest, rest),
        "sysctl" => {
            guest.apply_sysctls();
            Output::ok("")
        }
        "install" => install(guest, rest, stdin),
        "cp" | "mv" => copy(guest, base(name), rest),
        "rm" => {
            for path in rest.iter().filter(|word| !word.starts_with('-')) {
                guest.disk.files.remove(*path);
                guest.remove_below(path);
            }
            Output::ok("")
        }
        "touch" => {
            for path in rest.iter().filter(|word| !word.starts_with('-')) {
                if !guest.exists(path) {
                    guest.write(path, "", "0644");
                }
            }
            Output::ok("")
        }
        "sh" | "bash" => shape(guest, rest.last().copied().unwrap_or_default(), &[]),
        "false" => Output { code: 1, seconds: pace::COMMAND, ..Output::default() },
        name if name.starts_with('/') || !known(argv) => {
            Output::failed(127, format!("{name}: command not found"))
        }
        _ if words[0].starts_with(OURS) => {
            Output::failed(127, format!("{name}: No such file or directory"))
        }
        _ => Output::ok(""),
    }
}

fn apt_get(guest: &mut Guest, rest: &[&str]) -> Output {
    let mut words = rest.iter().filter(|word| !word.starts_with('-'));
    match words.next() {
        Some(&"install") => {
            let mut lines = String::new();
            for word in words.filter(|word| !word.starts_with('.') && !word.contains("::")) {
                let (name, version) = match word.split_once('=') {
                    Some((name, version)) => (name, Some(version)),
                    None => (*word, None),
                };
                match guest.install(name, version) {
                    Ok(more) => lines.extend(more.iter().map(|line| format!("{line}\n"))),
                    Err(text) => return Output::failed(100, text),
                }
            }
            Output::ok(lines)
        }
        _ => Output::ok("Reading package lists...\n"),
    }
}

fn systemctl(guest: &mut Guest, rest: &[&str]) -> Output {
    let mut words = rest.iter().filter(|word| !word.starts_with('-'));
    let verb = words.next().copied().unwrap_or_default();
    let now = rest.contains(&"--now");
    for unit in words.map(|word| short(word).to_owned()) {
        if matches!(verb, "stop" | "disable" | "mask") && !guest.has_unit(&unit) {
            if verb == "stop" {
                let text =
                    format!("Failed to stop {unit}.service: Unit {unit}.service not loaded.");
                return Output::failed(5, text);
            }
            continue;
        }
        let started = match verb {
            "reload" => guest.reload(&unit),
            "reload-or-restart" if guest.active(&unit) => guest.reload(&unit),
            "start" | "restart" | "reload-or-restart" | "try-restart" => guest.start(&unit),
            "enable" => {
                if !guest.has_unit(&unit) {
                    let text =
                        format!("Failed to enable unit: Unit file {unit}.service does not exist.");
                    return Output::failed(1, text);
                }
                guest.disk.enabled.insert(unit.clone());
                if now { guest.start(&unit) } else { Ok(()) }
            }
            "disable" | "mask" => {
                guest.disk.enabled.remove(&unit);
                if now {
                    guest.stop(&unit);
                }
                Ok(())
            }
            "stop" => {
                guest.stop(&unit);
                Ok(())
            }
            "reset-failed" => {
                if let Some(run) = &mut guest.run {
                    run.units.retain(|name, known| {
                        *name != unit || known.state != super::units::State::Failed
                    });
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(text) = started {
            let code = if text.contains("not found") { 5 } else { 1 };
            return Output::failed(code, text);
        }
    }
    Output::ok("")
}

/// `install -D -m MODE -o OWNER -g GROUP SOURCE PATH`.
fn install(guest: &mut Guest, rest: &[&str], stdin: &str) -> Output {
    let mut mode = "0755".to_owned();
    let (mut owner, mut group) = ("root", "root");
    let mut paths = Vec::new();
    let mut folder = false;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "-m" => mode = words.next().copied().unwrap_or_default().to_owned(),
            "-o" => owner = words.next().copied().unwrap_or_default(),
            "-g" => group = words.next().copied().unwrap_or_default(),
            "-d" => folder = true,
            flag if flag.starts_with('-') => {}
            path => paths.push(path),
        }
    }
    match paths.as_slice() {
        _ if folder => Output::ok(""),
        [from, to] => {
            let content = match *from {
                "/dev/stdin" => stdin.to_owned(),
                path => match guest.text(path) {
                    Some(text) => text.to_owned(),
                    None => {
                        let text =
                            format!("install: cannot stat '{path}': No such file or directory");
                        return Output::failed(1, text);
                    }
                },
            };
            guest.write(to, content, &format!("{mode:0>4}"));
            if let Some(file) = guest.disk.files.get_mut(*to) {
                file.owner = format!("{owner}:{group}");
            }
            Output::ok("")
        }
        _ => Output::failed(1, "install: missing destination file operand"),
    }
}

/// `cp FROM TO` and `mv FROM TO` of one file; mode and owner are kept (`cp -p`).
fn copy(guest: &mut Guest, name: &str, rest: &[&str]) -> Output {
    let paths: Vec<&str> = rest.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let [from, to] = paths.as_slice() else {
        return Output::failed(1, format!("{name}: missing file operand"));
    };
    let Some(file) = guest.disk.files.get(*from).cloned() else {
        return Output::failed(
            1,
            format!("{name}: cannot stat '{from}': No such file or directory"),
        );
    };
    guest.disk.files.insert((*to).to_owned(), file);
    if name == "mv" {
        guest.disk.files.remove(*from);
    }
    Output::ok("")
}

fn script(guest: &mut Guest, path: &str, rest: &[&str]) -> Output {
    let executable = guest.disk.files.get(path).is_some_and(|file| {
        file.mode
            .chars()
            .rev()
            .take(3)
            .any(|digit| digit.to_digit(8).is_some_and(|bits| bits & 1 == 1))
    });
    if !executable {
        return Output::failed(126, format!("{path}: Permission denied"));
    }
    if path == format!("{OURS}kernel") {
        return kernel(guest, rest);
    }
    if path == format!("{OURS}etcd") {
        return etcd(guest, rest);
    }
    let text = guest.text(path).unwrap_or_default().to_owned();
    shape(guest, &text, rest)
}

/// `etcd VERSION URL SHA256`.
fn etcd(guest: &mut Guest, rest: &[&str]) -> Output {
    let [version, url, _] = rest else { return Output::failed(2, "etcd: VERSION URL SHA256") };
    if !url.starts_with("http") {
        return Output::failed(3, format!("curl: (3) URL rejected: {url}"));
    }
    for program in ["etcd", "etcdctl"] {
        guest.write(&format!("/usr/local/bin/{program}"), format!("{version}\n"), "0755");
    }
    Output::ok("")
}

fn kernel(guest: &mut Guest, rest: &[&str]) -> Output {
    let policy = rest.join("-");
    let release = match policy.as_str() {
        "" | "stock" => return Output::ok("the stock kernel stays\n"),
        "hwe" => "6.8.0-50-generic".to_owned(),
        other => {
            let version = other.strip_prefix("mainline-").unwrap_or(other);
            let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
            let [major, minor, patch] = match parts.as_slice() {
                [major, minor] => [*major, *minor, 0],
                [major, minor, patch] => [*major, *minor, *patch],
                _ => return Output::failed(2, format!("kernel: unknown policy {policy}")),
            };
            format!("{major}.{minor}.{patch}-{major:02}{minor:02}{patch:02}-generic")
        }
    };
    guest.write("/run/k8sha/reboot-needed", format!("{release}\n"), "0644");
    let line = format!("Setting up linux-image-unsigned-{release} ...\n");
    guest.disk.kernel = release;
    Output::ok(line)
}

/// A shell script is not interpreted: everything it mentions counts as done when it ends. That is
/// enough for set-up scripts, which reach the same state on every branch.
fn shape(guest: &mut Guest, text: &str, rest: &[&str]) -> Output {
    let text = rest.iter().enumerate().fold(text.to_owned(), |text, (index, word)| {
        text.replace(&format!("${{{}}}", index + 1), word).replace(&format!("${}", index + 1), word)
    });
    let mut lines = String::new();
    if text.contains("curl") {
        let words = text.split(|c: char| c.is_whitespace() || c == '"');
        let keys: Vec<String> = words
            .filter(|word| word.starts_with("/etc/apt/keyrings/"))
            .map(str::to_owned)
            .collect();
        for path in keys {
            guest.write(&path, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "0644");
        }
    }
    let sources = text.contains("sources.list.d");
    if let Some(at) = text.find("https://pkgs.k8s.io/core:/stable:/v").filter(|_| sources) {
        let rest: String =
            text[at..].chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
        // If a variable holds the version, it is the first argument.
        let minor = rest
            .split("/v")
            .nth(1)
            .and_then(|minor| minor.split('/').next())
            .filter(|minor| minor.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
            .or_else(|| first_version(&text));
        if let Some(minor) = minor {
            let minor: Vec<&str> = minor.split('.').take(2).collect();
            let source =
                format!("deb https://pkgs.k8s.io/core:/stable:/v{}/deb/ /\n", minor.join("."));
            guest.write("/etc/apt/sources.list.d/kubernetes.list", source, "0644");
        }
    }
    if sources && text.contains("https://download.docker.com") {
        let source = "deb https://download.docker.com/linux/ubuntu jammy stable\n";
        guest.write("/etc/apt/sources.list.d/docker.list", source, "0644");
    }
    for line in text.lines().map(str::trim) {
        if !line.starts_with('#') && line.contains("apt-get") && line.contains(" install ") {
            let words: Vec<&str> =
                line.split_whitespace().skip_while(|word| *word != "install").collect();
            let plain: Vec<&str> = words
                .into_iter()
                .filter(|word| !word.contains(['$', '"', '\'', '\\', '/', '>', '&', ';', '|']))
                .collect();
            let done = apt_get(guest, &plain);
            lines.push_str(&done.stdout);
            if done.code != 0 {
                return done;
            }
        }
    }
    if text.contains("SystemdCgroup") && guest.containerd().is_some() {
        let body = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  \
                    SystemdCgroup = true\n";
        guest.write("/etc/containerd/config.toml", body, "0644");
    }
    if text.contains("sysctl --system") || text.contains("sysctl -p") {
        guest.apply_sysctls();
    }
    Output::ok(lines)
}

fn first_version(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find(|word| {
            let parts: Vec<&str> = word.split('.').collect();
            parts.len() >= 2
                && parts[0] == "1"
                && parts[1].parse::<u32>().is_ok_and(|minor| minor > 20)
        })
        .map(str::to_owned)
}
