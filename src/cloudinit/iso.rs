//! Writes an ISO 9660 image of a few small files in one folder, with Rock Ridge and Joliet names.
//!
//! k8sha writes its own images, because the same files must give the same bytes: `hadris-iso` puts
//! the current time into every image. The tests read the images back with it.
//!
//! Sources: ECMA-119 (sections in brackets), IEEE P1282 draft 1.12 "Rock Ridge", IEEE P1281 "SUSP",
//! and Microsoft's "Joliet Specification".

const SECTOR: usize = 2048;
/// The first sixteen sectors belong to the system [6.2.1].
const PRIMARY: usize = 16;
const JOLIET: usize = 17;
const TERMINATOR: usize = 18;
const PATHS_LITTLE: usize = 19;
const PATHS_BIG: usize = 20;
const JOLIET_PATHS_LITTLE: usize = 21;
const JOLIET_PATHS_BIG: usize = 22;
const ROOT: usize = 23;
const JOLIET_ROOT: usize = 24;
const FIRST_FILE: usize = 25;

/// 2000-01-01 00:00:00 UTC in the form of a directory record [9.1.5].
const TIME: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];
/// The same in the form of a volume descriptor [8.4.26.1].
const LONG_TIME: &[u8; 17] = b"2000010100000000\0";
/// "Not specified" [8.4.26.1].
const NO_TIME: &[u8; 17] = b"0000000000000000\0";

/// A file: a lower-case name and its content.
pub(super) struct File<'a> {
    /// Letters, digits and `-`, at most 28 of them.
    pub name: &'a str,
    /// The content.
    pub body: &'a [u8],
}

/// Which of the two trees of names is written.
#[derive(Clone, Copy, PartialEq)]
enum Tree {
    /// Upper-case ISO names, with the true ones in Rock Ridge fields.
    RockRidge,
    /// UCS-2 names.
    Joliet,
}

/// The image of these files, in the given order, which must be the order of their names [9.3].
pub(super) fn image(label: &str, files: &[File<'_>]) -> Vec<u8> {
    let mut next = FIRST_FILE;
    let mut extents = Vec::with_capacity(files.len());
    for file in files {
        extents.push(next);
        next += file.body.len().div_ceil(SECTOR);
    }

    let mut image = vec![0; next * SECTOR];
    let mut put = |sector: usize, bytes: &[u8]| {
        image[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    };
    put(PRIMARY, &descriptor(Tree::RockRidge, label, next));
    put(JOLIET, &descriptor(Tree::Joliet, label, next));
    put(TERMINATOR, b"\xffCD001\x01");
    put(PATHS_LITTLE, &path_table(&(ROOT as u32).to_le_bytes(), 1u16.to_le_bytes()));
    put(PATHS_BIG, &path_table(&(ROOT as u32).to_be_bytes(), 1u16.to_be_bytes()));
    put(JOLIET_PATHS_LITTLE, &path_table(&(JOLIET_ROOT as u32).to_le_bytes(), 1u16.to_le_bytes()));
    put(JOLIET_PATHS_BIG, &path_table(&(JOLIET_ROOT as u32).to_be_bytes(), 1u16.to_be_bytes()));
    put(ROOT, &folder(Tree::RockRidge, files, &extents));
    put(JOLIET_ROOT, &folder(Tree::Joliet, files, &extents));
    for (file, extent) in files.iter().zip(extents) {
        put(extent, file.body);
    }
    image
}

/// A primary [8.4] or supplementary [8.5] volume descriptor.
fn descriptor(tree: Tree, label: &str, sectors: usize) -> Vec<u8> {
    let text = |text: &str, size: usize| match tree {
        Tree::RockRidge => padded(text.bytes(), b" ", size),
        Tree::Joliet => padded(text.encode_utf16().flat_map(u16::to_be_bytes), b"\0 ", size),
    };
    let (kind, escape, root, little, big) = match tree {
        Tree::RockRidge => (1, &b""[..], ROOT, PATHS_LITTLE, PATHS_BIG),
        // UCS-2 level 3.
        Tree::Joliet => (2, &b"%/E"[..], JOLIET_ROOT, JOLIET_PATHS_LITTLE, JOLIET_PATHS_BIG),
    };
    let mut out = vec![kind];
    out.extend(b"CD001\x01\0");
    out.extend(text("", 32));
    out.extend(text(label, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend(padded(escape.iter().copied(), b"\0", 32));
    out.extend(both16(1)); // one volume
    out.extend(both16(1)); // the first of it
    out.extend(both16(SECTOR));
    out.extend(both32(10)); // a path table's size
    out.extend((little as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend((big as u32).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(b"\0", root, SECTOR, true, &[]));
    for size in [128, 128, 128, 128, 37, 37, 37] {
        out.extend(text("", size));
    }
    out.extend(LONG_TIME); // created
    out.extend(LONG_TIME); // modified
    out.extend(NO_TIME); // expires
    out.extend(NO_TIME); // effective
    out.extend([1, 0]); // the structure's version
    out
}

/// A path table with only the root [9.4].
fn path_table(root: &[u8; 4], parent: [u8; 2]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(root);
    out.extend(parent);
    out.extend([0, 0]);
    out
}

/// The root folder's records. k8sha's fit into one sector.
fn folder(tree: Tree, files: &[File<'_>], extents: &[usize]) -> Vec<u8> {
    let rock = tree == Tree::RockRidge;
    let root = if rock { ROOT } else { JOLIET_ROOT };
    let folder_fields = if rock { attributes(0o040_555, 2) } else { Vec::new() };
    let own_fields = if rock {
        // The entries that announce SUSP and its extension.
        [b"SP\x07\x01\xbe\xef\0", folder_fields.as_slice(), b"ER\x12\x01\x0a\0\0\x01RRIP_1991A"]
            .concat()
    } else {
        Vec::new()
    };
    let mut out = record(b"\0", root, SECTOR, true, &own_fields);
    out.extend(record(b"\x01", root, SECTOR, true, &folder_fields));
    for (file, extent) in files.iter().zip(extents) {
        let (name, fields) = match tree {
            Tree::RockRidge => {
                let name = format!("{}.;1", file.name.to_ascii_uppercase().replace('-', "_"));
                let mut fields = attributes(0o100_400, 1);
                fields.extend([b'N', b'M', 5 + file.name.len() as u8, 1, 0]);
                fields.extend(file.name.bytes());
                (name.into_bytes(), fields)
            }
            // Without a version number, as genisoimage writes them.
            Tree::Joliet => {
                (file.name.encode_utf16().flat_map(u16::to_be_bytes).collect(), Vec::new())
            }
        };
        out.extend(record(&name, *extent, file.body.len(), false, &fields));
    }
    out
}

/// A directory record [9.1].
fn record(name: &[u8], extent: usize, size: usize, folder: bool, fields: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(extent));
    out.extend(both32(size));
    out.extend(TIME);
    out.extend([if folder { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    out.push(name.len() as u8);
    out.extend(name);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out.extend(fields);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out[0] = out.len() as u8;
    out
}

/// Rock Ridge's owner and mode (all is root's) and times.
fn attributes(mode: usize, links: usize) -> Vec<u8> {
    let mut out = b"PX\x24\x01".to_vec();
    for number in [mode, links, 0, 0] {
        out.extend(both32(number));
    }
    // Modified, accessed, attributes changed.
    out.extend(b"TF\x1a\x01\x0e");
    for _ in 0..3 {
        out.extend(TIME);
    }
    out
}

/// A number in both byte orders [7.3.3].
fn both32(number: usize) -> [u8; 8] {
    let (mut out, number) = ([0; 8], number as u32);
    out[..4].copy_from_slice(&number.to_le_bytes());
    out[4..].copy_from_slice(&number.to_be_bytes());
    out
}

/// A number in both byte orders [7.2.3].
fn both16(number: usize) -> [u8; 4] {
    let [low, high] = (number as u16).to_le_bytes();
    [low, high, high, low]
}

fn padded(bytes: impl Iterator<Item = u8>, filler: &[u8], size: usize) -> Vec<u8> {
    bytes.chain(filler.iter().copied().cycle()).take(size).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Cursor, Write};
    use std::process::Command;

    use hadris_iso::read::{IsoNamespace, IsoReader};

    use super::*;

    fn sample() -> Vec<File<'static>> {
        // Empty, exactly one sector, and one byte more.
        vec![
            File { name: "meta-data", body: b"" },
            File { name: "network-config", body: &[b'n'; SECTOR] },
            File { name: "user-data", body: &[b'u'; SECTOR + 1] },
        ]
    }

    fn read_back(bytes: &[u8], rock_ridge: bool) -> BTreeMap<String, Vec<u8>> {
        let mut reader = IsoReader::open(Cursor::new(bytes.to_vec())).unwrap();
        let root = if rock_ridge {
            reader.primary_root()
        } else {
            reader.roots().find(|root| matches!(root.namespace(), IsoNamespace::Joliet(_))).unwrap()
        };
        let mut entries = Vec::new();
        let mut folder = reader.open_dir(root);
        while let Some(entry) = folder.next_entry().unwrap() {
            if entry.is_file() {
                entries.push(entry);
            }
        }
        let mut files = BTreeMap::new();
        for entry in entries {
            let mut buffer = [0; 255];
            let name = match entry.rrip_name_into(&mut buffer) {
                Some(name) if rock_ridge => name.unwrap().to_owned(),
                _ => entry.name().decode_into(&mut buffer).unwrap().to_owned(),
            };
            let mut body = vec![0; entry.total_size() as usize];
            let (mut file, mut done) = (reader.open_file(&entry).unwrap(), 0);
            while done < body.len() {
                done += file.read_chunk(&mut body[done..]).unwrap();
            }
            files.insert(name.trim_end_matches(";1").to_owned(), body);
        }
        files
    }

    #[test]
    fn an_independent_reader_gets_every_file_back_by_either_name() {
        let files = sample();
        let bytes = image("cidata", &files);
        let want: BTreeMap<_, _> =
            files.iter().map(|file| (file.name.to_owned(), file.body.to_vec())).collect();
        for rock_ridge in [true, false] {
            assert_eq!(read_back(&bytes, rock_ridge), want, "Rock Ridge: {rock_ridge}");
        }
    }

    #[test]
    fn the_label_stands_in_both_descriptors() {
        let bytes = image("cidata", &sample());
        let label = |sector: usize| &bytes[sector * SECTOR + 40..][..32];
        assert_eq!(label(PRIMARY), b"cidata                          ");
        assert_eq!(&label(JOLIET)[..14], b"\0c\0i\0d\0a\0t\0a\0 ");
    }

    #[test]
    fn the_image_is_a_whole_number_of_sectors_and_small() {
        let bytes = image("cidata", &sample());
        assert_eq!(bytes.len(), (FIRST_FILE + 3) * SECTOR);
        assert_eq!(bytes, image("cidata", &sample()));
    }

    #[test]
    fn isoinfo_reads_it_too() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let files = sample();
        file.write_all(&image("cidata", &files)).unwrap();
        let run =
            |args: &[&str]| Command::new("isoinfo").arg("-i").arg(file.path()).args(args).output();
        let Ok(header) = run(&["-d"]) else {
            eprintln!("SKIPPED isoinfo_reads_it_too: there is no `isoinfo` here (genisoimage)");
            return;
        };
        let header = String::from_utf8_lossy(&header.stdout).into_owned();
        assert!(header.contains("Volume id: cidata"), "{header}");
        assert!(header.contains("Rock Ridge signatures version 1 found"), "{header}");
        for file in &files {
            for tree in ["-R", "-J"] {
                let body = run(&[tree, "-x", &format!("/{}", file.name)]).unwrap().stdout;
                assert!(body == file.body, "{tree} {}", file.name);
            }
        }
    }
}
