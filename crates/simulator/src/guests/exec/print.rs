//! `echo` and `printf`, as far as they show which words a command got.

use super::{Call, Output};

/// `echo WORD...`, and `printf FORMAT WORD...` with `%s`, `%%` and `\\n` in the format.
pub fn print(call: &Call<'_>) -> Output {
    if call.argv[0] == "echo" {
        return match call.rest().first() {
            Some(option @ (&"-n" | &"-e" | &"-E")) => unknown(call, option),
            _ => Output::ok(format!("{}\n", call.rest().join(" "))),
        };
    }
    let Some((format, words)) = call.rest().split_first() else {
        return Output::failed(2, "printf: usage: printf [-v var] format [arguments]");
    };
    let mut words = words.iter();
    let mut out = String::new();
    loop {
        let before = words.len();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match (letter, letter == '%' || letter == '\\') {
                (_, false) => out.push(letter),
                (_, true) => match (letter, letters.next()) {
                    ('%', Some('s')) => out.push_str(words.next().copied().unwrap_or_default()),
                    ('%', Some('%')) => out.push('%'),
                    ('\\', Some('n')) => out.push('\n'),
                    _ => return unknown(call, format),
                },
            }
        }
        // The format serves again as long as words are left that it takes.
        if words.len() == 0 || words.len() == before {
            return Output::ok(out);
        }
    }
}

fn unknown(call: &Call<'_>, what: &str) -> Output {
    Output::failed(1, format!("bash: line 1: {}: {what}: not simulated", call.argv[0]))
}
