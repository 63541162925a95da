//! Short hashes in names and marks.

use sha2::{Digest, Sha256};

/// The first twelve hex digits of a SHA-256.
pub fn short(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..6])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_short_hash_is_the_beginning_of_the_whole_one() {
        // RFC 6234's first test vector: "abc".
        assert_eq!(super::short(b"abc"), "ba7816bf8f01");
    }
}
