//! Uploads and downloads files, and deletes volumes (pve-storage src/PVE/API2/Storage/Status.pm and
//! Content.pm).

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Next, Turn, no_room};
use crate::faults::FaultKind;
use crate::pve::drive::{self, Layout};
use crate::pve::internet::{self, Found};
use crate::pve::pace;
use crate::pve::resolver::Resolver;
use crate::pve::state::Volume;

/// The required checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// `sha256` and so on.
    pub algorithm: String,
    /// The digest in hex.
    pub value: String,
}

/// An uploaded file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// The node of the target storage.
    pub target: String,
    /// The storage.
    pub storage: String,
    /// The content type.
    pub content: String,
    /// The volume's id.
    pub volid: String,
    /// Its contents.
    pub blob: String,
    /// Its size in bytes.
    pub size: u64,
    /// The required checksum.
    pub checksum: Option<Checksum>,
    /// The temporary name on the server.
    pub temporary: String,
}

/// A file to download.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Download {
    /// The storage.
    pub storage: String,
    /// The content type.
    pub content: String,
    /// The volume's id.
    pub volid: String,
    /// The URL.
    pub url: String,
    /// The required checksum.
    pub checksum: Option<Checksum>,
}

/// Moves an uploaded file to its destination; an existing one with the same name is overwritten.
pub fn upload(turn: &mut Turn, work: Upload) -> Result<Next, Next> {
    if turn.task.stage == 0 {
        turn.say(format!("starting file import from: /var/tmp/{}", work.temporary));
        return Ok(turn.after(1, pace::UPLOAD));
    }
    if let Some(checksum) = &work.checksum {
        let bytes = turn.store.blob(&work.blob).unwrap_or_default();
        let got = digest(&checksum.algorithm, &bytes);
        if got.as_deref() != Some(checksum.value.to_lowercase().as_str()) {
            turn.say("calculating checksum...");
            let got = got.unwrap_or_default();
            let text = format!("checksum mismatch: got '{got}' != expect '{}'", checksum.value);
            return Ok(Next::End(Err(text)));
        }
        // The second half of the line is logged once the first is verified.
        turn.say("calculating checksum...OK, checksum verified");
    }
    let path = turn.dc().path(&work.storage, &work.volid);
    turn.say(format!("target node: {}", work.target));
    turn.say(format!("target file: {path}"));
    turn.say(format!("file size is: {}", work.size));
    turn.say(format!("command: cp -- /var/tmp/{} {path}", work.temporary));
    if turn.world.faults.active(FaultKind::DiskFull, &work.target) {
        let text = format!("import failed: cp: error writing '{path}': No space left on device");
        return Ok(Next::End(Err(text)));
    }
    let unix = turn.unix();
    let image = (work.content == "import").then(|| turn.store.blob(&work.blob)).flatten();
    let disk = image.map(|image| drive::disk_bytes(&image));
    let dc = turn.dc();
    let shared = dc.storages.get(&work.storage).is_some_and(|storage| storage.shared);
    dc.remove_volume(&work.target, &work.volid);
    dc.volumes.push(Volume {
        volid: work.volid,
        storage: work.storage,
        host: (!shared).then(|| work.target.clone()),
        format: format_of(&work.content, &path),
        // An uploaded disk may be any: it is not known to contain an operating system.
        system: false,
        content: work.content,
        size: work.size,
        disk,
        ctime: unix,
        vmid: None,
        parent: None,
        sha256: Some(work.blob.clone()),
        blob: Some(work.blob),
    });
    turn.say("finished file import successfully");
    Ok(Next::End(Ok(())))
}

/// Downloads a file from the simulated internet ([`internet`]).
pub fn download(turn: &mut Turn, work: Download) -> Result<Next, Next> {
    let host = turn.host();
    let path = turn.dc().path(&work.storage, &work.volid);
    let wanted = work.checksum.as_ref().map(|checksum| checksum.value.to_lowercase());
    let found = internet::visit(&work.url);
    if turn.task.stage == 0 {
        turn.say(format!("downloading {} to {path}", work.url));
        if let Some(there) = turn.dc().volume(&host, &work.volid) {
            if wanted.is_some() && there.sha256 == wanted {
                turn.say("OK, got correct file already, no need to download");
                return Ok(Next::End(Ok(())));
            }
            let text = format!("refusing to override existing file '{path}'");
            return Ok(Next::End(Err(text)));
        }
        let bytes = connect(turn, &work.url, &found).map_err(|text| {
            // The last line of `wget`'s output, or its exit.
            Next::End(Err(format!("download failed: {text}")))
        })?;
        if turn.world.faults.active(FaultKind::DiskFull, &host) {
            return Ok(Next::End(Err(no_room(&work.storage, "dir"))));
        }
        return Ok(turn.after(1, pace::DOWNLOAD + bytes as f64 / pace::DOWNLOAD_RATE));
    }
    let iso = matches!(found, Found::Iso(_)).then(|| vec![0; internet::ISO_BYTES]);
    if let Some(checksum) = &work.checksum {
        turn.say("calculating checksum...");
        let got = match &iso {
            Some(bytes) => digest(&checksum.algorithm, bytes),
            None if turn.fault(FaultKind::BadChecksum) => digest("sha256", work.url.as_bytes()),
            None => wanted.clone(),
        };
        if got != wanted {
            let got = got.unwrap_or_default();
            let text = format!("checksum mismatch: got '{got}' != expect '{}'", checksum.value);
            return Ok(Next::End(Err(text)));
        }
        turn.say("OK, checksum verified");
    }
    let unix = turn.unix();
    let kept = iso.as_ref().map(|bytes| turn.store.keep(bytes)).transpose();
    let blob = kept.map_err(|error| Next::End(Err(format!("download failed: {error}"))))?;
    let dc = turn.dc();
    let shared = dc.storages.get(&work.storage).is_some_and(|storage| storage.shared);
    dc.volumes.push(Volume {
        volid: work.volid,
        storage: work.storage,
        host: (!shared).then_some(host),
        format: format_of(&work.content, &path),
        system: iso.is_none() && work.content == "import",
        content: work.content,
        size: iso.as_ref().map_or(pace::IMAGE_BYTES, |bytes| bytes.len() as u64),
        disk: iso.is_none().then_some(pace::IMAGE_DISK_BYTES),
        ctime: unix,
        vmid: None,
        parent: None,
        sha256: blob.clone().or(wanted),
        blob,
    });
    turn.say(format!("download of '{}' to '{path}' finished", work.url));
    Ok(Next::End(Ok(())))
}

/// `wget`'s output before the transfer starts, and the file's length in bytes.
fn connect(turn: &mut Turn, url: &str, found: &Found) -> Result<u64, String> {
    let second =
        OffsetDateTime::from_unix_timestamp(turn.unix()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let second = second.format(format).unwrap_or_default();
    turn.say(format!("--{second}--  {url}"));
    let (place, bytes) = match found {
        Found::NoName(host) => {
            let node = turn.world.pve.datacenters[turn.dc].hosts.get(&turn.task.host);
            let why = Resolver::unknown(turn.world, node);
            turn.say(format!("Resolving {host} ({host})... failed: {why}."));
            return Err(format!("wget: unable to resolve host address '{host}'"));
        }
        Found::Refused(place) => {
            return Err(format!("Connecting to {place}... failed: Connection refused."));
        }
        Found::Plain(place) => {
            turn.say(format!("Connecting to {place}... connected."));
            return Err("Unable to establish SSL connection.".to_owned());
        }
        Found::Missing(place) => (place, None),
        Found::Image(place) => (place, Some(pace::IMAGE_BYTES)),
        Found::Iso(place) => (place, Some(internet::ISO_BYTES as u64)),
    };
    turn.say(format!("Connecting to {place}... connected."));
    let Some(bytes) = bytes else {
        turn.say("HTTP request sent, awaiting response... 404 Not Found");
        turn.say(format!("{second} ERROR 404: Not Found."));
        return Err("exit code 8".to_owned());
    };
    turn.say("HTTP request sent, awaiting response... 200 OK");
    turn.say(format!("Length: {bytes}"));
    Ok(bytes)
}

/// Deletes a volume. A missing one counts as deleted already.
pub fn delete(turn: &mut Turn, storage: &str, volid: &str) -> Result<Next, Next> {
    let host = turn.host();
    if turn.task.stage == 0 {
        return Ok(turn.after(1, pace::DELETE_VOLUME));
    }
    let dc = turn.dc();
    let kind = dc.storages.get(storage).map(|storage| storage.kind.clone()).unwrap_or_default();
    let path = volid.split_once(':').map_or(volid, |(_, path)| path);
    if Layout::of(&kind) != Layout::Thin && dc.child_of(&host, volid).is_some() {
        let text = format!("base volume '{path}' is still in use by linked clones");
        return Ok(Next::End(Err(text)));
    }
    match dc.volume(&host, volid).cloned() {
        None => {
            let path = dc.path(storage, volid);
            turn.say(format!("disk image '{path}' does not exist"));
        }
        Some(volume) => {
            dc.remove_volume(&host, volid);
            if let Some(blob) = volume.blob {
                let of = |dc: &super::Datacenter| {
                    dc.volumes.iter().any(|volume| volume.blob.as_ref() == Some(&blob))
                };
                if !turn.world.pve.datacenters.iter().any(of) {
                    turn.store.forget(&blob);
                }
            }
        }
    }
    turn.say(format!("Removed volume '{volid}'"));
    Ok(Next::End(Ok(())))
}

fn format_of(content: &str, path: &str) -> String {
    let end = path.rsplit('.').next().unwrap_or_default();
    match content {
        "iso" => "iso".to_owned(),
        // `tgz`, `txz` and so on.
        "vztmpl" if end != "tar" => format!("t{end}"),
        _ => end.to_owned(),
    }
}

fn digest(algorithm: &str, bytes: &[u8]) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match algorithm {
        "md5" => Some(hex(&Md5::digest(bytes))),
        "sha1" => Some(hex(&Sha1::digest(bytes))),
        "sha224" => Some(hex(&Sha224::digest(bytes))),
        "sha256" => Some(hex(&Sha256::digest(bytes))),
        "sha384" => Some(hex(&Sha384::digest(bytes))),
        "sha512" => Some(hex(&Sha512::digest(bytes))),
        _ => None,
    }
}
