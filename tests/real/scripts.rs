//! Every script of the project, checked by shellcheck.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8sha::cloudinit::TEMPLATES;

use crate::{needs, profiles};

fn shellcheck(paths: &[PathBuf]) {
    // SC1091: files that a script sources on its node are not here.
    let output = Command::new("shellcheck")
        .args(["--norc", "--external-sources", "--severity=info", "--exclude=SC1091"])
        .args(["--format=gcc", "--"])
        .args(paths)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn shellcheck_has_no_findings_in_node_scripts() {
    if !needs::asked_for(&["shellcheck"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut paths, mut names) = (Vec::new(), Vec::new());
    for seeded in profiles::one_of_each_role() {
        for file in profiles::files(&seeded.seed) {
            if file.content.starts_with("#!/bin/") {
                assert_eq!(file.mode, 0o755, "{} cannot be run", file.path);
                let path = folder.path().join(format!(
                    "{}{}",
                    seeded.node.name,
                    file.path.replace('/', "-")
                ));
                fs::write(&path, file.content).unwrap();
                paths.push(path);
                names.push(Path::new(&file.path).file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    for (template, _) in TEMPLATES.iter().filter(|(name, _)| name.ends_with(".sh")) {
        let name = Path::new(template).file_stem().unwrap().to_str().unwrap();
        assert!(names.iter().any(|planted| planted == name), "no profile's node has {template}");
    }
    shellcheck(&paths);
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn shellcheck_has_no_findings_in_the_projects_scripts() {
    if !needs::asked_for(&["shellcheck"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join(".ci/run")];
    for folder in ["ci", "examples", "tests/kubernetes", "tests/kubernetes/scenes", "tests/machine"]
    {
        let before = paths.len();
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "sh")));
        assert!(paths.len() > before, "no script in {folder}");
    }
    for script in ["layer/containerd-config", "layer/import-images"] {
        paths.push(root.join("tests/kubernetes").join(script));
    }
    paths.push(root.join("tests/real/containerd-builds.sh"));
    shellcheck(&paths);
}
