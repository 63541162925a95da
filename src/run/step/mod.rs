//! One function per kind of step: look, act, wait, look.

use std::sync::Arc;

use super::context::Context;
use crate::error::Failure;
use crate::plan::{Action, Step};

mod balance;
mod boot;
mod bootstrap;
mod destroy;
mod dns;
mod etcd;
mod power;
mod template;
mod vm;

pub use bootstrap::kubectl_nodes;

/// Does a step, and says whether it changed anything.
///
/// # Errors
/// What went wrong, where, and what to try.
pub async fn perform(context: &Arc<Context>, step: &Step) -> Result<bool, Failure> {
    match &step.action {
        Action::Dns => dns::operator(context).await,
        Action::Image { host, storage, file, url, sha256 } => {
            template::image(context, host, storage, file, url, sha256).await
        }
        Action::Template { host, vmid, os, image, storage, spec } => {
            let wanted = template::Wanted { vmid: *vmid, os, image, storage, spec };
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
        Action::NodeDns { node } => dns::node(context, node).await,
        Action::Balance { node, .. } => balance::balancer(context, node).await,
        Action::Vip => bootstrap::vip(context).await,
        Action::EtcdMember { node } => etcd::member(context, node).await,
        Action::EtcdForm => etcd::form(context).await,
        Action::EtcdClient { node } => etcd::client(context, node).await,
        Action::Etcd => bootstrap::etcd(context).await,
        Action::Init => bootstrap::init(context).await,
        Action::Keys => bootstrap::keys(context).await,
        Action::Join { node, .. } => bootstrap::join(context, node).await,
        Action::Label { node } => bootstrap::label(context, node).await,
        Action::Kubeconfig => bootstrap::kubeconfig(context).await,
        Action::Cni => bootstrap::cni(context).await,
        Action::Verify => bootstrap::verify(context).await,
        Action::ForgetEtcd { again } => bootstrap::forget_etcd(context, *again).await,
        Action::Destroy { node, host, vmid } => destroy::vm(context, node, host, *vmid).await,
        Action::RemoveVolume { host, volume } => destroy::volume(context, host, volume).await,
        Action::RemoveTemplate { host, vmid } => destroy::template(context, host, *vmid).await,
    }
}
