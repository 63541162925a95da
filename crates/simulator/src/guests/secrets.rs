//! The secrets on the guests' disks, so that a test can check that they are never shown.

use super::Guests;

impl Guests {
    /// Lines of private keys, bootstrap tokens and certificate keys in the guests' files.
    pub fn secrets(&self) -> Vec<String> {
        let guests = self.all.values();
        let texts = guests.flat_map(|guest| {
            let files = guest.disk.files.values().map(|file| file.content.as_str());
            files.chain([guest.disk.host_key.as_str()])
        });
        texts.flat_map(secrets_of).collect()
    }
}

fn secrets_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_key = false;
    for line in text.lines() {
        let words = line.trim().trim_start_matches("- ");
        if words.contains("PRIVATE KEY-----") {
            in_key = words.contains("BEGIN");
        } else if in_key && words.len() >= 40 {
            // The first lines of all OpenSSH keys of a type are the same.
            if !words.starts_with("b3BlbnNzaC1rZXktdjE") {
                found.push(words.to_owned());
            }
        } else if let Some((_, value)) = ["token: ", "certificateKey: "]
            .iter()
            .find_map(|key| words.split_once(key).filter(|(before, _)| before.is_empty()))
        {
            found.push(value.trim_matches(['"', '\'']).to_owned());
        }
    }
    found
}
