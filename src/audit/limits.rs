//! What no check of a file can show, and what one could not for want of evidence.

use super::Verdict;

/// True of every check.
const ALWAYS: [&str; 7] = [
    "a site that trains outside its ledger: what was never charged leaves no entry",
    "a site that charges, and then adds no noise, or less, or clips nothing: an auditor inside the \
     hospital can repeat a round from its secret (audit noise), and canaries can find it out",
    "a site whose batches are not drawn by independent coins, or that counts one patient as many: a \
     data set without patient column takes each record for a patient",
    "studies without privacy: they are not charged, and protect nobody",
    "whether a public size is public knowledge, and whether the patients behind a data set are \
     those who were meant",
    "patients whose records lie in several hospitals or data sets: what they spend adds up",
    "when an entry was written: times are those of the site's own clock",
];

impl Verdict {
    /// What this check could not show.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = ALWAYS.map(str::to_owned).to_vec();
        for site in &self.sites {
            let newest = site.statement.entries;
            let name = &site.member.name;
            match site.receipts.last() {
                Some(entry) if *entry < newest => limits.push(format!(
                    "whether entries {} to {newest} of {name} are as they were first written: no \
                     receipt covers them yet",
                    entry + 1
                )),
                Some(_) => {}
                None if newest > 0 => limits.push(format!(
                    "whether the ledger of {name} is as it was first written: the file holds no \
                     receipt for it"
                )),
                None => {}
            }
        }
        match &self.log {
            None => limits.push(
                "whether a site put back an older copy of its folder, receipts and all, and whether \
                 the coordinator shows others another log: the coordinator's log (--coordinator-log) shows \
                 that, and so does an older export (--against)"
                    .to_owned(),
            ),
            Some(head) => limits.push(format!(
                "whether the coordinator shows others another log than the one given (its head: {} \
                 leaves, root {}): compare heads with whoever else keeps one",
                head.size, head.root
            )),
        }
        for (name, (newest, logged)) in &self.later {
            limits.push(format!(
                "whether {name} put back an older copy of its folder: the log is newer than its \
                 export and goes on to entry {logged}, the file to entry {newest}; fetch the log \
                 first, then let the site export"
            ));
        }
        if !self.absent.is_empty() {
            limits.push(format!(
                "anything about sites of the roster that are not in the file: {}",
                self.absent.join(", ")
            ));
        }
        limits
    }
}
