//! The seed's ISO image and keys, read by the tools of every distribution.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use k8sha::ssh::{HostKey, KeyPair};
use secrecy::ExposeSecret;

use crate::{needs, profiles};

fn output(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    output.stdout
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn isoinfo_reads_every_seed() {
    if !needs::asked_for(&["isoinfo"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for seeded in profiles::one_of_each_role() {
        let (what, seed) = (&seeded.what, &seeded.seed);
        let path = folder.path().join("seed.iso");
        fs::write(&path, seed.image().bytes).unwrap();
        let header = String::from_utf8(output("isoinfo", &["-d", "-i"], &path)).unwrap();
        assert!(header.contains("Volume id: cidata\n"), "{what}: {header}");
        assert!(header.contains("Rock Ridge signatures version 1 found"), "{what}: {header}");
        assert!(header.contains("Joliet with UCS level 3 found"), "{what}: {header}");
        for (name, body) in [
            ("meta-data", seed.meta_data.as_str()),
            ("network-config", seed.network_config.as_str()),
            ("user-data", seed.user_data.expose_secret()),
        ] {
            for tree in ["-R", "-J"] {
                let file = format!("/{name}");
                let read = output("isoinfo", &[tree, "-x", &file, "-i"], &path);
                assert!(read == body.as_bytes(), "{what}: {name} differs ({tree})");
            }
        }
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn ssh_keygen_reads_both_halves_of_generated_keys() {
    if !needs::asked_for(&["ssh-keygen"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate("k8s1master1").unwrap();
    let (private, public) = (folder.path().join("key"), folder.path().join("key.pub"));
    fs::write(&private, pair.private.expose_secret()).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&public, &pair.public).unwrap();
    let told = String::from_utf8(output("ssh-keygen", &["-l", "-f"], &public)).unwrap();
    let fingerprint = HostKey::parse(&pair.public).unwrap().fingerprint();
    assert_eq!(told, format!("256 {fingerprint} k8s1master1 (ED25519)\n"));
    let derived = String::from_utf8(output("ssh-keygen", &["-y", "-f"], &private)).unwrap();
    assert_eq!(derived.trim_end(), pair.public);
}
