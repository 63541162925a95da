//! The metadata of a file to be imported (pve-storage src/PVE/API2/Storage/Status.pm and
//! src/PVE/Storage/DirPlugin.pm).

use super::storages::missing;
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::Layout;
use crate::pve::wire::Failure;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[Call {
    method: "GET",
    path: "/nodes/{node}/storage/{storage}/import-metadata",
    permit: Permit::User,
    run: Run::Read(metadata),
}];

/// The kind of a volume on a file-based storage, by its name there.
fn kind(name: &str) -> Option<&str> {
    let (folder, file) = name.split_once('/')?;
    let ends = |all: &[&str]| all.iter().any(|end| file.to_lowercase().ends_with(end));
    let good = match folder {
        "import" => ends(&[".ova", ".ovf", ".qcow2", ".raw", ".vmdk"]),
        "iso" => ends(&[".iso", ".img"]),
        "snippets" | "vztmpl" => !file.is_empty(),
        _ => return folder.bytes().all(|byte| byte.is_ascii_digit()).then_some("images"),
    };
    good.then_some(folder)
}

fn metadata(world: &World, ask: &Ask) -> Answer {
    let (id, name) = (ask.text("storage"), ask.text("volume"));
    let section = ask.dc(world).storages.get(id).ok_or_else(|| missing(id))?;
    let path = format!("/storage/{id}");
    let has_files = Layout::of(&section.kind) == Layout::Files;
    let kind = if has_files { kind(name) } else { Some("images") };
    let Some(kind) = kind else {
        return Err(Failure::Die(format!("unable to parse directory volume name '{name}'")));
    };
    if !ask.may(world, &path, &["Datastore.Allocate"]) {
        let needed: &[_] = match kind {
            "images" => &["Datastore.Audit"],
            _ => &["Datastore.AllocateSpace", "Datastore.Audit"],
        };
        ask.require(world, &path, needed)?;
    }
    let text = match kind {
        _ if !has_files => "storage does not support the importer API".to_owned(),
        "import" if name.ends_with(".ova") || name.ends_with(".ovf") => {
            "the simulator reads no descriptions of VMs in OVF".to_owned()
        }
        "import" => "invalid format".to_owned(),
        other => format!("invalid content type '{other}'"),
    };
    Err(Failure::Die(text))
}
