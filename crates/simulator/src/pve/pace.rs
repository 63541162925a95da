//! The durations of operations on Proxmox VE, in simulated seconds, in one table.
//!
//! Measured on Proxmox VE 9.2 with small images, or taken from the public sources if they define a
//! limit (qemu-server src/PVE/API2/Qemu.pm, pve-storage src/PVE/Storage/Plugin.pm).

/// A linked clone, whatever its size.
pub const LINKED_CLONE: f64 = 0.5;
/// A full clone, without the copying.
pub const FULL_CLONE: f64 = 0.2;
/// The copy rate of a full clone, in bytes per second.
pub const COPY_RATE: f64 = 200.0e6;
/// From a clone's start until its target has a whole configuration.
pub const CLONE_CONFIG: f64 = 0.35;
/// Creating a VM without an import.
pub const CREATE: f64 = 0.3;
/// Creating a VM whose disk is imported from an image.
pub const CREATE_WITH_IMPORT: f64 = 6.0;
/// Converting a VM to a template.
pub const TEMPLATE: f64 = 0.5;
/// Switching a VM on.
pub const START: f64 = 1.6;
/// Switching a VM off.
pub const STOP: f64 = 1.0;
/// The shutdown of a guest that reacts.
pub const SHUTDOWN: f64 = 4.0;
/// How long a shutdown waits for a guest if the caller sets no timeout.
pub const SHUTDOWN_LIMIT: f64 = 60.0;
/// Resetting a VM.
pub const RESET: f64 = 0.1;
/// Destroying a VM.
pub const DESTROY: f64 = 0.25;
/// Moving an uploaded file to its destination.
pub const UPLOAD: f64 = 0.2;
/// Deleting a volume.
pub const DELETE_VOLUME: f64 = 0.15;
/// Changing a VM's configuration in a task.
pub const CONFIG: f64 = 0.1;
/// Growing a disk.
pub const RESIZE: f64 = 0.3;
/// The rate of a download, in bytes per second.
pub const DOWNLOAD_RATE: f64 = 60.0e6;
/// A download, without the transfer.
pub const DOWNLOAD: f64 = 0.5;
/// The size of a cloud image's file, in bytes.
pub const IMAGE_BYTES: u64 = 650 * 1024 * 1024;
/// The size of the disk inside a cloud image, in bytes (Ubuntu 22.04's is 2252 MiB).
pub const IMAGE_DISK_BYTES: u64 = 2252 * 1024 * 1024;
/// The size of a cloud-init drive, in bytes.
pub const CLOUDINIT_BYTES: u64 = 4 * 1024 * 1024;

/// How long a clone waits for the lock of its source, and of its target.
pub const CLONE_LOCK_WAIT: f64 = 1.0;
/// How long every other task waits for a VM's lock.
pub const VM_LOCK_WAIT: f64 = 10.0;
/// How long an allocation waits for its storage's lock.
pub const STORAGE_LOCK_WAIT: f64 = 10.0;
/// How long an allocation holds its storage's lock if the storage is idle.
pub const ALLOCATE: f64 = 0.1;
/// The extra time of an allocation for each copy in progress on the same storage.
pub const ALLOCATE_PER_COPY: f64 = 1.0;
/// How long `qm cleanup` holds a VM's lock if the VM was started again before the cleanup ran.
pub const CLEANUP_LOCK: f64 = 30.0;
/// A start this soon after a stop meets `qm cleanup`.
pub const CLEANUP_WINDOW: f64 = 1.0;

/// The delay of a refused login or token.
pub const REFUSED_LOGIN: f64 = 3.0;
/// How long a call to an absent guest agent takes to fail.
pub const AGENT_TIMEOUT: f64 = 3.0;
/// The time after which a proxied call fails if a fault makes it.
pub const PROXY_TIMEOUT: f64 = 3.0;
/// How long a write to the user configuration waits for quorum.
pub const QUORUM_WAIT: f64 = 10.0;
/// How long a call to a switched-off host takes to fail.
pub const NO_ROUTE: f64 = 2.0;
/// Reloading a node's network configuration.
pub const RELOAD: f64 = 1.0;
/// The interval of `pvestatd` reports.
pub const REPORT_EVERY: f64 = 10.0;
/// The lifetime of a ticket.
pub const TICKET_LIFE: i64 = 7200;
/// Taking a snapshot of a VM, deleting one, or rolling back to it.
pub const SNAPSHOT: f64 = 0.2;
/// A migration checks a VM's volumes before it locks the configuration.
pub const MIGRATION_SCAN: f64 = 0.4;
/// Migrating a VM, without the copying of its disks.
pub const MIGRATION_COPY: f64 = 2.0;
/// From the moment a VM's configuration is on the other node until the task ends.
pub const MIGRATION_END: f64 = 0.8;
/// The extra time before the configuration of a running VM moves.
pub const MIGRATION_LIVE: f64 = 1.1;
/// How long before that a running VM is paused, its memory being on the other node.
pub const MIGRATION_STILL: f64 = 1.0;
/// The time until a running VM resumes on the other node, once its configuration is there.
pub const MIGRATION_HANDOVER: f64 = 2.0;
/// How long to wait for a network card that a guest does not release.
pub const UNPLUG_NET: f64 = 6.0;
/// How long to wait for a disk that a guest does not release.
pub const UNPLUG_DISK: f64 = 18.0;
