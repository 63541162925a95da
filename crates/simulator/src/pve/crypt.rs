//! Passwords hashed like `crypt(3)` with SHA-256, as Proxmox VE stores `cipassword` (pve-common
//! src/PVE/Tools.pm, `encrypt_pw`; the method is Ulrich Drepper's "Unix crypt using SHA-256 and
//! SHA-512").

use sha2::{Digest, Sha256};

/// The default number of rounds if the salt does not set it.
const ROUNDS: usize = 5000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The bytes of the digest in each group of four characters.
const GROUPS: [[usize; 3]; 10] = [
    [0, 10, 20],
    [21, 1, 11],
    [12, 22, 2],
    [3, 13, 23],
    [24, 4, 14],
    [15, 25, 5],
    [6, 16, 26],
    [27, 7, 17],
    [18, 28, 8],
    [9, 19, 29],
];

/// Whether a text is a hash already, which is stored unchanged.
pub fn is_hashed(text: &str) -> bool {
    let kind = text.strip_prefix('$').and_then(|rest| rest.split_once('$'));
    kind.is_some_and(|(kind, rest)| {
        ["1", "5", "6", "2a", "2y"].contains(&kind) && rest.contains('$')
    })
}

/// The hash of a password: `$5$salt$hash`.
pub fn sha256(password: &str, salt: &str) -> String {
    let (password, salt_bytes) = (password.as_bytes(), salt.as_bytes());
    let digest = |parts: &[&[u8]]| -> Vec<u8> {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().to_vec()
    };
    let filled = |block: &[u8], length: usize| -> Vec<u8> {
        block.iter().copied().cycle().take(length).collect()
    };
    let second = digest(&[password, salt_bytes, password]);
    let stretched = filled(&second, password.len());
    let mut parts = vec![password, salt_bytes, stretched.as_slice()];
    let mut bits = password.len();
    while bits > 0 {
        parts.push(if bits & 1 == 1 { &second } else { password });
        bits >>= 1;
    }
    let mut state = digest(&parts);
    let p = filled(&digest(&vec![password; password.len()]), password.len());
    let s = filled(&digest(&vec![salt_bytes; 16 + usize::from(state[0])]), salt_bytes.len());
    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut parts: Vec<&[u8]> = vec![if odd { &p } else { &state }];
        if round % 3 != 0 {
            parts.push(&s);
        }
        if round % 7 != 0 {
            parts.push(&p);
        }
        parts.push(if odd { &state } else { &p });
        let next = digest(&parts);
        state = next;
    }
    let mut text = format!("$5${salt}$");
    let mut group = |high: u8, middle: u8, low: u8, characters: usize| {
        let word = u32::from(high) << 16 | u32::from(middle) << 8 | u32::from(low);
        for place in 0..characters {
            let index = (word >> (6 * place)) as usize & 63;
            text.push(char::from(ALPHABET[index]));
        }
    };
    for [high, middle, low] in GROUPS {
        group(state[high], state[middle], state[low], 4);
    }
    group(0, state[31], state[30], 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_crypt_does() {
        // As `openssl passwd -5 -salt saltstring` prints it.
        let hash = sha256("Hello world!", "saltstring");
        assert_eq!(hash, "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5");
        assert!(is_hashed(&hash) && !is_hashed("$5secret") && !is_hashed("s3cret"));
    }
}
