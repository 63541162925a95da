//! A node with scripted answers, for this module's tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::ssh::Remote;
use crate::ssh::fake::{Fake, Reply};

/// Splits one of k8sha's command lines; k8sha quotes with single quotes only.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => (quoted, open) = (!quoted, true),
            '\\' if !quoted => word.extend(chars.next()),
            ' ' if !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The files of a fake node.
pub(crate) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A node with files; a script answers all other commands.
pub(crate) struct Host {
    pub(crate) fake: Fake,
    pub(crate) files: Files,
}

impl Host {
    /// Starts it. The script gets the words without `sudo -n --`; a command that it does not answer
    /// exits with status 127.
    pub(crate) async fn start(
        script: impl Fn(&[&str], &Files) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let files = Files::default();
        let own = Arc::clone(&files);
        let fake = Fake::start(move |line, input| {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let words = words.strip_prefix(&["sudo", "-n", "--"]).unwrap_or(&words);
            script(words, &own).or_else(|| on_files(words, input, &own)).unwrap_or_else(|| {
                Reply::code(127, format!("bash: line 1: {}: command not found", words[0]))
            })
        })
        .await;
        Self { fake, files }
    }

    pub(crate) fn remote(&self, node: &str) -> Remote {
        self.fake.remote(node)
    }

    pub(crate) fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.into(), body.into());
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.files.lock().unwrap().get(path).map(|body| String::from_utf8(body.clone()).unwrap())
    }
}

fn on_files(words: &[&str], input: &[u8], files: &Files) -> Option<Reply> {
    let mut files = files.lock().unwrap();
    Some(match words {
        ["test", "-e", path] => Reply::code(u32::from(!files.contains_key(*path)), ""),
        ["cat", path] => match files.get(*path) {
            Some(body) => Reply::out(body.clone()),
            None => Reply::code(1, format!("cat: {path}: No such file or directory\n")),
        },
        ["install", "-D", "-m", _, "-o", _, "-g", _, "/dev/stdin", path] => {
            files.insert((*path).to_owned(), input.to_vec());
            Reply::out("")
        }
        [verb @ ("cp" | "mv"), _, from, to] => match files.get(*from).cloned() {
            Some(body) => {
                files.insert((*to).to_owned(), body);
                if *verb == "mv" {
                    files.remove(*from);
                }
                Reply::out("")
            }
            None => {
                Reply::code(1, format!("{verb}: cannot stat '{from}': No such file or directory\n"))
            }
        },
        ["rm", "-f", paths @ ..] => {
            paths.iter().for_each(|path| drop(files.remove(*path)));
            Reply::out("")
        }
        ["sha256sum", paths @ ..] => {
            let (mut out, mut err) = (String::new(), String::new());
            for path in paths {
                match files.get(*path) {
                    Some(body) => {
                        let hex: String =
                            Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect();
                        out += &format!("{hex}  {path}\n");
                    }
                    None => err += &format!("sha256sum: {path}: No such file or directory\n"),
                }
            }
            Reply::Done(u32::from(!err.is_empty()), out.into_bytes(), err)
        }
        ["tail", "-n", from, path] => match files.get(*path) {
            Some(body) => {
                let from: usize = from.trim_start_matches('+').parse().unwrap();
                let text = String::from_utf8(body.clone()).unwrap();
                Reply::out(text.split_inclusive('\n').skip(from - 1).collect::<String>())
            }
            None => Reply::code(1, format!("tail: cannot open '{path}' for reading\n")),
        },
        _ => return None,
    })
}
