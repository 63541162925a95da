//! Power-on, boot and shutdown of a guest.

use super::guest::{Due, Guest, KERNEL_STOCK, Run};
use super::kube::uuid;
use super::seed::Seed;
use super::{Guests, cloudinit, kubeadm, pace, seed};
use crate::store::Store;
use crate::world::{Machine, SimTime};

impl Guests {
    /// Switches a machine on.
    pub(super) fn boot(&mut self, machine: Machine, now: SimTime, store: &Store) {
        let mac = machine.nics.first().map(|(mac, ..)| mac.clone()).unwrap_or_default();
        let seed = seed::taken(&machine, |id| store.blob(id), &mac);
        let key = machine.key.clone();
        let disk = self.all.remove(&key).map(|guest| guest.disk).unwrap_or_default();
        let boots = machine.bootable && machine.disk_gib.is_some();
        let mut guest = Guest { machine, disk, run: None };
        guest.disk.boots += u32::from(boots);
        clear_volatile(&mut guest);
        if guest.disk.kernel.is_empty() {
            KERNEL_STOCK.clone_into(&mut guest.disk.kernel);
            guest.unpack(&self.image);
        }
        guest.run = Some(run(&guest, seed, now));
        self.all.insert(key.clone(), guest);
        if let Some(run) = self.all.get_mut(&key).and_then(|guest| guest.run.as_mut()) {
            run.held = boots;
        }
        self.release();
    }

    /// A medium was inserted into a drive of a running machine, or ejected: it takes effect at the next
    /// boot.
    pub(super) fn exchange(&mut self, machine: Machine, store: &Store) {
        let mac = machine.nics.first().map(|(mac, ..)| mac.clone()).unwrap_or_default();
        let seed = seed::taken(&machine, |id| store.blob(id), &mac);
        self.with_run(&machine.key, |run| run.seed = seed);
    }

    /// Boots the machines that no fault holds: at power-on all except those with the fault
    /// `never-boots`, and those when the fault is gone.
    pub(super) fn release(&mut self) {
        let held: Vec<String> = self
            .all
            .iter()
            .filter(|(_, guest)| guest.run.as_ref().is_some_and(|run| run.held))
            .map(|(key, _)| key.clone())
            .collect();
        let now = self.now;
        for key in held {
            if !self.guest_faulty("never-boots", &key) {
                self.with_run(&key, |run| {
                    run.held = false;
                    run.plan(now.max(run.since).after(pace::SSHD), Due::Network);
                });
            }
        }
    }

    /// Applies an event of a guest.
    pub(super) fn happen(&mut self, key: &str, at: SimTime, due: Due) {
        match due {
            Due::Network => self.network_up(key, at),
            Due::Sshd => self.with_run(key, |run| run.sshd = true),
            Due::CloudInit => self.cloud_init(key, at),
            Due::StaticPods => self.with_run(key, |run| {
                run.api_at = Some(at);
                run.etcd_at = Some(at);
            }),
            Due::Reboot => {
                let Some(guest) = self.all.get_mut(key) else { return };
                clear_volatile(guest);
                let seed = guest.run.take().and_then(|run| run.seed);
                guest.disk.boots += 1;
                let mut run = run(guest, seed, at);
                run.plan(at.after(pace::SSHD), Due::Network);
                guest.run = Some(run);
            }
            Due::Down => self.with_run(key, |run| {
                run.queue.clear();
                run.network = false;
                run.sshd = false;
                run.plan(at.after(pace::DOWN), Due::Reboot);
            }),
            Due::Off => {
                if let Some(guest) = self.all.get_mut(key) {
                    guest.run = None;
                }
                self.stopped.push(key.to_owned());
            }
            Due::Process(unit) => kubeadm::step(self, key, &unit, at),
        }
    }

    fn with_run(&mut self, key: &str, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.all.get_mut(key).and_then(|guest| guest.run.as_mut()) {
            change(run);
        }
    }

    fn network_up(&mut self, key: &str, at: SimTime) {
        let unix = self.unix() as f64;
        let Some(guest) = self.all.get_mut(key) else { return };
        let seed = guest.run.as_ref().and_then(|run| run.seed.clone());
        // An interrupted run is repeated, as for a new instance.
        let fresh = seed.as_ref().is_some_and(|seed| {
            guest.disk.instance_id.as_ref() != Some(&seed.instance_id)
                || !guest.disk.cloud_init.ended
        });
        if guest.disk.machine_id.is_empty() {
            // systemd takes the firmware's UUID under KVM (machine-id(5)).
            guest.disk.machine_id = guest.machine.uuid.replace('-', "");
            guest.write("/etc/machine-id", format!("{}\n", guest.disk.machine_id), "0444");
        }
        if let (true, Some(seed)) = (fresh, &seed) {
            self.first_boot(key, seed, unix);
        }
        let Some(guest) = self.all.get_mut(key) else { return };
        guest.apply_sysctls();
        // containerd before the kubelet, as their units order it.
        let mut units: Vec<String> = guest.disk.enabled.iter().cloned().collect();
        units.extend(["ssh", "cron", "systemd-resolved", "systemd-networkd"].map(str::to_owned));
        for unit in units {
            // A failed unit keeps its state; the boot continues.
            let _ = guest.start(&unit);
        }
        let wired = guest.machine.nics.iter().any(|(_, bridge, _)| !bridge.is_empty());
        let address = guest.disk.network.as_ref().map(|network| network.address);
        let is_master = guest.exists("/etc/kubernetes/manifests/kube-apiserver.yaml");
        let late = self.guest_faulty("ssh-late", key);
        self.with_run(key, |run| {
            run.network = wired && address.is_some();
            run.sshd = !late;
            if late {
                run.plan(at.after(pace::SSH_LATE), Due::Sshd);
            }
            if is_master {
                run.plan(at.after(pace::STATIC_PODS), Due::StaticPods);
            }
            if let Some(step) = run.steps.first() {
                run.plan(at.after(cloudinit::pace(step)), Due::CloudInit);
            }
        });
    }

    fn first_boot(&mut self, key: &str, seed: &Seed, unix: f64) {
        let Some(guest) = self.all.get_mut(key) else { return };
        guest.disk.instance_id = Some(seed.instance_id.clone());
        guest.disk.network.clone_from(&seed.network);
        guest.disk.cloud_init = cloudinit::Progress {
            begun: true,
            times: (unix, unix),
            ..cloudinit::Progress::default()
        };
        guest.disk.host_key.clear();
        cloudinit::network_stage(guest, seed);
        let steps = cloudinit::steps(seed.user_data.as_ref().unwrap_or(&serde_json::Value::Null));
        self.with_run(key, |run| run.steps = steps);
    }

    fn cloud_init(&mut self, key: &str, at: SimTime) {
        let next = self.all.get(key).and_then(|guest| guest.run.as_ref()?.steps.first());
        let is_command = matches!(next, Some(cloudinit::Step::Command(_)));
        let fail = is_command && self.guest_fault_once("cloud-init-fails", key);
        let unix = self.unix() as f64 + (self.now.0 % 1000) as f64 / 1000.0;
        let Some(guest) = self.all.get_mut(key) else { return };
        let reboot = cloudinit::step(guest, fail, at, unix);
        self.with_run(key, |run| {
            if reboot {
                // A moment in which the old kernel still answers although cloud-init is done.
                run.plan(at.after(pace::BEFORE_REBOOT), Due::Down);
            } else if let Some(step) = run.steps.first() {
                run.plan(at.after(cloudinit::pace(step)), Due::CloudInit);
            }
        });
    }
}

/// A boot clears the memory.
fn clear_volatile(guest: &mut Guest) {
    for folder in ["/run", "/var/run", "/tmp"] {
        guest.remove_below(folder);
    }
}

fn run(guest: &Guest, seed: Option<Seed>, now: SimTime) -> Run {
    let seedless = seed.is_none() && !guest.exists(cloudinit::TRUSTED);
    Run {
        seedless,
        since: now,
        held: false,
        boot_id: uuid(),
        kernel: guest.disk.kernel.clone(),
        network: false,
        sshd: false,
        units: std::collections::BTreeMap::new(),
        ip_forward: false,
        api_at: None,
        etcd_at: None,
        registered: false,
        seed,
        steps: Vec::new(),
        queue: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, KUBERNETES, balancer};
    use serde_json::Value;

    fn status(bench: &mut Bench, node: &str) -> Value {
        let done = bench.run(node, "cloud-init status --format json");
        serde_json::from_str(&done.stdout).unwrap()
    }

    #[test]
    fn a_guest_with_a_seed_gets_its_users_its_network_and_its_packages() {
        let mut bench = Bench::new(false);
        bench.boot("m1", KUBERNETES);
        bench.at(13.0);
        assert!(
            bench.guests.addresses("m1", bench.guests.now).iter().all(|(name, ..)| name == "lo")
        );
        bench.at(15.0);
        assert_eq!(bench.guests.addresses("m1", bench.guests.now)[1].1.to_string(), "10.101.1.101");
        assert_eq!(status(&mut bench, "m1")["status"], "running");
        bench.at(120.0);
        assert_eq!(status(&mut bench, "m1")["status"], "done");
        assert_eq!(bench.ok("m1", "kubeadm version -o short"), "v1.28.4\n");
        assert!(bench.guests.agent("m1", bench.guests.now));
    }

    #[test]
    fn of_two_volumes_with_the_label_the_last_is_used() {
        let mut bench = Bench::new(false);
        let (one, two) = (bench.seed("one", 101, ""), bench.seed("two", 102, ""));
        let machine = bench.machine("m1", vec![one.clone(), two]);
        bench.guests.power_on(machine, bench.guests.now, &bench.store);
        bench.at(30.0);
        assert_eq!(bench.guests.all["m1"].disk.hostname, "two");
        // The position of the drive that Proxmox VE creates matters too.
        let documents = [
            ("meta-data", "instance-id: foreign\n"),
            ("user-data", "#cloud-config\nhostname: foreign\n"),
        ];
        let documents = documents.map(|(name, text)| (name.to_owned(), text.to_owned()));
        for (place, taken) in [(0, "one"), (1, "foreign")] {
            let mut machine = bench.machine(&format!("c{place}"), vec![one.clone()]);
            machine.cloudinit = Some((place, documents.clone().into()));
            let key = machine.key.clone();
            bench.guests.power_on(machine, bench.guests.now, &bench.store);
            bench.pass(30.0);
            assert_eq!(bench.guests.all[&key].disk.hostname, taken);
            bench.guests.destroy(&key);
        }
    }

    #[test]
    fn without_a_seed_there_is_no_user_and_no_network() {
        let mut bench = Bench::new(false);
        let machine = bench.machine("m1", Vec::new());
        bench.guests.power_on(machine, bench.guests.now, &bench.store);
        bench.at(300.0);
        assert!(bench.guests.all["m1"].disk.users.is_empty());
        assert_eq!(bench.guests.all["m1"].address(), None);
    }

    #[test]
    fn two_guests_with_the_same_address_answer_in_turn() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "");
        bench.pass(20.0);
        assert!(bench.guests.conflicts().is_empty());
        let seed = bench.seed("twin", 101, "");
        let machine = bench.machine("twin", vec![seed]);
        bench.guests.power_on(machine, bench.guests.now, &bench.store);
        bench.pass(20.0);
        let address = [10, 101, 1, 101].into();
        assert_eq!(bench.guests.conflicts()[&address], ["m1", "twin"]);
        let mut answers = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let (key, _) = bench.guests.at(address).unwrap();
            answers.insert(key.clone());
            bench.pass(30.0);
        }
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["m1", "twin"]);
        bench.guests.power_off("twin", true, bench.guests.now);
        assert!(bench.guests.conflicts().is_empty());
        assert_eq!(bench.guests.at(address).unwrap().0, "m1");
    }

    #[test]
    fn a_mainline_kernel_runs_after_the_reboot_and_cloud_init_does_not_run_again() {
        let mut bench = Bench::new(false);
        let more = "write_files:\n- {path: /usr/local/lib/k8sha/kernel, permissions: '0755', content: x}\n\
            runcmd:\n- [/usr/local/lib/k8sha/kernel, mainline, 6.6.1]\npower_state: {mode: reboot, \
            condition: [test, -e, /var/run/reboot-required]}\n";
        bench.boot("m1", more);
        bench.at(15.0);
        let before = bench.ok("m1", "cat /proc/sys/kernel/random/boot_id");
        assert_eq!(bench.ok("m1", "uname -r"), "5.15.0-126-generic\n");
        bench.at(90.0);
        assert_eq!(bench.ok("m1", "uname -r"), "6.6.1-060601-generic\n");
        assert_ne!(bench.ok("m1", "cat /proc/sys/kernel/random/boot_id"), before);
        assert_eq!(status(&mut bench, "m1")["status"], "done");
        assert_eq!(bench.guests.all["m1"].disk.boots, 2);
    }

    #[test]
    fn a_package_without_its_source_is_an_error_that_names_the_package() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "packages: [[kubeadm, 1.28.4-*]]\n");
        bench.at(120.0);
        let status = status(&mut bench, "m1");
        assert_eq!(status["status"], "error");
        assert!(status["errors"][0].as_str().unwrap().contains("kubeadm"));
        let log = bench.ok("m1", "sudo -n -- tail -n 60 /var/log/cloud-init-output.log");
        assert!(log.contains("E: Unable to locate package kubeadm"), "{log}");
    }

    #[test]
    fn the_cloud_init_fault_fails_one_command_of_one_node_once() {
        let mut bench = Bench::new(false);
        bench.guests.faults.insert(("cloud-init-fails".to_owned(), "m1".to_owned()));
        for node in ["m1", "m2"] {
            bench.boot(node, "runcmd: [[sysctl, --system]]\n");
        }
        bench.at(60.0);
        assert_eq!(status(&mut bench, "m1")["status"], "error");
        assert_eq!(status(&mut bench, "m2")["status"], "done");
    }

    #[test]
    fn the_virtual_address_moves_when_its_holders_haproxy_dies_and_is_not_moved_back() {
        let mut bench = Bench::new(false);
        bench.boot("lb1", &balancer(101));
        bench.boot("lb2", &balancer(100));
        bench.at(60.0);
        let vip = "inet 10.101.1.10/32 scope global eth0";
        assert!(bench.ok("lb1", "ip -o -4 addr show").contains(vip));
        bench.ok("lb1", "sudo -n -- systemctl stop haproxy");
        assert!(!bench.ok("lb1", "ip -o -4 addr show").contains(vip));
        assert!(bench.ok("lb2", "ip -o -4 addr show").contains(vip));
        bench.ok("lb1", "sudo -n -- systemctl start haproxy");
        assert!(bench.ok("lb2", "ip -o -4 addr show").contains(vip));
    }

    #[test]
    fn a_world_saved_during_a_boot_resumes() {
        let mut bench = Bench::new(false);
        bench.boot("m1", KUBERNETES);
        bench.at(20.0);
        for disk in bench.guests.disks() {
            disk.write(&bench.store).unwrap();
        }
        let text = serde_json::to_string(&bench.guests).unwrap();
        bench.guests = serde_json::from_str(&text).unwrap();
        for disk in bench.guests.disks_mut() {
            disk.read(&bench.store).unwrap();
        }
        bench.at(120.0);
        assert_eq!(status(&mut bench, "m1")["status"], "done");
    }

    #[test]
    fn a_machine_that_never_boots_is_unreachable_and_does_not_react() {
        let mut bench = Bench::new(false);
        bench.guests.faults.insert(("never-boots".to_owned(), "m1".to_owned()));
        bench.boot("m1", "");
        bench.at(600.0);
        assert_eq!(bench.guests.all["m1"].address(), None);
        assert!(!bench.guests.reacts("m1", bench.guests.now));
        bench.guests.set_faults(Default::default());
        bench.pass(15.0);
        assert!(bench.guests.all["m1"].address().is_some());
    }

    #[test]
    fn commands_fail_as_in_the_single_script_that_cloud_init_generates() {
        let mut bench = Bench::new(false);
        bench.boot("m1", "runcmd: [[systemctl, start, nothing], [sysctl, --system]]\n");
        bench.boot("m2", "runcmd: [[set, -e], [systemctl, start, nothing], [sysctl, --system]]\n");
        bench.at(60.0);
        assert_eq!(status(&mut bench, "m1")["status"], "done");
        assert_eq!(status(&mut bench, "m2")["status"], "error");
    }

    #[test]
    fn a_source_without_its_keyring_offers_nothing_until_an_apt_hook_fetches_the_keyring() {
        let mut bench = Bench::new(false);
        let source = "apt: {sources: {k.list: {source: 'deb [signed-by=/etc/apt/keyrings/k.asc] \
            https://pkgs.k8s.io/core:/stable:/v1.28/deb/ /'}}}\npackages: [[kubeadm, 1.28.4-*]]\n";
        let hook = "write_files:\n- {path: /etc/apt/apt.conf.d/80, content: 'APT::Update::Pre-Invoke { \
            \"/usr/local/lib/k8sha/apt-keys\"; };'}\n- {path: /usr/local/lib/k8sha/apt-keys, \
            permissions: '0755', content: 'curl -o /etc/apt/keyrings/k.asc https://pkgs.k8s.io/core:/x'}\n";
        bench.boot("m1", source);
        bench.boot("m2", &format!("{source}{hook}"));
        bench.at(60.0);
        assert_eq!(status(&mut bench, "m1")["status"], "error");
        assert_eq!(status(&mut bench, "m2")["status"], "done");
    }

    #[test]
    fn a_machine_without_its_seed_boots_unchanged_if_cloud_init_trusts_the_known_seed() {
        let mut bench = Bench::new(false);
        for (node, trusts) in [("m1", true), ("m2", false)] {
            bench.boot(node, KUBERNETES);
            bench.pass(120.0);
            let before = bench.ok(node, "cat /etc/machine-id");
            if trusts {
                let trusted = super::cloudinit::TRUSTED;
                bench.ok(node, &format!("sudo -n -- touch {trusted}"));
            }
            let machine = bench.machine(node, Vec::new());
            bench.guests.media(machine, &bench.store);
            assert_eq!(status(&mut bench, node)["status"], "done", "it runs on");
            bench.run(node, "sudo -n -- systemctl reboot");
            bench.pass(120.0);
            assert_eq!(bench.ok(node, "cat /etc/machine-id"), before);
            let wanted = if trusts { "done" } else { "disabled" };
            assert_eq!(status(&mut bench, node)["status"], wanted);
        }
        // It does not run cloud-init again either, whatever it trusted.
        bench.run("m1", "sudo -n -- cloud-init clean --logs --reboot");
        bench.pass(120.0);
        assert_eq!(status(&mut bench, "m1")["status"], "disabled");
    }

    #[test]
    fn interrupted_cloud_init_runs_again() {
        let mut bench = Bench::new(false);
        bench.boot("m1", KUBERNETES);
        bench.at(20.0);
        let machine = bench.guests.all["m1"].machine.clone();
        bench.guests.power_off("m1", true, bench.guests.now);
        bench.guests.power_on(machine, bench.guests.now, &bench.store);
        bench.at(140.0);
        assert_eq!(status(&mut bench, "m1")["status"], "done");
    }
}
