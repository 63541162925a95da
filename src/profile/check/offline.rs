//! Checks the mirrors and image archives of an offline site.

use std::collections::BTreeMap;

use super::Notes;
use crate::cluster::{ImageArchive, Mirrors};
use crate::profile::at::Written as _;
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, ImageRepository, Profile};

pub(super) fn mirrors(raw: &Profile, notes: &mut Notes) -> Option<Mirrors> {
    let Some(section) = &raw.mirrors else { return Some(Mirrors::default()) };
    let typed = &section.value;
    let mut registries = BTreeMap::new();
    let mut sound = true;
    for (name, mirrors) in typed.registries.iter().flat_map(|table| &table.0) {
        // The name becomes the name of a folder under containerd's `certs.d`.
        let known = !name.value.contains('/') && ImageRepository::read(&name.value).is_ok();
        if !known {
            sound = false;
            let text = format!("`{}` is not a container registry", name.value);
            let hint = "the name of a registry only, such as `registry.k8s.io` or `docker.io`";
            notes.push(Complaint::error(text).at(name.span.clone(), "").help(hint));
        }
        if mirrors.is_empty() {
            sound = false;
            let text = format!("no mirror for `{}`", name.value);
            notes.push(Complaint::error(text).at(name.span.clone(), "its list is empty"));
        }
        let mirrors = mirrors.iter().map(|mirror| mirror.value.0.clone()).collect();
        registries.insert(name.value.clone(), mirrors);
    }
    sound.then(|| Mirrors {
        apt: typed.apt.as_ref().map(|url| url.value.0.clone()),
        kubernetes: typed.kubernetes.as_ref().map(|url| url.value.0.clone()),
        docker: typed.docker.as_ref().map(|url| url.value.0.clone()),
        kernels: typed.kernels.as_ref().map(|url| url.value.0.clone()),
        registries,
    })
}

pub(super) fn archives(typed: &raw::Kubernetes, notes: &mut Notes) -> Option<Vec<ImageArchive>> {
    let settle = |archive: &raw::ImageArchive| match archive {
        raw::ImageArchive::Node(path) => Some(ImageArchive::Node(path.value.0.clone().into())),
        raw::ImageArchive::Download(file) => match (&file.url, &file.sha256) {
            (Some(url), Some(sha256)) => Some(ImageArchive::Download {
                url: url.value.0.clone(),
                sha256: sha256.value.0.clone(),
            }),
            (url, sha256) => {
                let missing = if url.is_none() { "url" } else { "sha256" };
                let text = format!("an image archive without `{missing}`");
                let place = url.as_ref().map(|url| url.span.clone());
                let place = place.or_else(|| sha256.as_ref().map(|sha256| sha256.span.clone()));
                let hint = "`{url: …, sha256: …}`, or a path on the node";
                let complaint = Complaint::error(text).help(hint);
                notes.push(match place {
                    Some(place) => complaint.at(place, "this one"),
                    None => complaint,
                });
                None
            }
        },
    };
    let archives: Vec<_> = typed.image_archives.iter().flatten().map(settle).collect();
    archives.into_iter().collect()
}
