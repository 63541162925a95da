//! Splits a command line into words by POSIX quoting (XCU 2.2), without other shell features.

/// The words of a line.
///
/// # Errors
/// bash's messages for an unclosed quote, and for anything that needs a real shell.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(letter) => word.push(letter),
                        None => return Err(unclosed('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(letter @ ('"' | '\\' | '$' | '`')) => word.push(letter),
                            Some(letter) => word.extend(['\\', letter]),
                            None => return Err(unclosed('"')),
                        },
                        Some(letter) => word.push(letter),
                        None => return Err(unclosed('"')),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '|' | ';' | '&' | '<' | '>' | '(' | ')' | '`' | '$' => {
                return Err(format!(
                    "bash: -c: line 1: syntax error near unexpected token `{letter}'"
                ));
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

fn unclosed(quote: char) -> String {
    format!("bash: -c: line 1: unexpected EOF while looking for matching `{quote}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed_as_posix_specifies() {
        let words = split(r#"echo 'a b'"c d" e\ f 'it'\''s' "" "\"x\" $""#);
        assert_eq!(words.unwrap(), ["echo", "a bc d", "e f", "it's", "", "\"x\" $"]);
    }

    #[test]
    fn an_open_quote_and_shell_syntax_are_refused() {
        assert!(split("echo 'a").is_err());
        assert!(split("cat a | tail").is_err());
    }
}
