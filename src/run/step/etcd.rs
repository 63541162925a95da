//! Steps that create k8sha's etcd, and the masters' access to it.

use crate::cluster::{Node, Role};
use crate::error::{Exit, Failure};
use crate::files::write_private;
use crate::kubeadm::etcd::{self, Keys, Owner, form};
use crate::kubeadm::{Error, silence};
use crate::mark::{Marked, TAG};
use crate::plan::action;
use crate::run::context::Context;
use crate::run::look::proxmox;

use super::bootstrap::fault;

/// Copies a member's certificates to its machine.
pub(super) async fn member(context: &Context, it: &action::EtcdMember) -> Result<bool, Failure> {
    let Some(machine) = context.etcd_machine(&it.node) else { return Ok(false) };
    machine.plant().await.map_err(|error| fault("copy etcd's certificates", &error).on(&it.node))
}

/// Makes every member healthy.
pub(super) async fn form(context: &Context) -> Result<bool, Failure> {
    let token = format!("{}-{}", context.cluster.name, context.creation);
    let formed = context.etcd_formed.exists();
    let changed = form::run(&context.etcd_machines, &token, formed, context.clock)
        .await
        .map_err(|error| fault("form the etcd cluster", &error))?;
    if !formed {
        write_private(&context.etcd_formed, context.creation.as_bytes())
            .map_err(|error| Failure::new(Exit::Local, "record that etcd is formed", error))?;
    }
    Ok(changed)
}

/// Copies the current client certificate to a master.
pub(super) async fn client(context: &Context, it: &action::EtcdClient) -> Result<bool, Failure> {
    let Some(client) = &context.etcd_client else { return Ok(false) };
    etcd::copy(context.remote(&it.node), client)
        .await
        .map_err(|error| fault("renew the API server's etcd certificate", &error).on(&it.node))
}

/// Copies the etcd files to the master that runs `kubeadm init`, and checks every member.
pub(super) async fn prepare(context: &Context, it: &action::Etcd) -> Result<bool, Failure> {
    // Before the first key: a run that is killed in between must know that there may be one.
    write_private(&context.etcd_claim, context.creation.as_bytes())
        .map_err(|error| Failure::new(Exit::Local, "record that etcd is used", error))?;
    let Some(client) = &context.etcd_client else { return Ok(false) };
    let what = if context.cluster.etcd.is_ours() { "use etcd" } else { "use the external etcd" };
    let keys = match (&context.options.wipe_etcd, it.resumed) {
        // What an unfinished init of this cluster has written belongs to the certificates that it
        // created.
        (_, true) => Keys::Resumed,
        (Some(of), false) => Keys::Wiped { of: of.clone() },
        (None, false) => Keys::Refused,
    };
    if let Keys::Wiped { of: Some(of) } = &keys
        && *of != context.cluster.name
    {
        gone(context, of).await?;
    }
    etcd::prepare(context.remote(&it.node), &context.cluster, client, &owner(context), keys)
        .await
        .map_err(|error| fault(what, &error))
}

/// Checks every member of the external etcd through the first reachable master.
async fn prove_etcd(context: &Context, masters: &[&Node]) -> Result<(), Failure> {
    for master in masters {
        let remote = context.remote(&master.name);
        let asked = async {
            if let Some(client) = &context.etcd_client {
                etcd::copy(remote, client).await?;
            }
            etcd::prove(remote, &context.cluster).await
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error @ Error::Etcd(_)) => {
                return Err(fault("use the external etcd again; nothing was removed", &error));
            }
            // Another one may be reachable. If none is, the removal reports it.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Removes the cluster's keys from an external etcd. If the cluster is created `again` at once,
/// every member has to be healthy first: with the old cluster gone, the new one could only wait for
/// it.
pub(super) async fn forget(context: &Context, it: &action::ForgetEtcd) -> Result<bool, Failure> {
    let masters: Vec<_> = context.cluster.with_role(Role::Master).collect();
    if it.again {
        prove_etcd(context, &masters).await?;
    }
    let mut last = None;
    // Any master has the files; the first may be the broken one.
    for master in &masters {
        let remote = context.remote(&master.name);
        let removed = async {
            // A master that has not joined yet has no files to connect with.
            if let Some(client) = &context.etcd_client {
                etcd::copy(remote, client).await?;
            }
            let owner = owner(context);
            if !etcd::is_ours(remote, &context.cluster, &owner).await? {
                return Ok(false);
            }
            for other in &masters {
                // A master that cannot be reached cannot be stopped from writing either.
                let _ = silence::api_server(context.remote(&other.name)).await;
            }
            etcd::remove_ours(remote, &context.cluster, &owner).await
        };
        match removed.await {
            Ok(changed) => {
                // A later run that resumes has nothing left to remove there, and no master to
                // connect through.
                unclaim(context)?;
                return Ok(changed);
            }
            Err(error) => {
                last = Some(fault("remove the cluster's keys from etcd", &error).on(&master.name))
            }
        }
    }
    let no_one = || {
        Failure::new(Exit::Kubernetes, "remove the cluster's keys from etcd", "there is no master")
    };
    Err(last.unwrap_or_else(no_one).hint(
        "bring up a master and most of etcd's members and run again, or keep the keys with \
         `--keep-etcd`. If `etcdctl get /k8sha/owner` still names this cluster, you can then \
         remove them manually: `etcdctl del /registry/ --prefix`, `etcdctl del /k8sha/owner`"
            .to_owned(),
    ))
}

fn unclaim(context: &Context) -> Result<(), Failure> {
    match std::fs::remove_file(&context.etcd_claim) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::Local, "record that etcd holds no keys of this cluster", error))
        }
        _ => Ok(()),
    }
}

/// Refuses to delete the data of a cluster whose machines are on the profile's hosts: it may be
/// running.
async fn gone(context: &Context, cluster: &str) -> Result<(), Failure> {
    let doing = format!("delete the data of the cluster `{cluster}` from etcd");
    let mut left = Vec::new();
    for host in context.cluster.proxmox.hosts.keys() {
        let client = context.client(host)?;
        let fault = |error| proxmox(&doing, &error).on(host);
        for vm in client.vms().await.map_err(fault)? {
            if vm.template || !vm.tags.contains(TAG) {
                continue;
            }
            let config = client.find_vm(vm.vmid).await.map_err(fault)?;
            let mark = config.and_then(|config| config.mark());
            if mark.is_some_and(|mark| mark.cluster == cluster) {
                left.push(format!("VM {} on {host}", vm.vmid));
            }
        }
    }
    left.sort();
    left.dedup();
    if left.is_empty() {
        return Ok(());
    }
    let said = format!("machines of that cluster still exist: {}", left.join(", "));
    Err(Failure::new(Exit::NotAsAsked, doing, said).hint(
        "destroy that cluster first, with its own profile and state folder, or use a separate etcd \
         for this one"
            .to_owned(),
    ))
}

fn owner(context: &Context) -> Owner {
    Owner { cluster: context.cluster.name.clone(), creation: context.creation.clone() }
}
