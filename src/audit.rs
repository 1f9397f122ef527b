//! What an auditor makes of an export, offline: who the sites are, then what their ledgers say.
//!
//! Everything is believed from one fingerprint on, the *trust root*, which the auditor has from
//! elsewhere: governance's key signed the roster, the roster names each site's identity key, that
//! key signed which key signs the site's ledger, and that one signed every entry. The roster also
//! names the coordinator, which signed the receipts and its log.

pub mod export;
mod limits;
pub mod log;
mod receipts;

use std::collections::{BTreeMap, HashSet};

use consilium_privacy::{
    OutOfRange,
    audit::{
        Export, Finding, Flaw, Place, PlanText, SiteExport, SiteStatement, Target, Terms, check,
        compare,
    },
    ledger::Entry,
};
use consilium_proto::{
    Digest, Member, MemberId, Plan, Role, Roster, Signed, TreeHead,
    plan::{Clipping, NoiseTarget},
    signed::Purpose,
};

use self::receipts::{Owner, Seen, split_views};

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Digests of the roster's epochs that were believed, from 0.
    pub roster: Vec<Digest>,
    /// The sites whose statement was believed.
    pub sites: Vec<Site>,
    /// Sites of the roster that the file does not hold.
    pub absent: Vec<String>,
    /// Everything that is not as it must be.
    pub findings: Vec<Finding>,
    /// The newest epoch that was believed.
    believed: Option<Roster>,
    /// Heads of the coordinator's log that sites kept.
    seen: Vec<Seen>,
    /// Head of the coordinator's log, where that was given and believed.
    log: Option<TreeHead>,
    /// Newest entry of sites in the file, and in a log that is newer than the file.
    later: BTreeMap<String, (u64, u64)>,
}

/// A site and its ledger.
#[derive(Debug)]
pub struct Site {
    /// The member that signed.
    pub member: Member,
    /// What it signed.
    pub statement: SiteStatement,
    /// The plans of its studies.
    pub plans: BTreeMap<[u8; 16], Plan>,
    /// Its entries, as far as they could be read.
    pub entries: Vec<Entry>,
    /// The entries for which it keeps the coordinator's receipt.
    pub receipts: Vec<u64>,
    /// Whether something in its part is not as it must be.
    pub is_sound: bool,
}

impl Verdict {
    /// Checks the bytes of an export, believing nobody but the owner of the trust root.
    pub fn of(bytes: &[u8], trust_root: &Digest) -> Self {
        let mut verdict = Self::default();
        let export = match Export::from_bytes(bytes) {
            Ok(export) => export,
            Err(error) => {
                verdict.findings.push(error.into());
                return verdict;
            }
        };
        if let Err(error) = Export::check_end(bytes) {
            verdict.findings.push(error.into());
        }
        let Some(roster) = verdict.believe_roster(&export.roster, trust_root) else {
            return verdict;
        };
        for (number, site) in (1..).zip(&export.sites) {
            let label = format!("site {number} of the file");
            match believe_statement(&site.statement, &roster) {
                Ok((member, _)) if verdict.site(member.id).is_some() => {
                    verdict.find(
                        Some(label),
                        Place::Statement,
                        "this site is in the file twice",
                    );
                }
                Ok((member, statement)) => verdict.look(site, &roster, member, statement),
                Err(reason) => verdict.find(Some(label), Place::Statement, reason),
            }
        }
        verdict.findings.extend(split_views(&verdict.seen));
        let is_absent = |member: &&Member| {
            member.role == Role::Site && !member.revoked && verdict.site(member.id).is_none()
        };
        let absent = roster.members().filter(is_absent);
        verdict.absent = absent.map(|member| member.name.to_string()).collect();
        if export.sites.is_empty() {
            verdict.find(None, Place::File, "it holds no site");
        }
        verdict.believed = Some(roster);
        verdict
    }

    /// Compares with an older export of the same federation: what was there must still be there,
    /// and the coordinator must have told the same history.
    pub fn compare(&mut self, older: &Self) {
        let seen: Vec<_> = older.seen.iter().chain(&self.seen).cloned().collect();
        for finding in split_views(&seen) {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        if let Some(first) = older.findings.first() {
            let text = format!("the older export does not verify itself: {first}");
            self.find(None, Place::File, text);
        }
        let mut epochs = older.roster.iter().zip(&self.roster);
        let forked = epochs.position(|(old, new)| old != new);
        if let Some(epoch) = forked {
            self.find(
                None,
                Place::Roster(epoch),
                "the older export holds another one",
            );
        } else if older.roster.len() > self.roster.len() {
            let text = format!(
                "the older export goes on to epoch {}, this one ends before",
                older.roster.len() - 1
            );
            self.find(None, Place::Roster(self.roster.len()), text);
        }
        for old in &older.sites {
            let name = Some(old.member.name.to_string());
            let Some(new) = self.site(old.member.id) else {
                let flaw = Flaw::Replaced("this site is in the older export, and not in this one");
                self.push(name, Place::Ledger, flaw);
                continue;
            };
            let found = match new.statement.ledger_key == old.statement.ledger_key {
                true => compare(&old.entries, &new.entries),
                false => Some(Flaw::Replaced(
                    "another key signs it than in the older export: the ledger was begun anew",
                )),
            };
            if let Some(flaw) = found {
                self.push(name, Place::Ledger, flaw);
            }
        }
    }

    /// A site by its number.
    pub fn site(&self, id: MemberId) -> Option<&Site> {
        self.sites.iter().find(|site| site.member.id == id)
    }

    fn find(&mut self, site: Option<String>, place: Place, text: impl Into<String>) {
        self.push(site, place, Flaw::Part(text.into()));
    }

    fn push(&mut self, site: Option<String>, place: Place, flaw: Flaw) {
        self.findings.push(Finding { site, place, flaw });
    }

    /// The last epoch that is believed; none if not even the first is.
    fn believe_roster(&mut self, epochs: &[Vec<u8>], trust_root: &Digest) -> Option<Roster> {
        let mut roster: Option<Roster> = None;
        for (epoch, bytes) in epochs.iter().enumerate() {
            let next = signed(bytes).and_then(|signed| {
                let next = match &roster {
                    None => Roster::open_first(&signed, trust_root),
                    Some(last) => last.open_next(&signed),
                };
                next.map_err(|error| error.to_string())
            });
            match next {
                Ok(next) => {
                    self.roster.push(next.digest());
                    roster = Some(next);
                }
                Err(reason) => {
                    self.find(None, Place::Roster(epoch), reason);
                    break;
                }
            }
        }
        if epochs.is_empty() {
            self.find(None, Place::Roster(0), "is missing: nobody is known");
        }
        roster
    }

    /// Looks at the ledger of a site whose statement is believed.
    fn look(
        &mut self,
        site: &SiteExport,
        roster: &Roster,
        member: Member,
        statement: SiteStatement,
    ) {
        let name = member.name.to_string();
        let before = self.findings.len();
        let (plans, terms) = self.believe_plans(&name, &site.plans, &statement);
        let ledger = check(site, &statement, &terms);
        for (place, flaw) in ledger.flaws {
            self.push(Some(name.clone()), place, flaw);
        }
        let owner = Owner {
            roster,
            member: &member,
            statement: &statement,
            entries: &ledger.entries,
        };
        let (seen, findings) = owner.look(&site.receipts);
        self.seen.extend(seen);
        self.findings.extend(findings);
        self.sites.push(Site {
            is_sound: self.findings.len() == before,
            member,
            statement,
            plans,
            entries: ledger.entries,
            receipts: site.receipts.iter().map(|kept| kept.sequence).collect(),
        });
    }

    /// Plans that are those of the statement, and what they fix.
    fn believe_plans(
        &mut self,
        site: &str,
        texts: &[PlanText],
        statement: &SiteStatement,
    ) -> (BTreeMap<[u8; 16], Plan>, BTreeMap<[u8; 16], Terms>) {
        let (mut plans, mut terms) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = HashSet::new();
        for text in texts {
            let study = text.study.0;
            if !seen.insert(study) {
                self.find(Some(site.to_owned()), Place::Plan(study), "is there twice");
                continue;
            }
            let found = believe_plan(text, statement).and_then(|(plan, public_size)| {
                let found = terms_of(&plan, public_size).map_err(|error| error.to_string())?;
                Ok((plan, found))
            });
            match found {
                Ok((plan, found)) => {
                    terms.insert(study, found);
                    plans.insert(study, plan);
                }
                Err(reason) => self.find(Some(site.to_owned()), Place::Plan(study), reason),
            }
        }
        for stated in &statement.studies {
            if !seen.contains(&stated.study.0) {
                let text = "the site's statement names it, and it is not in the file";
                self.find(Some(site.to_owned()), Place::Plan(stated.study.0), text);
            }
        }
        (plans, terms)
    }
}

/// Signed bytes in the one form that this version writes.
fn signed(bytes: &[u8]) -> Result<Signed, String> {
    let signed = Signed::from_bytes(bytes).map_err(|error| error.to_string())?;
    match signed.to_bytes() == bytes {
        true => Ok(signed),
        false => Err("the signed bytes are written in another form".to_owned()),
    }
}

fn believe_statement(bytes: &[u8], roster: &Roster) -> Result<(Member, SiteStatement), String> {
    let signed = signed(bytes)?;
    let member = roster
        .by_identity_key(signed.signer())
        .filter(|member| member.role == Role::Site)
        .ok_or("no site of the roster has the key that signed it")?;
    let body = signed
        .verify(Purpose::LedgerKey, &member.identity_key)
        .map_err(|error| error.to_string())?;
    Ok((member.clone(), SiteStatement::from_bytes(body)?))
}

fn believe_plan(text: &PlanText, statement: &SiteStatement) -> Result<(Plan, Option<u64>), String> {
    let stated = statement
        .study(text.study.0)
        .ok_or("the site's statement does not name this study")?;
    let canonical = text.canonical.as_bytes();
    if *Plan::digest_of(canonical).as_bytes() != stated.plan.0 {
        return Err("it is not the plan whose digest the site signed".to_owned());
    }
    let plan = Plan::from_canonical(canonical).map_err(|error| error.to_string())?;
    Ok((plan, stated.public_size))
}

/// What a plan fixes about privacy.
fn terms_of(plan: &Plan, public_size: Option<u64>) -> Result<Terms, OutOfRange> {
    let guarantee = plan.privacy.guarantee().ok_or_else(|| {
        OutOfRange::new(
            "a plan that a ledger charges",
            "private",
            "one without privacy",
        )
    })?;
    Ok(Terms {
        data_set: plan.data_set.clone(),
        rounds: plan.rounds,
        steps: plan.training.steps,
        batch_size: plan.training.batch_size,
        clipping_norm: guarantee.clipping_norm.try_into()?,
        is_clipping_adaptive: matches!(plan.privacy.clipping, Clipping::Adaptive { .. }),
        delta: guarantee.delta.try_into()?,
        target: match guarantee.target {
            NoiseTarget::Epsilon(epsilon) => Target::Epsilon(epsilon.try_into()?),
            NoiseTarget::Multiplier(sigma) => Target::Multiplier(sigma.try_into()?),
        },
        public_size,
    })
}

#[cfg(test)]
mod tests;
