//! A node's first boot: the cloud-init documents and the seed ISO that contains them.
//!
//! [`Templates`] are compiled once at startup, so that an error in them shows before any VM exists.
//! [`render()`] turns a node of the table into a [`Seed`], and [`Seed::image`] turns that into the
//! ISO that Proxmox VE attaches as a CD-ROM.
//!
//! Source of the formats: cloud-init's documentation, "NoCloud" and "Module reference".

mod context;
mod error;
mod iso;
mod render;
mod templates;

pub use context::NodeSecrets;
pub(crate) use context::mainline_release;
pub use error::Error;
pub use render::{KEPT, Kept, Seed, SeedImage, render};
pub use templates::{TEMPLATES, Templates};
