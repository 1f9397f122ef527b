//! What was asked lately: pictures, notes and reasons, in memory alone, for a bounded time and in bounded
//! memory. Whoever asked may look at it; nobody else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use consilium_models::{analysis::Analysis, imaging::Picture};
use tokio::sync::watch;

use super::engine::Progress;

/// What a prediction was about.
pub(super) enum Subject {
    /// The picture as pages show it, and why the model said what it said.
    Picture {
        shown: Arc<Picture>,
        reasons: watch::Receiver<Progress>,
    },
    /// The note as it is written, and all that it says.
    Note {
        text: Arc<str>,
        analysis: Box<Analysis>,
    },
}

impl Subject {
    /// About how much memory it takes, in bytes, with heat maps to come. An analysis takes several times its note.
    fn bytes(&self) -> usize {
        match self {
            Self::Picture { shown, .. } => 4096 + 8 * shown.pixels().len(),
            Self::Note { text, .. } => 65_536 + 16 * text.len(),
        }
    }
}

/// Subjects by the id of their prediction.
pub(super) struct Kept {
    inside: Mutex<Inside>,
    time: Duration,
    most: usize,
}

#[derive(Default)]
struct Inside {
    entries: HashMap<String, Entry>,
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

struct Entry {
    who: String,
    subject: Arc<Subject>,
    bytes: usize,
}

impl Kept {
    /// Keeps each for this time, and all together in so many bytes.
    pub(super) fn new(time: Duration, most: usize) -> Self {
        Self {
            inside: Mutex::default(),
            time,
            most,
        }
    }

    /// Keeps one more; the oldest go where there is no room.
    pub(super) fn keep(&self, id: &str, who: &str, subject: Subject, now: Instant) -> Arc<Subject> {
        let (bytes, subject) = (subject.bytes(), Arc::new(subject));
        let mut inside = self.locked();
        inside.bytes += bytes;
        inside.order.push_back((now, id.to_owned()));
        let entry = Entry {
            who: who.to_owned(),
            subject: subject.clone(),
            bytes,
        };
        inside.entries.insert(id.to_owned(), entry);
        inside.forget(now, self.time, self.most);
        subject
    }

    /// What somebody asked; none where it is no longer kept, or another asked it.
    pub(super) fn of(&self, id: &str, who: &str, now: Instant) -> Option<Arc<Subject>> {
        let mut inside = self.locked();
        inside.forget(now, self.time, self.most);
        let entry = inside.entries.get(id).filter(|entry| entry.who == who)?;
        Some(entry.subject.clone())
    }

    /// Lets go of what is too old.
    pub(super) fn forget(&self, now: Instant) {
        self.locked().forget(now, self.time, self.most);
    }

    /// Whoever died while holding it left whole entries behind.
    fn locked(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn forget(&mut self, now: Instant, time: Duration, most: usize) {
        while let Some((at, id)) = self.order.front() {
            if now.duration_since(*at) < time && self.bytes <= most {
                return;
            }
            if let Some(entry) = self.entries.remove(id) {
                self.bytes = self.bytes.saturating_sub(entry.bytes);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(pixels: usize) -> Subject {
        let (_, reasons) = watch::channel(Progress::Unasked);
        let shown = Picture::new(pixels, 1, 1, vec![0.0; pixels]).expect("a picture");
        Subject::Picture {
            shown: Arc::new(shown),
            reasons,
        }
    }

    #[test]
    fn only_who_asked_sees_it_and_only_for_a_while() {
        let kept = Kept::new(Duration::from_secs(10), 1 << 20);
        let start = Instant::now();
        kept.keep("a", "ada", picture(10), start);
        assert!(kept.of("a", "ada", start).is_some());
        assert!(kept.of("a", "bob", start).is_none());
        assert!(
            kept.of("a", "ada", start + Duration::from_secs(10))
                .is_none()
        );
        assert!(kept.of("a", "ada", start).is_none(), "it is gone for good");
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room() {
        let kept = Kept::new(Duration::from_secs(10), 30_000);
        let start = Instant::now();
        for id in ["a", "b", "c"] {
            kept.keep(id, "ada", picture(1000), start);
        }
        assert!(kept.of("a", "ada", start).is_none());
        assert!(kept.of("b", "ada", start).is_some() && kept.of("c", "ada", start).is_some());
    }
}
