//! The segments of an ORU^R01.
//!
//! | segment | what it says |
//! |---|---|
//! | MSH | who sends to whom, when; the control id is that of the prediction |
//! | PID | whose it is; the name is left empty |
//! | OBR | which prediction; preliminary (OBR-25 `P`) |
//! | NTE | the notice that stands in every report |
//! | OBX | probabilities, classes that cannot be excluded, unlike the data of training or not, conclusion |
//! | NTE | the version of the model |
//!
//! Each OBX is preliminary (OBX-11 `P`) and names the model by the digest of its weights (OBX-17).

use crate::fhir::report::{Line, LinkName, NOTICE, Report};

/// A system that sends or receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The application (MSH-3, MSH-5).
    pub name: Line,
    /// Where it stands (MSH-4, MSH-6).
    pub facility: Line,
}

/// Who sends to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    /// This node.
    pub sender: Application,
    /// The hospital's system.
    pub receiver: Application,
    /// Who gave the patient's number (CX.4).
    pub authority: Line,
}

impl Report {
    /// The control id of the message (MSH-10): 20 characters, as 2.5.1 allows no more.
    pub(super) fn control_id(&self) -> String {
        format!("{:020X}", self.id.0 & ((1 << 80) - 1))
    }

    /// The report as ORU^R01, with carriage returns at the ends of its segments.
    pub fn to_hl7(&self, parties: &Parties) -> String {
        let digits = self.made.as_str().chars().filter(char::is_ascii_digit);
        // To the second, in UTC.
        let time: String = digits.take(14).chain("+0000".chars()).collect();
        let party = |line: &Line| escape(line.as_str());
        let patient = match &self.subject.0 {
            LinkName::Id(id) => id,
            LinkName::Identifier { value, .. } => value,
        };
        let number = format!("{:032X}", self.id.0);
        let mut segments = vec![
            segment(&[
                "MSH|^~\\&",
                &party(&parties.sender.name),
                &party(&parties.sender.facility),
                &party(&parties.receiver.name),
                &party(&parties.receiver.facility),
                &time,
                "",
                "ORU^R01^ORU_R01",
                &self.control_id(),
                "P",
                "2.5.1",
                "",
                "",
                "",
                "",
                "",
                "UNICODE UTF-8",
            ]),
            segment(&[
                "PID",
                "1",
                "",
                &format!("{}^^^{}", party(patient), party(&parties.authority)),
                "",
                // The name is required; `U` says that it is not given.
                "^^^^^^U",
            ]),
        ];
        let mut obr = vec![""; 26];
        let service = "note-or-image^Report of a machine-learned model^L";
        let filler = format!("{number}^{}", party(&parties.sender.name));
        obr[0] = "OBR";
        obr[1] = "1";
        obr[3] = &filler;
        obr[4] = service;
        obr[7] = &time;
        obr[22] = &time;
        obr[25] = "P";
        segments.push(segment(&obr));
        segments.push(segment(&["NTE", "1", "L", &escape(NOTICE)]));
        let model = format!(
            "{}^{}^{}",
            escape(&self.model.digest.to_string()),
            party(&self.model.name),
            "L"
        );
        let version = party(&self.model.version);
        for (number, (kind, code, value, units)) in (1..).zip(self.observed()) {
            let number: u32 = number;
            let mut obx = vec![String::new(); 18];
            obx[0] = "OBX".into();
            obx[1] = number.to_string();
            obx[2] = kind.into();
            obx[3] = code;
            // Tells apart what has the same code.
            obx[4] = number.to_string();
            obx[5] = value;
            obx[6] = units.into();
            obx[11] = "P".into();
            obx[14] = time.clone();
            obx[17] = model.clone();
            segments.push(segment(&obx.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        segments.push(segment(&["NTE", "1", "L", &format!("Version: {version}")]));
        segments.concat()
    }

    /// Type, code, value and units of each observation.
    fn observed(&self) -> Vec<(&'static str, String, String, &'static str)> {
        let ours = |code: &str, name: &str| format!("{code}^{}^L", escape(name));
        let mut all = Vec::new();
        for class in &self.classes {
            let name = format!("Probability of {}", class.name.as_str());
            let code = ours("class-probability", &name);
            all.push(("NM", code, class.probability.number().to_string(), "1"));
        }
        if let Some(set) = &self.prediction_set {
            let rate = set.error_rate.number();
            let name = format!("Class that cannot be excluded, error rate {rate}");
            for class in &set.classes {
                let code = ours("in-prediction-set", &name);
                all.push(("ST", code, escape(class.as_str()), ""));
            }
        }
        if let Some(unlike) = self.unlike_training_data {
            let code = ours("unlike-training-data", "Unlike the data of training");
            let value = if unlike { "yes" } else { "no" };
            all.push(("ST", code, value.into(), ""));
        }
        let code = ours("conclusion", "Conclusion");
        all.push(("FT", code, escape(self.conclusion.as_str()), ""));
        all
    }
}

/// A segment of these fields.
fn segment(fields: &[&str]) -> String {
    let mut segment = fields.join("|");
    // Empty fields at the end say nothing.
    segment.truncate(segment.trim_end_matches('|').len());
    segment.push('\r');
    segment
}

/// A text in which nothing is taken for a delimiter. Line ends become those of formatted text.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' => escaped.push_str("\\F\\"),
            '^' => escaped.push_str("\\S\\"),
            '~' => escaped.push_str("\\R\\"),
            '\\' => escaped.push_str("\\E\\"),
            '&' => escaped.push_str("\\T\\"),
            '\n' => escaped.push_str("\\.br\\"),
            other => escaped.push(other),
        }
    }
    escaped
}
