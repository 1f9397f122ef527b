//! `consilium knowledge …`: files that the reasoning over notes rests on. No network, no folder, no data.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use consilium_models::decision::knowledge::{
    Concept, ConceptId, Knowledge, KnowledgeFile, Language, Source, When, starter_files,
};
use consilium_proto::ErrorCode;
use serde_json::json;

use crate::{
    failure::{Classify as _, refuse},
    output,
};

/// Files of findings, rules and treatments.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check files or folders together with the starter set: what is wrong, where, and what to do
    Check {
        /// Files, or folders with files that end in .toml; later ones may add to or replace earlier ones
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show a concept with everything that rests on it
    Show {
        /// The concept, such as condition.pneumonia
        #[arg(value_name = "ID")]
        id: String,
        /// Files of one's own, behind the starter set
        #[arg(long = "knowledge", value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Check { paths, json } => check(&paths, json),
            Self::Show { id, paths, json } => show(&id, &paths, json),
        }
    }
}

/// The starter set and, behind it, files of one's own.
pub(super) fn read(paths: &[PathBuf]) -> Result<Knowledge> {
    let files = files(paths)?;
    Knowledge::from_files(&files).classify(ErrorCode::Invalid)
}

fn files(paths: &[PathBuf]) -> Result<Vec<KnowledgeFile>> {
    let mut own = Vec::new();
    for path in paths {
        own.extend(read_path(path)?);
    }
    // A file of the starter set itself stands in its own place.
    let is_given = |starter: &KnowledgeFile| own.iter().any(|own| own.text == starter.text);
    let starter = starter_files().into_iter();
    let mut files: Vec<_> = starter.filter(|starter| !is_given(starter)).collect();
    files.extend(own);
    Ok(files)
}

fn read_path(path: &Path) -> Result<Vec<KnowledgeFile>> {
    use consilium_models::decision::knowledge::ReadError;
    match KnowledgeFile::read(path) {
        // The class of what the system refuses is its own.
        Err(error @ ReadError::Io { .. }) => Err(error.into()),
        other => other.classify(ErrorCode::Invalid),
    }
}

fn check(paths: &[PathBuf], json: bool) -> Result<()> {
    let files = files(paths)?;
    let problems = match Knowledge::from_files(&files) {
        Ok(knowledge) if json => {
            return output::json(&json!({
                "files": names(&files),
                "problems": [],
                "counts": counts(&knowledge).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            }));
        }
        Ok(knowledge) => {
            let counts = counts(&knowledge).into_iter();
            let counts: Vec<String> = counts
                .map(|(what, count)| format!("{count} {what}"))
                .collect();
            return output::line(format_args!(
                "{} files are sound: {}",
                files.len(),
                counts.join(", ")
            ));
        }
        Err(refused) => refused.problems,
    };
    if json {
        output::json(&json!({ "files": names(&files), "problems": problems }))?;
    } else {
        for problem in &problems {
            output::line(problem)?;
        }
    }
    let s = if problems.len() == 1 { "" } else { "s" };
    refuse(
        ErrorCode::Invalid,
        format!("the knowledge files have {} problem{s}", problems.len()),
    )
}

fn names(files: &[KnowledgeFile]) -> Vec<&str> {
    files.iter().map(|file| file.name.as_str()).collect()
}

fn counts(knowledge: &Knowledge) -> [(&'static str, usize); 9] {
    [
        ("concepts", knowledge.concepts().count()),
        ("sources", knowledge.sources().count()),
        ("conditions", knowledge.conditions().count()),
        ("likelihoods", knowledge.likelihoods().len()),
        ("rules", knowledge.rules().len()),
        ("scores", knowledge.scores().count()),
        ("treatments", knowledge.treatments().len()),
        ("interactions", knowledge.interactions().len()),
        ("contraindications", knowledge.contraindications().len()),
    ]
}

fn show(id: &str, paths: &[PathBuf], json: bool) -> Result<()> {
    let knowledge = read(paths)?;
    let id: ConceptId = id
        .parse()
        .classify(ErrorCode::Invalid)
        .with_context(|| format!("{id:?}"))?;
    let Some(concept) = knowledge.concept(&id) else {
        return refuse(
            ErrorCode::Missing,
            format!("the knowledge files have no {id}"),
        );
    };
    let citing = citing(&knowledge, concept);
    if json {
        return output::json(&json!({ "concept": concept, "cited_by": citing }));
    }
    let mut rows = vec![vec!["id".to_owned(), id.to_string()]];
    for (language, names) in &concept.names {
        let language = match language {
            Language::En => "English",
            Language::Zh => "Chinese",
        };
        rows.push(vec![language.into(), names.join(", ")]);
    }
    let wider: Vec<&str> = concept.is_a.iter().map(ConceptId::as_str).collect();
    let optional = [
        ("is a", (!wider.is_empty()).then(|| wider.join(", "))),
        ("ICD-10", concept.icd10.clone()),
        (
            "unit",
            concept.measure.as_ref().map(|measure| measure.unit.clone()),
        ),
        ("cost", concept.cost.map(|cost| cost.to_string())),
    ];
    rows.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some(vec![name.to_owned(), value?])),
    );
    output::line(output::table(&rows))?;
    for citing in citing {
        output::line(format_args!(
            "\n{} {}\n  {}",
            citing.section, citing.id, citing.says
        ))?;
        if let Some(source) = citing.source {
            output::line(format_args!("  {source}"))?;
        }
    }
    Ok(())
}

/// An entry that names a concept.
#[derive(serde::Serialize)]
struct Citing {
    section: &'static str,
    id: String,
    says: String,
    source: Option<String>,
}

fn citing(knowledge: &Knowledge, concept: &Concept) -> Vec<Citing> {
    let id = &concept.id;
    let source = |id| knowledge.source(id).map(line);
    let names = |when: &When| {
        when.leaves()
            .into_iter()
            .any(|leaf| leaf.concept() == Some(id))
    };
    let mut all = Vec::new();
    let mut add = |section, id: String, says: String, source| {
        all.push(Citing {
            section,
            id,
            says,
            source,
        });
    };
    for it in knowledge
        .concepts()
        .filter(|it| it.is_a.contains(id) || it.measured.as_ref().is_some_and(names))
    {
        add(
            "concept",
            it.id.to_string(),
            it.name(Language::En).to_owned(),
            None,
        );
    }
    for it in knowledge.conditions().filter(|it| it.id == *id) {
        let says = format!(
            "{} Prior {} among {}.",
            it.description, it.prior, it.setting
        );
        add("condition", it.id.to_string(), says, source(&it.source));
    }
    for it in knowledge
        .likelihoods()
        .iter()
        .filter(|it| it.condition == *id || it.finding == *id)
    {
        let ratio =
            |ratio: Option<f64>| ratio.map_or("not known".into(), |ratio| format!("{ratio:.2}"));
        let says = format!(
            "odds × {} if present, × {} if absent",
            ratio(it.positive),
            ratio(it.negative)
        );
        add(
            "likelihood",
            format!("{} / {}", it.condition, it.finding),
            says,
            source(&it.source),
        );
    }
    for it in knowledge
        .rules()
        .iter()
        .filter(|it| it.concludes == *id || names(&it.when))
    {
        add(
            "rule",
            it.id.to_string(),
            it.says.clone(),
            source(&it.source),
        );
    }
    for it in knowledge
        .scores()
        .filter(|it| it.items.iter().any(|item| names(&item.when)))
    {
        add(
            "score",
            it.id.to_string(),
            it.says.clone(),
            source(&it.source),
        );
    }
    for it in knowledge.treatments() {
        let whens = [&it.applies_if, &it.exclude_if];
        let is_for = whens.into_iter().flatten().any(names);
        if it.condition == *id || is_for || it.steps.iter().any(|step| step.give == *id) {
            add(
                "treatment",
                it.id.to_string(),
                it.name.clone(),
                source(&it.source),
            );
        }
    }
    for it in knowledge
        .interactions()
        .iter()
        .filter(|it| it.between.contains(id))
    {
        let [one, other] = &it.between;
        let says = format!("{} {}", it.mechanism, it.advice);
        add(
            "interaction",
            format!("{one} with {other}"),
            says,
            source(&it.source),
        );
    }
    for it in knowledge
        .contraindications()
        .iter()
        .filter(|it| it.of == *id || names(&it.when))
    {
        add(
            "contraindication",
            it.id.to_string(),
            it.reason.clone(),
            source(&it.source),
        );
    }
    all
}

/// A publication in one line.
pub(super) fn line(source: &Source) -> String {
    format!(
        "{}, {}: {}, {}",
        source.organisation,
        source.edition(),
        source.title,
        source.url
    )
}
