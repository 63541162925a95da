//! `systemctl`, `systemd-run`, `journalctl`.

use super::super::guest::Due;
use super::super::kubeadm::{self, Job, Process};
use super::super::units::{State, short};
use super::super::{Guests, pace};
use super::{Call, Output};

/// `systemctl is-active`, `show` and the like; `None` for commands that change something.
pub fn look(call: &Call<'_>) -> Option<Output> {
    let mut words = call.rest().iter().copied().filter(|word| !word.starts_with('-'));
    match words.next()? {
        "is-active" => {
            let states: Vec<&str> = words.map(|unit| state(call, unit).name()).collect();
            let any = states.contains(&"active");
            let text = states.iter().fold(String::new(), |text, state| format!("{text}{state}\n"));
            Some(Output { code: if any { 0 } else { 3 }, ..Output::ok(text) })
        }
        "is-enabled" => {
            let unit = short(words.next()?);
            let on = call.guest.disk.enabled.contains(unit);
            Some(match (call.guest.has_unit(unit), on) {
                (true, true) => Output::ok("enabled\n"),
                (true, false) => Output { code: 1, ..Output::ok("disabled\n") },
                _ => Output::failed(
                    1,
                    format!(
                        "Failed to get unit file state for {unit}.service: No such file or directory"
                    ),
                ),
            })
        }
        "is-system-running" => Some(Output::ok("running\n")),
        "show" => Some(show(call)),
        "status" => {
            let state = state(call, words.next()?);
            let code = if state == State::Active { 0 } else { 3 };
            Some(Output { code, ..Output::ok(format!("     Active: {}\n", state.name())) })
        }
        _ if !call.root => Some(super::system::unprivileged(call)),
        _ => None,
    }
}

fn state(call: &Call<'_>, unit: &str) -> State {
    let known = call.guest.run.as_ref().and_then(|run| run.units.get(short(unit)));
    known.map_or(State::Inactive, |unit| unit.state)
}

fn show(call: &Call<'_>) -> Output {
    let Some(unit) = call.rest().last().map(|unit| short(unit)) else { return Output::ok("") };
    let known = call.guest.run.as_ref().and_then(|run| run.units.get(unit));
    let loaded = known.is_some() || call.guest.has_unit(unit);
    let mut wanted = Vec::new();
    let mut words = call.rest().iter();
    while let Some(word) = words.next() {
        if *word == "-p" {
            wanted.extend(words.next().into_iter().flat_map(|list| list.split(',')));
        } else if let Some(list) = word.strip_prefix("--property=") {
            wanted.extend(list.split(','));
        }
    }
    let values = [
        ("LoadState", if loaded { "loaded" } else { "not-found" }.to_owned()),
        ("ActiveState", known.map_or("inactive", |unit| unit.state.name()).to_owned()),
        ("SubState", known.map_or("dead", |unit| unit.sub.as_str()).to_owned()),
        ("Result", known.map_or("success", |unit| unit.result.as_str()).to_owned()),
        ("ExecMainStatus", known.map_or(0, |unit| unit.status).to_string()),
    ];
    // systemd prints properties in its own order, not in the requested one.
    let order = ["Result", "ExecMainStatus", "LoadState", "ActiveState", "SubState"];
    let only_value = call.has("--value");
    let mut text = String::new();
    for name in order.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        for (_, value) in values.iter().filter(|(known, _)| known == name) {
            if only_value {
                text.push_str(&format!("{value}\n"));
            } else {
                text.push_str(&format!("{name}={value}\n"));
            }
        }
    }
    Output::ok(text)
}

/// `journalctl -u UNIT [-n N] [--no-pager] [-o FORMAT]`; the lines have no times, so that every format is
/// `cat`. Nothing else of journalctl is known.
pub fn journalctl(call: &Call<'_>) -> Output {
    let mut words = call.rest().iter();
    while let Some(word) = words.next() {
        match *word {
            "-u" | "-n" | "-o" => drop(words.next()),
            "--no-pager" => {}
            other => return Output::failed(1, format!("journalctl: {other}: not simulated")),
        }
    }
    let Some(unit) = call.option("-u").map(short) else {
        return Output::failed(1, "journalctl: without a unit: not simulated");
    };
    let count = call.option("-n").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let known = call.guest.run.as_ref().and_then(|run| run.units.get(unit));
    let lines = known.map(|unit| unit.journal.as_slice()).unwrap_or_default();
    if lines.is_empty() {
        return Output::ok("-- No entries --\n");
    }
    let last = &lines[lines.len().saturating_sub(count)..];
    Output::ok(last.iter().fold(String::new(), |text, line| format!("{text}{line}\n")))
}

/// `systemd-run --unit=U --property=... -- COMMAND...`.
pub fn run(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    let mut unit = "run-u42".to_owned();
    let mut log = String::new();
    let mut command: &[String] = &[];
    for (index, word) in words.iter().enumerate().skip(1) {
        if word == "--" {
            command = words.get(index + 1..).unwrap_or_default();
            break;
        }
        if let Some(name) = word.strip_prefix("--unit=") {
            short(name).clone_into(&mut unit);
        } else if let Some(file) = word
            .strip_prefix("--property=StandardOutput=append:")
            .or_else(|| word.strip_prefix("--property=StandardOutput=truncate:"))
        {
            file.clone_into(&mut log);
        } else if !word.starts_with("--") {
            command = words.get(index..).unwrap_or_default();
            break;
        }
    }
    let Some(guest) = guests.all.get_mut(key) else { return Output::failed(255, "gone") };
    let known = guest.run.as_ref().and_then(|run| run.units.get(&unit));
    if known.is_some_and(|known| known.state != State::Inactive) {
        return Output::failed(
            1,
            format!("Failed to start transient service unit: Unit {unit}.service already exists."),
        );
    }
    let Some(program) = command.first() else {
        return Output::failed(1, "Command line to execute required.");
    };
    let base = program.rsplit('/').next().unwrap_or(program);
    if base == "kubeadm" && !guest.disk.packages.contains_key("kubeadm") {
        return Output::failed(
            1,
            format!("Failed to find executable {program}: No such file or directory"),
        );
    }
    if !log.is_empty() {
        guest.append(&log, &[]);
    }
    let job = match (base, command.get(1).map(String::as_str)) {
        ("kubeadm", Some("init")) => Job::Init,
        ("kubeadm", Some("join")) => Job::Join,
        _ => Job::Other,
    };
    let flag = |name: &str| {
        let inline = format!("{name}=");
        command.iter().enumerate().find_map(|(index, word)| {
            match word.strip_prefix(inline.as_str()) {
                Some(value) => Some(value.to_owned()),
                None if word == name => command.get(index + 1).cloned(),
                None => None,
            }
        })
    };
    let ignore = flag("--ignore-preflight-errors").unwrap_or_default();
    let process = Process {
        job,
        file: flag("--config").unwrap_or_default(),
        ignore: ignore.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        log,
        phase: 0,
        asked: 0,
        config: None,
    };
    kubeadm::start(guests, key, &unit, process);
    let mut output = Output::ok("");
    output.stderr = format!("Running as unit: {unit}.service\n");
    output
}

/// `pkill`: the API server is the only process here besides the units.
pub(super) fn pkill(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    let named = words.last().is_some_and(|name| name == "kube-apiserver");
    let run = guests.all.get_mut(key).and_then(|guest| guest.run.as_mut());
    let ended = run.filter(|_| named).and_then(|run| run.api_at.take());
    // 1: no process matched (pkill(1)).
    if ended.is_some() { Output::ok("") } else { Output::failed(1, "") }
}

/// `systemctl reboot` and `poweroff`.
pub fn power(guests: &mut Guests, key: &str, again: bool) -> Output {
    let now = guests.now;
    if let Some(run) = guests.all.get_mut(key).and_then(|guest| guest.run.as_mut()) {
        run.queue.clear();
        run.network = false;
        run.sshd = false;
        run.plan(now.after(pace::DOWN), if again { Due::Reboot } else { Due::Off });
    }
    Output::ok("")
}

#[cfg(test)]
mod tests {
    use crate::guests::testing::{Bench, KUBERNETES};

    #[test]
    fn sudo_and_root_are_distinguished() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "");
        bench.pass(60.0);
        let refused = bench.guests.command("m1", "guest", "sudo -n -- cat /etc/hostname", "");
        assert_eq!((refused.code, refused.stderr.as_str()), (1, "sudo: a password is required\n"));
        bench.put("m1", "/etc/kubernetes/admin.conf", "secret");
        let denied = bench.run("m1", "cat /etc/kubernetes/admin.conf");
        assert_eq!(denied.stderr, "cat: /etc/kubernetes/admin.conf: Permission denied\n");
        assert_eq!(
            bench.run("m1", "frobnicate").stderr,
            "bash: line 1: frobnicate: command not found\n"
        );
        assert_eq!(bench.run("m1", "sudo -n -- test -e /etc/kubernetes/none").code, 1);
    }

    #[test]
    fn units_are_shown_as_systemd_does() {
        let mut bench = Bench::new(false);
        bench.boot("m1", KUBERNETES);
        bench.pass(120.0);
        let active = bench.run("m1", "systemctl is-active containerd haproxy");
        assert_eq!((active.code, active.stdout.as_str()), (0, "active\ninactive\n"));
        assert_eq!(bench.run("m1", "systemctl is-active kubelet").stdout, "activating\n");
        let show = "systemctl show -p LoadState -p ActiveState -p SubState -p Result -p ExecMainStatus \
                    k8sha-kubeadm-init.service";
        assert!(bench.ok("m1", show).contains("LoadState=not-found"));
        bench.put("m1", "/etc/kubernetes/k8sha/init.yaml", "kind: nonsense\n");
        bench.start("m1", "init");
        assert!(bench.ok("m1", show).contains("ActiveState=active\nSubState=running"));
        bench.pass(10.0);
        let shown = bench.ok("m1", show);
        assert!(shown.contains("Result=exit-code\nExecMainStatus=1\n"), "{shown}");
        assert!(
            bench
                .ok("m1", "sudo -n -- journalctl -u k8sha-kubeadm-init -n 40 --no-pager -o cat")
                .contains("Failed with result 'exit-code'.")
        );
        let again = bench
            .run("m1", "sudo -n -- systemd-run --unit=k8sha-kubeadm-init -- /usr/bin/kubeadm init");
        assert!(again.stderr.contains("already exists"), "{}", again.stderr);
    }
}
