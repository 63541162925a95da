//! Reads ISO 9660 images the way a kernel does: Rock Ridge names if present, else Joliet, else the
//! plain names (ECMA-119, IEEE P1282).
//!
//! Deliberately not the crate with which the product writes its seeds: two implementations of the
//! standard find more errors than one.

use std::collections::BTreeMap;

const SECTOR: usize = 2048;
/// The first volume descriptor's sector (ECMA-119 §6.2.1).
const FIRST_DESCRIPTOR: usize = 16;
const DIRECTORY: u8 = 0x02;

/// An image: its volume label and the files of its root directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The volume identifier, trimmed.
    pub label: String,
    /// Name → contents.
    pub files: BTreeMap<String, Vec<u8>>,
}

struct Entry<'a> {
    name: &'a [u8],
    system_use: &'a [u8],
    extent: usize,
    length: usize,
    flags: u8,
}

/// Reads an image; `None` if it is not one.
pub fn read(bytes: &[u8]) -> Option<Image> {
    let mut primary = None;
    let mut joliet = None;
    for index in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + 64 {
        let sector = bytes.get(index * SECTOR..(index + 1) * SECTOR)?;
        if sector.get(1..6)? != b"CD001" {
            return None;
        }
        match sector[0] {
            1 => primary = primary.or(Some(sector)),
            // The escape sequences of UCS-2 levels 1 to 3.
            2 if matches!(&sector[88..91], b"%/@" | b"%/C" | b"%/E") => joliet = Some(sector),
            255 => break,
            _ => {}
        }
    }
    let primary = primary?;
    // Some writers fill the field with NUL instead of spaces.
    let padding = |c: char| c == '\0' || c.is_whitespace();
    let label = String::from_utf8_lossy(&primary[40..72]).trim_matches(padding).to_owned();
    let root = directory(bytes, &primary[156..190])?;
    let rock_ridge = root.iter().any(|entry| rock_ridge_name(entry.system_use).is_some());
    let ucs2 = !rock_ridge && joliet.is_some();
    let entries = match joliet {
        Some(sector) if ucs2 => directory(bytes, &sector[156..190])?,
        _ => root,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        if entry.flags & DIRECTORY != 0 {
            continue;
        }
        let name = rock_ridge_name(entry.system_use).unwrap_or_else(|| plain(entry.name, ucs2));
        let start = entry.extent * SECTOR;
        files.insert(name, bytes.get(start..start + entry.length)?.to_vec());
    }
    Some(Image { label, files })
}

fn directory<'a>(bytes: &'a [u8], record: &[u8]) -> Option<Vec<Entry<'a>>> {
    let start = little(record, 2)? * SECTOR;
    let data = bytes.get(start..start + little(record, 10)?)?;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let length = usize::from(data[at]);
        if length == 0 {
            // Records do not cross sectors: the rest of this one is padding.
            at = (at / SECTOR + 1) * SECTOR;
            continue;
        }
        let record = data.get(at..at + length)?;
        let name_length = usize::from(*record.get(32)?);
        let name = record.get(33..33 + name_length)?;
        let after = 33 + name_length + usize::from(name_length % 2 == 0);
        if name != [0] && name != [1] {
            entries.push(Entry {
                name,
                system_use: record.get(after..).unwrap_or_default(),
                extent: little(record, 2)?,
                length: little(record, 10)?,
                flags: *record.get(25)?,
            });
        }
        at += length;
    }
    Some(entries)
}

fn little(bytes: &[u8], at: usize) -> Option<usize> {
    let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(word)).ok()
}

/// The `NM` entries of a record's system use area, joined.
fn rock_ridge_name(mut area: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    while area.len() >= 4 {
        let length = usize::from(area[2]);
        let field = area.get(..length).filter(|field| field.len() >= 4)?;
        if &field[..2] == b"NM" && field.len() > 5 {
            name.extend_from_slice(&field[5..]);
        }
        area = &area[length..];
    }
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}

fn plain(name: &[u8], ucs2: bool) -> String {
    let text = if ucs2 {
        let units: Vec<u16> =
            name.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(name).to_lowercase()
    };
    let text = text.split(';').next().unwrap_or_default();
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use hadris_iso::read::PathSeparator;
    use hadris_iso::write::options::{CreationFeatures, IsoFormatOptions};
    use hadris_iso::write::{File, InputFiles, IsoImageWriter};

    use super::*;

    /// Writes an image with the crate that the product uses.
    pub(crate) fn write(
        label: &str,
        files: &[(&str, &str)],
        features: CreationFeatures,
    ) -> Vec<u8> {
        let input = InputFiles {
            path_separator: PathSeparator::ForwardSlash,
            files: files
                .iter()
                .map(|(name, body)| File::File {
                    name: Arc::new((*name).to_owned()),
                    contents: body.as_bytes().to_vec(),
                })
                .collect(),
        };
        let options = IsoFormatOptions {
            volume_name: label.to_owned(),
            sector_size: 2048,
            path_separator: PathSeparator::ForwardSlash,
            features,
            system_id: None,
            volume_set_id: None,
            publisher_id: None,
            preparer_id: None,
            application_id: None,
            strict_charset: false,
        };
        let mut image = Cursor::new(vec![0u8; 2 << 20]);
        IsoImageWriter::create(&mut image, input, options).unwrap();
        image.into_inner()
    }

    #[test]
    fn rock_ridge_names_and_bodies_are_read() {
        let long = "x".repeat(5000);
        let files = [("user-data", long.as_str()), ("meta-data", "b"), ("network-config", "c")];
        let image = read(&write("cidata", &files, CreationFeatures::rock_ridge())).unwrap();
        assert_eq!(image.label.to_lowercase(), "cidata");
        assert_eq!(image.files["user-data"], long.as_bytes());
        assert_eq!(image.files.len(), 3);
        assert_eq!(image.files["network-config"], b"c");
    }

    #[test]
    fn a_label_may_be_padded_with_nul() {
        let files = [("user-data", "a"), ("meta-data", "b")];
        let mut image = write("cidata", &files, CreationFeatures::rock_ridge());
        let label = FIRST_DESCRIPTOR * SECTOR + 40;
        image[label + 6..label + 32].fill(0);
        assert_eq!(read(&image).unwrap().label.to_lowercase(), "cidata");
    }

    #[test]
    fn joliet_names_are_read_without_rock_ridge() {
        let features = CreationFeatures::joliet(hadris_iso::joliet::JolietLevel::Level3);
        let image = read(&write("cidata", &[("user-data", "a")], features)).unwrap();
        assert_eq!(image.files["user-data"], b"a");
    }

    #[test]
    fn a_file_that_is_not_an_image_is_refused() {
        assert_eq!(read(b"#!/bin/sh"), None);
        assert_eq!(read(&vec![0; 64 * 2048]), None);
    }
}
