//! Words for download sources, and for the hosts of the VMs.

use std::net::Ipv4Addr;

use schemars::{Schema, json_schema};

use super::{dns_name, download, number, ranged};
use crate::profile::at::Written;

words! {
    /// The URL of a mirror, without the trailing slash.
    MirrorUrl(String) = mirror,
        { "type": "string", "format": "uri", "pattern": "^https?://" };
    /// The URL of a mirror for signing keys, without the trailing slash.
    SecureUrl(String) = secure,
        { "type": "string", "format": "uri", "pattern": "^https://" };
    /// A container registry, possibly with a path.
    ImageRepository(String) = repository,
        { "type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$" };
    /// An absolute path on a node.
    NodePath(String) = node_path,
        { "type": "string", "pattern": "^/" };
    /// `HOST` or `HOST:PORT`.
    HostPort(String) = host_address,
        { "type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]{1,5})?$" };
    /// How many at once; `None` for `all`.
    AtOnce(Option<usize>) = at_once,
        { "anyOf": [{ "const": "all" }, { "type": "integer", "minimum": 1 }] };
}

fn mirror(word: &str) -> Result<String, String> {
    // It becomes part of package sources and shell scripts.
    if word.contains(['"', '\'', '`', '$', '\\', '?', '#', '@', '<', '>', '|', ';', '&']) {
        return Err(format!("`{word}` is not the URL of a mirror\nhost and path only"));
    }
    download(word).map(|url| url.trim_end_matches('/').to_owned())
}

fn secure(word: &str) -> Result<String, String> {
    if word.starts_with("http://") {
        let hint = "signing keys are downloaded from there too: use `https://`";
        return Err(format!("`{word}` is not an https URL\n{hint}"));
    }
    mirror(word)
}

fn repository(word: &str) -> Result<String, String> {
    let fault = |why: &str| format!("`{word}` is not an image repository\n{why}");
    if word.contains("://") {
        return Err(fault("without `https://`, such as `registry.lan/k8s`"));
    }
    let (host, path) = word.split_once('/').unwrap_or((word, ""));
    host_address(host).map_err(|_| fault("such as `registry.lan/k8s`"))?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let sound = |part: &str| !part.is_empty() && part.chars().all(inner);
    if !path.is_empty() && !path.split('/').all(sound) || word.ends_with('/') {
        return Err(fault("lower-case letters, digits and `._-` between slashes"));
    }
    Ok(word.to_owned())
}

fn node_path(word: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if !word.starts_with('/') {
        return Err(format!(
            "`{word}` is not a path on a node\nan absolute path, such as `/var/lib/images/k8s.tar`"
        ));
    }
    if !word.chars().all(plain) || word.split('/').any(|part| part == "..") {
        return Err(format!(
            "`{word}` is not a path on a node\nletters, digits, `.`, `_`, `+` and `-`"
        ));
    }
    Ok(word.to_owned())
}

fn host_address(word: &str) -> Result<String, String> {
    let (host, port) =
        word.rsplit_once(':').map_or((word, None), |(host, port)| (host, Some(port)));
    let fault = |why: &str| format!("`{word}` is not the address of a host\n{why}");
    if let Some(port) = port {
        ranged(port, 1, 65_535, "a port").map_err(|_| fault("the port is 1 to 65535"))?;
    }
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric && host.parse::<Ipv4Addr>().is_err() || !numeric && dns_name(host).is_err() {
        return Err(fault("a name or an IPv4 address, with an optional port"));
    }
    Ok(word.to_owned())
}

fn at_once(word: &str) -> Result<Option<usize>, String> {
    let fault = || format!("`{word}` is not a number of parallel joins\na number, or `all`");
    if word == "all" {
        return Ok(None);
    }
    match number(word, usize::MAX) {
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => Err(fault()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_keys_come_from_is_https_and_loses_its_last_slash() {
        assert_eq!(
            MirrorUrl::read("http://mirror.lan/ubuntu/").unwrap().0,
            "http://mirror.lan/ubuntu"
        );
        assert_eq!(SecureUrl::read("https://mirror.lan/k8s").unwrap().0, "https://mirror.lan/k8s");
        assert!(SecureUrl::read("http://mirror.lan/k8s").unwrap_err().contains("signing keys"));
        for word in
            ["mirror.lan", "https://", "https://m/$(reboot)", "https://m/a b", "https://u@m/"]
        {
            assert!(MirrorUrl::read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn repositories_paths_and_hosts_have_their_forms() {
        for word in ["registry.lan", "registry.lan:5000/k8s", "10.0.0.1/a/b_c"] {
            assert!(ImageRepository::read(word).is_ok(), "{word}");
        }
        for word in
            ["https://registry.lan", "registry.lan/", "registry.lan/A", "registry.lan//a", ""]
        {
            assert!(ImageRepository::read(word).is_err(), "{word}");
        }
        assert!(NodePath::read("/var/lib/images/k8s-1.37.tar").is_ok());
        for word in ["k8s.tar", "/a/../b", "/a b", "/a;b"] {
            assert!(NodePath::read(word).is_err(), "{word}");
        }
        for word in ["pve1.lan", "10.0.0.1:2222"] {
            assert!(HostPort::read(word).is_ok(), "{word}");
        }
        for word in ["10.0.0.300", "pve1:0", "root@pve1"] {
            assert!(HostPort::read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn all_at_once_is_no_number_and_none_at_once_is_nothing() {
        assert_eq!(AtOnce::read("all").unwrap().0, None);
        assert_eq!(AtOnce::read("3").unwrap().0, Some(3));
        for word in ["0", "-1", "some", ""] {
            assert!(AtOnce::read(word).is_err(), "{word}");
        }
    }
}
