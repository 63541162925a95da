//! What was typed for real machines, which another binary has: names its command.

/// The command of `k8sha-lab` that does what was typed; `None`: nothing was typed that is its own.
pub(in crate::cli) fn to_lab(typed: &[String]) -> Option<String> {
    let has = |flag: &str| typed.iter().any(|word| word.split('=').next() == Some(flag));
    let is_clean = typed.iter().any(|word| word == "sim") && has("--clean");
    if is_clean {
        return Some("sudo k8sha-lab clean".to_owned());
    }
    // `--guests scripted` was the default.
    let is_containers = typed.iter().any(|word| word == "--guests=containers")
        || typed.windows(2).any(|words| words == ["--guests", "containers"]);
    if !is_containers && !["--guest-root", "--guest-layer"].into_iter().any(has) {
        return None;
    }
    let mut words = vec!["sudo".to_owned(), "k8sha-lab".to_owned()];
    let mut typed = typed.iter().peekable();
    while let Some(word) = typed.next() {
        match word.as_str() {
            "--guests" => drop(typed.next_if(|next| !next.starts_with('-'))),
            word if word.starts_with("--guests=") => {}
            // It always simulates.
            "--simulate" if typed.peek().is_none_or(|next| next.starts_with('-')) => {}
            word => words.push(quoted(word)),
        }
    }
    Some(words.join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%~".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_the_lab_has_all_that_was_typed_but_what_it_does_anyway() {
        for (line, wanted) in [
            ("up --simulate w", None),
            ("up --profile guests", None),
            ("up --simulate --guests scripted", None),
            ("sim --port 8006", None),
            ("up -p k8s1 --simulate --guests containers", Some("up -p k8s1")),
            ("up --guests=containers --simulate w -v", Some("up --simulate w -v")),
            ("--simulate --guests containers status", Some("status")),
            (
                "sim --guests containers --guest-layer a --guest-layer it's",
                Some(r"sim --guest-layer a --guest-layer 'it'\''s'"),
            ),
            ("sim --json --clean", Some("clean")),
        ] {
            let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let wanted = wanted.map(|words| format!("sudo k8sha-lab {words}"));
            assert_eq!(to_lab(&typed), wanted, "{line}");
        }
    }
}
