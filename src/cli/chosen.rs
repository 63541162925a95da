//! Which profile a command uses. A command that acts on a real site has no default profile: the built-in
//! ones describe example hosts.

use std::path::Path;

use super::args::Common;
use super::flags;
use crate::error::{Exit, Failure};
use crate::settings;
use crate::ssh::quote;

/// The profile of the current folder.
pub(super) const FILE: &str = "k8sha.yaml";
/// The profile of a simulation for which none is named.
const SIMULATED: &str = "k8s1";

/// The profile's name or path.
///
/// # Errors
/// If none is named and nothing is simulated.
pub(super) fn name(common: &Common) -> Result<String, Failure> {
    if let Some(named) = named(common) {
        return Ok(named);
    }
    // One that cannot be looked at is complained about when it is read.
    if !matches!(Path::new(FILE).try_exists(), Ok(false)) {
        return Ok(format!("./{FILE}"));
    }
    if is_simulated(common) {
        return Ok(SIMULATED.to_owned());
    }
    let said = format!("no profile is named, and there is no `{FILE}` in this folder");
    let us = flags::program(common);
    Err(Failure::new(Exit::Usage, "choose a profile", said).hint(format!(
        "{us} profile homelab > {FILE}     (a profile to adapt to your hosts)\n\
         or name yours: --profile FILE, or export {}=FILE\n\
         or try k8sha without any hosts: {us} up --simulate",
        settings::PROFILE
    )))
}

/// The flag that names the same profile to another command. A file that every command finds by itself
/// needs none.
pub(super) fn flag(common: &Common) -> String {
    named(common).map_or(String::new(), |name| format!(" --profile {}", quote(&name)))
}

fn named(common: &Common) -> Option<String> {
    common.profile.clone().or_else(|| settings::plain(settings::PROFILE))
}

fn is_simulated(common: &Common) -> bool {
    #[cfg(feature = "simulate")]
    return common.world.is_simulated();
    #[cfg(not(feature = "simulate"))]
    {
        let _ = common;
        false
    }
}
