//! `consilium agent data …`: registers data sets, takes patients out of them, and releases their
//! label balance.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Result;
use clap::{Args, Subcommand};
use consilium_agent::data::{
    Fields, LabelBalance, LabelColumns, Part, PublicSize, Registration, Report, Source, check,
    exclude, register, release_labels,
};
use consilium_proto::ErrorCode;
use serde::Serialize;
use serde_json::json;

use super::Folder;
use crate::{failure::refuse, output};

/// Data sets of a hospital.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Register a data set: it is read once, reported on, and never copied
    Add(Box<Add>),
    /// List the registered data sets
    List {
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Look through a data set for what should be corrected, excluded or looked at
    ///
    /// Copies and near copies, also across patients and parts; unreadable, empty, saturated, blurred or
    /// inverted pictures, text in them; notes that are damaged or hold identifiers alone; missing fields; rare
    /// classes; labels that contradict each other. The report holds true counts: it is for this hospital.
    Check {
        /// Name of the data set
        name: String,
        /// Name of the data set that models are tested on: records of both are compared
        #[arg(long, value_name = "NAME")]
        test: Option<String>,
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Take patients out of a data set, from the next batch on
    Exclude {
        /// Name of the data set
        name: String,
        /// File with one patient identifier a line
        #[arg(long, value_name = "FILE")]
        patients: PathBuf,
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Release how many patients each class has, with noise; charged each time
    ///
    /// The result may leave the hospital: each patient, added or removed, is protected with this ε.
    /// A patient counts once, with the most frequent label of their records (of several, the class
    /// named first); patients who opted out do not count. Every call is another release: it is
    /// charged to the data set's budget anew, and refused when that is spent.
    Labels {
        /// Name of the data set
        name: String,
        /// Classes as plans name them, separated by commas; any other label counts as one more
        #[arg(
            long,
            value_name = "CLASS,CLASS…",
            value_delimiter = ',',
            required = true
        )]
        classes: Vec<String>,
        /// What the release costs (ε): above 0; each count is off by about 1.4/ε
        #[arg(long, value_name = "E")]
        epsilon: f64,
        #[command(flatten)]
        folder: Folder,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// What to register, and how to read it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// Name that plans use: letters, digits, `-`, `_` or `.`
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// Folder of PNG, JPEG and DICOM images, or a MedMNIST npz; without --labels, `<class>/<image>`
    ///
    /// Where no column says whose an image is, a DICOM object's Patient ID does.
    #[arg(long, value_name = "DIR|NPZ", conflicts_with = "table")]
    images: Option<PathBuf>,
    /// CSV that labels the images
    #[arg(long, value_name = "FILE.csv", requires = "images", group = "labelled")]
    labels: Option<PathBuf>,
    /// Column of the labels' CSV that is the image's path, relative to --images
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "path",
        requires = "labels"
    )]
    path_column: String,
    /// Column of the labels' CSV, or field of the notes, that is the label [default: label]
    #[arg(long, value_name = "COLUMN", requires = "labelled")]
    label_column: Option<String>,
    /// Column or field that says whose record each one is; without it every record is its own patient
    ///
    /// Of notes, a field named `patient` is taken where this is not given.
    #[arg(long, value_name = "COLUMN")]
    patient_column: Option<String>,
    /// Part of an npz: train, val or test
    #[arg(
        long,
        default_value = "train",
        value_name = "PART",
        requires = "images"
    )]
    part: Part,
    /// CSV with one record a row
    #[arg(long, value_name = "FILE.csv", requires = "target")]
    table: Option<PathBuf>,
    /// Column of the table that is the label
    #[arg(long, value_name = "COLUMN", requires = "table")]
    target: Option<String>,
    #[command(flatten)]
    notes: NoteOptions,
    /// CSV from local labels to the classes that plans name
    #[arg(long, value_name = "FILE.csv")]
    label_map: Option<PathBuf>,
    /// Number of patients, where it is public knowledge
    #[arg(long, value_name = "NUMBER", required_unless_present = "noisy_size")]
    public_size: Option<u64>,
    /// Let the public size be the true one with noise, at this ε, charged once
    #[arg(long, value_name = "EPSILON", conflicts_with = "public_size")]
    noisy_size: Option<f64>,
    /// Leave out (and report) unreadable images, labels without image and images without label
    #[arg(long)]
    skip_unreadable: bool,
    /// Declare that a person has looked at the pictures, and none shows whose it is
    ///
    /// DICOM objects whose header speaks of text in the pixels (ultrasound, screens, captures) are refused
    /// without it.
    #[arg(long, requires = "images")]
    pixels_seen: bool,
    /// Replace a data set of this name; what it has spent stays spent
    #[arg(long)]
    replace: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Notes, and how to read them.
#[derive(Debug, Args)]
#[group(id = "note_options", multiple = true, conflicts_with_all = ["images", "table"])]
struct NoteOptions {
    /// Notes: a folder of .txt, or a .txt, .jsonl, .csv, .conll or .pubtator file, all UTF-8
    ///
    /// They are de-identified before anything is trained on them, each time, in memory; the files stay as
    /// they are.
    #[arg(
        id = "notes",
        long = "notes",
        value_name = "DIR|FILE",
        group = "labelled"
    )]
    path: Option<PathBuf>,
    /// Where brat's .ann files lie, if not beside the .txt files
    #[arg(long, value_name = "DIR|FILE.ann", requires = "notes")]
    annotations: Option<PathBuf>,
    /// Field or column with a note's text; of several, each begins a line [default: text, note or question]
    #[arg(long, value_name = "FIELD", requires = "notes")]
    text_field: Vec<String>,
    /// Field or column that names a note [default: id, if it is there]
    #[arg(long, value_name = "FIELD", requires = "notes")]
    id_field: Option<String>,
    /// Field of JSON lines with a note's entities [default: entities, if it is there]
    #[arg(long, value_name = "FIELD", requires = "notes")]
    entities_field: Option<String>,
    /// Field of JSON lines with a note's relations [default: relations, if it is there]
    #[arg(long, value_name = "FIELD", requires = "notes")]
    relations_field: Option<String>,
    /// Declare that nothing in the notes names a patient: they are trained on as they are
    #[arg(long, requires = "notes")]
    already_deidentified: bool,
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List { folder, json } => list(&folder, json).await,
            Self::Check {
                name,
                test,
                folder,
                json,
            } => {
                let (store, settings) = (folder.store().await?, folder.settings()?);
                let report = check(&store, &settings, &name, test.as_deref()).await;
                store.close().await;
                let report = report?;
                match json {
                    true => output::json(&report),
                    false => output::line(report.to_string().trim_end()),
                }
            }
            Self::Exclude {
                name,
                patients,
                folder,
                json,
            } => {
                let store = folder.store().await?;
                let exclusion = exclude(&store, &name, &patients, SystemTime::now()).await?;
                store.close().await;
                if json {
                    return output::json(&exclusion);
                }
                output::line(format_args!("{} patients taken out", exclusion.excluded))?;
                for line in &exclusion.unknown_lines {
                    output::note(format_args!(
                        "{}, line {line}: names no patient of {name}; check its spelling",
                        patients.display()
                    ));
                }
                for used in &exclusion.used_by {
                    output::line(format_args!(
                        "trained on before: study {} ({}), {} rounds",
                        used.study, used.name, used.rounds
                    ))?;
                }
                Ok(())
            }
            Self::Labels {
                name,
                classes,
                epsilon,
                folder,
                json,
            } => {
                let (store, policy) = (folder.store().await?, folder.policy()?);
                let now = SystemTime::now();
                let balance = release_labels(&store, &policy, &name, &classes, epsilon, now).await;
                store.close().await;
                let balance = balance?;
                match json {
                    true => output::json(&balance),
                    false => print_labels(&balance),
                }
            }
        }
    }
}

fn print_labels(balance: &LabelBalance) -> Result<()> {
    let row = |class: &str, count: i64, share: Option<f64>| {
        let share = share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        vec![class.to_owned(), count.to_string(), share]
    };
    let header = ["class", "patients", "share"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    let classes = balance.classes.iter();
    rows.extend(classes.map(|class| row(&class.class, class.count, class.share)));
    rows.push(row("(any other)", balance.others, None));
    output::line(output::table(&rows))?;
    output::note(format_args!(
        "noise of deviation {:.2} on each count; charged epsilon {} (ledger entry {}); asking again \
         is another release and another charge",
        balance.deviation, balance.epsilon, balance.ledger_entry
    ));
    if !balance.names_patients {
        output::note("no patient column: each record counted as its own patient");
    }
    Ok(())
}

impl Add {
    async fn run(self) -> Result<()> {
        let source = self.source()?;
        let deidentified = match &source {
            Source::Notes {
                is_deidentified, ..
            } => Some(*is_deidentified),
            _ => None,
        };
        let registration = Registration {
            name: self.name.clone(),
            source,
            label_map: self.label_map.clone(),
            public_size: match (self.public_size, self.noisy_size) {
                (Some(size), _) => PublicSize::Declared(size),
                (None, Some(epsilon)) => PublicSize::Noisy(epsilon),
                (None, None) => {
                    return refuse(ErrorCode::Invalid, "give --public-size or --noisy-size");
                }
            },
            skip_unreadable: self.skip_unreadable,
            pixels_seen: self.pixels_seen,
            replace: self.replace,
        };
        let (store, policy) = (self.folder.store().await?, self.folder.policy()?);
        let report = register(&store, &policy, registration, SystemTime::now()).await;
        store.close().await;
        let report = report?;
        if self.json {
            return output::json(&Registered {
                report: &report,
                declared_deidentified: deidentified,
            });
        }
        output::line(report.to_string().trim_end())?;
        match deidentified {
            Some(true) => output::line(
                "declared free of what names patients: nothing is taken out of these notes before \
                 training, and nobody checks that",
            ),
            Some(false) => output::line(
                "before anything is trained on these notes, what names patients is taken out",
            ),
            None => Ok(()),
        }
    }

    fn source(&self) -> Result<Source> {
        let patient = self.patient_column.clone();
        if let Some(path) = &self.notes.path {
            return Ok(self.note_source(path.clone()));
        }
        match (&self.images, &self.labels, &self.table, &self.target) {
            (_, _, Some(file), Some(target)) => Ok(Source::Table {
                file: file.clone(),
                target: target.clone(),
                patient,
            }),
            (Some(images), Some(labels), ..) => Ok(Source::Labelled {
                images: images.clone(),
                labels: labels.clone(),
                columns: LabelColumns {
                    path: self.path_column.clone(),
                    label: match &self.label_column {
                        Some(label) => label.clone(),
                        None => LabelColumns::default().label,
                    },
                    patient,
                },
            }),
            (Some(_), None, ..) if patient.is_some() => refuse(
                ErrorCode::Invalid,
                "--patient-column names a column of --labels or --table, or a field of --notes",
            ),
            (Some(images), None, ..) if images.is_file() => Ok(Source::Npz {
                file: images.clone(),
                part: self.part,
                indexes: None,
            }),
            (Some(images), None, ..) => Ok(Source::ClassFolders {
                folder: images.clone(),
            }),
            _ => refuse(
                ErrorCode::Invalid,
                "give --images (and --labels), --table and --target, or --notes",
            ),
        }
    }

    fn note_source(&self, path: PathBuf) -> Source {
        let notes = &self.notes;
        Source::Notes {
            path,
            annotations: notes.annotations.clone(),
            fields: Fields {
                text: notes.text_field.clone(),
                id: notes.id_field.clone(),
                patient: self.patient_column.clone(),
                label: self.label_column.clone(),
                entities: notes.entities_field.clone(),
                relations: notes.relations_field.clone(),
            },
            is_deidentified: notes.already_deidentified,
        }
    }
}

/// What a registration found, and what the steward declared of notes.
#[derive(Serialize)]
struct Registered<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    declared_deidentified: Option<bool>,
}

async fn list(folder: &Folder, as_json: bool) -> Result<()> {
    let store = folder.store().await?;
    let data_sets = store.data_sets().await;
    store.close().await;
    let data_sets = data_sets?;
    if as_json {
        let objects = data_sets.iter().map(|set| {
            json!({
                "name": set.name,
                "records": set.records,
                "patients": set.patients,
                "public_size": set.public_size,
                "registered_at": set.registered_at,
            })
        });
        return output::json(&objects.collect::<Vec<_>>());
    }
    let header = [
        "data set",
        "records",
        "patients",
        "public size",
        "registered (UTC)",
    ];
    let rows = data_sets.iter().map(|set| {
        vec![
            set.name.clone(),
            set.records.to_string(),
            set.patients.to_string(),
            set.public_size.to_string(),
            output::time(set.registered_at * 1000),
        ]
    });
    let header = header.map(str::to_owned).to_vec();
    output::line(output::table(
        &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
    ))
}
