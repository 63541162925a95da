//! Masks secrets that are recognised by their format, whatever their source.

use super::MASKED;

/// Masks everything in the format of a bootstrap token's secret (`abcdef.0123456789abcdef`), of a
/// certificate key (64 hex digits, unless they are a public `sha256:` hash), or of a PEM private key.
///
/// This run's own secrets are masked too, whatever their format.
///
/// Formats: kubeadm's `BootstrapTokenRegexpString` in
/// `staging/src/k8s.io/cluster-bootstrap/token/api/types.go` and `copycerts.go`.
pub fn mask(text: &str) -> String {
    let text = &super::mask(text);
    let mut lines = Lines::default();
    text.split_inclusive('\n').filter_map(|line| lines.without_forms(line)).collect()
}

/// Masks a text that comes line by line, as [`mask`] does.
#[derive(Debug, Default)]
pub struct Lines {
    in_key: bool,
}

impl Lines {
    /// The next line, which has no line break; `None` within a private key.
    pub fn mask(&mut self, line: &str) -> Option<String> {
        let mut line = self.without_forms(&super::mask(line))?;
        line.truncate(line.trim_end_matches('\n').len());
        Some(line)
    }

    fn without_forms(&mut self, line: &str) -> Option<String> {
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----");
        let inside = self.in_key || begins;
        self.in_key = inside && !line.contains("-----END");
        if begins {
            return Some(format!("{MASKED}\n"));
        }
        if inside {
            return None;
        }
        let mut out = String::with_capacity(line.len());
        mask_line(line, &mut out);
        Some(out)
    }
}

/// Whether a byte can be part of a word that is checked as a whole.
fn of_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'.' || b == b'_'
}

fn mask_line(line: &str, out: &mut String) {
    let mut rest = line;
    let mut before = String::new();
    while let Some(start) = rest.bytes().position(of_word) {
        let (gap, tail) = rest.split_at(start);
        let end = tail.bytes().position(|b| !of_word(b)).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        out.push_str(gap);
        let hash = before == "sha256" && gap == ":";
        // A sentence may end with the token.
        let bare = word.trim_end_matches('.');
        if is_token(bare) || (is_certificate_key(bare) && !hash) {
            out.push_str(MASKED);
            out.push_str(&word[bare.len()..]);
        } else {
            out.push_str(word);
        }
        before = word.to_owned();
        rest = after;
    }
    out.push_str(rest);
}

/// Whether a word has the format of a complete bootstrap token: 6 and 16 lower-case letters or digits.
pub fn is_token(word: &str) -> bool {
    let base36 = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    word.split_once('.').is_some_and(|(id, secret)| base36(id, 6) && base36(secret, 16))
}

/// Whether a word has the format of a certificate key: 32 bytes as hex digits.
pub fn is_certificate_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_kubeadm_init_is_masked_except_for_the_public_hash() {
        let key = "a".repeat(64);
        let text = format!(
            "  kubeadm join k8s1api.kloud.lan:6443 --token abcdef.0123456789abcdef \\\n\
             \t--discovery-token-ca-cert-hash sha256:{key} \\\n\
             \t--control-plane --certificate-key {key}\n"
        );
        let want = format!(
            "  kubeadm join k8s1api.kloud.lan:6443 --token [masked] \\\n\
             \t--discovery-token-ca-cert-hash sha256:{key} \\\n\
             \t--control-plane --certificate-key [masked]\n"
        );
        assert_eq!(mask(&text), want);
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "[preflight] You can also perform this action beforehand\n",
            "k8s1master1.kloud.lan 10.101.1.101, v1.28.4",
            "ünïcode — no secret…",
            "",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn a_token_at_the_end_of_a_sentence_or_in_quotes_is_masked() {
        assert_eq!(mask("token \"abcdef.0123456789abcdef\" ended."), "token \"[masked]\" ended.");
        assert_eq!(mask("bad abcdef.0123456789abcdef."), "bad [masked].");
        assert_eq!(mask("token=abcdef.0123456789abcdef"), "token=[masked]");
    }

    #[test]
    fn a_private_key_is_masked_completely() {
        let text =
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(mask(text), "a\n[masked]\nb");
    }
}
