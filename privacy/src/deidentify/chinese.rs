//! Names and places in Chinese, which has neither capitals nor blanks: a name stands beside a label, a
//! title or 某, begins with a family name, and has at most two characters more.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use regex::Regex;

use super::{Found, Kind};

const FAMILY_NAMES: &str = include_str!("lists/chinese_family_names.txt");
const PLACES: &str = include_str!("lists/chinese_places.txt");

/// Characters that hardly occur in given names and often right after a family name's character when
/// that is no name: "高血压", "黄疸", "白细胞", "方法".
const NO_NAME: &str = "的了是有在不和与或及而也就都很再又被把给让使因于为从向对到说问来去过着看要会能可应该需没还已将等后前上下\
    左右内外中间时日月年天周次个种类型性期级度量率值数第一二三四五六七八九十两几多少高低长短\
    血压糖脂病症痛疼炎热烧咳喘胸腹头颈背腰腿脚手足眼耳鼻口舌牙喉心肝脾肺肾胃肠胆膀胱骨关节肌肉皮肤神经脑脊髓\
    癌瘤结核肿肢体温疸细胞菌毒素酶药物剂片丸汤胶囊针术检查治疗诊断医院生士者员患家属人您你我他她它们吃喝睡饮食\
    出入行做用如若但并其此这那哪什么怎样何以所之则即只便常见先进开始发作感觉觉得情况问题原因法面部位侧\
    ，。、；：！？,.;:!?()（）";
/// Words that begin like a name and are none.
const NO_NAMES: [&str; 26] = [
    "麻烦", "谢谢", "多谢", "感谢", "康复", "高龄", "高危", "任何", "应按", "应当", "祝健", "祝您",
    "安静", "安全", "平静", "温和", "温暖", "方便", "严重", "明显", "明确", "常规", "路过", "单纯",
    "全身", "黄染",
];
/// Family names that are as often other words before a title: "和医生谈", "向大夫说".
const DOUBTFUL: &str = "和于时向任应常成全单明连查解管关谈官司师党温游从原包安房商曲封费麻冷简边华宗万古路文方能南白车项池\
    金石江季班祝谢何边左章景路荣乐惠康宁平";

const HAN: &str = r"[\u{4e00}-\u{9fff}]";

struct Lists {
    single: HashSet<char>,
    double: Vec<&'static str>,
    no_name: HashSet<char>,
    doubtful: HashSet<char>,
}

static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let mut lines = FAMILY_NAMES.lines().filter(|line| !line.starts_with('#'));
    Lists {
        single: lines.next().unwrap_or_default().chars().collect(),
        double: lines.flat_map(str::split_whitespace).collect(),
        no_name: NO_NAME.chars().filter(|c| !c.is_whitespace()).collect(),
        doubtful: DOUBTFUL.chars().filter(|c| !c.is_whitespace()).collect(),
    }
});

struct Patterns {
    /// A label that only a name follows, then what may be one.
    labelled: Regex,
    /// A word for a person, then what may be a name, then where a name may end.
    described: Regex,
    /// What may be a name before a title.
    titled: Regex,
    /// 李某, 王某某.
    masked: Regex,
    road: Regex,
    district: Regex,
    home: Regex,
    institution: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    // The patterns are constants, and a test compiles them all.
    let compile = |pattern: &str| Regex::new(pattern).expect("a valid pattern");
    let places = PLACES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join("|");
    // One level of an address: "朝阳区", "中关村镇", without words that only end like one.
    let level =
        format!("{HAN}{{2,5}}?(?:自治州|自治县|地区|新区|开发区|街道|省|市|区|县|旗|镇|乡|村|屯)");
    let number = "[0-9一二三四五六七八九十百甲乙丙A-Za-z-]{1,8}";
    let house = format!(
        "{number}(?:号楼|号院|号|弄|栋|幢|单元|室)(?:{number}(?:号楼|号|栋|幢|座|楼|层|单元|门|室|房)){{0,5}}"
    );
    Patterns {
        labelled: compile(&format!(
            "(?:姓 ?名|患者名|病人名|签名|签字|签章|联系人|监护人|记录者|报告者|审核者|检查者|操作者|申请者|主刀|术者|助手|(?:经治|主治|主管|住院|责任|报告|审核|申请|开单|接诊|管床|麻醉|手术)?(?:医师|医生|护士|大夫)|家属|患者|病人)(?:姓名|签名|签字)? ?[:=] ?({HAN}{{2,4}}(?:·{HAN}{{1,8}})?)"
        )),
        described: compile(&format!(
            "(?:患者|病人|患儿|产妇|孕妇|死者|伤者|家属|我叫|名叫|姓名|本人|其[父母妻夫子女]|[父母丈]亲|丈夫|妻子|儿子|女儿)({HAN}{{2,4}}?)(?:[,，。、;；:：()（）\\s]|[男女],|因|于[0-9]|，|先生|女士|$)"
        )),
        titled: compile(&format!(
            "({HAN}{{1,3}})(?:医生|医师|大夫|主任|教授|护士长?|院长|博士|院士|先生|女士|小姐|太太|夫人|老师|阿姨|大爷|大妈|奶奶|爷爷|同志|主治|药师|技师|老伯|师傅)"
        )),
        masked: compile(&format!("{HAN}(?:某{{1,2}}|[xX×*＊]{{1,2}}(?-u:\\b))")),
        road: compile(&format!(
            "((?:{level}){{0,5}}{HAN}{{1,8}}?(?:大道|大街|路|街|巷|胡同|弄|小区|花园|公寓|家园|新村|苑|广场|大厦){house}|(?:{level}){{1,5}}{HAN}{{0,8}}?{house})"
        )),
        district: compile(&format!(
            "((?:(?:{places})(?:省|市|自治区|特别行政区)?){{0,2}}(?:{places})(?:(?:市|地区|自治州)(?:{level}){{0,4}}|(?:{level}){{1,4}}))"
        )),
        home: compile(
            r"(?:家庭住址|现住址|住址|地址|籍贯|户籍地?|出生地|户口地址|工作单位) ?[:=] ?([^\s,，。;；]{2,40})",
        ),
        institution: compile(&format!(
            "((?:{places}){HAN}{{0,12}}?(?:医院|卫生院|卫生所|诊所|门诊部|卫生服务中心|养老院|疗养院|医学院|大学|中学|小学|公司|监狱)|{HAN}{{2,3}}[省市区县](?:第[一二三四五六七八九十]{{1,2}}|人民|中心|中医|妇幼|立){HAN}{{0,8}}?医院|[0-9]{{3}}医院)"
        )),
    }
});

/// Han characters, those of ideographic names and texts.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// Adds Chinese names and places.
pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    if !text.chars().any(is_han) {
        return;
    }
    let mut names = names(text);
    let known: HashSet<&str> = names
        .iter()
        .filter_map(|range| text.get(range.clone()))
        .filter(|name| name.chars().count() >= 2 && !name.contains('某'))
        .collect();
    again(text, &known, &mut names);
    found.extend(names.into_iter().map(|range| Found {
        kind: Kind::Name,
        range,
    }));
    let patterns = &*PATTERNS;
    for pattern in [
        &patterns.road,
        &patterns.district,
        &patterns.home,
        &patterns.institution,
    ] {
        found.extend(pattern.captures_iter(text).filter_map(|captures| {
            let place = captures.get(1)?;
            let start = place.start() + before_place(place.as_str());
            Some(Found {
                kind: Kind::Place,
                range: start..place.end(),
            })
        }));
    }
}

fn names(text: &str) -> Vec<Range<usize>> {
    let patterns = &*PATTERNS;
    let mut names = Vec::new();
    for captures in patterns.labelled.captures_iter(text) {
        let Some(name) = captures.get(1) else {
            continue;
        };
        let explicit = captures.get_match().as_str().contains('名') || name.as_str().contains('·');
        let length = name_length(name.as_str());
        let whole = name.as_str();
        match length {
            Some(length) => names.push(name.start()..name.start() + length),
            None if explicit => names.push(name.start()..name.start() + whole.len()),
            None => {}
        }
    }
    for captures in patterns.described.captures_iter(text) {
        if let Some(name) = captures.get(1)
            && name_length(name.as_str()) == Some(name.len())
        {
            names.push(name.range());
        }
    }
    for captures in patterns.titled.captures_iter(text) {
        if let Some(before) = captures.get(1)
            && let Some(start) = before_title(text, &before.range())
        {
            names.push(start..before.end());
        }
    }
    for masked in patterns.masked.find_iter(text) {
        // "由于某种原因", "某地"
        let after = text
            .get(masked.end()..)
            .and_then(|rest| rest.chars().next());
        let thing = after.is_some_and(|c| "种些个地一项类处方天日年月段次".contains(c));
        if !thing && masked.as_str().starts_with(|c| LISTS.single.contains(&c)) {
            names.push(masked.range());
        }
    }
    names
}

/// Bytes of the name that a text begins with.
fn name_length(text: &str) -> Option<usize> {
    if NO_NAMES.iter().any(|word| text.starts_with(word)) {
        return None;
    }
    let family = family_length(text)?;
    let given: usize = text
        .get(family..)?
        .chars()
        .take(2)
        .take_while(|c| is_han(*c) && !LISTS.no_name.contains(c))
        .map(char::len_utf8)
        .sum();
    (given > 0).then_some(family + given)
}

fn family_length(text: &str) -> Option<usize> {
    let double = LISTS.double.iter().find(|name| text.starts_with(**name));
    let single = || text.chars().next().filter(|c| LISTS.single.contains(c));
    double
        .map(|name| name.len())
        .or_else(|| single().map(char::len_utf8))
}

/// Where the name before a title begins: the longest that fits, but a family name alone must not be a
/// word of another kind.
fn before_title(text: &str, range: &Range<usize>) -> Option<usize> {
    let before = text.get(range.clone())?;
    if NO_NAMES.iter().any(|word| before.ends_with(word)) {
        return None;
    }
    let starts: Vec<usize> = before.char_indices().map(|(at, _)| at).collect();
    starts.iter().find_map(|&at| {
        let name = before.get(at..)?;
        let family = family_length(name)?;
        if family == name.len() {
            let doubtful = name.chars().all(|c| LISTS.doubtful.contains(&c));
            return (!doubtful).then_some(range.start + at);
        }
        // A full name stands at the beginning of what is said, or after somebody's role.
        let left = text.get(..range.start + at)?.chars().next_back();
        let free = left.is_none_or(|c| !is_han(c) || "由请找经及和与是为让".contains(c));
        (free && name_length(name) == Some(name.len())).then_some(range.start + at)
    })
}

/// Names found in one place stand for the same person in another.
fn again(text: &str, known: &HashSet<&str>, names: &mut Vec<Range<usize>>) {
    if known.is_empty() {
        return;
    }
    let ends: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    for (i, &start) in ends.iter().enumerate() {
        let window = |length: usize| {
            let end = *ends.get(i + length)?;
            known.contains(text.get(start..end)?).then_some(start..end)
        };
        names.extend([4, 3, 2].into_iter().find_map(window));
    }
}

/// Bytes of what a pattern for places took that is none: "家住", "患者来自".
fn before_place(place: &str) -> usize {
    [
        "家住", "现住", "居住", "住在", "来自", "位于", "地处", "住", "在", "于", "到", "去", "从",
        "至", "往", "的", "是", "我", "者", "来",
    ]
    .iter()
    .filter_map(|word| place.find(word).map(|at| at + word.len()))
    .filter(|&end| end <= 18 && end < place.len())
    .max()
    .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deidentify::{disjoint, folding::Folded};

    fn of_kind(kind: Kind, text: &str) -> Vec<String> {
        let folded = Folded::new(text);
        let mut found = Vec::new();
        find(folded.text(), &mut found);
        disjoint(found)
            .into_iter()
            .filter(|found| found.kind == kind)
            .map(|found| folded.text()[found.range].to_owned())
            .collect()
    }

    #[test]
    fn names_are_found_by_label_role_title_and_mask() {
        for (text, name) in [
            ("姓名：王小明，男，45岁", "王小明"),
            ("患者姓名: 欧阳小虎 性别", "欧阳小虎"),
            ("姓名：买买提·吐尔逊", "买买提·吐尔逊"),
            ("患者李某某，因腹痛入院", "李某某"),
            ("患者张建国，男，65岁", "张建国"),
            ("由王医生查房", "王"),
            ("请刘志强主任会诊", "刘志强"),
            ("张女士诉头晕", "张"),
            ("签名：赵丽", "赵丽"),
            ("主治医师：陈晓东 2024", "陈晓东"),
        ] {
            assert_eq!(of_kind(Kind::Name, text), [name], "{text}");
        }
        assert_eq!(
            of_kind(Kind::Name, "姓名：周海燕。周海燕诉胸闷。"),
            ["周海燕", "周海燕"]
        );
    }

    #[test]
    fn diseases_and_findings_are_no_names() {
        for text in [
            "患者高血压，糖尿病",
            "患者黄疸，白细胞升高",
            "病人方便，温度正常",
            "问医生，找大夫",
            "和医生谈",
            "麻烦医生",
            "谢谢大夫",
            "任何医生",
            "由于某种原因",
            "患者康复，",
            "患者常有胸闷，于3天前",
            "病人安静，时有咳嗽",
            "患者温热，",
            "中医医生",
        ] {
            assert_eq!(of_kind(Kind::Name, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn addresses_and_institutions_are_found() {
        for (text, place) in [
            (
                "家住北京市海淀区中关村大街27号3单元501室，",
                "北京市海淀区中关村大街27号3单元501室",
            ),
            ("来自浙江省杭州市余杭区，", "浙江省杭州市余杭区"),
            ("住址：幸福小区8号楼2单元", "幸福小区8号楼2单元"),
            ("在北京协和医院就诊", "北京协和医院"),
            ("曾到邻水县人民医院看病", "邻水县人民医院"),
            ("工作单位：红星机械厂，", "红星机械厂"),
        ] {
            assert_eq!(of_kind(Kind::Place, text), [place], "{text}");
        }
    }

    #[test]
    fn nameless_hospitals_regions_of_the_body_and_provinces_stay() {
        for text in [
            "去当地医院检查",
            "正规医院就诊",
            "我院门诊",
            "右肺上叶前区结节",
            "病区管理",
            "来自四川",
            "心前区疼痛3天",
            "第5腰椎",
            "2号染色体",
            "糖尿病是一组",
            "单位:IU/ml",
            "今天28号",
        ] {
            assert_eq!(of_kind(Kind::Place, text), [""; 0], "{text}");
        }
    }
}
