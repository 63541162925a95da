//! Drives, volume ids and sizes in Proxmox VE's notation.

use std::collections::BTreeMap;

/// The buses of drives.
const BUSES: [&str; 6] = ["ide", "sata", "scsi", "virtio", "efidisk", "tpmstate"];

/// A drive's option value, such as `local-lvm:vm-101-disk-0,size=32G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The volume, or `none`.
    pub volume: String,
    /// The other settings.
    pub options: BTreeMap<String, String>,
}

impl Drive {
    /// Parses an option value.
    pub fn parse(text: &str) -> Self {
        let mut volume = String::new();
        let mut options = BTreeMap::new();
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("file", value)) => volume = value.to_owned(),
                Some((key, value)) => drop(options.insert(key.to_owned(), value.to_owned())),
                None if volume.is_empty() => volume = part.to_owned(),
                None => drop(options.insert(part.to_owned(), String::new())),
            }
        }
        // A drive without a volume can only be a CD-ROM, and is stored as one.
        if volume == "none" || volume == "cdrom" {
            options.entry("media".to_owned()).or_insert_with(|| "cdrom".to_owned());
        }
        Self { volume, options }
    }

    /// Whether it is a CD-ROM drive.
    pub fn is_cdrom(&self) -> bool {
        self.options.get("media").is_some_and(|media| media == "cdrom")
    }

    /// Whether it is the drive that Proxmox generates for cloud-init.
    pub fn is_cloudinit(&self) -> bool {
        self.volume.contains("-cloudinit") || self.volume.ends_with(":cloudinit")
    }

    /// Its storage, if it has a volume.
    pub fn storage(&self) -> Option<&str> {
        self.volume.split_once(':').map(|(storage, _)| storage)
    }

    /// Its size in bytes, from its option.
    pub fn size(&self) -> Option<u64> {
        parse_size(self.options.get("size")?)
    }
}

impl std::fmt::Display for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.volume)?;
        self.options.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

/// Whether an option is a drive.
pub fn is_drive(key: &str) -> bool {
    let bus = key.trim_end_matches(|c: char| c.is_ascii_digit());
    bus.len() < key.len() && BUSES.contains(&bus)
}

/// The default boot devices of a VM: its first disk, first CD-ROM and first network card (qemu-server
/// src/PVE/QemuServer.pm, `get_default_bootdevices`).
pub fn boot_order(bootable: &[String], options: &BTreeMap<String, String>) -> Option<String> {
    let disc = |key: &str| {
        let drive = options.get(key).map(|text| Drive::parse(text));
        drive.is_some_and(|drive| drive.is_cdrom() || drive.is_cloudinit())
    };
    let place = |key: &str| {
        let bus = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = key[bus.len()..].parse::<u8>().unwrap_or_default();
        (["ide", "scsi", "virtio", "sata"].iter().position(|name| *name == bus), number)
    };
    let first = |wanted: &dyn Fn(&str) -> bool| {
        bootable.iter().filter(|key| wanted(key)).min_by_key(|key| place(key))
    };
    let order: Vec<_> = [
        first(&|key| place(key).0.is_some() && !disc(key)),
        first(&|key| place(key).0.is_some() && disc(key)),
        first(&|key| key.starts_with("net")),
    ]
    .into_iter()
    .flatten()
    .map(String::as_str)
    .collect();
    (!order.is_empty()).then(|| format!("order={}", order.join(";")))
}

/// The bytes of a size such as `2252M`; a bare number is bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.strip_suffix("iB").unwrap_or(text);
    let (number, factor) = match text.char_indices().last()? {
        (end, 'K') => (&text[..end], 1u64 << 10),
        (end, 'M') => (&text[..end], 1 << 20),
        (end, 'G') => (&text[..end], 1 << 30),
        (end, 'T') => (&text[..end], 1 << 40),
        _ => (text, 1),
    };
    let number: f64 = number.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    Some((number * factor as f64) as u64)
}

/// A size in the largest unit without a remainder (pve-common src/PVE/JSONSchema.pm, `format_size`).
pub fn format_size(bytes: u64) -> String {
    let mut number = bytes;
    for unit in ["", "K", "M", "G"] {
        if !number.is_multiple_of(1024) {
            return format!("{number}{unit}");
        }
        number /= 1024;
    }
    format!("{number}T")
}

/// Whether a name, without its storage, is that of a file on a file-based storage (pve-storage
/// src/PVE/Storage/Plugin.pm, `parse_volname`).
pub fn is_file_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match parts[..] {
        ["iso" | "vztmpl" | "snippets" | "import" | "backup", file] => {
            !file.is_empty() && file != ".." && file != "."
        }
        [vmid, file] => digits(vmid) && !file.is_empty(),
        [base, _, vmid, file] => digits(base) && digits(vmid) && !file.is_empty(),
        _ => false,
    }
}

/// The naming of volumes on a storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Files in folders: ids have a folder and a format, linked clones name their base.
    Files,
    /// LVM thin: ids are plain, linked clones do not name their base.
    Thin,
    /// LVM: no linked clones.
    Thick,
    /// ZFS and RBD: linked clones name their base.
    Tree,
}

impl Layout {
    /// The layout of a Proxmox storage type.
    pub fn of(kind: &str) -> Self {
        match kind {
            "lvmthin" => Layout::Thin,
            "lvm" | "iscsi" | "iscsidirect" => Layout::Thick,
            "zfspool" | "zfs" | "rbd" => Layout::Tree,
            _ => Layout::Files,
        }
    }

    /// Whether files can be uploaded to it.
    pub fn has_path(self) -> bool {
        self == Layout::Files
    }

    /// The format of a volume here, unless the caller names one that is supported.
    pub fn format(self, wanted: Option<&str>) -> &str {
        match (self, wanted) {
            (Layout::Files, Some(format)) => format,
            _ => "raw",
        }
    }

    /// The id of a volume of a VM.
    pub fn volid(self, storage: &str, vmid: u32, name: &str, format: &str) -> String {
        match self {
            Layout::Files => format!("{storage}:{vmid}/{name}.{format}"),
            _ => format!("{storage}:{name}"),
        }
    }

    /// The id of a linked clone of `base` (an id).
    pub fn linked(self, base: &str, vmid: u32, name: &str, format: &str) -> String {
        let (storage, path) = base.split_once(':').unwrap_or((base, ""));
        match self {
            Layout::Files => format!("{storage}:{path}/{vmid}/{name}.{format}"),
            Layout::Tree => format!("{storage}:{path}/{name}"),
            Layout::Thin | Layout::Thick => format!("{storage}:{name}"),
        }
    }
}

/// The id after a VM became a template: the disk's own name gets the prefix `base-`, and a linked clone
/// loses the base in its path.
pub fn base_volid(volid: &str, vmid: u32) -> String {
    volid.replace(&format!("vm-{vmid}-"), &format!("base-{vmid}-"))
}

/// Whether a volume belongs to a template.
pub fn is_base(volid: &str) -> bool {
    let path = volid.split_once(':').map_or(volid, |(_, path)| path);
    path.rsplit('/').next().is_some_and(|name| name.starts_with("base-"))
}

/// The path of a file on a file-based storage whose folder is `root`. `path` is a volume's id without
/// its storage.
pub fn file_path(root: &str, path: &str) -> String {
    match path.split_once('/') {
        Some(("iso", name)) => format!("{root}/template/iso/{name}"),
        Some(("vztmpl", name)) => format!("{root}/template/cache/{name}"),
        Some(("import", name)) => format!("{root}/import/{name}"),
        _ => {
            // A linked clone's id has its base before its own folder and file.
            let mut parts: Vec<_> = path.rsplitn(3, '/').take(2).collect();
            parts.reverse();
            format!("{root}/images/{}", parts.join("/"))
        }
    }
}

/// The size in bytes of the disk in an image: from the header of a qcow2 (QEMU docs/interop/qcow2.rst:
/// the magic, a version, and the size at byte 24); of any other image the file's own size.
pub fn disk_bytes(image: &[u8]) -> u64 {
    let size = image.strip_prefix(b"QFI\xfb").and_then(|rest| rest.get(20..28)?.try_into().ok());
    size.map_or(image.len() as u64, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_boots_from_its_first_disk_then_its_first_disc_then_its_first_card() {
        let order = |pairs: &[(&str, &str)]| {
            let options: BTreeMap<_, _> =
                pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
            boot_order(&options.keys().cloned().collect::<Vec<_>>(), &options)
        };
        let all = [
            ("ide2", "local:cloudinit"),
            ("net0", "virtio,bridge=vmbr0"),
            ("net1", "virtio,bridge=vmbr0"),
            ("scsi10", "local:4"),
            ("scsi2", "local:4"),
            ("virtio0", "local:4"),
        ];
        assert_eq!(order(&all).as_deref(), Some("order=scsi2;ide2;net0"));
        assert_eq!(order(&all[1..2]).as_deref(), Some("order=net0"));
        assert_eq!(order(&[]), None);
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_without_remainder() {
        for (bytes, text) in [
            (48 << 20, "48M"),
            (10 << 30, "10G"),
            (409_600, "400K"),
            (1500, "1500"),
            (2252 << 20, "2252M"),
        ] {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        assert_eq!(parse_size("abc"), None);
    }

    #[test]
    fn the_size_of_a_qcow2_is_read_from_its_header() {
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.resize(104, 0);
        image[24..32].copy_from_slice(&(48u64 << 20).to_be_bytes());
        assert_eq!(disk_bytes(&image), 48 << 20);
        assert_eq!(disk_bytes(&image[..30]), 30);
        assert_eq!(disk_bytes(&[0; 512]), 512);
    }

    #[test]
    fn a_path_has_the_file_and_not_its_base() {
        let root = "/var/lib/vz";
        let linked = "9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2";
        assert_eq!(file_path(root, linked), "/var/lib/vz/images/101/vm-101-disk-0.qcow2");
        let base = "9000/base-9000-disk-0.qcow2";
        assert_eq!(file_path(root, base), "/var/lib/vz/images/9000/base-9000-disk-0.qcow2");
        assert_eq!(file_path(root, "iso/a.iso"), "/var/lib/vz/template/iso/a.iso");
    }

    #[test]
    fn volume_ids_follow_the_storage_type() {
        let base = "local:9000/base-9000-disk-0.qcow2";
        let linked = Layout::Files.linked(base, 101, "vm-101-disk-0", "qcow2");
        assert_eq!(linked, "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2");
        let thin = Layout::Thin.linked("local-lvm:base-9001-disk-0", 101, "vm-101-disk-0", "raw");
        assert_eq!(thin, "local-lvm:vm-101-disk-0");
        let tree = Layout::Tree.linked("tank:base-9001-disk-0", 101, "vm-101-disk-0", "raw");
        assert_eq!(tree, "tank:base-9001-disk-0/vm-101-disk-0");
        assert!(is_base(base) && !is_base(&linked) && !is_base(&tree));
    }

    #[test]
    fn a_drive_is_read_and_written_with_its_options_sorted() {
        let drive = Drive::parse("local:iso/seed.iso,size=400K,media=cdrom");
        assert!(drive.is_cdrom() && !drive.is_cloudinit());
        assert_eq!(drive.storage(), Some("local"));
        assert_eq!(drive.to_string(), "local:iso/seed.iso,media=cdrom,size=400K");
        assert_eq!(Drive::parse("none").to_string(), "none,media=cdrom");
        assert!(is_drive("scsi0") && !is_drive("scsihw") && !is_drive("serial0"));
    }
}
