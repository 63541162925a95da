//! Uploads: Proxmox's multipart parser, which accepts the parts in one order only (pve-http-server
//! src/PVE/APIServer/AnyEvent.pm, `file_upload_multipart`).

use super::wire::{Failure, Params};

/// An uploaded file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The name that the client gave it.
    pub name: String,
    /// Its contents.
    pub body: Vec<u8>,
}

/// The fields that may precede the file, in order.
const FIELDS: [&str; 3] = ["content", "checksum-algorithm", "checksum"];

/// Splits a body into fields (added to `params`) and the file.
///
/// # Errors
/// 400 for a different order or an unknown field, 500 for an invalid upload.
pub fn read(body: &[u8], boundary: &str, params: &mut Params) -> Result<Sent, Failure> {
    let failed = || {
        Failure::Plain(
            500,
            "upload failed at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1370.".into(),
        )
    };
    let delimiter = format!("--{boundary}");
    let mut rest = after(body, delimiter.as_bytes()).ok_or_else(failed)?;
    let mut next = 0;
    loop {
        rest = skip_line(rest).ok_or_else(failed)?;
        let (head, content) = split_head(rest).ok_or_else(failed)?;
        let first = head.lines().next().unwrap_or_default();
        // The real parser is case-sensitive and requires it to be first.
        let Some(disposition) = first.strip_prefix("Content-Disposition: form-data;") else {
            return Err(failed());
        };
        let name = quoted(disposition, " name=").ok_or_else(failed)?;
        if let Some(file) = quoted(disposition, " filename=") {
            if name != "filename" {
                return Err(Failure::Plain(
                    500,
                    format!(
                        "wrong field name '{name}' for file upload, expected 'filename' at \
                         /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1325."
                    ),
                ));
            }
            let end = last(content, delimiter.as_bytes()).ok_or_else(failed)?;
            let body = strip_newline(&content[..end]).to_vec();
            return Ok(Sent { name: file, body });
        }
        let bad = || Failure::Bare(400, "Bad Request".to_owned());
        let place = FIELDS.iter().position(|field| *field == name).ok_or_else(bad)?;
        if place < next {
            return Err(bad());
        }
        next = place + 1;
        let end = find(content, delimiter.as_bytes()).ok_or_else(failed)?;
        let value = String::from_utf8_lossy(strip_newline(&content[..end])).trim().to_owned();
        params.set(&name, &value);
        rest = &content[end + delimiter.len()..];
        if rest.starts_with(b"--") {
            return Err(failed());
        }
    }
}

/// The boundary in a content type; a quoted one is not supported.
pub fn boundary(content_type: &str) -> Option<&str> {
    let rest = content_type.strip_prefix("multipart/form-data;")?;
    let value = rest.trim().strip_prefix("boundary=")?;
    (!value.starts_with('"')).then_some(value)
}

/// A file's name as Proxmox stores it: without a path, and with `_` for special characters.
pub fn sanitised(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    base.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn last(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).rposition(|window| window == needle)
}

fn after<'a>(hay: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    find(hay, needle).map(|at| &hay[at + needle.len()..])
}

fn skip_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n"))
}

fn strip_newline(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes)
}

fn split_head(bytes: &[u8]) -> Option<(String, &[u8])> {
    let ends = [&b"\r\n\r\n"[..], b"\n\n"];
    let (at, length) =
        ends.iter().filter_map(|end| find(bytes, end).map(|at| (at, end.len()))).min()?;
    Some((String::from_utf8_lossy(&bytes[..at]).into_owned(), &bytes[at + length..]))
}

fn quoted(text: &str, before: &str) -> Option<String> {
    let rest = text.split_once(before)?.1.strip_prefix('"')?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, value: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    fn file(field: &str) -> String {
        format!(
            "--B\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"s.iso\"\r\n\
             Content-Type: application/octet-stream\r\n\r\nbytes\r\n--B--\r\n"
        )
    }

    fn sent(parts: &[String]) -> Result<(Sent, Params), Failure> {
        let mut params = Params::default();
        read(parts.concat().as_bytes(), "B", &mut params).map(|sent| (sent, params))
    }

    #[test]
    fn fields_are_read_in_order_before_the_file() {
        let parts = [
            part("content", "iso"),
            part("checksum-algorithm", "sha256"),
            part("checksum", "abc"),
            file("filename"),
        ];
        let (sent, params) = sent(&parts).unwrap();
        assert_eq!(sent, Sent { name: "s.iso".into(), body: b"bytes".to_vec() });
        assert_eq!(params.text("content"), Some("iso"));
        assert_eq!(params.text("checksum"), Some("abc"));
    }

    #[test]
    fn a_different_order_field_or_name_is_refused() {
        let bad = Failure::Bare(400, "Bad Request".into());
        let swapped =
            [part("content", "iso"), part("checksum", "a"), part("checksum-algorithm", "x")];
        assert_eq!(sent(&[swapped.concat(), file("filename")]).unwrap_err(), bad);
        assert_eq!(sent(&[part("foo", "bar"), file("filename")]).unwrap_err(), bad);
        let text = |failure| match failure {
            Failure::Plain(500, text) => text,
            other => panic!("{other:?}"),
        };
        assert!(
            text(sent(&[part("content", "iso"), file("file")]).unwrap_err())
                .starts_with("wrong field name 'file'")
        );
        assert!(
            text(sent(&[part("content", "iso"), "--B--\r\n".into()]).unwrap_err())
                .starts_with("upload failed")
        );
    }

    #[test]
    fn special_characters_in_file_names_are_replaced_one_by_one() {
        assert_eq!(sanitised("../a b(1)\u{fc}.iso"), "a_b_1__.iso");
        assert_eq!(boundary("multipart/form-data; boundary=XyZ"), Some("XyZ"));
        assert_eq!(boundary("multipart/form-data; boundary=\"XyZ\""), None);
    }
}
