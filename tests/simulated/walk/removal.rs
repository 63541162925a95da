//! Workers whose rows were removed: `up` removes their machines only if exactly these are named.

use std::collections::BTreeSet;

use super::Walk;
use super::model::{self, Known, pool};

impl Walk {
    /// The rows of some workers are removed, and nothing else; or rows of workers are added.
    pub(super) fn dismiss(&mut self) {
        self.asked = self.good.clone();
        let workers: Vec<String> = self
            .asked
            .rows
            .iter()
            .filter(|row| row.role == "worker")
            .map(|row| row.name.clone())
            .collect();
        if workers.is_empty() {
            let spare = pool().into_iter().filter(|row| row.role == "worker");
            self.asked.rows.extend(spare.take(2));
            self.note("undo all edits, and add the rows of two workers");
        } else {
            let mut gone: BTreeSet<String> = [self.dice.pick(&workers)].into();
            gone.extend(workers.into_iter().filter(|_| self.dice.roll(3) == 0));
            self.asked.rows.retain(|row| !gone.contains(&row.name));
            self.note(format!("undo all edits, and remove the rows {gone:?}"));
        }
        self.world.with_text(&self.asked.text());
        self.up();
    }

    /// The workers that exist without a row.
    pub(super) fn leaving(&self) -> BTreeSet<String> {
        model::leaving(&self.asked, &self.known, &self.look()).into_iter().collect()
    }

    /// The words of `up` that confirm every removal.
    pub(super) fn up_words(&mut self) -> Vec<String> {
        let leaving = self.leaving();
        let mut words = vec!["up".to_owned(), "--json".to_owned()];
        if !leaving.is_empty() {
            words.push(flag(leaving.iter()));
            self.confirmed.extend(leaving);
        }
        words
    }

    /// `up` without a confirmation of exactly these removals: refused before anything is changed.
    pub(super) fn unconfirmed(&mut self) {
        let leaving = self.leaving();
        if leaving.is_empty() {
            return;
        }
        let rows: Vec<String> = self.asked.rows.iter().map(|row| row.name.clone()).collect();
        let workers = self.asked.rows.iter().filter(|row| row.role == "worker").count();
        let row = self.dice.pick(&rows);
        let wrong = match self.dice.roll(5) {
            0 => return,
            1 => None,
            2 => Some(flag(leaving.iter().chain([&row]))),
            3 if leaving.len() > 1 => Some(flag(leaving.iter().skip(1))),
            3 => Some("--prune=w9".to_owned()),
            _ if leaving.len() * 3 > workers + leaving.len() => Some("--prune".to_owned()),
            _ => None,
        };
        let words: Vec<&str> = ["up", "--json"].into_iter().chain(wrong.as_deref()).collect();
        let (ran, wrote) = self.run(&words);
        self.must(ran.code == 1, "a removal that was not confirmed is not refused", &ran);
        self.must(!wrote, "a removal was not confirmed, and the run has written", &ran);
        let told = leaving.iter().all(|name| ran.stderr.contains(name.as_str()));
        let told = told || ran.stderr.contains(&format!("{row} has a row"));
        self.must(told, "the refusal does not name the machines", &ran);
    }

    /// Checks the machines that are gone since the last run: their removal was confirmed, and their
    /// Nodes were deleted before.
    pub(super) fn removed(&mut self, before: &Known, ran: &dyn std::fmt::Debug) {
        let seen = self.look();
        for (vmid, made) in before.made.iter().filter(|(vmid, _)| !seen.vms.contains_key(vmid)) {
            let name = &made.row.name;
            self.must(
                self.confirmed.contains(name),
                "a machine is gone whose removal was not confirmed",
                &(vmid, made, ran),
            );
            self.must(
                made.row.role == "worker",
                "a machine is gone that is no worker",
                &(vmid, ran),
            );
            let node = format!("{name}.{}", made.domain);
            let listed = seen.cluster.as_ref().is_some_and(|line| line.nodes.contains_key(&node));
            self.must(!listed, "a machine is gone whose Node exists", &(vmid, ran));
            self.known.deleted.remove(name);
        }
    }

    /// After a removal that succeeded, neither the machines nor their Nodes exist.
    pub(super) fn left(&self, names: &BTreeSet<String>, ran: &dyn std::fmt::Debug) {
        let seen = self.look();
        for name in names {
            let stays = self.known.made.values().any(|made| made.row.name == *name);
            let node = self.asked.fqdn(name);
            let listed = seen.cluster.as_ref().is_some_and(|line| line.nodes.contains_key(&node));
            self.must(!stays && !listed, "a confirmed removal was not done", &(name, ran));
        }
    }
}

fn flag<'a>(names: impl Iterator<Item = &'a String>) -> String {
    format!("--prune={}", names.cloned().collect::<Vec<_>>().join(","))
}
