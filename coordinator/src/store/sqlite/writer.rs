//! The statements of a commit, inside its transaction.

use std::path::Path;

use consilium_proto::wire;
use prost::Message;
use sqlx::{Sqlite, Transaction};

use super::{Query, explain, id, is_under_way, json, message};
use crate::{
    audit_log,
    store::{Change, StoreError, StudyWrite},
};

/// Writes the parts of a change, inside its transaction.
pub(super) struct Writer<'a> {
    pub(super) transaction: Transaction<'a, Sqlite>,
    pub(super) path: &'a Path,
}

impl Writer<'_> {
    async fn run(&mut self, query: Query<'_>) -> Result<u64, StoreError> {
        let done = query.execute(&mut *self.transaction).await;
        done.map(|done| done.rows_affected())
            .map_err(|error| explain(self.path, error))
    }

    async fn last<M: Message + Default>(
        &mut self,
        query: Query<'_>,
        what: &'static str,
    ) -> Result<Option<M>, StoreError> {
        let row = query.fetch_optional(&mut *self.transaction).await;
        let row = row.map_err(|error| explain(self.path, error))?;
        row.map(|row| message(&row, what)).transpose()
    }

    pub(super) async fn study(&mut self, write: StudyWrite) -> Result<(), StoreError> {
        match write {
            StudyWrite::New(record) => {
                let query = sqlx::query(
                    "INSERT INTO studies (id, plan, layout, submitted_by, submitted_at, \
                     chunk_bytes, state, under_way, revision) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",
                )
                .bind(id(record.study.id()))
                .bind(record.canonical_plan)
                .bind(json(&record.layout, "layout")?)
                .bind(record.submitted_by.0)
                .bind(record.submitted_at.0 as i64)
                .bind(record.chunk_bytes)
                .bind(json(&record.study, "study")?)
                .bind(record.revision as i64);
                self.run(query).await.map(drop)
            }
            StudyWrite::Moved { study, revision } => {
                let query = sqlx::query(
                    "UPDATE studies SET state = ?, under_way = ?, revision = revision + 1 \
                     WHERE id = ? AND revision = ?",
                )
                .bind(json(&study, "study")?)
                .bind(is_under_way(&study))
                .bind(id(study.id()))
                .bind(revision as i64);
                match self.run(query).await? {
                    1 => Ok(()),
                    _ => Err(StoreError::Conflict),
                }
            }
        }
    }

    pub(super) async fn results(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some((round, spec)) = &change.spec {
            let query = sqlx::query("INSERT INTO rounds VALUES (?, ?, ?, ?)")
                .bind(id(round.study))
                .bind(round.round)
                .bind(round.attempt)
                .bind(spec.to_bytes());
            self.run(query).await?;
        }
        if let Some(update) = &change.update {
            let query = sqlx::query("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?)")
                .bind(id(update.round.study))
                .bind(update.round.round)
                .bind(update.round.attempt)
                .bind(update.site.0.0)
                .bind(update.digest.as_bytes().to_vec())
                .bind(update.statement.to_bytes());
            self.run(query).await?;
        }
        if let Some((study, version)) = &change.version {
            let query = sqlx::query("INSERT INTO versions VALUES (?, ?, ?)")
                .bind(id(*study))
                .bind(version.number)
                .bind(version.encode_to_vec());
            self.run(query).await?;
        }
        if let Some((study, release)) = &change.release {
            let query = sqlx::query("INSERT OR IGNORE INTO releases VALUES (?, ?, ?)")
                .bind(id(*study))
                .bind(release.model.as_bytes().to_vec())
                .bind(release.card.to_bytes());
            self.run(query).await?;
        }
        Ok(())
    }

    pub(super) async fn journal(&mut self, change: &Change) -> Result<(), StoreError> {
        let Some(journal) = &change.journal else {
            return Ok(());
        };
        let round = journal.round;
        for (number, line) in (journal.first..).zip(&journal.lines) {
            let query = sqlx::query(
                "INSERT INTO journal SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?4 = \
                 (SELECT coalesce(max(number) + 1, 0) FROM journal \
                 WHERE study = ?1 AND round = ?2 AND attempt = ?3)",
            )
            .bind(id(round.study))
            .bind(round.round)
            .bind(round.attempt)
            .bind(number as i64)
            .bind(line);
            if self.run(query).await? != 1 {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    pub(super) async fn members(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some((number, epoch)) = &change.epoch {
            let query = sqlx::query(
                "INSERT INTO roster_epochs SELECT ?1, ?2 \
                 WHERE ?1 = (SELECT coalesce(max(epoch) + 1, 0) FROM roster_epochs)",
            )
            .bind(*number as i64)
            .bind(epoch.to_bytes());
            if self.run(query).await? != 1 {
                return Err(StoreError::Conflict);
            }
        }
        if let Some((fingerprint, signed)) = &change.application {
            let query = sqlx::query(
                "INSERT OR IGNORE INTO applications (fingerprint, signed) VALUES (?, ?)",
            )
            .bind(fingerprint.as_bytes().to_vec())
            .bind(signed.to_bytes());
            self.run(query).await?;
        }
        Ok(())
    }

    pub(super) async fn leaf(&mut self, change: &Change) -> Result<(), StoreError> {
        let Some((number, head)) = &change.leaf else {
            return Ok(());
        };
        let query = sqlx::query(
            "INSERT INTO leaves SELECT ?1, ?2 \
             WHERE ?1 = (SELECT coalesce(max(number) + 1, 0) FROM leaves)",
        )
        .bind(*number as i64)
        .bind(head.to_bytes());
        match self.run(query).await? {
            1 => Ok(()),
            _ => Err(StoreError::Conflict),
        }
    }

    pub(super) async fn effects(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some(performed) = change.performed {
            let query = sqlx::query("DELETE FROM effects WHERE id = ?").bind(performed.0);
            self.run(query).await?;
        }
        for (study, effect) in &change.effects {
            let query = sqlx::query("INSERT INTO effects (study, effect) VALUES (?, ?)")
                .bind(id(*study))
                .bind(json(effect, "effect")?);
            self.run(query).await?;
        }
        Ok(())
    }

    pub(super) async fn records(&mut self, change: Change) -> Result<(), StoreError> {
        for (study, event) in change.events {
            let last =
                sqlx::query("SELECT body FROM events WHERE study = ? ORDER BY number DESC LIMIT 1")
                    .bind(id(study));
            let last: Option<wire::StudyEvent> = self.last(last, "event").await?;
            let event = wire::StudyEvent {
                number: last.map_or(0, |last| last.number + 1),
                at: change.at.0,
                event: Some(event),
            };
            let query = sqlx::query("INSERT INTO events VALUES (?, ?, ?)")
                .bind(id(study))
                .bind(event.number as i64)
                .bind(event.encode_to_vec());
            self.run(query).await?;
        }
        for entry in &change.entries {
            let last = sqlx::query("SELECT body FROM audit_log ORDER BY sequence DESC LIMIT 1");
            let last: Option<wire::LogEntry> = self.last(last, "audit entry").await?;
            let entry = audit_log::link(last.as_ref(), change.at, entry);
            let query = sqlx::query("INSERT INTO audit_log VALUES (?, ?)")
                .bind(entry.sequence as i64)
                .bind(entry.encode_to_vec());
            self.run(query).await?;
        }
        Ok(())
    }
}
