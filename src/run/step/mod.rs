//! One function per action: check, act, wait, check. The plan chose everything that an action
//! contains; nothing is chosen here. The file of the same name in `plan::action` has the data.

use std::sync::Arc;

use super::context::Context;
use crate::error::Failure;
use crate::plan::{Action, Step};

mod balance;
mod boot;
mod bootstrap;
mod configure;
mod destroy;
mod dns;
mod eject;
mod etcd;
mod lifecycle;
mod power;
mod removal;
mod template;
mod vm;

pub use bootstrap::kubectl_nodes;

/// Checks every name on every name server, as the first step of a run does.
///
/// # Errors
/// What is missing or wrong in DNS.
pub async fn ask_names(context: &Context) -> Result<(), Failure> {
    dns::operator(context).await.map(drop)
}

/// Performs a step, and returns whether it changed anything.
///
/// # Errors
/// What failed, where, and what to try.
pub async fn perform(context: &Arc<Context>, step: &Step) -> Result<bool, Failure> {
    match &step.action {
        Action::Dns(_) => dns::operator(context).await,
        Action::Image(it) => template::image(context, it).await,
        Action::Template(it) => template::template(context, it).await,
        Action::Seed(it) => vm::seed(context, it).await,
        Action::Clone(it) => vm::clone(context, it).await,
        Action::Configure(it) => configure::configure(context, it).await,
        Action::Grow(it) => vm::grow(context, it).await,
        Action::Start(it) => vm::start(context, it).await,
        Action::Boot(it) => boot::boot(context, it).await,
        Action::Eject(it) => eject::eject(context, it).await,
        Action::DeleteSeed(it) => eject::delete(context, &it.seed).await,
        Action::NodeDns(it) => dns::node(context, it).await,
        Action::Balance(it) => balance::balancer(context, it).await,
        Action::Vip(_) => balance::vip(context).await,
        Action::EtcdMember(it) => etcd::member(context, it).await,
        Action::EtcdForm(_) => etcd::form(context).await,
        Action::EtcdClient(it) => etcd::client(context, it).await,
        Action::Etcd(it) => etcd::prepare(context, it).await,
        Action::Init(it) => bootstrap::init(context, it).await,
        Action::Mark(it) => lifecycle::mark(context, it).await,
        Action::Forget(it) => lifecycle::forget(context, it).await,
        Action::Reset(it) => lifecycle::reset(context, it).await,
        Action::Keys(it) => bootstrap::keys(context, it).await,
        Action::Join(it) => bootstrap::join(context, it).await,
        Action::Label(it) => bootstrap::label(context, it).await,
        Action::Kubeconfig(it) => bootstrap::kubeconfig(context, it).await,
        Action::Cni(it) => bootstrap::cni(context, it).await,
        Action::Drain(it) => removal::drain(context, it).await,
        Action::DeleteNode(it) => removal::delete_node(context, it).await,
        Action::Uncordon(it) => removal::uncordon(context, it).await,
        Action::Verify(it) => bootstrap::verify(context, it).await,
        Action::ForgetEtcd(it) => etcd::forget(context, it).await,
        Action::Destroy(it) => destroy::vm(context, it).await,
        Action::RemoveVolume(it) => destroy::volume(context, it).await,
        Action::RemoveTemplate(it) => destroy::template(context, it).await,
    }
}
