//! Machines of the simulated Proxmox VE that are real system containers.

pub mod standin;
