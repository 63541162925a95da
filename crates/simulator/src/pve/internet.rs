//! The simulated internet: the servers and files that a host can download from.
//!
//! - Names under `.invalid` have no address (RFC 2606).
//! - Web servers listen on ports 80, 443 and 8000 to 8999; every other port refuses connections. The
//!   one on 443 speaks HTTPS, the others plain HTTP.
//! - A file whose name ends in `.img` or `.qcow2` is a cloud image. It has whatever checksum is
//!   requested, because the images of next year are not known yet.
//! - A file whose name ends in `.iso` is [`ISO_BYTES`] of zeros, and has their checksum.
//! - A file called `404`, and every other file, does not exist.

use percent_encoding::percent_decode_str;

/// The length of every ISO image, in bytes.
pub const ISO_BYTES: usize = 400 * 1024;

/// The result of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The (contained) name has no address.
    NoName(String),
    /// Nothing listens at the (contained) `HOST:PORT`.
    Refused(String),
    /// The server at `HOST:PORT` does not speak TLS.
    Plain(String),
    /// The server at `HOST:PORT` has no such file.
    Missing(String),
    /// The server at `HOST:PORT` has a cloud image.
    Image(String),
    /// The server at `HOST:PORT` has an ISO image.
    Iso(String),
}

/// Opens an `http` or `https` address.
pub fn visit(url: &str) -> Found {
    let (secure, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://").unwrap_or(url)),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let place = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, port),
        _ => (place, if secure { 443 } else { 80 }),
    };
    if host.ends_with(".invalid") {
        return Found::NoName(host.to_owned());
    }
    let place = format!("{host}:{port}");
    if !matches!(port, 80u16 | 443 | 8000..=8999) {
        return Found::Refused(place);
    }
    if secure && port != 443 {
        return Found::Plain(place);
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy();
    match name.rsplit_once('.') {
        Some(("404", _)) => Found::Missing(place),
        Some((_, "img" | "qcow2")) => Found::Image(place),
        Some((_, "iso")) => Found::Iso(place),
        _ => Found::Missing(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_a_file_or_an_error() {
        let at = |place: &str| place.to_owned();
        let ubuntu = "https://cloud-images.ubuntu.com/releases/jammy/jammy-cloudimg-amd64.img";
        for (url, found) in [
            (ubuntu, Found::Image(at("cloud-images.ubuntu.com:443"))),
            ("https://u:p@mirror/a.qcow2?x=.iso#y", Found::Image(at("mirror:443"))),
            ("http://mirror/a.qcow2", Found::Image(at("mirror:80"))),
            ("https://127.0.0.1:8099/a.iso", Found::Plain(at("127.0.0.1:8099"))),
            ("http://127.0.0.1:8099/ok.iso", Found::Iso(at("127.0.0.1:8099"))),
            ("http://127.0.0.1:8099/404.iso", Found::Missing(at("127.0.0.1:8099"))),
            ("http://127.0.0.1:9/x.iso", Found::Refused(at("127.0.0.1:9"))),
            ("https://images.invalid/a.img", Found::NoName(at("images.invalid"))),
            ("https://mirror", Found::Missing(at("mirror:443"))),
        ] {
            assert_eq!(visit(url), found, "{url}");
        }
    }
}
