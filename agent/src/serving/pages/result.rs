//! What an answer looks like: picture beside heat map, or a note with what follows from it.

use consilium_models::{
    analysis::{Analysis, Because, Mention},
    decision::{
        diagnosis::differential::{Candidate, Reason},
        knowledge::{ConceptId, Knowledge, Language},
        treatment::Need,
    },
    text::{Certainty, Status},
};
use maud::{Markup, html};

use super::{
    layout::form_key,
    words::{Words, tag},
};
use crate::serving::{
    Answer, Opinion, Said,
    access::Visit,
    engine::{Map, Progress, Reasons},
    models::Provenance,
};

/// Candidates that are shown though they have too little evidence.
const WEAK_SHOWN: usize = 3;
/// Candidates, reasons and questions that are shown.
const SHOWN: usize = 6;

/// By how much the probability must be higher when places are given back than when they are taken away, for
/// them to be shown as a reason.
const TELLING: f32 = 0.05;

/// What all parts of a result need.
pub(super) struct Result<'a> {
    pub(super) words: &'a Words,
    pub(super) language: Language,
    pub(super) knowledge: &'a Knowledge,
    pub(super) visit: &'a Visit,
    pub(super) answer: &'a Answer,
    pub(super) opinion: Option<Opinion>,
}

/// For people: nothing is certain because of rounding.
fn percent(share: f64) -> String {
    match share {
        share if share < 0.0005 => "< 0.1 %".to_owned(),
        share if share > 0.9995 => "> 99.9 %".to_owned(),
        share => format!("{:.1} %", 100.0 * share),
    }
}

fn meter(share: f64) -> Markup {
    let share = format!("{share:.4}");
    // The figure stands beside it.
    html! { meter min="0" max="1" value=(share) aria-hidden="true" {} }
}

impl Result<'_> {
    /// A picture's answer, with how far its reasons are; none once the picture is forgotten.
    pub(super) fn picture(&self, kept: Option<&Progress>, way: Option<&str>) -> Markup {
        let words = self.words;
        let (figures, reasons) = match kept {
            None => (html! { p.notice { (words.forgotten) } }, html! {}),
            Some(Progress::Made(reasons)) => self.figures(reasons, way),
            Some(progress) => {
                let notice = match progress {
                    Progress::Waiting => words.waiting,
                    _ => words.no_reasons,
                };
                let figures = html! {
                    div.figures { (self.original()) }
                    p.notice role="status" { (notice) }
                };
                (figures, html! {})
            }
        };
        html! {
            h1 { (words.result) }
            div.columns {
                section.seen aria-label=(words.picture) { (figures) }
                div.said {
                    (self.confidence())
                    (reasons)
                    (self.opinion())
                    (self.provenance(&[]))
                }
            }
        }
    }

    fn original(&self) -> Markup {
        let source = format!("/v1/predictions/{}/picture.png", self.answer.id);
        html! {
            figure {
                div.frame { img src=(source) alt=(self.words.original_alt); }
                figcaption { (self.words.original) }
            }
        }
    }

    fn figures(&self, reasons: &Reasons, way: Option<&str>) -> (Markup, Markup) {
        let (words, id) = (self.words, &self.answer.id);
        let chosen = reasons
            .maps
            .iter()
            .find(|map| Some(map.way) == way)
            .or(reasons.maps.first());
        let Some(chosen) = chosen else {
            return (html! { div.figures { (self.original()) } }, html! {});
        };
        let name = |map: &Map| match map.way {
            "occlusion" => words.occlusion,
            _ => words.grad_cam,
        };
        let below = format!("/v1/predictions/{id}/picture.png");
        let above = format!("/v1/predictions/{id}/heat.png?way={}", chosen.way);
        let figures = html! {
            div.figures {
                (self.original())
                figure {
                    div.frame {
                        img src=(below) alt="";
                        img #heat .heat src=(above) alt=(words.heat_alt);
                    }
                    figcaption { (words.with_heat) (words.colon) (reasons.class) }
                }
            }
            div.controls {
                p.ways role="group" aria-label=(words.with_heat) {
                    @for map in &reasons.maps {
                        a href={ "/predictions/" (id) "?lang=" (tag(self.language)) "&way=" (map.way) }
                            aria-current=[(map.way == chosen.way).then_some("true")] { (name(map)) }
                    }
                }
                p.slider hidden {
                    label for="opacity" { (words.opacity) }
                    input #opacity type="range" min="0" max="100" value="70";
                    output for="opacity" { "70 %" }
                }
                p.legend aria-hidden="true" { span { (words.cold) } span.ramp {} span { (words.hot) } }
                p.hint { (words.not_segmentation) }
            }
        };
        let faithful = html! {
            section {
                h2 { (words.faithful) }
                table {
                    thead { tr { th scope="col" {} th scope="col" { (words.deletion) } th scope="col" { (words.insertion) } } }
                    tbody {
                        @for map in &reasons.maps {
                            tr {
                                th scope="row" { (name(map)) }
                                td.number { (percent(map.deletion.into())) }
                                td.number { (percent(map.insertion.into())) }
                            }
                        }
                    }
                }
                p.hint { (words.faithful_hint) }
                @if reasons.maps.iter().all(|map| map.insertion - map.deletion < TELLING) {
                    p.warning { (words.unfaithful) }
                }
            }
        };
        (figures, faithful)
    }

    fn confidence(&self) -> Markup {
        let words = self.words;
        let Said::Image {
            prediction,
            error_rate,
            ..
        } = &self.answer.said
        else {
            return html! {};
        };
        html! {
            section {
                h2 { (words.confidence) }
                ul.classes {
                    @for (at, said) in prediction.classes.iter().enumerate() {
                        li.first[at == 0] {
                            span.class { (said.class) }
                            (meter(said.probability.into()))
                            span.number { (percent(said.probability.into())) }
                        }
                    }
                }
                @if prediction.is_unlike_known == Some(true) { p.warning { (words.unlike) } }
                @if prediction.is_unlike_known == Some(false) { p.good { (words.alike) } }
                @if let Some(set) = &prediction.set {
                    dl.set {
                        dt { (words.set) }
                        dd {
                            @if set.is_empty() { (words.set_empty) } @else { (set.join(", ")) }
                        }
                    }
                    @if let Some(rate) = error_rate { p.hint { (percent(*rate)) (words.colon) (words.set_rate) } }
                }
                p.hint { @if prediction.is_calibrated { (words.calibrated) } @else { (words.uncalibrated) } }
            }
        }
    }

    fn opinion(&self) -> Markup {
        let (words, id) = (self.words, &self.answer.id);
        html! {
            section {
                h2 { (words.opinion) }
                @if let Some(opinion) = self.opinion {
                    p.good role="status" { @if opinion.agree { (words.agreed) } @else { (words.disagreed) } }
                }
                form.opinion method="post" action={ "/predictions/" (id) "/opinion?lang=" (tag(self.language)) } {
                    (form_key(self.visit))
                    fieldset {
                        legend.hidden { (words.opinion) }
                        label { input type="radio" name="agree" value="true" required; " " (words.agree) }
                        label { input type="radio" name="agree" value="false"; " " (words.disagree) }
                    }
                    label for="comment" { (words.comment) }
                    textarea #comment name="comment" rows="2" maxlength="2000" aria-describedby="comment-hint" {}
                    p.hint #comment-hint { (words.comment_hint) }
                    button type="submit" { (words.send) }
                }
            }
        }
    }

    /// `notices` are what a reader must be told of the knowledge files, by name.
    fn provenance(&self, notices: &[String]) -> Markup {
        let (words, answer) = (self.words, self.answer);
        let (models, knowledge): (Vec<&Provenance>, &[_]) = match &answer.said {
            Said::Image { model, .. } => (vec![model], &[]),
            Said::Note {
                models, knowledge, ..
            } => (models.iter().collect(), knowledge),
        };
        html! {
            section.provenance {
                h2 { (words.provenance) }
                dl {
                    @for model in models {
                        dt { (words.study) } dd { (model.study) }
                        dt { (words.rounds) } dd { (model.rounds) }
                        dt { (words.sites) } dd { (model.sites) }
                        dt { (words.privacy) }
                        dd {
                            @match (model.epsilon, model.delta) {
                                (Some(epsilon), Some(delta)) => { "ε = " (epsilon) ", δ = " (format!("{delta:e}")) }
                                (None, Some(delta)) => { "δ = " (format!("{delta:e}")) }
                                _ => (words.no_privacy),
                            }
                        }
                        dt { (words.weights) } dd.digest { (model.sha256) }
                        dt { (words.plan) } dd.digest { (model.plan) }
                    }
                    @if !knowledge.is_empty() {
                        dt { (words.knowledge) }
                        dd {
                            ul.notices {
                                @for notice in notices { li { (notice) } }
                                @if notices.is_empty() {
                                    @for file in knowledge { li { (file.name) " " (file.version) } }
                                }
                            }
                        }
                    }
                    dt { (words.time) } dd { (answer.milliseconds) " ms" }
                    dt { (words.input) } dd.digest { (answer.input) }
                    dt { (words.prediction) } dd.digest { (answer.id) }
                }
                p { a.button href={ "/?lang=" (tag(self.language)) } { (words.another) } }
            }
        }
    }

    /// A note's answer, with the whole of it while it is kept.
    pub(super) fn note(&self, kept: Option<(&str, &Analysis)>) -> Markup {
        let words = self.words;
        html! {
            h1 { (words.result) }
            div.columns {
                section.seen aria-label=(words.note) {
                    @match kept {
                        Some((text, analysis)) => (self.marked(text, analysis)),
                        None => p.notice { (words.forgotten) },
                    }
                }
                div.said {
                    @match kept {
                        Some((_, analysis)) => (self.analysis(analysis)),
                        None => (self.summary()),
                    }
                    (self.opinion())
                    (self.provenance(kept.map_or(&[], |(_, analysis)| &analysis.differential.notices)))
                }
            }
        }
    }

    /// The note with what was recognised in it.
    fn marked(&self, text: &str, analysis: &Analysis) -> Markup {
        let words = self.words;
        let mut pieces = Vec::new();
        let mut at = 0;
        for mention in &analysis.entities {
            let span = mention.span;
            let (Some(before), Some(said)) =
                (text.get(at..span.start), text.get(span.start..span.end))
            else {
                continue;
            };
            pieces.push(html! { (before) mark class=(style(mention)) title=(self.title(mention)) { (said) } });
            at = span.end;
        }
        let rest = text.get(at..).unwrap_or_default();
        let kinds = [
            ("finding", words.finding),
            ("condition", words.condition),
            ("test", words.test),
            ("drug", words.drug),
            ("other", words.other),
        ];
        html! {
            h2 { (words.marks) }
            div.note-text { @for piece in &pieces { (piece) } (rest) }
            p.legend {
                @for (kind, name) in kinds { mark class=(kind) { (name) } " " }
                mark.denied { (words.denied) } " " mark.unsure { (words.unsure) }
            }
        }
    }

    fn title(&self, mention: &Mention) -> String {
        let name = mention.concept.as_ref().map(|id| self.name(id));
        name.unwrap_or_else(|| mention.kind.clone())
    }

    fn name(&self, id: &ConceptId) -> String {
        let concept = self.knowledge.concept(id);
        concept.map_or_else(
            || id.to_string(),
            |concept| concept.name(self.language).to_owned(),
        )
    }

    /// What is left of an answer once its note is forgotten.
    fn summary(&self) -> Markup {
        let Said::Note { candidates, .. } = &self.answer.said else {
            return html! {};
        };
        let words = self.words;
        html! {
            section {
                h2 { (words.differential) }
                ul.classes {
                    @for candidate in candidates.iter().take(SHOWN) {
                        li {
                            span.class {
                                @match candidate.condition.parse() { Ok(id) => (self.name(&id)), Err(_) => (candidate.name) }
                                @if !candidate.is_supported { " (" (words.weak) ")" }
                            }
                            (meter(candidate.probability))
                            span.number { (percent(candidate.probability)) }
                        }
                    }
                }
            }
        }
    }

    fn analysis(&self, analysis: &Analysis) -> Markup {
        let words = self.words;
        let differential = &analysis.differential;
        let supported = differential
            .candidates
            .iter()
            .filter(|candidate| candidate.is_supported);
        let supported: Vec<&Candidate> = supported.take(SHOWN).collect();
        let shown = match supported.is_empty() {
            true => differential.candidates.iter().take(WEAK_SHOWN).collect(),
            false => supported.clone(),
        };
        html! {
            section {
                h2 { (words.differential) }
                @if supported.is_empty() { p.warning { (words.too_little) } }
                ul.classes {
                    @for candidate in shown { (self.candidate(candidate)) }
                    li {
                        span.class { (words.none_of_these) }
                        (meter(differential.none_of_these))
                        span.number { (percent(differential.none_of_these)) }
                    }
                }
            }
            @if !differential.ask.is_empty() {
                section {
                    h2 { (words.ask) }
                    ul {
                        @for suggestion in differential.ask.iter().take(SHOWN) {
                            li {
                                (self.name(&suggestion.finding))
                                @if let Some(test) = &suggestion.test { " (" (words.by_test) " " (self.name(test)) ")" }
                            }
                        }
                    }
                }
            }
            (self.treatment(analysis))
            @if !analysis.classes.is_empty() {
                section {
                    h2 { (words.classes) }
                    ul.classes {
                        @for said in &analysis.classes {
                            li {
                                span.class { (said.class) }
                                (meter(said.probability.into()))
                                span.number { (percent(said.probability.into())) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn candidate(&self, candidate: &Candidate) -> Markup {
        let words = self.words;
        let reasons = |name: &str, reasons: &[Reason]| {
            let counted = reasons
                .iter()
                .filter(|reason| reason.is_counted)
                .take(SHOWN);
            let counted: Vec<String> = counted
                .map(|reason| {
                    let not = if reason.is_present {
                        String::new()
                    } else {
                        format!("{} ", words.absent)
                    };
                    format!("{not}{} (×{:.2})", self.name(&reason.finding), reason.ratio)
                })
                .collect();
            html! { @if !counted.is_empty() { p.reasons { strong { (name) (words.colon) } (counted.join(", ")) } } }
        };
        html! {
            li {
                span.class {
                    (self.name(&candidate.condition))
                    @if !candidate.is_supported { " (" (words.weak) ")" }
                }
                (meter(candidate.probability))
                span.number { (percent(candidate.probability)) }
                div.why {
                    (reasons(words.speaks_for, &candidate.supporting))
                    (reasons(words.speaks_against, &candidate.opposing))
                    @for rule in fired(candidate) { p.reasons { (rule) } }
                }
            }
        }
    }

    fn treatment(&self, analysis: &Analysis) -> Markup {
        let (words, treatment) = (self.words, &analysis.treatment);
        let treated = treatment
            .considered
            .iter()
            .filter(|considered| considered.is_treated());
        let treated: Vec<String> = treated
            .map(|considered| match considered.because {
                Because::Probable { probability } => {
                    format!(
                        "{} ({})",
                        self.name(&considered.condition),
                        percent(probability)
                    )
                }
                _ => self.name(&considered.condition),
            })
            .collect();
        let best = treatment
            .plans
            .as_ref()
            .and_then(|plans| plans.best.first());
        let options = treatment
            .options
            .iter()
            .flat_map(|options| &options.conditions)
            .flat_map(|of| &of.options);
        let chosen: Vec<_> = options
            .filter(|option| best.is_some_and(|best| best.treatments.contains(&option.treatment)))
            .collect();
        html! {
            @if !treated.is_empty() {
                section {
                    h2 { (words.treated) }
                    p { (treated.join(", ")) }
                    @if !chosen.is_empty() {
                        h3 { (words.plans) }
                        @for option in chosen {
                            p { strong { (option.name) } }
                            ul {
                                @for step in &option.steps { li { (step.line()) } }
                                @for finding in &option.findings { li.caution { (finding.line()) } }
                                @for need in Need::lines(&option.needs) { li.caution { (need) } }
                            }
                            p.hint { (option.source.line()) }
                        }
                    }
                }
            }
        }
    }
}

/// What rules that fired say.
fn fired(candidate: &Candidate) -> Vec<String> {
    use consilium_models::decision::diagnosis::rules::Outcome;
    let fired = candidate
        .rules
        .iter()
        .filter(|ruling| matches!(ruling.outcome, Outcome::Fired));
    fired
        .take(SHOWN)
        .map(|ruling| ruling.says.clone())
        .collect()
}

/// How a mention is marked.
fn style(mention: &Mention) -> String {
    let kind = match mention.kind.as_str() {
        "finding" => "finding",
        "condition" => "condition",
        "test" => "test",
        "drug" | "class" => "drug",
        _ => "other",
    };
    let Status { certainty, .. } = mention.status;
    let manner = match (certainty, mention.status.is_present()) {
        (Certainty::Negated, _) => " denied",
        (_, true) => "",
        (_, false) => " unsure",
    };
    format!("{kind}{manner}")
}
