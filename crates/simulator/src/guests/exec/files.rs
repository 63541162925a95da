//! `cat`, `test`, `tail`, `sha256sum`.

use sha2::{Digest, Sha256};

use super::super::pki::hex;
use super::{Call, Output};

/// A file's body as this caller may see it, or the program's error.
fn open(call: &Call<'_>, path: &str) -> Result<String, String> {
    let name = call.argv.first().copied().unwrap_or_default();
    let complaint = |text: &str| match name {
        "tail" => format!("tail: cannot open '{path}' for reading: {text}"),
        _ => format!("{name}: {path}: {text}"),
    };
    if path == "/proc/sys/kernel/random/boot_id" {
        let run = call.guest.run.as_ref();
        return Ok(run.map(|run| format!("{}\n", run.boot_id)).unwrap_or_default());
    }
    if path == "/sys/class/dmi/id/product_uuid" {
        // Mode 0400: a process that knows it could impersonate the machine.
        return match call.root {
            true => Ok(format!("{}\n", call.guest.machine.uuid)),
            false => Err(complaint("Permission denied")),
        };
    }
    if path == "/proc/uptime" {
        let since = call.guest.run.as_ref().map_or(0, |run| run.since.0);
        return Ok(format!("{:.2} 0.00\n", (call.guests.now.0 - since) as f64 / 1000.0));
    }
    match call.guest.text(path) {
        None => Err(complaint("No such file or directory")),
        Some(_) if !call.root && !call.guest.world_readable(path) => {
            Err(complaint("Permission denied"))
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// `cat PATH...`.
pub fn cat(call: &Call<'_>) -> Output {
    each(call, call.rest().iter().copied(), |_, text| text)
}

/// `sha256sum PATH...`.
pub fn sha256sum(call: &Call<'_>) -> Output {
    each(call, call.rest().iter().copied(), |path, text| {
        format!("{}  {path}\n", hex(&Sha256::digest(text.as_bytes())))
    })
}

fn each<'a>(
    call: &Call<'_>,
    paths: impl Iterator<Item = &'a str>,
    print: impl Fn(&str, String) -> String,
) -> Output {
    let mut output = Output::ok("");
    for path in paths.filter(|path| *path != "--") {
        match open(call, path) {
            Ok(text) => output.stdout.push_str(&print(path, text)),
            Err(text) => {
                output.code = 1;
                output.stderr.push_str(&format!("{text}\n"));
            }
        }
    }
    output
}

/// `tail -n N FILE` and `tail -n +N FILE`.
pub fn tail(call: &Call<'_>) -> Output {
    let (count, path) = match call.rest() {
        ["-n", count, path] => (*count, path),
        [path] if !path.starts_with('-') => ("10", path),
        other => return Output::failed(1, format!("tail: {}: not simulated", other.join(" "))),
    };
    let text = match open(call, path) {
        Ok(text) => text,
        Err(text) => return Output::failed(1, text),
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let from = match count.strip_prefix('+') {
        Some(from) => from.parse::<usize>().unwrap_or(1).saturating_sub(1),
        None => lines.len().saturating_sub(count.trim_start_matches('-').parse().unwrap_or(10)),
    };
    Output::ok(lines.get(from.min(lines.len())..).unwrap_or_default().concat())
}

/// `test -e|-f|-d|-s PATH`.
pub fn test(call: &Call<'_>) -> Output {
    let [flag, path, ..] = call.rest() else { return Output { code: 1, ..Output::ok("") } };
    let file = call.guest.disk.files.get(*path);
    let holds = match *flag {
        "-e" => call.guest.exists(path),
        "-f" => file.is_some(),
        "-s" => file.is_some_and(|file| !file.content.is_empty()),
        "-d" => file.is_none() && call.guest.exists(path),
        "-r" => file.is_some() && (call.root || call.guest.world_readable(path)),
        other => return Output::failed(2, format!("test: {other}: unary operator expected")),
    };
    Output { code: u32::from(!holds), ..Output::ok("") }
}
