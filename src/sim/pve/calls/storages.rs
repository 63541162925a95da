//! Storages of a node, their contents, uploads and downloads
//! (pve-storage src/PVE/API2/Storage/{Status,Content}.pm).

use serde_json::{Value, json};

use super::{Answer, Ask, Call, NODE, Permit, Run, STORAGE};
use crate::sim::faults::FaultKind;
use crate::sim::pve::drive::{self, Layout};
use crate::sim::pve::multipart::sanitised;
use crate::sim::pve::schema::{Format, Kind, Param, flag, integer, must, text};
use crate::sim::pve::state::{Storage, Volume};
use crate::sim::pve::wire::Failure;
use crate::sim::pve::work::{Checksum, Download, Upload, Work};
use crate::sim::store::Store;
use crate::sim::world::World;

/// Who may look at a storage.
pub const SEE: &[&str] = &["Datastore.Audit", "Datastore.AllocateSpace"];
/// What can be uploaded and downloaded.
const FILES: &[&str] = &["iso", "vztmpl", "import"];
const ALGORITHMS: &[&str] = &["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
const FILE: &[Param] = &[
    NODE,
    STORAGE,
    must("content", Kind::Text).one_of(FILES),
    must("filename", Kind::Text).up_to(255),
    text("checksum").with("checksum-algorithm"),
    text("checksum-algorithm").one_of(ALGORITHMS).with("checksum"),
];
const VOLUME: Param = must("volume", Kind::Text);

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/nodes/{node}/storage",
        params: &[&[
            NODE,
            text("storage").of(Format::StorageId),
            text("content").of(Format::List),
            flag("enabled"),
            text("target").of(Format::Node),
            flag("format"),
        ]],
        permit: Permit::User,
        run: Run::Read(list),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/status",
        params: &[&[NODE, STORAGE]],
        permit: Permit::One("/storage/{storage}", SEE),
        run: Run::Read(|world, ask| {
            let storage = on_node(world, ask)?;
            Ok(usage(world, ask, ask.text("storage"), storage))
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/content",
        params: &[&[NODE, STORAGE, text("content"), integer("vmid").of(Format::VmId)]],
        permit: Permit::One("/storage/{storage}", SEE),
        run: Run::Read(content),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/content",
        params: &[&[
            NODE,
            STORAGE,
            must("vmid", Kind::Integer).of(Format::VmId),
            must("filename", Kind::Text),
            must("size", Kind::Text).of(Format::DiskSize),
            text("format").one_of(&["raw", "qcow2", "subvol", "vmdk"]),
        ]],
        permit: Permit::One("/storage/{storage}", &["Datastore.AllocateSpace"]),
        run: Run::Write(allocate),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        params: &[&[NODE, STORAGE, VOLUME]],
        permit: Permit::One("/storage/{storage}", &["Datastore.AllocateSpace", "Datastore.Audit"]),
        run: Run::Read(volume),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/storage/{storage}/content/{volume}",
        params: &[&[NODE, STORAGE, VOLUME, integer("delay").min(1)]],
        permit: Permit::One("/storage/{storage}", &["Datastore.Allocate"]),
        run: Run::Write(delete),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/upload",
        params: &[FILE, &[text("tmpfilename")]],
        permit: Permit::One("/storage/{storage}", &["Datastore.AllocateTemplate"]),
        run: Run::Write(upload),
    },
    Call {
        method: "POST",
        path: "/nodes/{node}/storage/{storage}/download-url",
        params: &[
            FILE,
            &[
                must("url", Kind::Text).of(Format::Url),
                text("compression"),
                flag("verify-certificates"),
            ],
        ],
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

fn list(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let content = ask.params.list("content");
    let seen = dc.storages.iter().filter(|(id, storage)| {
        storage.size.contains_key(&ask.node)
            && ask.params.text("storage").is_none_or(|only| only == id.as_str())
            && content.iter().all(|kind| storage.content.contains(kind))
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
            // The backing file as the image names it.
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
            // Of the files that belong to no VM only those to import are listed with a VM's own.
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

fn volid(ask: &Ask) -> String {
    let volume = ask.text("volume");
    if volume.contains(':') {
        volume.to_owned()
    } else {
        format!("{}:{volume}", ask.text("storage"))
    }
}

fn volume(world: &World, ask: &Ask) -> Answer {
    let volid = volid(ask);
    let path = ask.dc(world).path(ask.text("storage"), &volid);
    let volume = ask.dc(world).volume(&ask.node, &volid);
    let volume =
        volume.ok_or_else(|| Failure::Die(format!("volume_size_info on '{volid}' failed")))?;
    let format = if volume.content == "iso" { "raw" } else { &volume.format };
    Ok(json!({"path": path, "size": volume.size, "used": volume.used(), "format": format}))
}

fn delete(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    on_node(world, ask)?;
    let (storage, volid) = (ask.text("storage").to_owned(), volid(ask));
    let owner = ask.dc(world).volume(&ask.node, &volid).and_then(|volume| volume.vmid);
    let id = owner.map_or_else(|| storage.clone(), |vmid| format!("{vmid}@{storage}"));
    let work = Work::DeleteVolume { storage, volid };
    Ok(ask.spawn_on(world, &ask.node, "imgdel", &id, work))
}

/// Checks what a file may be called, and gives its volume id.
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
    // The node that was contacted copies the file, to another one too.
    Ok(ask.spawn_on(world, &ask.via, "imgcopy", "", Work::Upload(Box::new(work))))
}

fn may_download(world: &World, ask: &Ask) -> Result<(), Failure> {
    let network = ask.may(world, &format!("/nodes/{}", ask.node), &["Sys.AccessNetwork"])
        || ask.may(world, "/", &["Sys.Audit"]) && ask.may(world, "/", &["Sys.Modify"]);
    if !network {
        return Err(Failure::Forbidden("Permission check failed".to_owned()));
    }
    let path = format!("/storage/{}", ask.text("storage"));
    ask.require(world, &path, &["Datastore.AllocateTemplate"])
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
