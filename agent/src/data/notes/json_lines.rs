//! JSON lines: an object for each note, its fields as [`Fields`] say.

use std::{collections::HashMap, path::Path};

use consilium_models::text::Argument;
use serde_json::{Map, Value};

use super::{
    Fields, Names, NotesError, Patients, Place, ReadNote, USUAL_PATIENT, USUAL_TEXT, draft::Draft,
};

/// Longest line that is parsed, in bytes: what is made of it in memory may be ten times as large.
const LINE_LIMIT: usize = 64 << 20;

type Object = Map<String, Value>;

/// Reads all lines.
///
/// # Errors
/// The first line that is wrong, or a field of the caller that no line has.
pub(super) fn read(file: &Path, text: &str, fields: &Fields) -> Result<Vec<ReadNote>, NotesError> {
    let (mut names, mut patients) = (Names::default(), Patients::default());
    let mut wanted: Vec<&str> = [&fields.label, &fields.entities, &fields.relations]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let mut notes = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        let refused = |reason| NotesError::line(file, line, reason);
        let object = parse(content).map_err(refused)?;
        wanted.retain(|field| !object.contains_key(*field));
        let (draft, unplaced) = record(&object, fields, line).map_err(refused)?;
        let note = draft.finish();
        names.take(&note.id, line).map_err(refused)?;
        patients.take(note.patient.is_some()).map_err(refused)?;
        notes.push(ReadNote {
            note,
            place: Place::Line {
                file: file.to_owned(),
                line,
            },
            unplaced,
        });
    }
    match wanted.first() {
        Some(field) if !notes.is_empty() => {
            let reason = format!("no line has a field {field:?}");
            Err(NotesError::unsound(file, reason))
        }
        _ => Ok(notes),
    }
}

/// The object of a line. What the parser says is left out but for the place: it may quote the line.
fn parse(line: &str) -> Result<Object, String> {
    if line.len() > LINE_LIMIT {
        return Err(format!("the line is longer than {LINE_LIMIT} bytes"));
    }
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("a line must be an object: {\"text\": …}".into()),
        Err(error) => Err(format!(
            "is no JSON from byte {} on; each line must be an object of its own",
            error.column()
        )),
    }
}

/// The note of a line, and how many mentions have no place in it.
fn record(object: &Object, fields: &Fields, line: u64) -> Result<(Draft, usize), String> {
    let text = text_of(object, fields)?;
    let id = name(object, fields.id.as_deref(), "id")?;
    let mut draft = Draft::new(id.unwrap_or_else(|| format!("line {line}")), text)?;
    draft.set_patient(name(object, fields.patient.as_deref(), USUAL_PATIENT)?);
    let label = fields.label.as_deref().unwrap_or("label");
    draft.set_label(word(object, label)?.filter(|label| !label.trim().is_empty()));
    let entities = fields.entities.as_deref().unwrap_or("entities");
    let mut sides = Sides::default();
    for entity in list(object, entities)? {
        sides.add(entity, &mut draft)?;
    }
    let relations = fields.relations.as_deref().unwrap_or("relations");
    for relation in list(object, relations)? {
        let from = sides.find(relation, "from")?;
        let to = sides.find(relation, "to")?;
        draft.relate(&kind(relation)?, from, to)?;
    }
    Ok((draft, sides.unplaced))
}

fn text_of(object: &Object, fields: &Fields) -> Result<String, String> {
    let text = |field: &str| match object.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong(field, "a text")),
        None => Err(format!("there is no field {field:?}")),
    };
    if let [first, rest @ ..] = fields.text.as_slice() {
        let mut whole = text(first)?;
        for field in rest {
            whole.push('\n');
            whole.push_str(&text(field)?);
        }
        return Ok(whole);
    }
    let usual = USUAL_TEXT
        .into_iter()
        .find(|field| object.contains_key(*field));
    let usual = usual.ok_or_else(|| {
        format!(
            "none of the fields {} is there; say which field holds the text",
            USUAL_TEXT.join(", ")
        )
    })?;
    text(usual)
}

/// A name that must be there where the caller says in which field.
fn name(object: &Object, wanted: Option<&str>, usual: &str) -> Result<Option<String>, String> {
    let field = wanted.unwrap_or(usual);
    match word(object, field)? {
        Some(name) if name.trim().is_empty() => Err(format!("field {field:?} is empty")),
        None if wanted.is_some() => Err(format!("there is no field {field:?}")),
        name => Ok(name),
    }
}

/// A text or whole number; none where the field is null or missing.
fn word(object: &Object, field: &str) -> Result<Option<String>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(Some(number.to_string()))
        }
        Some(_) => Err(wrong(field, "a text or a whole number")),
    }
}

/// The objects of a list; none where the field is null or missing.
fn list<'a>(object: &'a Object, field: &str) -> Result<Vec<&'a Object>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| {
                value
                    .as_object()
                    .ok_or_else(|| wrong(field, "a list of objects"))
            })
            .collect(),
        Some(_) => Err(wrong(field, "a list of objects")),
    }
}

/// The first of these fields that is there, which must be a text.
fn first_text(object: &Object, fields: &[&str]) -> Result<Option<String>, String> {
    let field = fields.iter().find(|field| object.contains_key(**field));
    match field.map(|field| (field, &object[*field])) {
        None | Some((_, Value::Null)) => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text.clone())),
        Some((field, _)) => Err(wrong(field, "a text")),
    }
}

fn kind(object: &Object) -> Result<String, String> {
    let kind = first_text(object, &["kind", "type", "label"])?;
    kind.ok_or_else(|| "an entity or relation needs its \"kind\"".into())
}

fn wrong(field: &str, wanted: &str) -> String {
    format!("field {field:?} must be {wanted}")
}

/// What the sides of a relation may name.
#[derive(Default)]
struct Sides {
    /// Mention of each entity, in the order of the list; none of one without offsets.
    listed: Vec<Option<usize>>,
    /// Place in that list by the entity's own id.
    by_id: HashMap<String, usize>,
    unplaced: usize,
}

impl Sides {
    fn add(&mut self, entity: &Object, draft: &mut Draft) -> Result<(), String> {
        if let Some(id) = first_text(entity, &["id"])?
            && self.by_id.insert(id, self.listed.len()).is_some()
        {
            return Err("two entities of the note have the same id".into());
        }
        let kind = kind(entity)?;
        let code = first_text(entity, &["code"])?.filter(|code| !code.is_empty());
        let shown = first_text(entity, &["text", "value"])?;
        if ["start", "end"].map(|side| entity.get(side)) == [Some(&Value::Null); 2] {
            self.listed.push(None);
            self.unplaced += 1;
            return Ok(());
        }
        let offset = |field: &str| {
            let offset = entity.get(field).and_then(Value::as_u64);
            offset
                .and_then(|offset| usize::try_from(offset).ok())
                .ok_or_else(|| wrong(field, "a whole number, 0 or more"))
        };
        let piece = [(offset("start")?, offset("end")?)];
        let mention = draft.mark(&kind, &piece, code.as_deref(), shown.as_deref())?;
        self.listed.push(Some(mention));
        Ok(())
    }

    fn find(&self, relation: &Object, side: &str) -> Result<Argument, String> {
        let listed = match relation.get(side) {
            Some(Value::Number(number)) => number.as_u64().and_then(|at| usize::try_from(at).ok()),
            Some(Value::String(name)) => match self.by_id.get(name) {
                Some(&at) => Some(at),
                None => return Ok(Argument::Concept(name.clone())),
            },
            _ => {
                return Err(wrong(
                    side,
                    "the place of an entity, or an id or code in quotes",
                ));
            }
        };
        listed
            .and_then(|at| *self.listed.get(at)?)
            .map(Argument::Mention)
            .ok_or_else(|| "a relation names an entity that is not there".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(text: &str, fields: &Fields) -> Result<Vec<ReadNote>, NotesError> {
        super::read(Path::new("a.jsonl"), text, fields)
    }

    fn read(text: &str) -> Result<Vec<ReadNote>, NotesError> {
        read_as(text, &Fields::default())
    }

    #[test]
    fn usual_fields_are_read_and_others_passed_over() {
        let notes = read(
            "{\"text\": \"Zoë: aspirin, bled\", \"id\": 7, \"patient\": \"p\", \"label\": 3,\
              \"other\": [1, {}], \"entities\": [\
              {\"start\": 14, \"end\": 18, \"type\": \"Event\", \"code\": \"D2\", \"id\": \"b\"},\
              {\"start\": null, \"end\": null, \"kind\": \"Lost\", \"value\": \"gone\"},\
              {\"start\": 5, \"end\": 12, \"label\": \"Drug\", \"text\": \"aspirin\"}],\
              \"relations\": [{\"kind\": \"R\", \"from\": 2, \"to\": \"b\"},\
              {\"type\": \"S\", \"from\": \"D2\", \"to\": 0}]}\r\n\
             \r\n\
             {\"note\": \"x\", \"patient\": 8, \"label\": null, \"entities\": null}\n",
        )
        .expect("sound");
        let note = &notes[0].note;
        assert_eq!((note.id.as_str(), note.label.as_deref()), ("7", Some("3")));
        let kinds: Vec<_> = note.entities.iter().map(|e| e.kind.as_str()).collect();
        assert_eq!((kinds, notes[0].unplaced), (vec!["Drug", "Event"], 1));
        assert_eq!(note.entities[1].span.of(&note.text), Some("bled"));
        let [first, second] = &note.relations[..] else {
            panic!("two relations");
        };
        assert!(first.from == Argument::Mention(0) && first.to == Argument::Mention(1));
        assert!(second.from == Argument::Concept("D2".into()));
        assert!(second.to == Argument::Mention(1));
        assert_eq!(notes[1].note.patient.as_deref(), Some("8"));
        assert_eq!(
            (notes[1].note.id.as_str(), &notes[1].note.label),
            ("line 3", &None)
        );
        assert_eq!(notes[1].place.to_string(), "a.jsonl, line 3");
    }

    #[test]
    fn fields_go_by_the_names_of_the_caller() {
        let fields = Fields {
            text: vec!["title".into(), "body".into()],
            id: Some("number".into()),
            patient: Some("who".into()),
            label: Some("department".into()),
            entities: Some("phi".into()),
            ..Fields::default()
        };
        let line = "{\"title\": \"感冒\", \"body\": \"发热\", \"number\": \"1\", \"who\": \"p\",\
                    \"department\": \"内科\", \"phi\": [{\"start\": 3, \"end\": 5, \"kind\": \"S\"}]}";
        let note = &read_as(line, &fields).expect("sound")[0].note;
        assert_eq!(note.text, "感冒\n发热");
        assert_eq!(note.entities[0].span.of(&note.text), Some("发热"));
        assert_eq!(note.label.as_deref(), Some("内科"));
        for missing in ["title", "number", "who", "department", "phi"] {
            let line = line.replace(&format!("\"{missing}\""), "\"x\"");
            let message = read_as(&line, &fields).expect_err(missing).to_string();
            assert!(message.contains(&format!("field {missing:?}")), "{message}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_never_quoted() {
        let marked =
            |entity: &str| format!("{{\"text\": \"ab secret\", \"entities\": [{entity}]}}");
        let whole = "{\"start\": 0, \"end\": 2, \"kind\": \"D\", \"id\": \"e\"}";
        let related = |relation: &str| {
            marked(whole).replace("]}", &format!("], \"relations\": [{relation}]}}"))
        };
        for (text, part) in [
            ("{\"text\": \"secret\"", "no JSON"),
            ("{\"text\": secret}", "no JSON"),
            ("[\"secret\"]", "must be an object"),
            ("{\"body\": \"secret\"}", "text, note, question"),
            ("{\"text\": [\"secret\"]}", "\"text\" must be a text"),
            ("{\"text\": null}", "\"text\" must be a text"),
            ("{\"text\": \" \"}", "empty"),
            ("{\"text\": \"secret\", \"id\": 1.5}", "\"id\" must be"),
            ("{\"text\": \"secret\", \"id\": \"\"}", "\"id\" is empty"),
            (
                "{\"text\": \"secret\", \"label\": [\"secret\"]}",
                "\"label\" must be",
            ),
            (
                "{\"text\": \"secret\", \"entities\": \"secret\"}",
                "list of objects",
            ),
            (
                "{\"text\": \"secret\", \"entities\": [\"secret\"]}",
                "list of objects",
            ),
            (&marked("{\"start\": 0, \"end\": 2}"), "needs its \"kind\""),
            (
                &marked("{\"start\": 0, \"end\": 10, \"kind\": \"D\"}"),
                "outside",
            ),
            (
                &marked("{\"start\": 2, \"end\": 2, \"kind\": \"D\"}"),
                "behind its start",
            ),
            (
                &marked("{\"start\": 2, \"end\": 1, \"kind\": \"D\"}"),
                "behind its start",
            ),
            (
                &marked("{\"start\": -1, \"end\": 1, \"kind\": \"D\"}"),
                "\"start\" must be",
            ),
            (
                &marked("{\"start\": 0, \"end\": null, \"kind\": \"D\"}"),
                "\"end\" must be",
            ),
            (
                &marked("{\"start\": 0, \"kind\": \"D\"}"),
                "\"end\" must be",
            ),
            (
                &marked("{\"start\": 0, \"end\": 1.0, \"kind\": \"D\"}"),
                "\"end\" must be",
            ),
            (
                &marked("{\"start\": 0, \"end\": 2, \"kind\": 3}"),
                "\"kind\" must be",
            ),
            (
                &marked("{\"start\": 0, \"end\": 2, \"kind\": \"D\", \"text\": \"secret\"}"),
                "not the text",
            ),
            (&marked(&[whole, whole].join(",")), "same id"),
            (
                &related("{\"kind\": \"R\", \"from\": 0, \"to\": 1}"),
                "not there",
            ),
            (
                &related("{\"kind\": \"R\", \"from\": 0, \"to\": \"f\"}"),
                "not there",
            ),
            (&related("{\"kind\": \"R\", \"from\": 0}"), "\"to\" must be"),
            (&related("{\"from\": 0, \"to\": 0}"), "needs its \"kind\""),
        ] {
            let text = format!("{{\"text\": \"x\"}}\n{text}\n");
            let message = read(&text).expect_err(part).to_string();
            assert!(message.starts_with("a.jsonl, line 2: "), "{message}");
            assert!(
                message.contains(part) && !message.contains("secret"),
                "{message}"
            );
        }
    }

    #[test]
    fn ids_are_unique_and_patients_named_throughout() {
        let message = |text: &str| read(text).expect_err("refused").to_string();
        let text = "{\"text\": \"x\", \"id\": \"1\"}\n{\"text\": \"x\", \"id\": 1}";
        assert!(message(text).contains("line 2: the id is that of the note on line 1"));
        let text = "{\"text\": \"x\", \"patient\": \"1\"}\n{\"text\": \"x\"}";
        assert!(message(text).contains("line 2: some notes name their patient"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("{{\"text\": {}", "[".repeat(100_000));
        assert!(
            read(&text)
                .expect_err("too deep")
                .to_string()
                .contains("no JSON")
        );
    }
}
