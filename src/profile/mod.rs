//! Profiles: reading the YAML file and turning it into a [`Cluster`].
//!
//! The pipeline is text → `tree` (YAML with places) → `raw` (typed, every column optional) →
//! `check` (all complaints at once) → [`Cluster`]. A complaint never hides another one: faulty
//! parts are cut out of the tree, and the rest is still read and checked.
//!
//! [`Cluster`]: crate::cluster::Cluster

mod at;
mod check;
mod complaint;
mod decode;
mod excerpt;
mod fault;
mod hidden;
mod load;
mod raw;
mod schema;
mod tree;
mod written;

pub use complaint::{Colour, Complaint, Severity, render};
pub use load::{
    EMBEDDED, LoadError, Loaded, Rejected, Source, about, embedded, embedded_names, find, load,
    read,
};
pub use schema::schema;
