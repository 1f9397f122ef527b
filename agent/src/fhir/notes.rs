//! The clinical text of a chart.
//!
//! | resource | its text |
//! |---|---|
//! | `DocumentReference` | the first `content` that is `text/plain`, within or in a `Binary` of the file |
//! | `DiagnosticReport` | the first `presentedForm` that is, otherwise the `conclusion` |
//!
//! Other forms (`text/html`, `application/pdf`, HL7 CDA and so on) are not read, nor the narrative `text`
//! that servers make from a resource, nor anything by an address outside the file. What has no text that
//! is read, is withdrawn or is replaced by a newer version is passed over and listed.

use std::fmt;

use consilium_models::text::Note;

use super::{
    At, Chart, Passed,
    code::{DiagnosticReportStatus, DocumentReferenceStatus, DocumentStatus},
    element::{Attachment, CodeableConcept},
    file::Entry,
    moment::Moment,
    resource::{DiagnosticReport, DocumentReference, Resource},
};

/// Largest note that is read, in bytes.
pub const NOTE_LIMIT: usize = 16 << 20;

/// All notes of a chart, and what holds none.
#[derive(Debug, Default)]
pub struct FoundNotes {
    /// The notes in the order of the file, each named differently.
    pub notes: Vec<FoundNote>,
    /// Documents and reports that became none.
    pub passed: Vec<Passed>,
}

/// A note of a chart.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundNote {
    /// `DocumentReference/12`; without an id where it stands.
    pub id: String,
    /// Whose it is: `Patient/7`.
    pub patient: Option<String>,
    /// What kind of note it is, as it is written there: `Discharge summary`.
    pub kind: Option<String>,
    /// When it was written, or of when it tells.
    pub date: Option<Moment>,
    /// The text.
    pub text: String,
    /// Where it stands.
    pub at: At,
}

impl FoundNote {
    /// As training takes it: without marks and class.
    pub fn into_note(self) -> Note {
        Note {
            id: self.id,
            patient: self.patient,
            text: self.text,
            ..Note::default()
        }
    }
}

impl Chart {
    /// The clinical text of the chart.
    pub fn notes(&self) -> FoundNotes {
        let mut found = FoundNotes::default();
        let mut names = std::collections::HashSet::new();
        for entry in self.entries() {
            let draft = match &entry.resource {
                Resource::DocumentReference(document) => self.document(entry, document),
                Resource::DiagnosticReport(report) => self.report(entry, report),
                _ => continue,
            };
            let draft = draft.and_then(|draft| {
                let id = self.name_of(entry).unwrap_or_else(|| entry.at.to_string());
                if names.insert(id.clone()) {
                    Ok((id, draft))
                } else {
                    Err("another note has the same id")
                }
            });
            match draft {
                Ok((id, draft)) => found.notes.push(FoundNote {
                    id,
                    patient: self.patient_of(entry),
                    kind: draft.kind,
                    date: draft.date,
                    text: draft.text,
                    at: entry.at,
                }),
                Err(why) => found.passed.push(Passed {
                    at: entry.at,
                    resource: entry.resource.kind(),
                    why,
                }),
            }
        }
        found
    }

    fn document(&self, entry: &Entry, document: &DocumentReference) -> Result<Draft, &'static str> {
        match (document.status, document.doc_status) {
            (DocumentReferenceStatus::EnteredInError, _)
            | (_, Some(DocumentStatus::EnteredInError)) => {
                return Err("it was entered in error");
            }
            (DocumentReferenceStatus::Superseded, _) => {
                return Err("a newer version takes its place");
            }
            (DocumentReferenceStatus::Current, _) => (),
        }
        let forms = document.content.iter().map(|content| &content.attachment);
        let (text, creation) = self.text_of(entry, forms)?;
        Ok(Draft {
            text,
            kind: document.kind.as_ref().and_then(words),
            date: document.date.clone().or(creation),
        })
    }

    fn report(&self, entry: &Entry, report: &DiagnosticReport) -> Result<Draft, &'static str> {
        match report.status {
            DiagnosticReportStatus::EnteredInError => return Err("it was entered in error"),
            DiagnosticReportStatus::Cancelled => return Err("it was cancelled"),
            _ => (),
        }
        let (text, creation) = match self.text_of(entry, report.presented_form.iter()) {
            Ok(found) => found,
            Err(why) => match &report.conclusion {
                Some(conclusion) => (sound(conclusion.clone())?, None),
                None => return Err(why),
            },
        };
        let period = report.effective_period.as_ref();
        Ok(Draft {
            text,
            kind: words(&report.code),
            date: report
                .effective_date_time
                .clone()
                .or_else(|| period?.start.clone())
                .or_else(|| report.issued.clone())
                .or(creation),
        })
    }

    /// The first form that is read, or what is wrong with the first.
    fn text_of<'a>(
        &self,
        entry: &Entry,
        forms: impl Iterator<Item = &'a Attachment>,
    ) -> Result<(String, Option<Moment>), &'static str> {
        let mut first = None;
        for form in forms {
            match self.plain(entry, form) {
                Ok(text) => return Ok((text, form.creation.clone())),
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or("it holds no text"))
    }

    fn plain(&self, entry: &Entry, form: &Attachment) -> Result<String, &'static str> {
        let binary = match (&form.data, &form.url) {
            (None, Some(url)) => match self.follow(entry, url).map(|found| &found.resource) {
                Some(Resource::Binary(binary)) => Some(binary),
                _ => None,
            },
            _ => None,
        };
        let named = form.content_type.as_deref();
        let kind = named.or(binary.map(|binary| binary.content_type.as_str()));
        is_plain(kind.ok_or("its attachment does not say what it is")?)?;
        let data = match &form.data {
            Some(data) => Some(data),
            None => binary.and_then(|binary| binary.data.as_ref()),
        };
        let data = data.ok_or("its text is not in the file; addresses are not followed")?;
        if data.len() > NOTE_LIMIT {
            return Err("its text is longer than a note may be");
        }
        let text = std::str::from_utf8(data).map_err(|_| "its text is not UTF-8")?;
        sound(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
    }
}

struct Draft {
    text: String,
    kind: Option<String>,
    date: Option<Moment>,
}

fn words(concept: &CodeableConcept) -> Option<String> {
    concept.words().map(str::to_owned)
}

/// A text that says something.
fn sound(text: String) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        Err("its text is empty")
    } else if text.contains('\0') {
        Err("its text holds NUL characters")
    } else if text.len() > NOTE_LIMIT {
        Err("its text is longer than a note may be")
    } else {
        Ok(text)
    }
}

/// Whether a media type is plain text in an encoding that is read.
fn is_plain(media_type: &str) -> Result<(), &'static str> {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    match essence.as_str() {
        "text/plain" => (),
        "text/html" | "application/xhtml+xml" => return Err("HTML is not read"),
        "application/pdf" => return Err("PDF is not read"),
        "text/rtf" | "application/rtf" => return Err("RTF is not read"),
        "text/xml" | "application/xml" | "application/hl7-v3+xml" | "application/hl7-cda+xml" => {
            return Err("XML (HL7 CDA) is not read");
        }
        _ => return Err("its form is not read; only text/plain is"),
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
        Some(_) => Err("its text is not in UTF-8"),
    }
}

/// Written by hand: a note is patient data.
impl fmt::Debug for FoundNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoundNote({}, {} bytes)", self.at, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    use super::*;
    use crate::fhir::parse;

    fn notes(file: &Value) -> FoundNotes {
        parse(Path::new("a.json"), &file.to_string())
            .expect("sound")
            .notes()
    }

    fn document(content_type: &str, text: &str) -> Value {
        json!({
            "resourceType": "DocumentReference", "id": "n1", "status": "current",
            "type": {"coding": [{"display": "Discharge summary"}]},
            "subject": {"reference": "Patient/p"}, "date": "2020-01-02T03:04:05Z",
            "content": [{"attachment": {"contentType": content_type, "data": STANDARD.encode(text)}}],
        })
    }

    #[test]
    fn a_document_becomes_a_note_with_its_kind_date_and_patient() {
        let found = notes(&document("text/plain; charset=UTF-8", "发热 three days"));
        let note = &found.notes[0];
        assert_eq!(note.id, "DocumentReference/n1");
        assert_eq!(note.patient.as_deref(), Some("Patient/p"));
        assert_eq!(note.kind.as_deref(), Some("Discharge summary"));
        let date = note.date.as_ref().map(Moment::as_str);
        assert_eq!(date, Some("2020-01-02T03:04:05Z"));
        assert_eq!(note.clone().into_note().text, "发热 three days");
        assert!(found.passed.is_empty());
    }

    #[test]
    fn what_is_not_read_is_named() {
        let why = |value: &Value| {
            let found = notes(value);
            assert!(found.notes.is_empty());
            found.passed[0].why
        };
        assert_eq!(why(&document("text/html", "<p>")), "HTML is not read");
        assert_eq!(why(&document("application/pdf", "x")), "PDF is not read");
        let latin = document("text/plain; charset=\"iso-8859-1\"", "x");
        assert_eq!(why(&latin), "its text is not in UTF-8");
        assert_eq!(why(&document("text/plain", " \n")), "its text is empty");
        let mut invalid = document("text/plain", "");
        invalid["content"][0]["attachment"]["data"] = "/w==".into();
        assert_eq!(why(&invalid), "its text is not UTF-8");
        let mut withdrawn = document("text/plain", "x");
        withdrawn["docStatus"] = "entered-in-error".into();
        assert_eq!(why(&withdrawn), "it was entered in error");
        withdrawn["docStatus"] = "final".into();
        withdrawn["status"] = "superseded".into();
        assert_eq!(why(&withdrawn), "a newer version takes its place");
        let mut elsewhere = document("text/plain", "x");
        elsewhere["content"][0]["attachment"] =
            json!({"contentType": "text/plain", "url": "Binary/1"});
        assert!(why(&elsewhere).starts_with("its text is not in the file"));
    }

    #[test]
    fn the_first_form_that_is_read_counts() {
        let mut both = document("text/plain", "plain");
        let pdf = json!({"attachment": {"contentType": "application/pdf", "data": "AAAA"}});
        let plain = both["content"][0].clone();
        both["content"] = json!([pdf, plain]);
        assert_eq!(notes(&both).notes[0].text, "plain");
    }

    #[test]
    fn text_in_a_binary_of_the_bundle_is_read() {
        let mut document = document("text/plain", "x");
        document["content"][0]["attachment"] =
            json!({"contentType": "text/plain", "url": "https://a.example/Binary/1"});
        let file = json!({"resourceType": "Bundle", "type": "collection", "entry": [
            {"fullUrl": "https://a.example/DocumentReference/n1", "resource": document},
            {"fullUrl": "https://a.example/Binary/1",
             "resource": {"resourceType": "Binary", "contentType": "text/plain", "data": "YWI="}},
        ]});
        assert_eq!(notes(&file).notes[0].text, "ab");
    }

    #[test]
    fn a_report_gives_its_form_or_else_its_conclusion() {
        let mut report = json!({
            "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "Chest X-ray"},
            "issued": "2020-01-02T03:04:05.000Z", "conclusion": "No infiltrate.",
        });
        let found = notes(&report);
        assert_eq!(found.notes[0].text, "No infiltrate.");
        assert_eq!(found.notes[0].id, "line 1");
        assert_eq!(found.notes[0].kind.as_deref(), Some("Chest X-ray"));
        report["presentedForm"] = json!([{"contentType": "text/plain", "data": "YWI="}]);
        assert_eq!(notes(&report).notes[0].text, "ab");
        report["status"] = "cancelled".into();
        assert_eq!(notes(&report).passed[0].why, "it was cancelled");
    }

    #[test]
    fn a_second_note_of_the_same_id_is_passed_over_and_listed() {
        let one = document("text/plain", "a").to_string();
        let two = document("text/plain", "b").to_string();
        let chart = parse(Path::new("a.ndjson"), &format!("{one}\n{two}\n")).expect("sound");
        let found = chart.notes();
        assert_eq!(found.notes.len(), 1);
        assert_eq!(
            found.passed[0].to_string(),
            "line 2: DocumentReference: another note has the same id"
        );
    }
}
