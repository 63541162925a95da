//! The operator's own files that are lost while the cluster exists: reported, and never replaced with
//! new random ones.

use std::fs;
use std::path::PathBuf;

use crate::living::Living;

fn file(living: &Living, name: &str) -> PathBuf {
    living.world.path().join("operator/homelab").join(name)
}

/// `plan` and `up` refuse twice with these words: the first refusal creates nothing that the second
/// accepts as known.
fn refused(living: &Living, exit: i32, words: &[&str]) {
    let before = living.world.digest();
    for command in ["plan", "up", "plan"] {
        let ran = living.world.run(&[command]);
        assert_eq!(ran.code, exit, "{command}: {ran:#?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{command} does not say `{word}`: {}", ran.stderr);
        }
    }
    assert_eq!(living.world.digest(), before, "nothing was written");
}

#[test]
fn a_lost_file_of_the_state_folder_is_reported_and_not_replaced() {
    let living = Living::stacked();
    for (name, exit, words) in [
        ("creation", 7, &["`identity.json` next to it still exists", "`creation:`"][..]),
        (
            "ssh/host-k8s-worker1",
            1,
            &[
                "VM 3051 on pve1 was created with an SSH host key",
                "`ssh/host-k8s-worker1`",
                "backup",
            ],
        ),
        ("ssh/operator", 1, &["the key that logs in to 7 machines is missing (`ssh/operator`)"]),
    ] {
        let path = file(&living, name);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        refused(&living, exit, words);
        assert!(!path.exists(), "{name} was made again");
        fs::write(&path, kept).unwrap();
    }
    living.settled();
}

#[test]
fn a_lost_folder_of_keys_is_reported_once_and_no_machine_is_given_up() {
    let living = Living::stacked();
    let (folder, kept) = (file(&living, "ssh"), file(&living, "kept"));
    fs::rename(&folder, &kept).unwrap();
    let ran = living.world.run(&["up"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.stderr.contains("the folder `ssh` is missing, with the key that logs in to 7 machines")
    );
    assert!(!ran.stderr.contains("qm destroy"), "{}", ran.stderr);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&kept, &folder).unwrap();
    living.settled();
}

#[test]
fn a_kubeconfig_of_another_cluster_is_reported_before_anything_is_created() {
    let living = Living::stacked();
    let path = file(&living, "kubeconfig");
    let ours = fs::read_to_string(&path).unwrap();
    for (text, what) in [
        (ours.replace("homelab", "another"), "access to another cluster"),
        ("a note of mine\n".to_owned(), "something other than a kubeconfig of k8sha"),
    ] {
        fs::write(&path, &text).unwrap();
        refused(&living, 7, &[what, "--merge-kubeconfig"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // A truncated kubeconfig of k8sha's is fetched again, and so is one for a former cluster of that
    // name.
    let former = crate::world::World::of("homelab");
    former.run(&["up", "--quiet"]).ok();
    let theirs = former.path().join("operator/homelab/kubeconfig");
    for text in [ours[..ours.len() / 2].to_owned(), fs::read_to_string(theirs).unwrap()] {
        fs::write(&path, &text).unwrap();
        assert_eq!(living.world.run(&["plan", "--exit-code"]).code, 10);
        living.world.run(&["up", "--quiet"]).ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), ours);
    }
    living.settled();
}

#[test]
fn the_etcd_ca_is_kept_if_the_record_of_its_owner_is_lost() {
    let world = crate::world::World::of("k8s1-etcd").made();
    let folder = world.path().join("operator/k8s1-etcd/etcd");
    let authority = fs::read(folder.join("ca.pem")).unwrap();
    fs::remove_file(folder.join("ca.for")).unwrap();
    world.run(&["up", "--quiet"]).ok();
    assert_eq!(fs::read(folder.join("ca.pem")).unwrap(), authority);
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn a_plan_leaves_no_key_in_a_fresh_state_folder() {
    let mut world = crate::world::World::of("homelab");
    world.with_profile_of("homelab", "mine.yaml", &[]);
    world.run(&["plan"]).ok();
    let folder = world.path().join("operator/homelab");
    assert!(!folder.join("creation").exists());
    assert_eq!(fs::read_dir(folder.join("ssh")).unwrap().count(), 0);
}
