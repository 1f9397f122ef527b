//! A file of resources: one resource, a `Bundle`, or a bulk export with a resource a line.
//!
//! A file is a row of JSON values, so nobody says which of the three it is. Resources are cut out as they
//! stand and read one by one, so that an error knows its place in the file.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Deserializer, error::Category, value::RawValue};

use super::{
    At,
    code::{BundleType, resource_type},
    element::{Identifier, Reference},
    links::{Links, Target, unversioned},
    resource::{Medication, Resource},
};

/// Largest file that is read, in bytes.
pub const FILE_LIMIT: u64 = 100 << 20;
/// How deep brackets may be nested. R4's own examples stay below 20.
const DEPTH_LIMIT: usize = 100;

/// Why a file cannot be read. Holds nothing of what it says.
#[derive(Debug, thiserror::Error)]
pub enum FhirError {
    /// It cannot be read at all.
    #[error("{} cannot be read: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it must be as a whole.
    #[error("{}: {reason}", file.display())]
    Unsound {
        /// Which one.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something in it is not as R4 says.
    #[error("{}, line {line}, column {column}{path}: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
        /// In bytes, counted from 1.
        column: usize,
        /// The resource.
        path: JsonPath,
        /// What is wrong.
        reason: String,
    },
}

/// Where in its value a resource stands: `Observation` or `Bundle.entry[3].resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonPath {
    /// Its place in a `Bundle`.
    pub entry: Option<usize>,
    /// What kind it is, once that is known.
    pub resource: Option<&'static str>,
}

/// All resources of a file that are read, and how many others there are.
#[derive(Default)]
pub struct Chart {
    entries: Vec<Entry>,
    links: Links,
    /// Other resources by kind, entries without one and bundles within a bundle among them, as `Bundle`.
    pub others: BTreeMap<&'static str, usize>,
}

/// A resource and its place.
pub(super) struct Entry {
    pub(super) at: At,
    /// Its full address in a `Bundle`.
    url: Option<String>,
    id: Option<String>,
    pub(super) resource: Resource,
    /// What it contains, by id.
    contained: HashMap<String, Box<RawValue>>,
}

/// What a reference to a medicine leads to.
pub(super) enum Found {
    Medication(Medication),
    /// It is not in the file.
    Elsewhere,
    /// It is no medicine.
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    resource_type: String,
    id: Option<String>,
    #[serde(borrow, default)]
    contained: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainedHead {
    resource_type: String,
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle<'a> {
    #[serde(rename = "type")]
    kind: BundleType,
    #[serde(borrow, default)]
    entry: Vec<BundleEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleEntry<'a> {
    full_url: Option<String>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

/// Reads a file.
///
/// # Errors
/// No file, larger than [`FILE_LIMIT`], not UTF-8, or what [`parse`] refuses.
pub fn read(file: &Path) -> Result<Chart, FhirError> {
    use io::Read;
    let failed = |source| FhirError::File {
        file: file.to_owned(),
        source,
    };
    let unsound = |reason: String| FhirError::Unsound {
        file: file.to_owned(),
        reason,
    };
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() {
        return Err(unsound("is no regular file".into()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    if metadata.len() <= FILE_LIMIT {
        let open = std::fs::File::open(file).map_err(failed)?;
        open.take(FILE_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if metadata.len().max(bytes.len() as u64) > FILE_LIMIT {
        let reason = format!("at most {FILE_LIMIT} bytes are read; split the file");
        return Err(unsound(reason));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unsound(format!("is not UTF-8 from byte {at} on"))
    })?;
    parse(file, &text)
}

/// Reads the text of a file, of which only the name is used.
///
/// # Errors
/// Not JSON, nested too deep, a kind of resource that R4 does not have, a field that is used and not as R4
/// says, a reference to what the file must hold and does not, a history.
pub fn parse(file: &Path, text: &str) -> Result<Chart, FhirError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        file,
        text,
        lines: Lines::default(),
        chart: Chart::default(),
    };
    if let Some(at) = too_deep(text) {
        let reason = format!("brackets are nested deeper than {DEPTH_LIMIT}");
        return Err(reader.error(at, JsonPath::default(), reason));
    }
    for value in Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.map_err(|error| reader.error_of(0, JsonPath::default(), &error, text))?;
        reader.value(value)?;
    }
    if reader.chart.entries.is_empty() && reader.chart.others.is_empty() {
        return Err(FhirError::Unsound {
            file: file.to_owned(),
            reason: "the file holds no resource".into(),
        });
    }
    reader.check_references()?;
    Ok(reader.chart)
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    lines: Lines,
    chart: Chart,
}

impl<'a> Reader<'a> {
    /// Where a piece of the text begins.
    fn offset(&self, piece: &str) -> usize {
        let (all, piece) = (self.text.as_ptr().addr(), piece.as_ptr().addr());
        piece.saturating_sub(all).min(self.text.len())
    }

    /// Takes a value of the file: a resource, or a bundle of them.
    fn value(&mut self, value: &'a RawValue) -> Result<(), FhirError> {
        let path = JsonPath::default();
        let head = self.head(value, path)?;
        if head.resource_type != "Bundle" {
            return self.resource(value, head, None, path);
        }
        let path = JsonPath {
            resource: Some("Bundle"),
            ..path
        };
        let bundle: Bundle<'a> = self.decode(value, path)?;
        if bundle.kind == BundleType::History {
            let reason = "a history holds resources that are no longer so; it is not read";
            return Err(self.error(self.offset(value.get()), path, reason));
        }
        if bundle.entry.is_empty() {
            *self.chart.others.entry("Bundle").or_default() += 1;
        }
        for (number, entry) in bundle.entry.into_iter().enumerate() {
            let path = JsonPath {
                entry: Some(number),
                resource: None,
            };
            let Some(resource) = entry.resource else {
                *self.chart.others.entry("Bundle").or_default() += 1;
                continue;
            };
            let head = self.head(resource, path)?;
            self.resource(resource, head, entry.full_url, path)?;
        }
        Ok(())
    }

    fn resource(
        &mut self,
        value: &'a RawValue,
        head: Head<'a>,
        url: Option<String>,
        mut path: JsonPath,
    ) -> Result<(), FhirError> {
        let begins = self.offset(value.get());
        let kind = resource_type(&head.resource_type)
            .ok_or_else(|| self.error(begins, path, "R4 has no resource of this kind"))?;
        path.resource = Some(kind);
        let read = Resource::read(kind, value.get())
            .map_err(|error| self.error_of(begins, path, &error, value.get()))?;
        let Some(resource) = read else {
            *self.chart.others.entry(kind).or_default() += 1;
            return Ok(());
        };
        let mut contained = HashMap::new();
        for inner in head.contained {
            let inner_head: ContainedHead = self.decode(inner, path)?;
            if resource_type(&inner_head.resource_type).is_none() {
                let reason = "R4 has no resource of this kind";
                return Err(self.error(self.offset(inner.get()), path, reason));
            }
            if let Some(id) = inner_head.id {
                contained.insert(id, inner.to_owned());
            }
        }
        let at = At {
            line: self.lines.of(self.text, begins),
            entry: path.entry,
        };
        let url = url.map(|url| unversioned(&url).to_owned());
        let name = head.id.as_ref().map(|id| format!("{kind}/{id}"));
        let place = self.chart.entries.len();
        self.chart.links.add(place, url.clone(), name);
        self.chart.entries.push(Entry {
            at,
            url,
            id: head.id,
            resource,
            contained,
        });
        Ok(())
    }

    /// Refuses references that can lead nowhere else and lead nowhere here.
    fn check_references(&self) -> Result<(), FhirError> {
        for entry in &self.chart.entries {
            for reference in entry.resource.references() {
                let leads = match self.chart.links.find(entry.url.as_deref(), reference) {
                    Target::Here(_) | Target::Elsewhere => true,
                    // `#` alone is the resource that this one would be contained in.
                    Target::Contained(id) => entry.contained.contains_key(id),
                    Target::Nowhere => false,
                };
                if !leads {
                    return Err(FhirError::Json {
                        file: self.file.to_owned(),
                        line: entry.at.line,
                        column: 1,
                        path: JsonPath {
                            entry: entry.at.entry,
                            resource: Some(entry.resource.kind()),
                        },
                        reason: "it refers to a resource that is not in the file".into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn head(&self, value: &'a RawValue, path: JsonPath) -> Result<Head<'a>, FhirError> {
        // A list would be taken for the fields in their order.
        if !value.get().starts_with('{') {
            let reason = "a resource must be an object: {\"resourceType\": …}";
            return Err(self.error(self.offset(value.get()), path, reason));
        }
        self.decode(value, path)
    }

    fn decode<T: Deserialize<'a>>(
        &self,
        value: &'a RawValue,
        path: JsonPath,
    ) -> Result<T, FhirError> {
        serde_json::from_str(value.get())
            .map_err(|error| self.error_of(self.offset(value.get()), path, &error, value.get()))
    }

    /// What a parser says of a piece of the text that begins at this byte, without quoting it.
    fn error_of(
        &self,
        begins: usize,
        path: JsonPath,
        error: &serde_json::Error,
        piece: &str,
    ) -> FhirError {
        let before: usize = piece
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum();
        let at = begins + before + error.column().saturating_sub(1);
        self.error(at, path, reason_of(error))
    }

    fn error(&self, at: usize, path: JsonPath, reason: impl Into<String>) -> FhirError {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count();
        let column = before
            .iter()
            .rev()
            .take_while(|&&byte| byte != b'\n')
            .count();
        FhirError::Json {
            file: self.file.to_owned(),
            line: 1 + line as u64,
            column: 1 + column,
            path,
            reason: reason.into(),
        }
    }
}

/// What went wrong, in words that cannot hold what the file says. The parser's own words do, but for
/// the names of our fields; so only those are taken from them.
fn reason_of(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Eof => return "it ends too early".into(),
        Category::Syntax | Category::Io => return "no valid JSON".into(),
        Category::Data => (),
    }
    let said = error.to_string();
    let field = |said: &str| said.split('`').nth(1).unwrap_or_default().to_owned();
    if said.starts_with("missing field") {
        format!("the field `{}` is missing", field(&said))
    } else if said.starts_with("duplicate field") {
        format!("the field `{}` is there twice", field(&said))
    } else if said.starts_with("unknown variant") {
        "a code that R4 does not allow here".into()
    } else if said.starts_with("no code of its value set") {
        "no code of the value set that R4 asks for".into()
    } else if said.starts_with("not base64") {
        "no valid base64".into()
    } else if said.starts_with("not a date or time") {
        "no date or time as FHIR writes them".into()
    } else if said.starts_with("invalid type") {
        "another type of value than R4 has here".into()
    } else {
        "a value that R4 does not allow here".into()
    }
}

/// The first byte at which brackets are nested too deep.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => (),
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_LIMIT {
                    return Some(at);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => (),
        }
    }
    None
}

/// Counts lines of a text that is gone through once.
#[derive(Default)]
struct Lines {
    counted: usize,
    ends: u64,
}

impl Lines {
    /// The line of a byte, which is not before those asked for already.
    fn of(&mut self, text: &str, at: usize) -> u64 {
        let passed = text.as_bytes().get(self.counted..at).unwrap_or_default();
        self.ends += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.counted = self.counted.max(at);
        self.ends + 1
    }
}

impl Chart {
    /// All resources that are read, in the order of the file.
    pub fn resources(&self) -> impl Iterator<Item = (At, &Resource)> {
        self.entries.iter().map(|entry| (entry.at, &entry.resource))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The resource that a reference of another means, where it is in the file.
    pub(super) fn follow(&self, from: &Entry, reference: &str) -> Option<&Entry> {
        match self.links.find(from.url.as_deref(), reference) {
            Target::Here(at) => self.entries.get(at),
            Target::Contained(_) | Target::Elsewhere | Target::Nowhere => None,
        }
    }

    /// The medicine that a reference means.
    pub(super) fn medication(&self, from: &Entry, reference: &str) -> Found {
        if let Some(id) = reference.strip_prefix('#') {
            let head = contained::<ContainedHead>(from, id);
            let is_medication = head.is_some_and(|head| head.resource_type == "Medication");
            let read = is_medication.then(|| contained(from, id)).flatten();
            return read.map_or(Found::Other, Found::Medication);
        }
        match self.follow(from, reference).map(|entry| &entry.resource) {
            Some(Resource::Medication(medication)) => Found::Medication(medication.clone()),
            Some(_) => Found::Other,
            None => Found::Elsewhere,
        }
    }

    /// Whose a resource is, by a name that is the same in every file of a server: `Patient/12` where
    /// that is enough, otherwise the full address or identifier.
    pub(super) fn patient_of(&self, entry: &Entry) -> Option<String> {
        self.patient_named(entry, entry.resource.patient()?)
    }

    fn patient_named(&self, from: &Entry, reference: &Reference) -> Option<String> {
        let Some(address) = reference.reference.as_deref() else {
            return match reference.identifier.as_ref()? {
                Identifier {
                    system,
                    value: Some(value),
                } => Some(format!("{}|{value}", system.as_deref().unwrap_or_default())),
                Identifier { value: None, .. } => None,
            };
        };
        if let Some(id) = address.strip_prefix('#') {
            let inner = contained::<ContainedHead>(from, id)?;
            let is_patient = inner.resource_type == "Patient";
            return is_patient.then_some(format!("{}{address}", from.name()?));
        }
        match self.follow(from, address) {
            Some(entry) if !matches!(entry.resource, Resource::Patient(_)) => None,
            Some(patient) => self.name_of(patient),
            None => {
                // A group, a device or a place is nobody.
                let address = unversioned(address);
                let kind = address.rsplit('/').nth(1).and_then(resource_type);
                let is_patient = kind.is_none_or(|kind| kind == "Patient");
                is_patient.then(|| address.to_owned())
            }
        }
    }

    /// What a resource is called.
    pub(super) fn name_of(&self, entry: &Entry) -> Option<String> {
        match entry.name() {
            Some(name) if self.links.is_unique(&name) => Some(name),
            name => entry.url.clone().or(name),
        }
    }
}

/// What a resource contains under this id, where it is such a thing.
fn contained<T: DeserializeOwned>(entry: &Entry, id: &str) -> Option<T> {
    serde_json::from_str(entry.contained.get(id)?.get()).ok()
}

impl Entry {
    /// `Kind/id`.
    fn name(&self) -> Option<String> {
        let id = self.id.as_ref()?;
        Some(format!("{}/{id}", self.resource.kind()))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.entry, self.resource) {
            (Some(entry), Some(resource)) => write!(f, ", Bundle.entry[{entry}], {resource}"),
            (Some(entry), None) => write!(f, ", Bundle.entry[{entry}]"),
            (None, Some(resource)) => write!(f, ", {resource}"),
            (None, None) => Ok(()),
        }
    }
}

/// Written by hand: what a chart holds is patient data.
impl fmt::Debug for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chart({} resources)", self.entries.len())
    }
}
