//! The `offline` section: mirrors and image archives for a site without Internet access.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{At, HttpsUrl, MirrorUrl, NodePath, SecureUrl, Sha256, Table};
use crate::profile::at::EITHER;

/// An archive of container images.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum ImageArchive {
    /// A path on the node.
    Node(At<NodePath>),
    /// A file to download.
    Download(Download),
}

impl<'de> Deserialize<'de> for ImageArchive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ImageArchive;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path on the node, or `{url: …, sha256: …}`")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                word: D,
            ) -> Result<ImageArchive, D::Error> {
                At::deserialize(word).map(ImageArchive::Node)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageArchive, A::Error> {
                Download::deserialize(MapAccessDeserializer::new(map)).map(ImageArchive::Download)
            }
        }

        deserializer.deserialize_newtype_struct(EITHER, Either)
    }
}

/// A file that a node downloads.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Where from.
    #[schemars(required)]
    pub url: Option<At<HttpsUrl>>,
    /// Its SHA-256, as 64 hex digits.
    #[schemars(required)]
    pub sha256: Option<At<Sha256>>,
}

/// Where packages and images come from, for a site without the Internet.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirrors {
    /// The distribution's packages, in place of `http://archive.ubuntu.com/ubuntu`.
    pub apt: Option<At<MirrorUrl>>,
    /// What stands under `https://pkgs.k8s.io`.
    pub kubernetes: Option<At<SecureUrl>>,
    /// What stands under `https://download.docker.com`.
    pub docker: Option<At<SecureUrl>>,
    /// What stands under `https://kernel.ubuntu.com/mainline`.
    pub kernels: Option<At<SecureUrl>>,
    /// Mirrors of container registries, by the registry's name, tried in this order.
    pub registries: Option<Table<Vec<At<MirrorUrl>>>>,
}
