//! How long things take on Proxmox VE, in simulated seconds, in one table.
//!
//! Measured on Proxmox VE 9.2 with small images, or read from the public sources where a limit is
//! written down (qemu-server src/PVE/API2/Qemu.pm, pve-storage src/PVE/Storage/Plugin.pm).

/// A linked clone, whatever its size.
pub const LINKED_CLONE: f64 = 0.5;
/// What a full clone takes beside the copying.
pub const FULL_CLONE: f64 = 0.2;
/// Bytes that a full clone copies in a second.
pub const COPY_RATE: f64 = 200.0e6;
/// From a clone's beginning until its target has a whole configuration.
pub const CLONE_CONFIG: f64 = 0.35;
/// Making a VM with nothing to import.
pub const CREATE: f64 = 0.3;
/// Making a VM whose disk is imported from an image.
pub const CREATE_WITH_IMPORT: f64 = 6.0;
/// Turning a VM into a template.
pub const TEMPLATE: f64 = 0.5;
/// Switching a VM on.
pub const START: f64 = 1.6;
/// Switching a VM off.
pub const STOP: f64 = 1.0;
/// A guest that reacts shuts down in this time.
pub const SHUTDOWN: f64 = 4.0;
/// How long a shutdown waits for a guest where the caller names no timeout.
pub const SHUTDOWN_LIMIT: f64 = 60.0;
/// Resetting a VM.
pub const RESET: f64 = 0.1;
/// Destroying a VM.
pub const DESTROY: f64 = 0.25;
/// Moving an uploaded file to its place.
pub const UPLOAD: f64 = 0.2;
/// Deleting a volume.
pub const DELETE_VOLUME: f64 = 0.15;
/// Changing a VM's configuration in a task.
pub const CONFIG: f64 = 0.1;
/// Growing a disk.
pub const RESIZE: f64 = 0.3;
/// Bytes that a download brings in a second.
pub const DOWNLOAD_RATE: f64 = 60.0e6;
/// What a download takes beside the bytes.
pub const DOWNLOAD: f64 = 0.5;
/// The size of a cloud image's file, in bytes.
pub const IMAGE_BYTES: u64 = 650 * 1024 * 1024;
/// The size of the disk inside a cloud image, in bytes (Ubuntu 22.04's is 2252 MiB).
pub const IMAGE_DISK_BYTES: u64 = 2252 * 1024 * 1024;
/// The size of a cloud-init drive, in bytes.
pub const CLOUDINIT_BYTES: u64 = 4 * 1024 * 1024;

/// How long a clone waits for the lock of its source, and of its target.
pub const CLONE_LOCK_WAIT: f64 = 1.0;
/// How long everything else waits for a VM's lock.
pub const VM_LOCK_WAIT: f64 = 10.0;
/// How long an allocation waits for its storage's lock.
pub const STORAGE_LOCK_WAIT: f64 = 10.0;
/// How long an allocation holds its storage's lock when the storage is idle.
pub const ALLOCATE: f64 = 0.1;
/// How much longer an allocation takes for each copy that is under way on the same storage.
pub const ALLOCATE_PER_COPY: f64 = 1.0;
/// How long `qm cleanup` holds a VM's lock when the VM was started again before it looked.
pub const CLEANUP_LOCK: f64 = 30.0;
/// A start this soon after a stop meets `qm cleanup`.
pub const CLEANUP_WINDOW: f64 = 1.0;

/// How long a refused login or token is kept waiting.
pub const REFUSED_LOGIN: f64 = 3.0;
/// How long a call to a guest agent that is not there takes to fail.
pub const AGENT_TIMEOUT: f64 = 3.0;
/// How long a proxied call takes to be given up when it is made to.
pub const PROXY_TIMEOUT: f64 = 3.0;
/// How long a write to the user configuration waits for quorum.
pub const QUORUM_WAIT: f64 = 10.0;
/// How long a call to a host that is switched off takes to fail.
pub const NO_ROUTE: f64 = 2.0;
/// Reloading a node's network configuration.
pub const RELOAD: f64 = 1.0;
/// `pvestatd` reports this often.
pub const REPORT_EVERY: f64 = 10.0;
/// How long a ticket is good.
pub const TICKET_LIFE: i64 = 7200;
/// Taking a snapshot of a VM, deleting one, or going back to it.
pub const SNAPSHOT: f64 = 0.2;
/// A migration looks at a VM's volumes before it locks its configuration.
pub const MIGRATION_SCAN: f64 = 0.4;
/// What moving a VM takes beside the copying of its disks.
pub const MIGRATION_COPY: f64 = 2.0;
/// From the instant at which a VM's configuration is on the other node until the task ends.
pub const MIGRATION_END: f64 = 0.8;
/// What moving a running VM takes longer before its configuration moves.
pub const MIGRATION_LIVE: f64 = 1.1;
/// For how long before that a running VM stands still, its memory being on the other node.
pub const MIGRATION_STILL: f64 = 1.0;
/// What the other node takes to let a running VM go on, after its configuration is there.
pub const MIGRATION_HANDOVER: f64 = 2.0;
/// How long a network card is waited for that a guest does not let go of.
pub const UNPLUG_NET: f64 = 6.0;
/// How long a disk is waited for that a guest does not let go of.
pub const UNPLUG_DISK: f64 = 18.0;
