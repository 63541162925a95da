//! Files in `gzip` format (RFC 1952), with stored, uncompressed contents (RFC 1951 §3.2.4).

/// The longest stored block.
const BLOCK: usize = 0xffff;

/// A file with this name and contents.
pub fn packed(name: &str, contents: &[u8]) -> Vec<u8> {
    // The name is set, the time is not, and the system is Unix.
    let mut file = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    file.extend_from_slice(name.as_bytes());
    file.push(0);
    let mut blocks: Vec<&[u8]> = contents.chunks(BLOCK).collect();
    if blocks.is_empty() {
        blocks.push(&[]);
    }
    let last = blocks.len() - 1;
    for (place, block) in blocks.into_iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        file.push(u8::from(place == last));
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.extend_from_slice(block);
    }
    file.extend_from_slice(&crc32(contents).to_le_bytes());
    let length = u32::try_from(contents.len() & 0xffff_ffff).unwrap_or_default();
    file.extend_from_slice(&length.to_le_bytes());
    file
}

/// The checksum of RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_complete_and_has_the_standard_checksum() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let file = packed("a", b"hello");
        let head = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'a', 0];
        assert_eq!(file[..12], head);
        assert_eq!(file[12..17], [1, 5, 0, 0xfa, 0xff]);
        assert_eq!(&file[17..22], b"hello");
        assert_eq!(file[22..26], crc32(b"hello").to_le_bytes());
        assert_eq!(file[26..], 5u32.to_le_bytes());
        let long = packed("", &[7; BLOCK + 1]);
        assert_eq!(long[11..16], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(long[16 + BLOCK..][..6], [1, 1, 0, 0xfe, 0xff, 7]);
    }
}
