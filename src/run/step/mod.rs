//! One function per kind of step: look, act, wait, look.

use std::sync::Arc;

use super::context::Context;
use crate::error::Failure;
use crate::kubeadm::forget::Gone;
use crate::plan::{Action, Step};

mod balance;
mod boot;
mod bootstrap;
mod destroy;
mod dns;
mod eject;
mod etcd;
mod lifecycle;
mod power;
mod template;
mod vm;

pub use bootstrap::kubectl_nodes;

/// Asks every name server for every name, as the first step of a run does.
///
/// # Errors
/// What is missing or wrong there.
pub async fn ask_names(context: &Context) -> Result<(), Failure> {
    dns::operator(context).await.map(drop)
}

/// Does a step, and says whether it changed anything.
///
/// # Errors
/// What went wrong, where, and what to try.
pub async fn perform(context: &Arc<Context>, step: &Step) -> Result<bool, Failure> {
    match &step.action {
        Action::Dns => dns::operator(context).await,
        Action::Image { host, storage, file, url, sha256, .. } => {
            template::image(context, host, storage, file, url, sha256).await
        }
        Action::Template { host, vmid, os, image, storage, spec, disk_gib } => {
            let (vmid, disk_gib) = (*vmid, *disk_gib);
            let wanted = template::Wanted { vmid, os, image, storage, spec, disk_gib };
            template::template(context, host, &wanted).await
        }
        Action::Seed { node, host, storage, file } => {
            vm::seed(context, node, host, storage, file).await
        }
        Action::Clone { node, home, source, full, storage, .. } => {
            vm::clone(context, node, home, *source, *full, storage).await
        }
        Action::Configure { node, changes } => vm::configure(context, node, changes).await,
        Action::Grow { node, to_gib } => vm::grow(context, node, *to_gib).await,
        Action::Start { node } => vm::start(context, node).await,
        Action::Boot { node, again } => boot::boot(context, node, *again).await,
        Action::Eject { node, seeds } => eject::eject(context, node, seeds).await,
        Action::DeleteSeed { seed } => eject::delete(context, seed).await,
        Action::NodeDns { node } => dns::node(context, node).await,
        Action::Balance { node, .. } => balance::balancer(context, node).await,
        Action::Vip => bootstrap::vip(context).await,
        Action::EtcdMember { node } => etcd::member(context, node).await,
        Action::EtcdForm => etcd::form(context).await,
        Action::EtcdClient { node } => etcd::client(context, node).await,
        Action::Etcd { node, resumed } => bootstrap::etcd(context, node, *resumed).await,
        Action::Init { node, .. } => bootstrap::init(context, node).await,
        Action::Mark { via, cni } => lifecycle::mark(context, via, cni.as_deref()).await,
        Action::Forget { node, via, name, machine_id, members, .. } => {
            let gone = Gone {
                name: name.clone(),
                machine_id: machine_id.clone(),
                members: members.clone(),
            };
            lifecycle::forget(context, node, via, &gone).await
        }
        Action::Reset { node, via, .. } => lifecycle::reset(context, node, via).await,
        Action::Keys { via } => bootstrap::keys(context, via).await,
        Action::Join { node, via, .. } => bootstrap::join(context, node, via).await,
        Action::Label { node, via } => bootstrap::label(context, node, via).await,
        Action::Kubeconfig { via } => bootstrap::kubeconfig(context, via).await,
        Action::Cni { via } => bootstrap::cni(context, via).await,
        Action::Verify { via } => bootstrap::verify(context, via).await,
        Action::ForgetEtcd { again } => bootstrap::forget_etcd(context, *again).await,
        Action::Destroy { node, host, vmid, creation } => {
            destroy::vm(context, node, host, *vmid, creation).await
        }
        Action::RemoveVolume { host, volume } => destroy::volume(context, host, volume).await,
        Action::RemoveTemplate { host, vmid } => destroy::template(context, host, *vmid).await,
    }
}
