//! Compares a machine's cloud-init documents with those it was created with: the lines that
//! changed. Pure.

use std::collections::BTreeMap;

/// How many lines are shown of each side, and how much of each.
const LINES: usize = 3;
const WIDTH: usize = 80;

/// The lines that only the old documents have, and those that only the new ones have.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changed {
    /// Only in the old documents.
    pub then: Vec<String>,
    /// Only in the new documents.
    pub now: Vec<String>,
}

/// Compares the old and new documents line by line; lines that only moved are not reported.
pub fn changed(then: &str, now: &str) -> Changed {
    Changed { then: only(then, now), now: only(now, then) }
}

fn only<'a>(one: &'a str, other: &'a str) -> Vec<String> {
    let mut there: BTreeMap<&'a str, usize> = BTreeMap::new();
    for line in lines(other) {
        *there.entry(line).or_default() += 1;
    }
    let is_new = |line: &&'a str| match there.get_mut(line) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    lines(one).filter(is_new).map(str::to_owned).collect()
}

/// The significant lines; comments are skipped.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The beginning of a line.
fn cut(line: &str) -> String {
    let short: String = line.chars().take(WIDTH).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

/// Lines as a phrase; `nothing` if there are none.
pub fn phrase(lines: &[String]) -> String {
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    let mut told: Vec<String> =
        lines.iter().take(LINES).map(|line| format!("`{}`", cut(line))).collect();
    if lines.len() > LINES {
        told.push(format!("and {} more lines", lines.len() - LINES));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_changed_are_told_and_what_moved_is_not() {
        let then = "# made by one release\na: 1\nntp: [one]\nb: 2\n";
        let now = "# made by another\nb: 2\nntp: [two]\n\na: 1\na: 1\n";
        let found = changed(then, now);
        assert_eq!(phrase(&found.then), "`ntp: [one]`");
        assert_eq!(phrase(&found.now), "`ntp: [two]`, `a: 1`");
        assert_eq!(changed(then, then), Changed::default());
        assert_eq!(phrase(&[]), "nothing");
        let many: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        assert_eq!(phrase(&many), "`0`, `1`, `2`, and 2 more lines");
    }
}
