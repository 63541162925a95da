//! Creates a host's template: the image, and the VM that becomes the template.

use std::fmt;

use serde::Serialize;

use super::Act;
use crate::cluster::{HostName, VmId};
use crate::plan::queue::Queue;

/// Download a cloud image to a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Image {
    /// The host.
    pub host: HostName,
    /// The operating system's name, part of the step's name.
    pub os: String,
    /// The storage for it.
    pub storage: String,
    /// The file's name there.
    pub file: String,
    /// Its URL.
    pub url: String,
    /// Its expected checksum.
    pub sha256: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "download {} to {}", self.file, self.storage)
    }
}

impl Act for Image {
    fn copies(&self) -> bool {
        true
    }
}

/// Create a template from a downloaded image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Template {
    /// The host.
    pub host: HostName,
    /// The template's VMID.
    pub vmid: VmId,
    /// The operating system's name.
    pub os: String,
    /// The image's volume id.
    pub image: String,
    /// The storage of its disk.
    pub storage: String,
    /// The hash of its sources.
    pub spec: String,
    /// The size to which its disk is grown, in GiB, so that its clones need not grow theirs.
    pub disk_gib: Option<u32>,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.disk_gib.map_or(String::new(), |gib| format!(", {gib} GiB"));
        write!(f, "create template {} ({}{size}) on {}", self.vmid, self.os, self.storage)
    }
}

impl Act for Template {
    fn queue(&self) -> Option<Queue> {
        Some(Queue::allocates(&self.host, &self.storage))
    }

    fn copies(&self) -> bool {
        true
    }
}
