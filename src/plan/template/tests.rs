use super::*;

/// A template as users create it from a cloud image.
fn with(pairs: &[(&str, &str)]) -> Settings {
    let plain = [
        ("agent", "enabled=1,fstrim_cloned_disks=1"),
        ("boot", "order=scsi0"),
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ("scsi0", "local:9000/base-9000-disk-0.qcow2,size=2252M"),
        ("template", "1"),
    ];
    let all = plain.iter().chain(pairs);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn without(key: &str, pairs: &[(&str, &str)]) -> Settings {
    let mut settings = with(pairs);
    settings.remove(key);
    settings
}

/// The one flaw of a template.
fn flaw(settings: &Settings) -> (String, String) {
    let flaws = flaws(VmId(9000), settings);
    assert_eq!(flaws.len(), 1, "{flaws:?}");
    (flaws[0].what.clone(), flaws[0].fix.join("\n"))
}

fn dropped(settings: &Settings) -> Vec<String> {
    leftovers(settings).into_iter().map(|(key, to)| format!("{key}={to}")).collect()
}

#[test]
fn a_template_of_a_cloud_image_is_well_and_not_worth_a_word() {
    for settings in [
        with(&[]),
        with(&[("ide2", "none,media=cdrom")]),
        with(&[("ide2", "local:iso/ubuntu.iso,media=cdrom")]),
        with(&[("scsi0", "file=tank:base-9000-disk-0,discard=on,size=3G")]),
        without("boot", &[("bootdisk", "scsi0")]),
        without("boot", &[("virtio0", "tank:base-9000-disk-1")]),
        with(&[("boot", "order=ide2;scsi0;net0"), ("ide2", "local:9000/vm-9000-cloudinit.qcow2")]),
        with(&[
            ("efidisk0", "tank:base-9000-disk-1,efitype=4m"),
            ("tpmstate0", "tank:base-9000-disk-2"),
        ]),
    ] {
        assert_eq!(flaws(VmId(9000), &settings), [], "{settings:?}");
        assert_eq!(leftovers(&settings), [], "{settings:?}");
    }
    assert_eq!(notice(VmId(9000), &with(&[("efidisk0", "tank:base-9000-disk-1")])), None);
}

#[test]
fn a_boot_disk_on_another_bus_is_moved_by_the_commands_that_are_told() {
    let disk = "local:9000/base-9000-disk-0.qcow2";
    let value = format!("{disk},discard=on,size=2252M");
    let moved =
        format!("qm set 9000 --scsi0 {disk} --scsihw virtio-scsi-single --boot order=scsi0");
    for (bus, boot) in [("virtio0", "order=virtio0;net0"), ("sata1", "order=sata1"), ("ide0", "")] {
        let mut settings = without("scsi0", &[(bus, &value), ("boot", boot)]);
        let (what, fix) = flaw(&settings);
        assert!(what.starts_with(&format!("boots from `{bus}`")), "{what}");
        assert_eq!(fix, format!("qm set 9000 --delete {bus}\n{moved}"));
        settings.remove("boot");
        assert_eq!(flaw(&settings).0, what, "without a boot order");
    }
    // A disk in the slot of the boot disk is moved, and a cloud-init drive with it.
    let data = ("scsi0", "tank:base-9000-disk-7,size=1G");
    let both = with(&[data, ("virtio0", &value), ("boot", "order=virtio0"), ("scsi1", "tank:x-1")]);
    let (_, fix) = flaw(&both);
    assert!(fix.contains("--delete virtio0,scsi0\n"), "{fix}");
    assert!(fix.contains("--scsi2 tank:base-9000-disk-7 "), "{fix}");
    let seed = ("scsi0", "tank:vm-9000-cloudinit,media=cdrom");
    let (what, fix) = flaw(&with(&[seed, ("virtio0", &value), ("boot", "order=virtio0")]));
    assert!(
        what.contains("`virtio0`") && fix.contains("--delete virtio0,scsi0\n"),
        "{what}\n{fix}"
    );
}

#[test]
fn a_template_without_any_disk_is_refused() {
    for disk in ["none,media=cdrom", "local:9000/vm-9000-cloudinit.qcow2,media=cdrom"] {
        assert!(
            flaws(VmId(9000), &with(&[("scsi0", disk)])).iter().any(|f| f.what == "has no disk")
        );
    }
    assert_eq!(flaw(&without("scsi0", &[])).0, "has no disk");
}

#[test]
fn a_drive_of_proxmoxs_own_seed_is_told_by_its_volume_alone() {
    for (value, is) in [
        ("local:9000/vm-9000-cloudinit.qcow2,media=cdrom,size=4M", true),
        ("local-lvm:vm-9000-cloudinit,media=cdrom", true),
        ("local-lvm:cloudinit", true),
        ("file=local-lvm:vm-9000-cloudinit", true),
        ("local-lvm:vm-9000-disk-0,media=cdrom", false),
        ("local:iso/cloudinit.iso,media=cdrom", false),
        ("local:iso/cloudinit-9000.iso,media=cdrom", false),
        ("local:iso/my-cloudinit.iso,media=cdrom", false),
        ("local-lvm:vm-x-cloudinit", false),
        ("local-lvm:vm--cloudinit", false),
        ("none,media=cdrom", false),
    ] {
        assert_eq!(is_cloudinit(value), is, "{value}");
        let removed = dropped(&with(&[("sata0", value)]));
        assert_eq!(removed == ["sata0="], is, "{value}: {removed:?}");
    }
    // The drive of k8sha's own seed is not removed: its content is replaced.
    assert_eq!(dropped(&with(&[("ide2", "local-lvm:vm-9000-cloudinit,media=cdrom")])), [""; 0]);
}

#[test]
fn a_disc_whose_label_is_not_known_is_refused_and_never_removed() {
    for value in ["local:iso/seed.iso,media=cdrom", "cdrom,media=cdrom"] {
        let settings = with(&[("ide0", value)]);
        let (what, fix) = flaw(&settings);
        assert!(what.contains("in the drive `ide0`") && what.contains("cidata"), "{what}");
        assert_eq!(fix, "qm set 9000 --ide0 none,media=cdrom");
        assert_eq!(dropped(&settings), [""; 0]);
    }
    assert_eq!(flaws(VmId(9000), &with(&[("ide0", "none,media=cdrom")])), []);
}

#[test]
fn a_disk_where_the_seed_goes_is_refused_with_another_place_for_it() {
    let (what, fix) = flaw(&with(&[("ide2", "tank:base-9000-disk-1,size=8G")]));
    assert!(what.contains("a disk on `ide2`"), "{what}");
    assert_eq!(fix, "qm set 9000 --delete ide2\nqm set 9000 --scsi1 tank:base-9000-disk-1");
}

#[test]
fn a_seed_that_is_named_by_the_machine_itself_is_refused() {
    let encoded = STANDARD.encode("ds=nocloud;s=http://10.0.0.1/");
    for (key, value) in [
        ("args", "-smbios type=1,serial=ds=nocloud-net;s=http://10.0.0.1/"),
        (
            "smbios1",
            &format!("uuid=00000000-0000-0000-0000-000000000000,serial={encoded},base64=1"),
        ),
    ] {
        let (what, fix) = flaw(&with(&[(key, value)]));
        assert!(what.contains(&format!("`ds=nocloud` in `{key}`")), "{what}");
        assert_eq!(fix, format!("qm set 9000 --delete {key}"));
    }
    assert_eq!(flaws(VmId(9000), &with(&[("smbios1", "uuid=1,serial=QUJD,base64=1")])), []);
}

#[test]
fn a_lock_a_foreign_kind_of_machine_and_a_single_device_are_refused() {
    let lock = flaw(&with(&[("lock", "backup")]));
    assert!(
        lock.0.contains("is locked (backup)") && lock.1.ends_with("qm unlock 9000"),
        "{lock:?}"
    );
    assert!(flaw(&with(&[("arch", "aarch64")])).0.contains("aarch64"));
    assert_eq!(
        flaw(&with(&[("hostpci0", "0000:01:00.0,pcie=1")])).1,
        "qm set 9000 --delete hostpci0"
    );
    // A mapping may stand for as many devices as there are machines.
    assert_eq!(
        flaws(VmId(9000), &with(&[("hostpci0", "mapping=nic,pcie=1"), ("arch", "x86_64")])),
        []
    );
}

#[test]
fn all_flaws_are_told_at_once() {
    let settings = without("scsi0", &[("virtio0", "tank:base-9000-disk-0"), ("lock", "backup")]);
    assert_eq!(flaws(VmId(9000), &settings).len(), 2);
}

#[test]
fn what_is_the_templates_own_is_not_for_its_clones() {
    let settings = with(&[
        ("agent", "0"),
        ("balloon", "512"),
        ("freeze", "1"),
        ("protection", "1"),
        ("reboot", "0"),
        ("sockets", "2"),
        ("vcpus", "1"),
    ]);
    let want =
        ["protection=", "balloon=", "sockets=1", "vcpus=", "freeze=", "reboot=", "agent=enabled=1"];
    assert_eq!(dropped(&settings), want);
    let harmless = [("balloon", "0"), ("sockets", "1"), ("reboot", "1"), ("protection", "0")];
    assert_eq!(dropped(&with(&harmless)), [""; 0]);
    assert_eq!(dropped(&without("agent", &[])), ["agent=enabled=1"]);
    assert_eq!(dropped(&with(&[("agent", "1")])), [""; 0]);
}

#[test]
fn what_clones_have_besides_the_profile_is_told_in_one_line() {
    let settings = with(&[
        ("hookscript", "local:snippets/hook.sh"),
        ("ide0", "local-lvm:vm-9000-cloudinit,media=cdrom"),
        ("net1", "virtio=BC:24:11:00:00:02,bridge=vmbr1"),
        ("protection", "1"),
        ("scsi1", "tank:base-9000-disk-1,size=8G"),
    ]);
    assert_eq!(
        notice(VmId(9000), &settings).as_deref(),
        Some(
            "template 9000: clones get its `scsi1`, `hookscript`, `net1` unchanged; clones do not \
             keep its `ide0`, `protection`"
        )
    );
}
