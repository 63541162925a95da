//! Storages of a node, their contents, uploads and downloads
//! (pve-storage src/PVE/API2/Storage/{Status,Content}.pm).

use serde_json::{Value, json};

use super::host::may_reach_out;
use super::{Answer, Ask, Call, Permit, Run};
use crate::faults::FaultKind;
use crate::pve::drive::{self, Layout};
use crate::pve::multipart::sanitised;
use crate::pve::pace;
use crate::pve::state::{Storage, Volume};
use crate::pve::wire::Failure;
use crate::pve::work::{Checksum, Download, Upload, Work};
use crate::store::Store;
use crate::world::World;

/// Privileges to read a storage.
pub const SEE: &[&str] = &["Datastore.Audit", "Datastore.AllocateSpace"];

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/storage",
        permit: Permit::User,
        run: Run::Read(list),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/status",
        permit: Permit::One("/storage/{storage}", SEE),
        run: Run::Read(|world, ask| {
            if !ask.dc(world).storages.contains_key(ask.text("storage")) {
                return Err(Failure::parameter("storage", "No such storage."));
            }
            let storage = on_node(world, ask)?;
            Ok(usage(world, ask, ask.text("storage"), storage))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/content",
        permit: Permit::One("/storage/{storage}", SEE),
        run: Run::Read(content),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/content",
        permit: Permit::One("/storage/{storage}", &["Datastore.AllocateSpace"]),
        run: Run::Write(allocate),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        permit: Permit::User,
        run: Run::Read(volume),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        permit: Permit::User,
        run: Run::Write(delete),
    },
    Call {
        method: "PUT",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        permit: Permit::User,
        run: Run::Read(|world, ask| {
            volid(world, ask)?;
            may_see(world, ask)?;
            match ask.params.text("notes") {
                Some(_) => Err(Failure::die("only backups can have notes")),
                None => Err(Failure::die("only backups can be protected")),
            }
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        permit: Permit::Check(|_, ask| match ask.caller.is_root() {
            true => Ok(()),
            false => {
                let text = "Permission check failed (user != root@pam)";
                Err(Failure::Forbidden(text.to_owned()))
            }
        }),
        run: Run::Write(copy),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/prunebackups",
        permit: Permit::One("/storage/{storage}", SEE),
        run: Run::Read(|world, ask| {
            on_node(world, ask)?;
            Err(Failure::Die(no_backups(ask)))
        }),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/storage/{storage}/prunebackups",
        permit: Permit::One("/storage/{storage}", &["Datastore.Allocate"]),
        run: Run::Write(|world, _, ask| {
            let id = match ask.params.text("vmid") {
                Some(vmid) => format!("{vmid}@{}", ask.text("storage")),
                None => ask.text("storage").to_owned(),
            };
            ask.spawn(world, "prunebackups", &id, Work::Refuse(no_backups(ask)))
        }),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/upload",
        permit: Permit::One("/storage/{storage}", &["Datastore.AllocateTemplate"]),
        run: Run::Write(upload),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/download-url",
        permit: Permit::Check(may_download),
        run: Run::Write(download),
    },
];

/// There is no such storage.
pub fn missing(id: &str) -> Failure {
    Failure::Die(format!("storage '{id}' does not exist"))
}

fn on_node<'a>(world: &'a World, ask: &Ask) -> Result<&'a Storage, Failure> {
    let (dc, id) = (ask.dc(world), ask.text("storage"));
    let storage = dc.storages.get(id).ok_or_else(|| missing(id))?;
    if storage.disabled {
        return Err(Failure::Die(format!("storage '{id}' is disabled")));
    }
    if !storage.size.contains_key(&ask.node) {
        let text = format!("storage '{id}' is not available on node '{}'", ask.node);
        return Err(Failure::Die(text));
    }
    Ok(storage)
}

fn usage(world: &World, ask: &Ask, id: &str, storage: &Storage) -> Value {
    let total = storage.size.get(&ask.node).copied().unwrap_or_default();
    let full = world.faults.active(FaultKind::DiskFull, &ask.node);
    let used = if full { total } else { ask.dc(world).used(&ask.node, id).min(total) };
    json!({"type": storage.kind, "content": storage.content.join(","),
           "enabled": u8::from(!storage.disabled), "active": u8::from(!storage.disabled),
           "shared": u8::from(storage.shared), "total": total, "used": used,
           "avail": total - used})
}

/// The formats that a storage of a type supports, and its default.
fn formats(kind: &str) -> (&'static [&'static str], &'static str) {
    match Layout::of(kind) {
        Layout::Files if kind == "dir" => (&["qcow2", "raw", "subvol", "vmdk"], "raw"),
        Layout::Files => (&["qcow2", "raw", "vmdk"], "raw"),
        Layout::Tree if kind == "zfspool" => (&["raw", "subvol"], "raw"),
        Layout::Tree | Layout::Thin | Layout::Thick => (&["raw"], "raw"),
    }
}

fn list(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let content = ask.params.list("content");
    if let Some(only) = ask.params.text("storage").filter(|id| !dc.storages.contains_key(*id)) {
        return match only.is_empty() {
            true => Ok(json!([])),
            false => Err(Failure::parameter("storage", "No such storage.")),
        };
    }
    // A storage that is not shared with this node cannot be a target.
    let target = ask.params.text("target").filter(|target| *target != ask.node);
    let seen = dc.storages.iter().filter(|(id, storage)| {
        storage.size.contains_key(&ask.node)
            && ask.params.text("storage").is_none_or(|only| only == id.as_str())
            && content.iter().all(|kind| storage.content.contains(kind))
            && target.is_none_or(|target| storage.shared && storage.size.contains_key(target))
            && !(ask.params.flag("enabled") && storage.disabled)
            && ask.may(world, &format!("/storage/{id}"), SEE)
    });
    Ok(seen
        .map(|(id, storage)| {
            let mut value = usage(world, ask, id, storage);
            let number = |name: &str| value[name].as_f64().unwrap_or_default();
            let fraction = number("used") / number("total").max(1.0);
            value["storage"] = json!(id);
            value["used_fraction"] = json!(fraction);
            if ask.params.flag("format") {
                let (all, default) = formats(&storage.kind);
                let each: Value = all.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
                value["format"] = json!([each, default]);
                value["formats"] = json!({"supported": all, "default": default});
            }
            value
        })
        .collect())
}

fn item(volume: &Volume, layout: Layout) -> Value {
    let mut value = json!({"volid": volume.volid, "content": volume.content,
                           "format": volume.format, "size": volume.size, "ctime": volume.ctime});
    if let Some(vmid) = volume.vmid {
        value["vmid"] = json!(vmid);
        value["used"] = json!(volume.used());
        let base = volume.parent.as_deref().and_then(|base| base.split_once(':'));
        match layout {
            // The backing file as named in the image.
            Layout::Files => value["parent"] = json!(base.map(|(_, path)| format!("../{path}"))),
            Layout::Tree => value["parent"] = json!(base.map(|(_, name)| name)),
            Layout::Thin | Layout::Thick => {}
        }
    }
    value
}

fn content(world: &World, ask: &Ask) -> Answer {
    let layout = Layout::of(&on_node(world, ask)?.kind);
    let params = &ask.params;
    let vmid = params.vmid("vmid");
    let seen = ask.dc(world).volumes.iter().filter(|volume| {
        volume.storage == ask.text("storage")
            && volume.seen_from(&ask.node)
            && params.text("content").is_none_or(|content| volume.content == content)
            // Of the files without an owning VM only importable ones are listed together with a VM's
            // own.
            && (vmid.is_none() || volume.vmid == vmid || volume.content == "import")
    });
    Ok(seen.map(|volume| item(volume, layout)).collect())
}

fn allocate(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let layout = Layout::of(&on_node(world, ask)?.kind);
    let shared = on_node(world, ask)?.shared;
    let unix = world.unix();
    let id = ask.text("storage").to_owned();
    let (name, format) = match ask.text("filename").rsplit_once('.') {
        Some((name, format)) if layout.has_path() => (name, format),
        _ => (ask.text("filename"), "raw"),
    };
    let vmid = ask.vmid();
    let volid = layout.volid(&id, vmid, name, format);
    let size = ask.text("size");
    // A bare number is in KiB here, unlike everywhere else.
    let size = match size.parse::<u64>() {
        Ok(kib) => kib << 10,
        Err(_) => drive::parse_size(size).unwrap_or_default(),
    };
    let dc = ask.dc_mut(world);
    if dc.volume(&ask.node, &volid).is_some() {
        return Err(Failure::Die(format!("volume '{volid}' already exists")));
    }
    dc.volumes.push(Volume {
        volid: volid.clone(),
        storage: id,
        host: (!shared).then(|| ask.node.clone()),
        content: "images".to_owned(),
        format: format.to_owned(),
        size,
        disk: None,
        ctime: unix,
        vmid: Some(vmid),
        parent: None,
        blob: None,
        sha256: None,
        system: false,
    });
    Ok(json!(volid))
}

/// The volume in the path: on this storage, and with a valid name there.
fn volid(world: &World, ask: &Ask) -> Result<String, Failure> {
    let (volume, id) = (ask.text("volume"), ask.text("storage"));
    let name = match volume.split_once(':') {
        Some((other, _)) if other != id => {
            let text = format!("storage ID mismatch ({other} != {id})\n");
            return Err(Failure::parameter("volume", text));
        }
        Some((_, name)) => name,
        None => volume,
    };
    let section = ask.dc(world).storages.get(id).ok_or_else(|| missing(id))?;
    let files = Layout::of(&section.kind) == Layout::Files;
    if files && (!drive::is_file_name(name) || name.split('/').any(|part| part == "..")) {
        return Err(Failure::Die(format!("unable to parse directory volume name '{name}'")));
    }
    Ok(format!("{id}:{name}"))
}

fn may_see(world: &World, ask: &Ask) -> Result<(), Failure> {
    ask.require(world, &format!("/storage/{}", ask.text("storage")), SEE)
}

fn no_backups(ask: &Ask) -> String {
    format!("storage '{}' does not support backups", ask.text("storage"))
}

fn volume(world: &World, ask: &Ask) -> Answer {
    let volid = volid(world, ask)?;
    let seers = ["Datastore.AllocateSpace", "Datastore.Audit"];
    ask.require(world, &format!("/storage/{}", ask.text("storage")), &seers)?;
    let path = ask.dc(world).path(ask.text("storage"), &volid);
    let volume = ask.dc(world).volume(&ask.node, &volid);
    let lost = || Failure::Die(format!("volume_size_info on '{volid}' failed - no format"));
    let volume = volume.ok_or_else(lost)?;
    let format = if volume.content == "iso" { "raw" } else { &volume.format };
    Ok(json!({"path": path, "size": volume.size, "used": volume.used(), "format": format}))
}

fn delete(world: &mut World, store: &Store, ask: &Ask) -> Answer {
    let (storage, volid) = (ask.text("storage").to_owned(), volid(world, ask)?);
    let owner = ask.dc(world).volume(&ask.node, &volid).and_then(|volume| volume.vmid);
    // The owner of a disk may be derived from its name alone.
    let named = volid.split_once(':').and_then(|(_, name)| name.split_once('/')?.0.parse().ok());
    let owner = owner.or(named);
    let kept = |vmid: u32| ask.may(world, &format!("/vms/{vmid}"), &["VM.Config.Disk"]);
    if !owner.is_some_and(kept) {
        ask.require(world, &format!("/storage/{storage}"), &["Datastore.Allocate"])?;
    }
    on_node(world, ask)?;
    let id = owner.map_or_else(|| storage.clone(), |vmid: u32| format!("{vmid}@{storage}"));
    let work = Work::DeleteVolume { storage, volid };
    let upid = ask.spawn_on(world, &ask.node, "imgdel", &id, work);
    if ask.params.text("delay").is_some() {
        // It waits that long for the task; the simulated task is always done by then.
        let end = world.now.after(pace::DELETE_VOLUME);
        world.advance(end, store);
        return Ok(Value::Null);
    }
    Ok(upid)
}

/// Copies a volume to another name on its storage.
fn copy(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let volid = volid(world, ask)?;
    let target = ask.text("target").to_owned();
    let text = format!("copying '{volid}' to '{target}' is not simulated");
    ask.spawn(world, "imgcopy", "", Work::Refuse(text))
}

/// Checks the name of a file, and returns its volume id.
fn file_id(world: &World, ask: &Ask, doing: &str) -> Result<String, Failure> {
    let storage = on_node(world, ask)?;
    let (id, content) = (ask.text("storage"), ask.text("content"));
    if !Layout::of(&storage.kind).has_path() {
        return Err(Failure::Die(format!("can't {doing} to storage type '{}'", storage.kind)));
    }
    if !storage.content.iter().any(|kind| kind == content) {
        let text = format!("storage '{id}' does not support '{content}' content");
        return Err(Failure::Die(text));
    }
    let name = sanitised(ask.text("filename"));
    let lower = name.to_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| lower.ends_with(end));
    match content {
        "iso" if !ends(&[".iso", ".img"]) => {
            Err(Failure::parameter("filename", "wrong file extension"))
        }
        "vztmpl" if !ends(&[".tar", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2"]) => {
            Err(Failure::parameter("filename", "wrong file extension"))
        }
        "import" if !ends(&[".ova", ".qcow2", ".raw", ".vmdk"]) => {
            Err(Failure::parameter("filename", "invalid filename or wrong extension"))
        }
        _ => Ok(format!("{id}:{content}/{name}")),
    }
}

fn checksum(ask: &Ask) -> Option<Checksum> {
    let algorithm = ask.params.text("checksum-algorithm")?.to_owned();
    Some(Checksum { algorithm, value: ask.params.text("checksum")?.to_owned() })
}

fn upload(world: &mut World, store: &Store, ask: &Ask) -> Answer {
    let volid = file_id(world, ask, "upload")?;
    let Some(sent) = &ask.sent else { return Err(Failure::die("missing file to upload")) };
    let blob = store
        .keep(&sent.body)
        .map_err(|error| Failure::Die(format!("unable to write temporary file: {error}")))?;
    let work = Upload {
        target: ask.node.clone(),
        storage: ask.text("storage").to_owned(),
        content: ask.text("content").to_owned(),
        volid,
        size: sent.body.len() as u64,
        checksum: checksum(ask),
        temporary: format!("pveupload-{}", blob.get(..32).unwrap_or_default()),
        blob,
    };
    // The contacted node copies the file, to another node too.
    Ok(ask.spawn_on(world, &ask.via, "imgcopy", "", Work::Upload(Box::new(work))))
}

fn may_download(world: &World, ask: &Ask) -> Result<(), Failure> {
    let path = format!("/storage/{}", ask.text("storage"));
    ask.require(world, &path, &["Datastore.AllocateTemplate"])?;
    may_reach_out(world, ask)
}

fn download(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let volid = file_id(world, ask, "upload")?;
    let name = volid.rsplit('/').next().unwrap_or_default().to_owned();
    let work = Download {
        storage: ask.text("storage").to_owned(),
        content: ask.text("content").to_owned(),
        volid,
        url: ask.text("url").to_owned(),
        checksum: checksum(ask),
    };
    Ok(ask.spawn_on(world, &ask.node, "download", &name, Work::Download(Box::new(work))))
}
