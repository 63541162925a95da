//! Compares a text with a file of `tests/golden/`; `K8SHA_GOLDEN=write` writes it instead.

use std::fs;
use std::path::Path;

/// Panics unless `text` is what the golden file holds.
pub fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("K8SHA_GOLDEN").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    if text != want {
        let diff = similar::TextDiff::from_lines(want.as_str(), text);
        let diff = diff.unified_diff().header("golden", "now").to_string();
        panic!("tests/golden/{name} differs; `K8SHA_GOLDEN=write cargo test` accepts it\n{diff}");
    }
}
