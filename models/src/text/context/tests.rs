//! Sentences in the manner of the literature, and what they say.
//!
//! The English ones follow the phenomena of Chapman et al. 2001 (denial before and behind, lists,
//! pseudo-negation, ends of scope), Harkema et al. 2009 (experiencer, time, hypotheticals) and Chapman
//! et al. 2007 (ConText, BioNLP 2007); the Chinese ones the ways of writing of Chinese notes.

use super::*;

/// The mention in a line of a table stands in braces. Its status: `+` present, `-` negated, `?`
/// possible; then `f` family or `o` other; then `h` historical or `y` hypothetical.
fn check(table: &[(&str, &str)]) {
    let contexts = Contexts::shipped();
    let mut wrong = Vec::new();
    for (line, wanted) in table {
        let (text, mentions) = parse(line);
        let sentence = Span::new(0, text.len());
        let judged = contexts.judge_sentence(&text, sentence, SectionKind::Other, &mentions);
        let found: Vec<String> = judged.iter().map(|judged| letters(judged.status)).collect();
        if found.join(" ") != *wanted {
            wrong.push(format!(
                "{line}: {} instead of {wanted}: {judged:?}",
                found.join(" ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn parse(line: &str) -> (String, Vec<Span>) {
    let (mut text, mut mentions) = (String::new(), Vec::new());
    for part in line.split('{') {
        let Some((mention, rest)) = part.split_once('}') else {
            text.push_str(part);
            continue;
        };
        mentions.push(Span::new(text.len(), text.len() + mention.len()));
        text.push_str(mention);
        text.push_str(rest);
    }
    (text, mentions)
}

fn letters(status: Status) -> String {
    let certainty = match status.certainty {
        Certainty::Affirmed => "+",
        Certainty::Possible => "?",
        Certainty::Negated => "-",
    };
    let experiencer = match status.experiencer {
        Experiencer::Patient => "",
        Experiencer::Family => "f",
        Experiencer::Other => "o",
    };
    let time = match status.time {
        Time::Current => "",
        Time::Historical => "h",
        Time::Hypothetical => "y",
    };
    format!("{certainty}{experiencer}{time}")
}

#[test]
fn english_negation_reaches_what_is_negated_and_nothing_else() {
    check(&[
        ("The patient denies {chest pain}.", "-"),
        ("No {fever}, {chills}, or {night sweats}.", "- - -"),
        ("There is no evidence of {pneumonia}.", "-"),
        ("Lungs are clear without {wheezes} or {rales}.", "- -"),
        ("Negative for {hepatitis B}.", "-"),
        ("{Chest pain} is ruled out.", "-"),
        ("{Myocardial infarction} was ruled out by enzymes.", "-"),
        ("{Pneumonia}: unlikely", "-"),
        ("{Pulmonary embolism} is highly unlikely.", "-"),
        ("{Pleural effusion} was not seen.", "-"),
        ("Blood culture for {MRSA} was negative.", "-"),
        ("The biopsy was negative for {carcinoma}.", "-"),
        ("He does not have {diabetes}.", "-"),
        ("She doesn't report {headache}.", "-"),
        ("Denies {nausea} but has {vomiting}.", "- +"),
        ("No {fever}; however {cough} persists.", "- +"),
        ("No {edema} except for mild {swelling} of the ankle.", "- +"),
        ("No {dyspnea} secondary to {heart failure}.", "- +"),
        ("She denies {orthopnea}, reports {palpitations}.", "- +"),
        ("Patient has {cough} and no {fever}.", "+ -"),
        ("{Cough} without {sputum}, {fever} present.", "+ - -"),
        ("Neither {rash} nor {itching}.", "- -"),
        ("NO ACUTE {FRACTURE}", "-"),
        ("No evidence\nof {metastasis}.", "-"),
        ("Denies any history of {asthma}.", "-"),
        ("No history of {stroke}.", "-"),
        ("Past history: no {diabetes}.", "-"),
        ("Ruled out for {MI}.", "-"),
        ("Nodule {mass}, noted, knot in {arm}", "+ +"),
        ("{Fever} has resolved.", "-"),
    ]);
}

#[test]
fn what_only_looks_like_a_negation_is_none() {
    check(&[
        ("No increase in {size of the tumor}.", "+"),
        ("Gram negative {sepsis} was treated.", "+"),
        ("Not only {fever} but also {rash}.", "+ +"),
        ("No change in {cardiomegaly}.", "+"),
        ("{Cough} has not resolved.", "+"),
        ("She does not deny {chest pain}.", "+"),
        ("No doubt this is {appendicitis}.", "+"),
        ("No improvement in {pain}.", "+"),
        ("Triple-negative {breast cancer}.", "+"),
        ("Unable to walk because of {pain}.", "+"),
        ("Known {pneumonia}.", "+"),
        ("Signs were not limited to {fever}.", "+"),
    ]);
}

#[test]
fn english_doubt_is_not_a_negation() {
    check(&[
        ("{Pneumonia} cannot be excluded.", "?"),
        ("Cannot rule out {ischemia}.", "?"),
        ("Possible {pneumonia}.", "?"),
        ("{Pneumonia} is possible, no {effusion}.", "? -"),
        ("Rule out {pulmonary embolism}.", "?"),
        ("{DVT} should be ruled out.", "?"),
        ("{Sepsis} is suspected.", "?"),
        ("Findings suspicious for {malignancy}.", "?"),
        ("No {fever}, possible {pneumonia}.", "- ?"),
        ("No evidence of possible {metastasis}.", "-"),
        ("This may represent {atelectasis}.", "?"),
        ("Likely {viral syndrome}.", "?"),
        ("{TB} (possible)", "?"),
        ("?{PE}, {dyspnea}", "? +"),
        ("Any {chest pain}?", "?"),
    ]);
}

#[test]
fn english_experiencers_are_told_apart() {
    check(&[
        ("Her mother had {breast cancer}.", "+f"),
        ("Family history of {colon cancer}.", "+f"),
        ("{Breast cancer} in her mother.", "+f"),
        (
            "Patient has {asthma} and her mother has {diabetes}.",
            "+ +f",
        ),
        ("Father died of {MI}; patient has {hypertension}.", "+f +"),
        (
            "Her brother had {stroke} but she denies {headache}.",
            "+f -",
        ),
        ("No family history of {diabetes}.", "-f"),
        ("Mother reports {fever}.", "+"),
        (
            "Discussed with her mother, who understands the {cleft palate}.",
            "+",
        ),
        ("Mother denies {vomiting}.", "-"),
        ("His roommate has {influenza}.", "+o"),
        ("Maternal grandmother with {glaucoma}.", "+f"),
    ]);
}

#[test]
fn english_times_are_told_apart() {
    check(&[
        ("History of {hypertension}.", "+h"),
        ("Past medical history significant for {CHF}.", "+h"),
        (
            "A man with history of {COPD} presents with {dyspnea}.",
            "+h +",
        ),
        ("{Appendectomy} ten years ago.", "+h"),
        ("s/p {stroke} in 1998, now {aphasia}.", "+h +"),
        ("Return to the ER for {fever}.", "+y"),
        ("If {chest pain} recurs, call us.", "+y"),
        ("Call if you notice {bleeding} or {swelling}.", "+y +y"),
        ("Watch for {infection}.", "+y"),
        ("At risk for {falls}.", "+y"),
        (
            "Complications include but are not limited to {bleeding}.",
            "+y",
        ),
        ("Prior to {surgery} he was well.", "+"),
        ("Previous {stroke}, {headache}.", "+h +"),
        ("A 45-year-old with {asthma}.", "+"),
        ("Old records show {anemia}.", "+"),
    ]);
}

#[test]
fn chinese_negation_reaches_what_is_negated_and_nothing_else() {
    check(&[
        ("否认{胸痛}。", "-"),
        ("否认{发热}、{咳嗽}，伴{胸痛}。", "- - +"),
        ("否认{高血压}、{糖尿病}病史。", "- -"),
        ("否认{肝炎}、{结核}病史，{高血压}、{冠心病}史", "- - - -"),
        ("无{发热}、{寒战}，{咳嗽}3天", "- - +"),
        ("未见{胸腔积液}，左肺{结节}", "- +"),
        ("双肺未闻及{干湿性啰音}", "-"),
        ("腹软，无{压痛}及{反跳痛}", "- -"),
        ("{肺栓塞}已排除", "-"),
        ("不伴{恶心}、{呕吐}", "- -"),
        ("{Babinski征}(-)", "-"),
        ("{乙肝表面抗原}阴性", "-"),
        ("{病理征}未引出", "-"),
        ("无{发热},有{咳嗽}", "- +"),
        ("{胸痛}，无{放射痛}，但有{出汗}", "+ - +"),
        ("否认患有{哮喘}", "-"),
        ("未见明显{异常密度影}", "-"),
        ("患者denies {fever}", "-"),
    ]);
}

#[test]
fn what_only_looks_like_a_chinese_negation_is_none() {
    check(&[
        ("无明显诱因出现{胸闷}", "+"),
        ("四肢无力伴{头晕}", "+"),
        ("不规则{发热}", "+"),
        ("不否认{饮酒}", "+"),
        ("{腹痛}无明显缓解", "+"),
        ("非小细胞{肺癌}", "+"),
        ("{无尿}1天", "+"),
        ("无痛性{血尿}", "+"),
        ("革兰阴性{杆菌感染}", "+"),
        ("{咳嗽}无{咳痰}", "+ -"),
    ]);
}

#[test]
fn chinese_doubt_experiencer_and_time_are_told_apart() {
    check(&[
        ("{肺炎}待排", "?"),
        ("考虑{社区获得性肺炎}", "?"),
        ("疑似{肺结核}", "?"),
        ("不排除{肺栓塞}", "?"),
        ("{心肌梗死}不除外", "?"),
        ("{胸痛}不除外{心绞痛}", "+ ?"),
        ("{肺癌}可能性大，{结核}待排", "? ?"),
        ("{急性胃炎}?", "?"),
        ("{肺炎}可能，无{胸水}", "? -"),
        ("母亲患{糖尿病}", "+f"),
        ("父亲有{高血压}，患者{头痛}", "+f +"),
        ("否认{糖尿病}家族史", "-f"),
        ("母亲诉{发热}3天", "+"),
        ("同事患{流感}", "+o"),
        ("既往{高血压}病史10年", "+h"),
        ("{糖尿病}史5年，现{头晕}", "+h +"),
        ("既往有{胃溃疡}，此次因{黑便}入院", "+h +"),
        ("10年前曾患{肺结核}", "+h"),
        ("如出现{胸痛}及时就诊", "+y"),
        ("若{发热}、{呕吐}，随诊", "+y +y"),
        ("预防{感染}", "+y"),
        ("病情如下：{发热}", "+"),
    ]);
}

#[test]
fn a_section_answers_what_no_cue_does() {
    let contexts = Contexts::shipped();
    let note = "FAMILY HISTORY: Breast cancer. No diabetes.\nPAST HISTORY: Asthma, no stroke.\nPLAN: Rest for fever.";
    let mentions: Vec<Span> = ["Breast cancer", "diabetes", "Asthma", "stroke", "fever"]
        .iter()
        .filter_map(|words| note.find(words).map(|at| Span::new(at, at + words.len())))
        .collect();
    let judged = contexts.judge_note(note, &mentions);
    let found: Vec<String> = judged.iter().map(|judged| letters(judged.status)).collect();
    assert_eq!(found, ["+f", "-f", "+h", "-", "+"]);
    let kind = SectionKind::FamilyHistory;
    let means = Meaning::Family;
    assert_eq!(judged[0].reasons, [Reason::Section { kind, means }]);
    let Reason::Cue { span, means } = judged[1].reasons[0] else {
        panic!("a cue negates it");
    };
    assert_eq!((span.of(note), means), (Some("No"), Meaning::Negated));
}

#[test]
fn a_chinese_note_is_judged_by_its_sections_and_sentences() {
    let contexts = Contexts::shipped();
    let note = "主诉：咳嗽3天。现病史：无发热。既往史：高血压10年，否认糖尿病。家族史：冠心病。";
    let words = ["咳嗽", "发热", "高血压", "糖尿病", "冠心病", "家族史"];
    let mentions: Vec<Span> = words
        .iter()
        .filter_map(|words| note.find(words).map(|at| Span::new(at, at + words.len())))
        .collect();
    let judged = contexts.judge_note(note, &mentions);
    let found: Vec<String> = judged.iter().map(|judged| letters(judged.status)).collect();
    assert_eq!(found, ["+", "-", "+h", "-", "+f", "+f"]);
}

#[test]
fn mentions_keep_their_order_and_may_overlap_or_lie_anywhere() {
    let contexts = Contexts::shipped();
    let text = "Has rash. No fever, no cough.";
    let cough = Span::new(23, 28);
    let mentions = [
        cough,
        Span::new(4, 8),
        cough,
        Span::new(13, 18),
        Span::new(900, 999),
    ];
    let judged = contexts.judge_note(text, &mentions);
    let found: Vec<String> = judged.iter().map(|judged| letters(judged.status)).collect();
    assert_eq!(found, ["-", "+", "-", "-", "+"]);
    let odd = [Span::new(7, 3), Span::new(0, usize::MAX), Span::new(3, 3)];
    assert_eq!(contexts.judge_note("无发热", &odd).len(), 3);
    assert_eq!(contexts.judge_note("", &odd).len(), 3);
    let outside = Span::new(2, 900);
    assert_eq!(
        contexts
            .judge_sentence("发", outside, SectionKind::Other, &odd)
            .len(),
        3
    );
}

#[test]
fn a_cue_within_a_mention_says_nothing() {
    check(&[
        ("{No-reflow phenomenon} with {pain}", "+ +"),
        ("{疑难病}、{咳嗽}", "+ +"),
    ]);
}

#[test]
fn a_site_may_bring_its_own_cues_and_hears_what_is_wrong_with_them() {
    let cue = |terms: &str| {
        format!(
            "[words]\nwho = [\"aunt\"]\n[[cue]]\nmeans = \"negated\"\nscope = \"both\"\nterms = {terms}"
        )
    };
    let own = Contexts::from_toml(&[&cue("[\"nope\"]")]).expect("sound");
    let text = "Nope fever";
    let judged = own.judge_note(text, &[Span::new(5, 10)]);
    assert_eq!(judged[0].status.certainty, Certainty::Negated);
    let wrong = |terms| Contexts::from_toml(&[&cue(terms)]).expect_err("refused");
    assert!(matches!(wrong("[\"No\", \"no\"]"), CueError::Twice(_)));
    assert!(matches!(wrong("[\" \"]"), CueError::Empty));
    assert!(matches!(wrong("[\"in <them>\"]"), CueError::Undefined(_)));
    assert!(matches!(wrong("[\"<who> <who>\"]"), CueError::Undefined(_)));
    assert!(matches!(wrong("[1]"), CueError::Format(_)));
    let unknown = "[[cue]]\nmeans = \"never\"\nscope = \"both\"\nterms = []";
    assert!(matches!(
        Contexts::from_toml(&[unknown]),
        Err(CueError::Format(_))
    ));
}

#[test]
fn a_long_sentence_takes_no_time_without_end() {
    let contexts = Contexts::shipped();
    let text = "no fever but ".repeat(40_000);
    let mentions: Vec<Span> = (0..40_000)
        .map(|at| Span::new(at * 13 + 3, at * 13 + 8))
        .collect();
    let judged = contexts.judge_note(&text, &mentions);
    assert!(
        judged
            .iter()
            .all(|judged| judged.status.certainty == Certainty::Negated)
    );
}
