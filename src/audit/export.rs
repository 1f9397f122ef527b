//! Makes an export from the folders of agents.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use consilium_agent::{membership::Membership, store::Store};
use consilium_privacy::{
    audit::{
        DataSetStated, Export, Hex, PlanText, Receipt, SiteExport, SiteStatement, StudyStated,
    },
    ledger::{Entry, Head, NO_STUDY},
    seal::SealingKey,
};
use consilium_proto::{ErrorCode, Plan, Signed, StudyId, signed::Purpose};

use crate::failure::refuse;

/// A site's part and the roster it believes.
#[derive(Debug)]
pub struct Part {
    /// The epochs that the site believes, as governance signed them.
    pub roster: Vec<Vec<u8>>,
    /// Its ledger.
    pub site: SiteExport,
}

/// Reads one agent's folder, which may be in use, and signs where its ledger ends.
///
/// # Errors
/// No site's folder, another sealing key, a ledger that does not verify.
pub async fn read(folder: &Path, key: Arc<SealingKey>, now: u64) -> Result<Part> {
    let membership = Membership::open(folder, &key)?;
    if membership.site_id().is_none() {
        let message = format!(
            "{} is no site that governance has admitted: only sites keep a ledger",
            folder.display()
        );
        return refuse(ErrorCode::Precondition, message);
    }
    let store = Store::open(folder, key).await?;
    let site = read_ledger(&store, &membership, now).await;
    store.close().await;
    let roster = membership.roster_history()?;
    Ok(Part {
        roster: roster.iter().map(Signed::to_bytes).collect(),
        site: site?,
    })
}

async fn read_ledger(store: &Store, membership: &Membership, now: u64) -> Result<SiteExport> {
    // The agent may go on meanwhile: read in this order, no receipt is for an entry not read.
    let receipts = store.receipts().await?;
    let entries = store.ledger_entries().await?;
    let receipts: Vec<_> = receipts
        .into_iter()
        .map(|(sequence, receipt)| Receipt {
            sequence,
            bytes: Hex(receipt.to_bytes()),
        })
        .collect();
    let charged = entries.iter().filter_map(|entry| entry.fact.charged());
    let studies: BTreeSet<_> = charged.map(|charged| charged.study).collect();
    let (mut plans, mut stated) = (Vec::new(), Vec::new());
    for study in studies.into_iter().filter(|study| *study != NO_STUDY) {
        let id = StudyId::try_from(study.as_slice())?;
        let known = store.study(id).await?;
        let known = known.with_context(|| format!("the ledger charges the unknown study {id}"))?;
        let canonical = known.plan.to_canonical();
        let digest = Plan::digest_of(&canonical);
        if digest != known.plan_digest {
            let message =
                format!("the plan of study {id} was written by another version: use that one");
            return refuse(ErrorCode::Precondition, message);
        }
        stated.push(StudyStated {
            study: Hex(study),
            plan: Hex(*digest.as_bytes()),
            public_size: store.noise(id).await?.map(|(_, public_size)| public_size),
        });
        plans.push(PlanText {
            study: Hex(study),
            canonical: String::from_utf8(canonical)?,
        });
    }
    let data_sets = store.data_sets().await?;
    let head = entries.last().map_or(Head::START, Entry::head);
    let statement = SiteStatement {
        ledger_key: Hex(*store.ledger_public_key().as_bytes()),
        entries: head.sequence,
        head: Hex(head.hash),
        at: now,
        data_sets: data_sets
            .into_iter()
            .map(|data_set| DataSetStated {
                name: data_set.name,
                public_size: data_set.public_size,
            })
            .collect(),
        studies: stated,
        receipts: Hex(SiteStatement::digest_of(&receipts)),
    };
    let signed = membership
        .identity()
        .sign(Purpose::LedgerKey, statement.to_bytes());
    Ok(SiteExport {
        statement: signed.to_bytes(),
        plans,
        entries: entries.iter().map(Entry::to_bytes).collect(),
        receipts,
    })
}

/// Puts the parts of some sites into one file.
///
/// # Errors
/// The sites do not believe the same roster: one of them may know fewer epochs, none another one.
pub fn join(parts: Vec<Part>) -> Result<Export> {
    let mut export = Export::default();
    for part in parts {
        let (longer, shorter) = match part.roster.len() > export.roster.len() {
            true => (&part.roster, &export.roster),
            false => (&export.roster, &part.roster),
        };
        if !longer.starts_with(shorter) {
            let message = "these sites believe different rosters: export each by itself, and ask \
                           governance which roster is its own";
            return refuse(ErrorCode::Denied, message);
        }
        export.roster = longer.clone();
        export.sites.push(part.site);
    }
    Ok(export)
}
