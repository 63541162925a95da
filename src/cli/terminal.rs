//! The terminal on standard input: its settings, its size, and raw mode.

use std::io::{self, IsTerminal as _, Stdin, stdin};

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::settings;
use crate::ssh::{Modes, Size, Terminal};

/// Whether standard input is a terminal.
pub(super) fn is_there() -> bool {
    stdin().is_terminal()
}

/// Its current size.
pub(super) fn size() -> Size {
    tcgetwinsize(stdin()).map_or_else(
        |_| Size::default(),
        |size| Size { columns: size.ws_col.into(), rows: size.ws_row.into() },
    )
}

/// A terminal in raw mode: every key is sent unchanged. Its settings are restored when this is dropped.
pub(super) struct Raw {
    terminal: Stdin,
    before: Termios,
}

impl Raw {
    /// Sets raw mode.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn enter() -> io::Result<Self> {
        let terminal = stdin();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// The terminal as described to the server, before raw mode.
///
/// # Errors
/// If the system refuses.
pub(super) fn describe() -> io::Result<Terminal> {
    Ok(Terminal { kind: settings::terminal(), size: size(), modes: modes(&tcgetattr(stdin())?) })
}

/// Control keys by their opcodes (RFC 4254 §8).
const KEYS: [(u8, SpecialCodeIndex); 13] = [
    (1, SpecialCodeIndex::VINTR),
    (2, SpecialCodeIndex::VQUIT),
    (3, SpecialCodeIndex::VERASE),
    (4, SpecialCodeIndex::VKILL),
    (5, SpecialCodeIndex::VEOF),
    (6, SpecialCodeIndex::VEOL),
    (7, SpecialCodeIndex::VEOL2),
    (8, SpecialCodeIndex::VSTART),
    (9, SpecialCodeIndex::VSTOP),
    (10, SpecialCodeIndex::VSUSP),
    (12, SpecialCodeIndex::VREPRINT),
    (13, SpecialCodeIndex::VWERASE),
    (14, SpecialCodeIndex::VLNEXT),
];

/// The settings to apply to the remote terminal, by their opcodes (RFC 4254 §8, RFC 8160).
fn modes(now: &Termios) -> Modes {
    let keys = KEYS.map(|(code, index)| {
        // A disabled key is 0 here and 255 on the wire.
        let key = now.special_codes[index];
        (code, if key == 0 { 255 } else { u32::from(key) })
    });
    let (input, output) = (now.input_modes, now.output_modes);
    let (local, control) = (now.local_modes, now.control_modes);
    let flags = [
        (34, input.contains(InputModes::INLCR)),
        (35, input.contains(InputModes::IGNCR)),
        (36, input.contains(InputModes::ICRNL)),
        (38, input.contains(InputModes::IXON)),
        (39, input.contains(InputModes::IXANY)),
        (40, input.contains(InputModes::IXOFF)),
        (41, input.contains(InputModes::IMAXBEL)),
        #[cfg(target_os = "linux")]
        (42, input.contains(InputModes::IUTF8)),
        (50, local.contains(LocalModes::ISIG)),
        (51, local.contains(LocalModes::ICANON)),
        (53, local.contains(LocalModes::ECHO)),
        (54, local.contains(LocalModes::ECHOE)),
        (55, local.contains(LocalModes::ECHOK)),
        (56, local.contains(LocalModes::ECHONL)),
        (57, local.contains(LocalModes::NOFLSH)),
        (59, local.contains(LocalModes::IEXTEN)),
        (60, local.contains(LocalModes::ECHOCTL)),
        (61, local.contains(LocalModes::ECHOKE)),
        (70, output.contains(OutputModes::OPOST)),
        (72, output.contains(OutputModes::ONLCR)),
        (91, control.contains(ControlModes::CS8)),
    ];
    let flags = flags.map(|(code, on)| (code, u32::from(on)));
    let speeds = [(128, now.input_speed()), (129, now.output_speed())];
    keys.into_iter().chain(flags).chain(speeds).collect()
}

/// Finds `~.` typed at the beginning of a line, as ssh(1) does: the only way to end a session whose
/// server does not answer.
#[derive(Debug)]
pub(super) struct Escape {
    line_begins: bool,
    tilde: bool,
}

impl Escape {
    pub(super) fn new() -> Self {
        Self { line_begins: true, tilde: false }
    }

    /// The bytes to send; `None` if the session is to end.
    pub(super) fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return None,
                    // `~~` is one tilde.
                    b'~' => {}
                    _ => out.push(b'~'),
                }
            } else if byte == b'~' && self.line_begins {
                self.tilde = true;
                self.line_begins = false;
                continue;
            }
            out.push(byte);
            self.line_begins = matches!(byte, b'\r' | b'\n');
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_and_a_dot_at_the_beginning_of_a_line_end_the_session_and_nothing_else_does() {
        for (typed, passed) in [
            ("~.", None),
            ("ls\r~.", None),
            ("ls ~.\r", Some("ls ~.\r")),
            ("~~.\r", Some("~.\r")),
            ("~/bin\r", Some("~/bin\r")),
            ("a~.b", Some("a~.b")),
            ("~\r~", Some("~\r")),
        ] {
            // As one piece, and key by key.
            assert_eq!(Escape::new().pass(typed.as_bytes()).as_deref(), passed.map(str::as_bytes));
            let mut escape = Escape::new();
            let keys: Option<Vec<Vec<u8>>> = typed.bytes().map(|key| escape.pass(&[key])).collect();
            assert_eq!(keys.map(|keys| keys.concat()).as_deref(), passed.map(str::as_bytes));
        }
    }
}
