//! What steps do, one file per family: each action's data with every choice made, its phrase,
//! whether it writes, and its queue. Pure: the file of the same name in `run::step` executes it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::StoredSeed;
use super::queue::Queue;
use crate::cluster::{HostName, NodeName, VmId};

mod balance;
mod boot;
mod bootstrap;
mod configure;
mod destroy;
mod dns;
mod eject;
mod etcd;
mod lifecycle;
mod removal;
mod template;
mod vm;

pub use balance::{Balance, Vip};
pub use boot::Boot;
pub use bootstrap::{Cni, Init, Join, Keys, Kubeconfig, Label, Verify};
pub use configure::{Configure, SeedDrive};
pub use destroy::{Destroy, RemoveTemplate, RemoveVolume, Without};
pub use dns::{Dns, NodeDns};
pub use eject::{DeleteSeed, Eject};
pub use etcd::{Etcd, EtcdClient, EtcdForm, EtcdMember, ForgetEtcd};
pub use lifecycle::{Forget, Mark, Reset};
pub use removal::{DeleteNode, Drain, Uncordon};
pub use template::{Image, Template};
pub use vm::{Clone, Grow, Seed, Start};

/// What a plan shows of an action. Its text is what `plan` prints.
pub trait Act: fmt::Display {
    /// Whether it can change something; the others are read-only.
    fn writes(&self) -> bool {
        true
    }

    /// Its queue, if the object that it acts on has limited concurrency.
    fn queue(&self) -> Option<Queue> {
        None
    }

    /// Whether it copies or removes whole disks or files, which takes time.
    fn copies(&self) -> bool {
        false
    }
}

/// For each action: the fields that identify its step among others of its kind, and the prefix of
/// their names.
macro_rules! actions {
    ($($name:ident $({ $($key:ident: $of:ty),+ })? = $text:literal,)+) => {
        /// What a step does, with every choice made.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "action", rename_all = "kebab-case")]
        pub enum Action {
            $($name($name),)+
        }

        /// Identifies a step: the kind of action and its object. Its text, such as
        /// `clone/k8s1master1`, is the step's name in plans, events and reports.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum StepId {
            $($name $(($($of),+))?,)+
        }

        impl Action {
            /// What a plan shows of it.
            pub fn act(&self) -> &dyn Act {
                match self {
                    $(Action::$name(it) => it,)+
                }
            }

            /// The name of its step.
            pub fn id(&self) -> StepId {
                match self {
                    $(Action::$name($name { $($($key,)+)? .. }) => {
                        StepId::$name $(($($key.to_owned()),+))?
                    })+
                }
            }
        }

        impl fmt::Display for StepId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(StepId::$name $(($($key),+))? => {
                        f.write_str($text)?;
                        $($(write!(f, "/{}", $key)?;)+)?
                        Ok(())
                    })+
                }
            }
        }

        $(impl From<$name> for Action {
            fn from(action: $name) -> Self {
                Action::$name(action)
            }
        })+
    };
}

actions! {
    Dns = "dns",
    Image { host: HostName, os: String } = "image",
    Template { host: HostName, os: String } = "template",
    Seed { node: NodeName } = "seed",
    Clone { node: NodeName } = "clone",
    Configure { node: NodeName } = "configure",
    Grow { node: NodeName } = "grow",
    Start { node: NodeName } = "start",
    Boot { node: NodeName } = "boot",
    Eject { node: NodeName } = "eject",
    DeleteSeed { seed: StoredSeed } = "delete-seed",
    NodeDns { node: NodeName } = "node-dns",
    Balance { node: NodeName } = "balance",
    Vip = "vip",
    EtcdMember { node: NodeName } = "etcd-member",
    EtcdForm = "etcd-form",
    EtcdClient { node: NodeName } = "etcd-client",
    Etcd = "etcd",
    Init = "init",
    Mark = "mark",
    Forget { node: NodeName } = "forget",
    Reset { node: NodeName } = "reset",
    Keys = "keys",
    Join { node: NodeName } = "join",
    Label { node: NodeName } = "label",
    Kubeconfig = "kubeconfig",
    Cni = "cni",
    Drain { node: NodeName } = "drain",
    DeleteNode { node: NodeName } = "delete-node",
    Uncordon { node: NodeName } = "uncordon",
    Verify = "verify",
    ForgetEtcd = "forget-etcd",
    Destroy { node: NodeName, vmid: VmId } = "destroy",
    RemoveVolume { host: HostName, volume: String } = "remove",
    RemoveTemplate { host: HostName, vmid: VmId } = "remove-template",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.act().fmt(f)
    }
}

impl Serialize for StepId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
