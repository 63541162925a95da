//! The options of a VM: the privilege needed to change each, and those that take effect at once
//! (qemu-server src/PVE/API2/Qemu.pm, `check_vm_modify_config_perm`). The [rules](super::rules) define
//! their valid values.

/// The permission needed to change an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One of these privileges on the VM.
    Privilege(&'static [&'static str]),
    /// VM.Config.Network on the VM, and SDN.Use on the bridge.
    Network,
    /// A drive: the privilege depends on its contents.
    Drive,
    /// VM.Config.Options on the VM, and Sys.Modify on everything.
    Startup,
    /// VM.Config.HWType on the VM; a real device of the host requires `root@pam` itself.
    Device,
    /// `root@pam` itself.
    Root,
}

/// An option's name without its number.
fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The permission needed to change an option.
pub fn need(name: &str) -> Need {
    let numbered = stem(name).len() < name.len();
    match stem(name) {
        "cores" | "sockets" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "smp" | "vcpus" => {
            Need::Privilege(&["VM.Config.CPU"])
        }
        "memory" | "balloon" | "shares" | "allow-ksm" => Need::Privilege(&["VM.Config.Memory"]),
        "net" => Need::Network,
        "ipconfig" | "nameserver" | "searchdomain" | "ciuser" | "cipassword" | "citype"
        | "ciupgrade" | "cicustom" | "sshkeys" => {
            Need::Privilege(&["VM.Config.Cloudinit", "VM.Config.Network"])
        }
        "ide" | "sata" | "scsi" | "virtio" | "efidisk" | "tpmstate" | "cdrom" | "unused" => {
            Need::Drive
        }
        "boot" | "bootdisk" | "vmstatestorage" => Need::Privilege(&["VM.Config.Disk"]),
        "serial" | "usb" | "hostpci" if numbered => Need::Device,
        "acpi" | "audio" | "hotplug" | "kvm" | "machine" | "rng" | "scsihw" | "smbios"
        | "tablet" | "vga" | "watchdog" => Need::Privilege(&["VM.Config.HWType"]),
        "startup" => Need::Startup,
        "freeze" => Need::Privilege(&["VM.PowerMgmt"]),
        "agent" | "autostart" | "bios" | "description" | "keyboard" | "localtime"
        | "migrate_downtime" | "migrate_speed" | "name" | "onboot" | "ostype" | "protection"
        | "reboot" | "startdate" | "tags" | "tdf" | "template" | "spice_enhancements"
        | "virtiofs" => Need::Privilege(&["VM.Config.Options"]),
        _ => Need::Root,
    }
}

/// Whether a device is available to every VM, without a device of the host.
pub fn is_plain_device(name: &str, value: &str) -> bool {
    let mut parts = value.split(',');
    let first = parts.next().unwrap_or_default();
    match stem(name) {
        "serial" => value == "socket",
        "usb" => first.trim_start_matches("host=").eq_ignore_ascii_case("spice"),
        _ => value.split(',').any(|part| part.starts_with("mapping=")),
    }
}

/// Whether a change takes effect while the VM runs; other changes are pending until its next start.
pub fn is_hot(name: &str) -> bool {
    matches!(
        stem(name),
        "name"
            | "lock"
            | "onboot"
            | "startup"
            | "description"
            | "protection"
            | "tags"
            | "hookscript"
            | "migrate_downtime"
            | "migrate_speed"
            | "shares"
            | "vmstatestorage"
            | "net"
            | "scsi"
            | "virtio"
            | "unused"
            | "ipconfig"
            | "nameserver"
            | "searchdomain"
            | "ciuser"
            | "cipassword"
            | "citype"
            | "ciupgrade"
            | "cicustom"
            | "sshkeys"
    )
}
