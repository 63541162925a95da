//! `haproxy -c` and `keepalived --config-test`: each checks a file without starting the service.

use super::super::network::lb;
use super::{Call, Output};

/// `haproxy -c -f PATH`.
pub fn haproxy(call: &Call<'_>) -> Output {
    let (Some(path), true) = (call.option("-f"), call.has("-c")) else { return missing(call) };
    if !call.guest.disk.packages.contains_key("haproxy") {
        return missing(call);
    }
    let found = match call.guest.text(path) {
        None => Err(format!(
            "config : Cannot open configuration file/directory {path} : No such file or directory"
        )),
        Some(text) => lb::haproxy(path, text),
    };
    match found {
        Ok(_) => Output::ok("Configuration file is valid\n"),
        Err(said) => Output::failed(
            1,
            format!(
                "[ALERT]    (2204) : {said}\n[ALERT]    (2204) : config : Error(s) found in \
                 configuration file : {path}\n[ALERT]    (2204) : config : Fatal errors found in \
                 configuration."
            ),
        ),
    }
}

/// `keepalived --config-test -f PATH`.
pub fn keepalived(call: &Call<'_>) -> Output {
    let (Some(path), true) = (call.option("-f"), call.has("--config-test")) else {
        return missing(call);
    };
    if !call.guest.disk.packages.contains_key("keepalived") {
        return missing(call);
    }
    match call.guest.text(path) {
        // It reports this and succeeds all the same.
        None => Output::failed(0, format!("Config files missing '{path}'.")),
        Some(text) => match lb::keepalived_fault(text) {
            None => Output::ok(""),
            Some(said) => Output::failed(5, said),
        },
    }
}

fn missing(call: &Call<'_>) -> Output {
    let name = call.argv.first().copied().unwrap_or_default();
    Output::failed(127, format!("bash: line 1: {name}: command not found"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use crate::guests::network::Reach;
    use crate::guests::network::lb::{HAPROXY, KEEPALIVED};
    use crate::guests::testing::{Bench, VIP};

    #[test]
    fn a_configuration_file_is_checked_before_use_and_used_after_a_reload() {
        let mut bench = Bench::new(false);
        bench.site_up();
        let check = |path: &str| format!("sudo -n -- haproxy -c -f {path}");
        assert_eq!(bench.run("lb1", &check(HAPROXY)).code, 0);
        let text = bench.ok("lb1", &format!("cat {HAPROXY}"));
        bench.put("lb1", "/tmp/new", &text.replace(" 10.101.1.102:6443 check", ""));
        let refused = bench.run("lb1", &check("/tmp/new"));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("[/tmp/new:6] : 'server' expects"), "{}", refused.stderr);
        assert!(bench.run("lb1", &check("/tmp/none")).stderr.contains("Cannot open"));

        // A file that was put in place is not read until a reload.
        let to = SocketAddrV4::new(VIP, 7443);
        bench.put("lb1", "/tmp/new", &text.replace("*:6443", "*:7443"));
        bench.ok("lb1", &format!("sudo -n -- cp -p {HAPROXY} /tmp/old"));
        bench.ok("lb1", &format!("sudo -n -- mv -f /tmp/new {HAPROXY}"));
        assert_eq!(bench.run("lb1", "test -e /tmp/new").code, 1);
        assert_eq!(bench.guests.dial(to), Reach::Refused);
        bench.ok("lb1", "sudo -n -- systemctl reload-or-restart haproxy");
        assert_eq!(bench.guests.dial(to), Reach::Closed);

        // A failed reload keeps the old configuration.
        bench.put("lb1", HAPROXY, "frontend api\n bind *:6443\n default_backend missing\n");
        let failed = bench.run("lb1", "sudo -n -- systemctl reload-or-restart haproxy");
        assert_eq!(failed.code, 1);
        assert_eq!(bench.ok("lb1", "systemctl is-active haproxy"), "active\n");
        assert_eq!(bench.guests.dial(to), Reach::Closed);
        let journal = bench.ok("lb1", "sudo -n -- journalctl -u haproxy -n 40");
        assert!(journal.contains("unable to find required default_backend"), "{journal}");
        assert_eq!(bench.run("m1", &check(HAPROXY)).code, 127);
    }

    #[test]
    fn keepalived_rejects_a_file_with_unbalanced_braces() {
        let mut bench = Bench::new(false);
        bench.site_up();
        let test = "keepalived --log-console --dont-fork --config-test -f";
        bench.ok("lb1", &format!("sudo -n -- {test} {KEEPALIVED}"));
        bench.put("lb1", "/tmp/new", "vrrp_instance a {\n");
        let refused = bench.run("lb1", &format!("sudo -n -- {test} /tmp/new"));
        assert_eq!((refused.code, refused.stderr.lines().count()), (5, 1), "{refused:?}");
    }
}
