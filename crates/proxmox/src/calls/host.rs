//! Read calls about a host, its Proxmox VE cluster and the caller's privileges.

use crate::Params;
use crate::client::{Client, Request};
use crate::error::Error;
use crate::wire::{
    Certificate, ClusterStatus, CpuModel, NetworkIface, NodeEntry, NodeStatus, Permissions, Pool,
    Role, Version, VmResource,
};

impl Client {
    /// The version of Proxmox VE, requested once without retries: the first request to a host that may
    /// be unhealthy.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn greet(&self) -> Result<Version, Error> {
        self.read_once(Request::get(&["version"])).await
    }

    /// The host's certificates. Any user may read them.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn certificates(&self) -> Result<Vec<Certificate>, Error> {
        let path = ["nodes", self.host().as_str(), "certificates", "info"];
        self.read(Request::get(&path)).await
    }

    /// The version of Proxmox VE.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn version(&self) -> Result<Version, Error> {
        self.read(Request::get(&["version"])).await
    }

    /// The Proxmox cluster and its nodes. Needs Sys.Audit on `/`.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        self.read(Request::get(&["cluster", "status"])).await
    }

    /// The VMs and containers of the whole Proxmox cluster that the account may see: a cache, good for
    /// finding a VMID in use on another host, not for recent changes.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn cluster_vms(&self) -> Result<Vec<VmResource>, Error> {
        let request = Request::list(&["cluster", "resources"]);
        self.read(request.query(Params::new().with("type", "vm"))).await
    }

    /// The account's privileges: on all paths that have entries, or on one path.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn permissions(&self, path: Option<&str>) -> Result<Permissions, Error> {
        let request = Request::list(&["access", "permissions"]);
        self.read(request.query(Params::new().maybe("path", path))).await
    }

    /// The roles and their privileges. Any user may read them.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn roles(&self) -> Result<Vec<Role>, Error> {
        self.read(Request::list(&["access", "roles"])).await
    }

    /// The nodes of the Proxmox cluster. Any user may read their names.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn nodes(&self) -> Result<Vec<NodeEntry>, Error> {
        self.read(Request::get(&["nodes"])).await
    }

    /// The host's CPUs, memory and uptime. Needs Sys.Audit.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn node_status(&self) -> Result<NodeStatus, Error> {
        self.read(Request::get(&["nodes", self.host().as_str(), "status"])).await
    }

    /// The CPU types that the host knows. Any user may read them; custom ones are omitted without
    /// Sys.Audit on `/nodes`.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn cpu_models(&self) -> Result<Vec<CpuModel>, Error> {
        let path = ["nodes", self.host().as_str(), "capabilities", "qemu", "cpu"];
        self.read(Request::get(&path)).await
    }

    /// The host's network interfaces that the account may see.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn network(&self) -> Result<Vec<NetworkIface>, Error> {
        self.read(Request::get(&["nodes", self.host().as_str(), "network"])).await
    }

    /// The pools that the account may see.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        self.read(Request::list(&["pools"])).await
    }
}
