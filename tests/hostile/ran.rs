//! A run of the program: its output, its files, and its peak memory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command may use more, whatever its peers send.
const MOST_KIB: u64 = 200 * 1024;
/// A run that takes longer has not ended by itself: no limit of these tests is longer than half of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not end, or uses too much memory.
pub fn run(mut command: Command) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
    let read = |name: &str| {
        String::from_utf8_lossy(&fs::read(folder.path().join(name)).unwrap()).into_owned()
    };
    command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let (code, peak_kib) = watch(&mut child, began);
    let took = began.elapsed();
    let ran = Ran { code, stdout: read("stdout"), stderr: read("stderr"), took };
    eprintln!("peak {} MiB, {:.1} s, exit {}", peak_kib / 1024, took.as_secs_f64(), code);
    assert!(peak_kib < MOST_KIB, "{} MiB of memory", peak_kib / 1024);
    ran
}

/// The exit status, and the last seen high-water mark of the memory.
fn watch(child: &mut Child, began: Instant) -> (i32, u64) {
    let mut peak = 0;
    loop {
        peak = high_water(child.id()).unwrap_or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code().unwrap_or(-1), peak);
        }
        if peak > MOST_KIB || began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{} MiB after {:?}, and it has not ended", peak / 1024, began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `VmHWM` of proc_pid_status(5), in KiB.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Ran {
    /// Panics unless the run failed with this exit status and printed all these words.
    pub fn failed(&self, code: i32, words: &[&str]) {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "{said}");
        for words in words {
            assert!(said.contains(words), "`{words}` is not in:\n{said}");
        }
        assert!(self.stderr.len() < 64 * 1024, "{} bytes on stderr", self.stderr.len());
        assert!(self.stdout.len() < 64 * 1024, "{} bytes on stdout", self.stdout.len());
    }

    /// Panics if a control character, a direction override or a secret was printed.
    pub fn is_clean(&self, state: &Path, secrets: &[&str]) {
        let mut texts = vec![
            ("stdout".to_owned(), self.stdout.clone()),
            ("stderr".to_owned(), self.stderr.clone()),
        ];
        texts.extend(logs(state));
        for (place, text) in texts {
            if let Some(at) = text.find(is_raw) {
                let line = text[..at].matches('\n').count();
                panic!("{place} has a raw control character: {:?}", text.lines().nth(line));
            }
            for secret in secrets {
                let line = text.lines().find(|line| line.contains(secret));
                assert!(line.is_none(), "{place} shows a secret: {line:?}");
            }
        }
    }
}

/// C0 except tab and line feed, DEL, C1, and direction overrides and isolates.
fn is_raw(letter: char) -> bool {
    let is_line = matches!(letter, '\n' | '\t');
    let is_turn = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (letter.is_control() && !is_line) || is_turn
}

/// Every file of a state folder's log, with its name.
fn logs(state: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(state.join("log")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        (path.display().to_string(), text)
    };
    paths.map(read).collect()
}
