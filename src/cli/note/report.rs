//! An analysis for people to read: the note with its highlights, then what follows from it.

use std::fmt::Write as _;

use consilium_models::{
    analysis::{Analysis, Because, Bound, Considered, FoundBy, Measured, Mention},
    decision::{
        diagnosis::{
            differential::{Candidate, Prospect, Reason, Verdict},
            rules::Outcome,
        },
        facts::{Answer, Sex},
        knowledge::{Concept, ConceptId, Knowledge, Level, Source},
        treatment::{Need, Options, Plans, Standing, TreatmentOption},
    },
    text::{Certainty, Experiencer, Span, Status, Time},
};

use super::knowledge::line as cite;

/// Things of one kind that are shown; more are counted.
const SHOWN: usize = 40;
/// Candidates that are shown though they have too little evidence.
const WEAK_SHOWN: usize = 3;
/// Reasons on one side that are shown of a candidate.
const REASONS_SHOWN: usize = 6;
/// Plans of the best set that are shown.
const PLANS_SHOWN: usize = 4;

/// All of it.
pub(super) fn text(
    note: &str,
    analysis: &Analysis,
    knowledge: &Knowledge,
    colours: bool,
) -> String {
    let mut report = Report {
        text: String::new(),
        note,
        analysis,
        knowledge,
        colours,
    };
    if colours {
        report.note();
        report.legend();
    }
    report.facts();
    report.unread();
    report.differential();
    report.questions();
    report.treatment();
    report.sources();
    report.text.trim_end().to_owned()
}

struct Report<'a> {
    text: String,
    note: &'a str,
    analysis: &'a Analysis,
    knowledge: &'a Knowledge,
    colours: bool,
}

/// The colour of a kind of entity, as terminals have them.
fn colour(kind: &str) -> u8 {
    match kind {
        "finding" => 36,
        "condition" => 35,
        "test" => 33,
        "drug" | "class" => 32,
        _ => 34,
    }
}

/// What a terminal would take for a command is shown as a sign.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Whether a fact of this status belongs to a group.
type Holds = fn(Status) -> bool;

impl Report<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(&harmless(text.as_ref()));
        self.text.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let heading = if self.colours {
            format!("\n\x1b[1m{text}\x1b[0m\n")
        } else {
            format!("\n{text}\n")
        };
        self.text.push_str(&heading);
    }

    fn name(&self, id: &ConceptId) -> String {
        let name = self
            .knowledge
            .concept(id)
            .map(|concept: &Concept| concept.name(self.analysis.language).to_owned());
        name.unwrap_or_else(|| id.to_string())
    }

    fn said(&self, span: Span) -> String {
        span.of(self.note)
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The note with its entities in colour; what is denied is struck through, what is uncertain or of
    /// somebody else is in italics.
    fn note(&mut self) {
        let mut at = 0;
        for mention in &self.analysis.entities {
            let Some(before) = self.note.get(at..mention.span.start) else {
                continue;
            };
            let Some(said) = mention.span.of(self.note) else {
                continue;
            };
            let style = style(mention);
            let _ = write!(
                self.text,
                "{}\x1b[{style}m{}\x1b[0m",
                harmless(before),
                harmless(said)
            );
            at = mention.span.end;
        }
        let rest = self.note.get(at..).unwrap_or_default();
        self.line(rest.trim_end());
    }

    fn legend(&mut self) {
        let kinds = ["finding", "condition", "test", "drug", "other"];
        let kinds = kinds.map(|kind| format!("\x1b[{}m{kind}\x1b[0m", colour(kind)));
        let _ = writeln!(
            self.text,
            "\n{}  \x1b[9mdenied\x1b[0m  \x1b[3mpossible, past, planned or of somebody else\x1b[0m",
            kinds.join("  ")
        );
    }

    fn facts(&mut self) {
        self.heading("Facts");
        let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
        let who = &self.analysis.facts.demographics;
        let age = who.age.map(|age| match age.number() {
            // Months tell only of small children.
            years if years >= 3.0 => format!("{} years", years.floor()),
            years => format!("{} years", (years * 100.0).round() / 100.0),
        });
        let sex = who
            .sex
            .map(|sex| if sex == Sex::Female { "female" } else { "male" }.to_owned());
        let weight = who
            .weight_kg
            .map(|weight| format!("{} kg", weight.number()));
        let pregnant = who
            .pregnant
            .map(|is| if is { "pregnant" } else { "not pregnant" }.to_owned());
        rows.push((
            "patient",
            [age, sex, weight, pregnant].into_iter().flatten().collect(),
        ));
        let groups: [(&str, Holds); 6] = [
            ("here", Status::is_present),
            ("absent", Status::is_absent),
            ("possible", |status| {
                status.certainty == Certainty::Possible
                    && (status.experiencer, status.time) == (Experiencer::Patient, Time::Current)
            }),
            ("past", |status| {
                status.experiencer == Experiencer::Patient && status.time == Time::Historical
            }),
            ("not yet", |status| {
                status.experiencer == Experiencer::Patient && status.time == Time::Hypothetical
            }),
            ("others", |status| {
                status.experiencer != Experiencer::Patient
            }),
        ];
        for (name, holds) in groups {
            let facts = self.analysis.facts.facts.iter();
            let facts = facts.filter(|fact| fact.value.is_none() && holds(fact.status));
            rows.push((name, each_once(facts.map(|fact| self.name(&fact.concept)))));
        }
        let values = self.analysis.measurements.iter().map(|it| self.value(it));
        rows.push(("values", first(each_once(values))));
        let taken = self.analysis.facts.drugs.as_ref();
        let taken_lines = taken.into_iter().flatten().map(|taken| {
            let dose = taken
                .dose
                .as_ref()
                .map(|dose| format!(" {} {}", dose.number(), dose.unit()));
            let often = taken.frequency.as_ref().map(|often| format!(" {often}"));
            format!(
                "{}{}{}",
                self.name(&taken.drug),
                dose.unwrap_or_default(),
                often.unwrap_or_default()
            )
        });
        let taken_lines: Vec<String> = taken_lines.collect();
        rows.push(("takes", known(taken.is_some(), taken_lines)));
        let allergies = self.analysis.facts.allergies.as_ref();
        let to = allergies
            .into_iter()
            .flatten()
            .map(|it| self.name(&it.to))
            .collect();
        rows.push(("allergic to", known(allergies.is_some(), to)));
        for (name, values) in rows.into_iter().filter(|(_, values)| !values.is_empty()) {
            self.line(format!("  {name:12}{}", values.join("; ")));
        }
        if self.analysis.repeated > 0 {
            let repeated = self.analysis.repeated;
            self.line(format!(
                "  {repeated} more mentions repeat what is said before"
            ));
        }
    }

    fn value(&self, measured: &Measured) -> String {
        let bound = match measured.bound {
            Some(Bound::Below) => "<",
            Some(Bound::Above) => ">",
            Some(Bound::Between) | None => "",
        };
        let range = measured
            .up_to
            .map_or(String::new(), |high| format!("-{high}"));
        let unit = if measured.unit_is_assumed {
            format!(" [{}]", measured.unit)
        } else {
            format!(" {}", measured.unit)
        };
        let level = match measured.level {
            Some(Level::Low) => " low",
            Some(Level::High) => " high",
            Some(Level::Normal) | None => "",
        };
        let not_read = if measured.bound.is_some() {
            " (no fact: not one value)"
        } else {
            ""
        };
        let name = self.name(&measured.test);
        format!(
            "{name} {bound}{}{range}{unit}{level}{not_read}",
            measured.number
        )
    }

    fn unread(&mut self) {
        if self.analysis.unread.is_empty() {
            return;
        }
        self.heading("Not taken for facts");
        let unread = self.analysis.unread.iter();
        let unread = unread.map(|it| format!("{:?}: {}", self.said(it.span), it.why.words()));
        for text in first(each_once(unread)) {
            self.line(format!("  {text}"));
        }
    }

    fn differential(&mut self) {
        self.heading("What it may be");
        let differential = &self.analysis.differential;
        if let Verdict::TooLittleEvidence { bits, floor } = differential.verdict {
            self.line(format!(
                "  nothing is concluded: at most {bits:.1} bits of evidence for one condition, {floor:.1} are needed"
            ));
        }
        let supported = differential.candidates.iter().filter(|it| it.is_supported);
        let weak = differential
            .candidates
            .iter()
            .filter(|it| !it.is_supported)
            .take(WEAK_SHOWN);
        for candidate in supported.chain(weak) {
            self.candidate(candidate);
        }
        self.line(format!(
            "  none of these: {}",
            percent(differential.none_of_these)
        ));
        for class in &self.analysis.classes {
            let (model, share) = (&class.model.name, percent(f64::from(class.probability)));
            self.line(format!("  the model {model} says {}: {share}", class.class));
        }
        let by_models: Vec<&Mention> = self
            .analysis
            .entities
            .iter()
            .filter(|it| is_by_model(it))
            .collect();
        if !by_models.is_empty() {
            let said = each_once(
                by_models
                    .iter()
                    .map(|it| format!("{} ({})", self.said(it.span), it.kind)),
            );
            self.line(format!("  found by models: {}", first(said).join("; ")));
        }
        let links: Vec<String> = self
            .analysis
            .relations
            .iter()
            .filter_map(|link| match &link.found_by {
                FoundBy::Model { name, probability } => Some(format!(
                    "the model {name} says {}: {} → {} ({})",
                    link.kind,
                    self.said(link.from),
                    self.said(link.to),
                    percent(f64::from(*probability))
                )),
                _ => None,
            })
            .collect();
        for link in first(links) {
            self.line(format!("  {link}"));
        }
    }

    fn candidate(&mut self, candidate: &Candidate) {
        let stated = match candidate.stated {
            Answer::Yes => "; the note states it",
            Answer::No => "; the note denies it",
            Answer::Unknown => "",
        };
        let enough = if candidate.is_supported {
            ""
        } else {
            ", too little evidence"
        };
        self.line(format!(
            "  {}: {} ({:+.1} bits{enough}{stated}; before: {} among {})",
            self.name(&candidate.condition),
            percent(candidate.probability),
            candidate.bits,
            percent(candidate.prior),
            candidate.setting
        ));
        for (side, reasons) in [
            ("for", &candidate.supporting),
            ("against", &candidate.opposing),
        ] {
            for reason in reasons
                .iter()
                .filter(|it| it.is_counted)
                .take(REASONS_SHOWN)
            {
                let reason = self.reason(reason);
                self.line(format!("    {side}: {reason}"));
            }
        }
        for rule in candidate
            .rules
            .iter()
            .filter(|rule| rule.outcome == Outcome::Fired)
        {
            let source = rule
                .source
                .as_ref()
                .map_or(String::new(), |source| format!(" [{}]", short(source)));
            self.line(format!("    rule: {}{source}", rule.says));
        }
    }

    fn reason(&self, reason: &Reason) -> String {
        let no = if reason.is_present { "" } else { "no " };
        let source = reason
            .source
            .as_ref()
            .map_or(String::new(), |source| format!(" [{}]", short(source)));
        format!(
            "{no}{}, odds × {:.2}{source}",
            self.name(&reason.finding),
            reason.ratio
        )
    }

    fn questions(&mut self) {
        let ask = &self.analysis.differential.ask;
        if ask.is_empty() {
            return;
        }
        self.heading("What to ask or measure next");
        for suggestion in ask {
            let test = suggestion
                .test
                .as_ref()
                .map_or(String::new(), |test| format!(" (by {})", self.name(test)));
            let then = |prospect: &Prospect| {
                let name = prospect
                    .condition
                    .as_ref()
                    .map_or("none of these".into(), |id| self.name(id));
                format!("{name} {}", percent(prospect.probability))
            };
            let text = format!(
                "  {}{test}: {:.3} bits; if so {}, if not {}",
                self.name(&suggestion.finding),
                suggestion.bits,
                then(&suggestion.if_present),
                then(&suggestion.if_absent)
            );
            self.line(text);
        }
    }

    fn treatment(&mut self) {
        let treatment = &self.analysis.treatment;
        if treatment.considered.is_empty() {
            return;
        }
        self.heading("What is treated here");
        for considered in &treatment.considered {
            let because = because(considered);
            let name = self.name(&considered.condition);
            self.line(format!("  {name}: {because}"));
        }
        if let Some(refused) = &treatment.refused {
            self.line(format!("  nothing could be worked out: {refused}"));
        }
        if let (Some(options), Some(plans)) = (&treatment.options, &treatment.plans) {
            self.plans(options, plans);
            self.not_proposed(options, plans);
        }
    }

    fn plans(&mut self, options: &Options, plans: &Plans) {
        self.heading("Plans");
        for computed in &options.computed {
            let text = format!(
                "  computed: {} {:.0} {} ({}; {}; {})",
                self.name(&computed.test),
                computed.value,
                computed.unit,
                computed.formula,
                computed.from,
                computed.caution
            );
            self.line(text);
        }
        for finding in &options.taken {
            self.line(format!("  what is taken now: {}", finding.line()));
        }
        for unknown in &options.unknown {
            self.line(format!("  {}", unknown.line()));
        }
        for of in &options.conditions {
            if let Some(nothing) = of.nothing {
                self.line(format!("  {}: {}", of.name, nothing.words()));
            }
        }
        for (at, plan) in plans.best.iter().take(PLANS_SHOWN).enumerate() {
            let scores = &plan.scores;
            self.line(format!(
                "  plan {}: concordance {:.2}, benefit {:.2}, interactions {}, monitoring {}, burden {}, open {}",
                at + 1,
                scores.concordance,
                scores.benefit,
                scores.interaction_burden,
                scores.monitoring,
                scores.patient_burden,
                scores.open_questions
            ));
            let chosen = options.conditions.iter().flat_map(|of| &of.options);
            for option in chosen.filter(|option| plan.treatments.contains(&option.treatment)) {
                self.option(option);
            }
            for warning in &plan.warnings {
                self.line(format!("    warning: {}", warning.line()));
            }
        }
        if plans.best.len() > PLANS_SHOWN {
            self.line(format!(
                "  and {} more; --json has all",
                plans.best.len() - PLANS_SHOWN
            ));
        }
    }

    fn option(&mut self, option: &TreatmentOption) {
        self.line(format!("    {} [{}]", option.name, option.source.line()));
        for step in &option.steps {
            self.line(format!("      {}", step.line()));
        }
        for finding in &option.findings {
            self.line(format!("      warning: {}", finding.line()));
        }
        for need in Need::lines(&option.needs) {
            self.line(format!("      {need}"));
        }
    }

    fn not_proposed(&mut self, options: &Options, plans: &Plans) {
        let all = options.conditions.iter().flat_map(|of| &of.options);
        let others: Vec<&TreatmentOption> = all.filter(|option| !option.is_possible()).collect();
        let lost = plans.lost.len() as u64 + plans.lost_more;
        if others.is_empty() && lost == 0 {
            return;
        }
        self.heading("What is not proposed");
        for option in others {
            let why = match option.standing {
                Standing::RuledOut => {
                    let against = option.findings.iter().filter(|finding| finding.rules_out);
                    against
                        .map(|finding| finding.line())
                        .collect::<Vec<_>>()
                        .join("; ")
                }
                Standing::Unclear => Need::lines(&option.needs).join("; "),
                Standing::DoesNotApply => "for other patients".into(),
                Standing::Possible => continue,
            };
            self.line(format!("  {}: {why}", option.name));
        }
        if lost > 0 {
            let s = if lost == 1 { "" } else { "s" };
            self.line(format!(
                "  {lost} combination{s} lost against the plans above; --json says why"
            ));
        }
    }

    fn sources(&mut self) {
        self.heading("What this rests on");
        let provenance = &self.analysis.provenance;
        let mut lines: Vec<String> = provenance
            .knowledge
            .iter()
            .map(|it| {
                format!(
                    "  {} {} ({}): {}",
                    it.name, it.version, it.licence, it.disclaimer
                )
            })
            .collect();
        let terminologies = provenance.terminologies.iter();
        lines.extend(
            terminologies.map(|it| format!("  {} ({}), {} terms", it.source, it.licence, it.terms)),
        );
        let models = provenance.models.iter();
        lines.extend(models.map(|it| format!("  the model {} (SHA-256 {})", it.name, it.sha256)));
        let mut cited: Vec<&Source> = Vec::new();
        let supported = self
            .analysis
            .differential
            .candidates
            .iter()
            .filter(|it| it.is_supported);
        for candidate in supported {
            let reasons = candidate.supporting.iter().chain(&candidate.opposing);
            let of_rules = candidate
                .rules
                .iter()
                .filter(|it| it.outcome == Outcome::Fired);
            let sources = reasons.filter_map(|it| it.source.as_ref());
            for source in sources.chain(of_rules.filter_map(|it| it.source.as_ref())) {
                if !cited.contains(&source) {
                    cited.push(source);
                }
            }
        }
        lines.extend(
            cited
                .into_iter()
                .map(|source| format!("  [{}] {}", short(source), cite(source))),
        );
        lines.push("  An aid to think with, for research use only; not medical advice.".into());
        for line in lines {
            self.line(line);
        }
    }
}

fn style(mention: &Mention) -> String {
    let colour = colour(&mention.kind);
    let status = mention.status;
    if status.certainty == Certainty::Negated {
        format!("{colour};9")
    } else if status.is_present() {
        format!("{colour};1")
    } else {
        format!("{colour};3")
    }
}

fn is_by_model(mention: &Mention) -> bool {
    mention
        .found_by
        .iter()
        .any(|by| matches!(by, FoundBy::Model { .. }))
}

fn because(considered: &Considered) -> String {
    match &considered.because {
        Because::Stated { .. } => "treated, the facts state it".into(),
        Because::Probable { probability } => {
            format!("treated, {} by its evidence", percent(*probability))
        }
        Because::NotProbableEnough {
            probability,
            treat_from,
        } => format!(
            "not treated: {}, less than {}",
            percent(*probability),
            percent(*treat_from)
        ),
        Because::Past { .. } => {
            "not treated: it is of the past (say in --facts if it is not)".into()
        }
        Because::TooMany => "not treated: too many are treated already".into(),
    }
}

fn short(source: &Source) -> String {
    source.id.to_string()
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        share if share < 0.1 => "below 0.1 %".into(),
        share if share < 10.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

fn each_once(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut each: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    each.extend(names.filter(|name| seen.insert(name.clone())));
    each
}

/// The first ones, and how many more there are.
fn first(mut all: Vec<String>) -> Vec<String> {
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    all.extend((more > 0).then(|| format!("and {more} more; --json has all")));
    all
}

/// What is known to be nothing is said.
fn known(is_known: bool, values: Vec<String>) -> Vec<String> {
    match (is_known, values.is_empty()) {
        (true, true) => vec!["nothing known".into()],
        (false, _) => vec!["not said".into()],
        (true, false) => values,
    }
}
