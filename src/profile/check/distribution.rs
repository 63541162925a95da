//! Checks that the cloud-init templates support the operating systems of the profile.

use std::ops::Range;

use super::{Notes, RowView, rows};
use crate::cluster::Kernel;
use crate::profile::complaint::Complaint;
use crate::profile::raw::Profile;

/// The family of an operating system's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ubuntu,
    Debian,
    /// One without apt.
    Other,
}

/// Words in names and files that identify the family: distributions and the code names of releases.
const UBUNTU: [&str; 7] = ["ubuntu", "focal", "jammy", "noble", "plucky", "questing", "resolute"];
const DEBIAN: [&str; 6] = ["debian", "bullseye", "bookworm", "trixie", "forky", "sid"];
const OTHER: [&str; 22] = [
    "alma",
    "almalinux",
    "alpine",
    "amazon",
    "amzn",
    "arch",
    "archlinux",
    "centos",
    "coreos",
    "fedora",
    "flatcar",
    "freebsd",
    "gentoo",
    "nixos",
    "opensuse",
    "oracle",
    "photon",
    "rhel",
    "rocky",
    "sles",
    "suse",
    "talos",
];

/// The family that a name identifies, if any.
fn family(text: &str) -> Option<Family> {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).collect();
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    if has(&DEBIAN) {
        Some(Family::Debian)
    } else if has(&UBUNTU) {
        Some(Family::Ubuntu)
    } else if has(&OTHER) {
        Some(Family::Other)
    } else {
        None
    }
}

/// Whether a name means an Ubuntu release without a hardware-enablement kernel: only long-term
/// support releases, those of April in an even year, have one (ubuntu.com/about/release-cycle).
fn is_interim(os: &str) -> bool {
    let lower = os.to_ascii_lowercase();
    let Some(rest) = lower.split("ubuntu").nth(1) else { return false };
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let Some((year, month)) = digits.split_once('.') else { return false };
    let month: String = month.chars().take_while(char::is_ascii_digit).collect();
    year.parse::<u32>().is_ok_and(|year| !year.is_multiple_of(2) || month != "04")
}

/// Reports each operating system once, for the first row that has it.
pub(super) fn check(raw: &Profile, notes: &mut Notes) {
    let mut told: Vec<(&str, bool, Option<&Kernel>)> = Vec::new();
    for row in rows(raw) {
        let Some(os) = row.os() else { continue };
        let preinstalled = row.preinstalled().is_some_and(|there| there.value);
        let kernel = row.kernel().map(|kernel| &kernel.value);
        let key = (os.value.as_str(), preinstalled, kernel);
        if !told.contains(&key) {
            told.push(key);
            judge(raw, row, preinstalled, notes);
        }
    }
}

fn judge(raw: &Profile, row: RowView<'_>, preinstalled: bool, notes: &mut Notes) {
    let Some(os) = row.os() else { return };
    let name = os.value.as_str();
    let image = raw.images.as_ref().and_then(|images| images.get(name));
    let url = image.and_then(|image| image.value.url.as_ref());
    let of_file = url.and_then(|url| family(url.value.0.rsplit('/').next().unwrap_or_default()));
    let of_name = family(name);
    let known = of_file.or(of_name);
    if known == Some(Family::Other) {
        let text = format!("`{name}` is neither Ubuntu nor Debian");
        let place = |complaint: Complaint| complaint.at(os.span.clone(), "");
        notes.push(if preinstalled {
            place(Complaint::warning(text)).help(
                "the built-in cloud-init templates are written for Ubuntu and Debian: override them with `--templates`",
            )
        } else {
            place(Complaint::error(text)).help(
                "packages are installed with apt: take an image of Ubuntu or Debian, or one that \
                 holds them all with `preinstalled: true`",
            )
        });
        return;
    }
    // The name alone determines which packages are requested.
    let rendered = if name.to_ascii_lowercase().starts_with("debian") {
        Family::Debian
    } else {
        Family::Ubuntu
    };
    if let (Some(found), false) = (known, preinstalled)
        && found != rendered
    {
        let (is, prefix) = match found {
            Family::Debian => ("Debian", "with a name that starts with `debian`"),
            _ => ("Ubuntu", "with a name that does not start with `debian`"),
        };
        let mut complaint = Complaint::error(format!(
            "`{name}` is {is}, but its name suggests another distribution"
        ))
        .at(os.span.clone(), "this name");
        if let Some(url) = url {
            complaint = complaint.at(url.span.clone(), "its image");
        }
        let hint =
            format!("k8sha picks Docker's package repository by this name: write it {prefix}");
        notes.push(complaint.help(hint));
    }
    if !preinstalled && let Some(kernel) = row.kernel() {
        self::kernel(name, known, &kernel.value, &kernel.span, notes);
    }
}

fn kernel(
    os: &str,
    family: Option<Family>,
    kernel: &Kernel,
    span: &Range<usize>,
    notes: &mut Notes,
) {
    let complaint = match (kernel, family) {
        (Kernel::Hwe, Some(Family::Debian)) => {
            Complaint::error(format!("`hwe` is an Ubuntu kernel, but `{os}` is Debian"))
                .help("use `stock`, Debian's own kernel")
        }
        (Kernel::Hwe, _) if is_interim(os) => {
            Complaint::error(format!("there is no `hwe` kernel for `{os}`"))
                .help("only LTS releases (22.04, 24.04, 26.04) have one: use `stock`")
        }
        (Kernel::Mainline(_), Some(Family::Debian)) => Complaint::warning(format!(
            "a mainline kernel of Ubuntu on `{os}`"
        ))
        .help("this kernel is built for Ubuntu and untested on Debian: use `stock`, Debian's own kernel"),
        _ => return,
    };
    notes.push(complaint.at(span.clone(), ""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_tell_the_family() {
        for (text, want) in [
            ("ubuntu-22.04", Some(Family::Ubuntu)),
            ("jammy-server-cloudimg-amd64.img", Some(Family::Ubuntu)),
            ("Ubuntu 22.04", Some(Family::Ubuntu)),
            ("debian-13-genericcloud-amd64.qcow2", Some(Family::Debian)),
            ("Rocky-9-GenericCloud-Base.latest.x86_64.qcow2", Some(Family::Other)),
            ("AlmaLinux-9-GenericCloud-latest.x86_64.qcow2", Some(Family::Other)),
            ("k8s-node-2026.qcow2", None),
            ("archive.img", None),
        ] {
            assert_eq!(family(text), want, "{text}");
        }
    }

    #[test]
    fn an_interim_release_is_told_from_one_with_long_support() {
        for os in ["ubuntu-24.10", "ubuntu-25.04", "Ubuntu 23.10", "ubuntu_25.10-minimal"] {
            assert!(is_interim(os), "{os}");
        }
        for os in ["ubuntu-22.04", "ubuntu-24.04-minimal", "ubuntu", "ubuntu-jammy", "node"] {
            assert!(!is_interim(os), "{os}");
        }
    }
}
