//! The seeds of every shipped profile.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use k8sha::cloudinit::{NodeSecrets, Seed, Templates, render};
use k8sha::cluster::{Cluster, ImageArchive, Mirrors, Node};
use k8sha::profile;
use k8sha::ssh::KeyPair;
use secrecy::ExposeSecret;
use serde_json::Value;

/// A node, its cluster and its documents.
pub struct Seeded {
    /// `PROFILE/NODE`, for messages.
    pub what: String,
    pub cluster: Cluster,
    pub node: Node,
    pub seed: Seed,
}

/// The built-in profiles, those of `examples/`, and a site without Internet access: name and cluster.
pub fn clusters() -> Vec<(String, Cluster)> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = profile::embedded_names().map(str::to_owned).collect();
    let entries = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    names.extend(files.map(|path| path.to_str().unwrap().to_owned()));
    assert!(names.len() > profile::EMBEDDED.len(), "no profile in examples/");
    let named = names.into_iter().map(|name| (name.clone(), cluster(&name)));
    let mut offline = offline();
    offline.name = "offline".to_owned();
    named.chain([("offline".to_owned(), offline)]).collect()
}

/// A cluster on a site without Internet access: mirrors, an image repository, archives of images.
pub fn offline() -> Cluster {
    let mut cluster = cluster("k8s1");
    cluster.mirrors = Mirrors {
        apt: Some("http://mirror.lan/ubuntu".to_owned()),
        kubernetes: Some("https://mirror.lan/k8s".to_owned()),
        docker: Some("https://mirror.lan/docker".to_owned()),
        kernels: Some("https://mirror.lan/kernels".to_owned()),
        registries: [("docker.io".to_owned(), vec!["https://registry.lan/v2/hub".to_owned()])]
            .into(),
    };
    cluster.kubernetes.image_repository = Some("registry.lan/k8s".to_owned());
    cluster.kubernetes.image_archives = vec![
        ImageArchive::Node("/var/lib/images/k8s.tar".into()),
        ImageArchive::Download {
            url: "https://mirror.lan/pause.tar".to_owned(),
            sha256: "ab".repeat(32),
        },
    ];
    cluster
}

/// One of them.
pub fn cluster(name: &str) -> Cluster {
    profile::load(name).unwrap_or_else(|error| panic!("{name}: {error}")).cluster
}

/// Every node of every profile.
pub fn seeds() -> Vec<Seeded> {
    let mut seeds = Vec::new();
    for (name, cluster) in clusters() {
        for node in &cluster.nodes {
            let (cluster, node) = (cluster.clone(), node.clone());
            let seed = seed(&cluster, &node);
            seeds.push(Seeded { what: format!("{name}/{}", node.name), cluster, node, seed });
        }
    }
    seeds
}

/// The first node of each role of every profile.
pub fn one_of_each_role() -> Vec<Seeded> {
    let mut told = Vec::new();
    let mut first = |seeded: &Seeded| {
        let role = (seeded.cluster.name.clone(), seeded.node.role);
        let new = !told.contains(&role);
        told.push(role);
        new
    };
    seeds().into_iter().filter(|seeded| first(seeded)).collect()
}

/// A node's documents, with real keys.
pub fn seed(cluster: &Cluster, node: &Node) -> Seed {
    static KEYS: LazyLock<(KeyPair, KeyPair)> =
        LazyLock::new(|| (KeyPair::generate("host").unwrap(), KeyPair::generate("k8sha").unwrap()));
    let secrets = NodeSecrets {
        host_key_private: KEYS.0.private.clone(),
        host_key_public: KEYS.0.public.clone(),
        operator_public: KEYS.1.public.clone(),
    };
    render(&Templates::builtin().unwrap(), cluster, node, &secrets, "k8s-1").unwrap()
}

/// A file that a seed writes to its node.
pub struct Planted {
    pub path: String,
    pub content: String,
    pub mode: u32,
}

/// All of them.
pub fn files(seed: &Seed) -> Vec<Planted> {
    let data: Value = serde_saphyr::from_str(seed.user_data.expose_secret()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mode = |value: Option<&Value>| {
        value.map_or(0o644, |mode| u32::from_str_radix(mode.as_str().unwrap(), 8).unwrap())
    };
    let planted = |file: &Value| Planted {
        path: text(&file["path"]),
        content: text(&file["content"]),
        mode: mode(file.get("permissions")),
    };
    data["write_files"].as_array().unwrap().iter().map(planted).collect()
}
