//! Files and disks on storages.

use serde::{Deserialize, Serialize};

/// A file or a disk on a storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its id, such as `local-lvm:vm-101-disk-0`.
    pub volid: String,
    /// Its storage.
    pub storage: String,
    /// Its node; `None` on a shared storage.
    pub host: Option<String>,
    /// `images`, `iso`, `import` or `vztmpl`.
    pub content: String,
    /// `raw`, `qcow2`, `iso` ...
    pub format: String,
    /// Its size in bytes, as a guest sees it.
    pub size: u64,
    /// The virtual size in bytes, for a file that is a disk image.
    #[serde(default)]
    pub disk: Option<u64>,
    /// Unix time of its creation.
    pub ctime: i64,
    /// The VM that owns it.
    pub vmid: Option<u32>,
    /// The base volume of a linked clone, by its id.
    pub parent: Option<String>,
    /// Its contents ([`crate::store::Store::blob`]), for uploads.
    pub blob: Option<String>,
    /// The SHA-256 of its contents, for files downloaded or uploaded with one.
    pub sha256: Option<String>,
    /// Whether it contains an operating system: it is a cloud image, or a copy of one.
    pub system: bool,
}

impl Volume {
    /// Whether a node sees it.
    pub fn seen_from(&self, host: &str) -> bool {
        self.host.as_deref().is_none_or(|on| on == host)
    }

    /// The bytes that it uses.
    pub fn used(&self) -> u64 {
        if self.content == "images" && self.format != "raw" || self.parent.is_some() {
            self.size / 3
        } else {
            self.size
        }
    }
}
