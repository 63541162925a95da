//! A site without Internet access.

use crate::world::World;

#[test]
fn mirrors_and_archives_give_the_same_cluster() {
    let mut world = World::new();
    let timeout = "control_plane_timeout: 2m";
    let images = format!(
        "{timeout}\n  image_repository: registry.lan/k8s\n  image_archives: [/var/lib/images/k8s.tar, \
         {{ url: https://mirror.lan/pause.tar, sha256: {} }}]",
        "ab".repeat(32)
    );
    let mirrors = "mirrors:\n  apt: http://mirror.lan/ubuntu\n  kubernetes: https://mirror.lan/k8s\n  \
                   docker: https://mirror.lan/docker\n  kernels: https://mirror.lan/kernels\n  \
                   registries: { registry.k8s.io: [https://registry.lan] }\n\nbalancer:";
    world.with_profile("mine.yaml", &[(timeout, images.as_str()), ("balancer:", mirrors)]);
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "done");
    let shown = world.run(&["render", "k8s1master1", "--quiet"]).ok().stdout;
    for part in [
        "https://mirror.lan/k8s/core:/stable:/v1.28/deb/ /",
        "/etc/containerd/certs.d/registry.k8s.io/hosts.toml",
        "imageRepository: registry.lan/k8s",
        "[/usr/local/lib/k8sha/import-images, \"/var/lib/images/k8s.tar\"]",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
}
