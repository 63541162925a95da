//! The options of a VM: their types, and the privilege that changing each needs
//! (qemu-server src/PVE/QemuServer.pm and src/PVE/API2/Qemu.pm).

use super::schema::{Format, Kind, Param, flag, integer, text};

/// What changing an option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One of these privileges on the VM.
    Privilege(&'static [&'static str]),
    /// VM.Config.Network on the VM, and SDN.Use on the bridge.
    Network,
    /// A drive: which privilege depends on what is in it.
    Drive,
    /// VM.Config.Options on the VM, and Sys.Modify on everything.
    Startup,
    /// `root@pam` itself.
    Root,
}

/// Every option of a VM that this simulator knows.
pub const OPTIONS: &[Param] = &[
    flag("acpi"),
    text("affinity"),
    text("agent"),
    text("arch").one_of(&["x86_64", "aarch64"]),
    text("args"),
    flag("autostart"),
    integer("balloon").min(0),
    text("bios").one_of(&["seabios", "ovmf"]),
    text("boot").of(Format::Boot),
    text("bootdisk"),
    text("cdrom"),
    text("cicustom"),
    text("cipassword"),
    text("citype").one_of(&["configdrive2", "nocloud", "opennebula"]),
    flag("ciupgrade"),
    text("ciuser"),
    integer("cores").min(1),
    text("cpu").of(Format::Cpu),
    Param { kind: Kind::Number, ..text("cpulimit") },
    integer("cpuunits").min(1),
    text("description").up_to(8192),
    text("efidisk0"),
    flag("freeze"),
    text("hookscript"),
    text("hotplug"),
    text("hugepages").one_of(&["any", "2", "1024"]),
    text("ide[3]"),
    text("ipconfig[31]").of(Format::IpConfig),
    flag("kvm"),
    flag("localtime"),
    text("machine"),
    text("memory").of(Format::Memory),
    text("name").of(Format::DnsName),
    text("nameserver").of(Format::List),
    text("net[31]").of(Format::Net),
    flag("numa"),
    flag("onboot"),
    text("ostype").one_of(&[
        "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24",
        "l26", "solaris",
    ]),
    flag("protection"),
    flag("reboot"),
    text("rng0"),
    text("sata[5]"),
    text("scsi[30]"),
    text("scsihw").one_of(&[
        "lsi",
        "lsi53c810",
        "virtio-scsi-pci",
        "virtio-scsi-single",
        "megasas",
        "pvscsi",
    ]),
    text("searchdomain"),
    text("serial[3]"),
    text("smbios1").up_to(512),
    integer("sockets").min(1),
    text("sshkeys").of(Format::UrlEncoded),
    text("startdate"),
    text("startup"),
    flag("tablet"),
    text("tags").of(Format::Tags),
    flag("template"),
    text("tpmstate0"),
    text("unused[255]"),
    integer("vcpus").min(1),
    text("vga"),
    text("virtio[15]"),
    text("vmgenid"),
    text("watchdog"),
];

/// Whether an option is shown as a number.
pub fn is_number(name: &str) -> bool {
    let option = OPTIONS.iter().find(|option| option.is(name));
    option.is_some_and(|option| matches!(option.kind, Kind::Integer | Kind::Boolean))
}

/// Whether there is such an option.
pub fn exists(name: &str) -> bool {
    OPTIONS.iter().any(|option| option.is(name))
}

/// What changing an option needs.
pub fn need(name: &str) -> Need {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem {
        "cores" | "sockets" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "vcpus" => {
            Need::Privilege(&["VM.Config.CPU"])
        }
        "memory" | "balloon" => Need::Privilege(&["VM.Config.Memory"]),
        "net" => Need::Network,
        "ipconfig" | "nameserver" | "searchdomain" | "ciuser" | "cipassword" | "citype"
        | "ciupgrade" | "cicustom" | "sshkeys" => {
            Need::Privilege(&["VM.Config.Cloudinit", "VM.Config.Network"])
        }
        "ide" | "sata" | "scsi" | "virtio" | "efidisk" | "tpmstate" | "cdrom" | "unused" => {
            Need::Drive
        }
        "boot" | "bootdisk" => Need::Privilege(&["VM.Config.Disk"]),
        "acpi" | "bios" | "kvm" | "machine" | "rng" | "scsihw" | "serial" | "smbios" | "tablet"
        | "vga" | "watchdog" | "hotplug" => Need::Privilege(&["VM.Config.HWType"]),
        "startup" => Need::Startup,
        "args" | "arch" | "hookscript" | "affinity" | "hugepages" | "vmgenid" => Need::Root,
        _ => Need::Privilege(&["VM.Config.Options"]),
    }
}

/// Whether a change takes effect while the VM runs; the others wait for its next start.
pub fn is_hot(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(
        stem,
        "name"
            | "onboot"
            | "startup"
            | "description"
            | "protection"
            | "tags"
            | "hookscript"
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
