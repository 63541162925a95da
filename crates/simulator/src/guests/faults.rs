//! The faults of guests, checked in one place.

use std::collections::BTreeSet;

use super::Guests;

impl Guests {
    /// Sets the faults and resets which of them are used up.
    pub fn set_faults(&mut self, faults: BTreeSet<(String, String)>) {
        self.faults = faults;
        self.faults_spent.clear();
    }

    /// Whether a lasting fault is set for one of these targets (a fault without a target applies to
    /// all).
    pub(crate) fn faulty(&self, kind: &str, targets: &[&str]) -> bool {
        self.faults
            .iter()
            .any(|(name, to)| name == kind && (to.is_empty() || targets.contains(&to.as_str())))
    }

    /// Whether a fault is set that happens once to each target; the check uses it up.
    pub(crate) fn fault_once(&mut self, kind: &str, targets: &[&str]) -> bool {
        if !self.faulty(kind, targets) {
            return false;
        }
        let target = targets.first().copied().unwrap_or_default();
        self.faults_spent.insert((kind.to_owned(), target.to_owned()))
    }

    /// The names by which a fault can target a guest: its VM's name, its FQDN, its address, its key.
    pub(crate) fn names_of(&self, key: &str) -> Vec<String> {
        let Some(guest) = self.all.get(key) else { return Vec::new() };
        let mut names = vec![guest.machine.name.clone()];
        names.push(guest.disk.fqdn.clone());
        names.push(guest.disk.hostname.clone());
        names.extend(guest.disk.network.as_ref().map(|network| network.address.to_string()));
        names.push(key.to_owned());
        names.retain(|name| !name.is_empty());
        names
    }

    /// [`Guests::faulty`] for a guest.
    pub(crate) fn guest_faulty(&self, kind: &str, key: &str) -> bool {
        let names = self.names_of(key);
        self.faulty(kind, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// [`Guests::fault_once`] for a guest.
    pub(crate) fn guest_fault_once(&mut self, kind: &str, key: &str) -> bool {
        let names = self.names_of(key);
        self.fault_once(kind, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}
