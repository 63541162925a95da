//! `/storage`: the sections of `storage.cfg` (pve-storage src/PVE/API2/Storage/Config.pm).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::storages::{SEE, missing};
use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::drive::Layout;
use crate::pve::state::{Datacenter, Storage};
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

/// The storage types whose layout the simulator knows.
const KINDS: &[&str] = &["dir", "lvm", "lvmthin", "nfs", "rbd", "zfspool"];
/// The size in bytes of a new storage on a node without another one.
const DEFAULT_SIZE: u64 = 100 << 30;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: "/storage", permit: Permit::User, run: Run::Read(sections) },
    Call {
        method: "POST",
        path: "/storage",
        permit: Permit::One("/storage", &["Datastore.Allocate"]),
        run: Run::Write(add_section),
    },
    Call {
        method: "GET",
        path: "/storage/{storage}",
        permit: Permit::One("/storage/{storage}", &["Datastore.Allocate"]),
        run: Run::Read(|world, ask| {
            let id = ask.text("storage");
            let found = ask.dc(world).storages.get(id);
            let mut section = section(ask.dc(world), id, found.ok_or_else(|| missing(id))?);
            section["digest"] = json!(digest(ask.dc(world)));
            Ok(section)
        }),
    },
    Call {
        method: "DELETE",
        path: "/storage/{storage}",
        permit: Permit::One("/storage", &["Datastore.Allocate"]),
        run: Run::Write(delete_section),
    },
    Call {
        method: "PUT",
        path: "/storage/{storage}",
        permit: Permit::One("/storage", &["Datastore.Allocate"]),
        run: Run::Write(change_section),
    },
];

fn section(dc: &Datacenter, id: &str, storage: &Storage) -> Value {
    let mut value = json!({"storage": id, "type": storage.kind,
                           "content": storage.content.join(",")});
    match Layout::of(&storage.kind) {
        Layout::Files if storage.kind == "dir" => {
            value["path"] = json!(dc.root(id));
        }
        Layout::Thin => {
            value["thinpool"] = json!("data");
            value["vgname"] = json!("pve");
        }
        _ => {}
    }
    if let Some(prune) = &storage.prune {
        value["prune-backups"] = json!(prune);
    }
    if storage.shared {
        value["shared"] = json!(1);
    }
    if storage.disabled {
        value["disable"] = json!(1);
    }
    value
}

/// Whether no storage is configured yet: `local` exists all the same.
fn unwritten(dc: &Datacenter) -> bool {
    let implied = ["backup", "images", "iso", "rootdir", "snippets", "vztmpl"];
    let untouched = |(id, storage): (&String, &Storage)| {
        let mut content: Vec<_> = storage.content.iter().map(String::as_str).collect();
        content.sort_unstable();
        id == "local" && storage.kind == "dir" && !storage.disabled && content == implied
    };
    dc.storages.iter().all(untouched)
}

/// The digest of `storage.cfg`: a SHA-1 on the real host, and of the same length here.
fn digest(dc: &Datacenter) -> String {
    let mut hash = Sha256::new();
    if !unwritten(dc) {
        for (id, storage) in &dc.storages {
            hash.update(section(dc, id, storage).to_string());
        }
    }
    hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

fn sections(world: &World, ask: &Ask) -> Answer {
    let kind = ask.params.text("type");
    let dc = ask.dc(world);
    let seen = dc.storages.iter().filter(|(id, storage)| {
        kind.is_none_or(|kind| storage.kind == kind)
            && ask.may(world, &format!("/storage/{id}"), SEE)
    });
    let (dc, digest) = (ask.dc(world), digest(ask.dc(world)));
    let with_digest = |(id, storage): (&String, &Storage)| {
        let mut value = section(dc, id, storage);
        value["digest"] = json!(digest);
        if unwritten(dc) {
            value["priority"] = json!(0);
        }
        value
    };
    Ok(seen.map(with_digest).collect())
}

/// Adds a section for a storage that exists on its nodes: besides its name, the simulator only checks
/// the path of a directory.
fn add_section(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "storage_cfg")?;
    let (id, kind) = (ask.text("storage").to_owned(), ask.text("type").to_owned());
    if !KINDS.contains(&kind.as_str()) {
        return Err(Failure::Die(format!("the simulator knows no storage of type '{kind}'")));
    }
    let refuse = |text: String| Failure::Die(format!("create storage failed: {text}"));
    if ask.dc(world).storages.contains_key(&id) {
        return Err(refuse(format!("storage ID '{id}' already defined")));
    }
    let path = ask.params.text("path").map(str::to_owned);
    if kind == "dir" && path.is_none() {
        return Err(refuse("missing value for required option 'path'".to_owned()));
    }
    let (content, nodes) = (ask.params.list("content"), ask.params.list("nodes"));
    let dc = ask.dc_mut(world);
    let size = |host: &String| {
        // A directory is on an existing file system of the node.
        let there = dc.storages.values().filter_map(|storage| storage.size.get(host));
        (host.clone(), there.max().copied().unwrap_or(DEFAULT_SIZE))
    };
    let hosts = dc.hosts.keys().filter(|host| nodes.is_empty() || nodes.contains(host));
    let section = Storage {
        content: if content.is_empty() { vec!["images".to_owned()] } else { content },
        path,
        prune: ask.params.text("prune-backups").map(str::to_owned),
        shared: ask.params.flag("shared") || ["nfs", "rbd"].contains(&kind.as_str()),
        disabled: ask.params.flag("disable"),
        size: hosts.map(size).collect(),
        kind: kind.clone(),
    };
    dc.storages.insert(id.clone(), section);
    Ok(json!({"storage": id, "type": kind}))
}

fn change_section(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "storage_cfg")?;
    let id = ask.text("storage");
    let content = ask.params.text("content").map(|_| ask.params.list("content"));
    let disable = ask.params.text("disable").map(|_| ask.params.flag("disable"));
    if ask.params.text("digest").is_some_and(|known| known != digest(ask.dc(world))) {
        let text = "detected modified configuration - file changed by other user? Try again.";
        return Err(Failure::die(text));
    }
    let known = ["disable", "prune-backups", "shared"];
    let delete = ask.params.list("delete");
    if let Some(name) = delete.iter().find(|name| !known.contains(&name.as_str())) {
        let text = format!("the simulator takes no '{name}' out of a storage's section");
        return Err(Failure::Die(text));
    }
    let prune = ask.params.text("prune-backups").map(str::to_owned);
    let storage = ask.dc_mut(world).storages.get_mut(id).ok_or_else(|| missing(id))?;
    for name in delete {
        match name.as_str() {
            "disable" => storage.disabled = false,
            "shared" => storage.shared = false,
            _ => storage.prune = None,
        }
    }
    storage.prune = prune.or_else(|| storage.prune.take());
    if let Some(content) = content {
        storage.content = content;
    }
    if let Some(disable) = disable {
        storage.disabled = disable;
    }
    Ok(json!({"storage": id, "type": storage.kind}))
}

fn delete_section(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "storage_cfg")?;
    let id = ask.text("storage");
    let dc = ask.dc_mut(world);
    let missing = || Failure::Die(format!("delete storage failed: storage '{id}' does not exist"));
    dc.storages.remove(id).ok_or_else(missing)?;
    dc.acl.retain(|grant| grant.path != format!("/storage/{id}"));
    Ok(Value::Null)
}
