//! Numbers, codes and addresses of the net: found by their shape, or by the label before them.

use std::{net::Ipv6Addr, sync::LazyLock};

use regex::Regex;

use super::{Found, Kind};

/// A pattern whose first group is the identifier, and what the identifier must still fulfil.
struct Rule {
    kind: Kind,
    pattern: Regex,
    holds: fn(&str) -> bool,
}

/// Between label and value: "MRN: #", "number is", "(ID) ".
const GAP: &str = r"(?:[ \t\r\n:=#.()*-]|(?-u:\b)(?:is|was|are|number|numbers|no|num|nr|id|ids|code|card|policy|to|at|records?)(?-u:\b)|º|卡|号码?|为|是){0,10}";
/// A code with at least one digit, which may have short parts and letters: `12345-JS`, `#SF-998877`.
const CODE: &str =
    r"(?:[A-Za-z]{1,8}[-/._]?){0,3}[0-9][A-Za-z0-9]{0,30}(?:[-/._][A-Za-z0-9]{1,20}){0,6}";
/// Digits in groups.
const DIGITS: &str = r"[+(]{0,2}[0-9](?:[-. ()/]{0,3}[0-9]){5,17}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?";

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let shape = |kind, pattern: &str, holds| Rule {
        kind,
        // The patterns are constants, and a test compiles them all.
        pattern: Regex::new(pattern).expect("a valid pattern"),
        holds,
    };
    let labelled = |kind, labels: &str, value: &str, holds| {
        shape(kind, &format!("(?i)(?:{labels}){GAP}({value})"), holds)
    };
    let code = |kind, labels: &str| labelled(kind, labels, CODE, three_digits as fn(&str) -> bool);
    let any = |_: &str| true;
    vec![
        shape(
            Kind::Email,
            r"([A-Za-z\u{c0}-\u{24f}0-9._%+-]{1,64}@[A-Za-z\u{c0}-\u{24f}0-9-]{1,63}(?:\.[A-Za-z\u{c0}-\u{24f}0-9-]{1,63}){1,5})",
            any,
        ),
        shape(
            Kind::Url,
            r#"(?i)((?:(?:https?|ftp)://|(?-u:\b)www\.)[^\s<>"'，。；）]+)"#,
            any,
        ),
        shape(
            Kind::Url,
            r"(?i)(?-u:\b)((?:[a-z0-9-]{1,63}\.){1,4}(?:com|org|net|edu|gov|info|cn|io|uk|de|es)(?:/[^\s<>，。；）]*)?)(?-u:\b)",
            |host| !host.starts_with('.') && host.len() > 5,
        ),
        shape(
            Kind::IpAddress,
            r"(?-u:\b)((?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2}))(?-u:\b)",
            // "1.3.4.5" counts things in a list.
            |address| address.len() >= 8,
        ),
        shape(
            Kind::IpAddress,
            r"(?i)((?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})",
            |address| address.len() > 4 && address.parse::<Ipv6Addr>().is_ok(),
        ),
        shape(
            Kind::NationalId,
            r"(?-u:\b)([0-9]{17}[0-9Xx])(?-u:\b)",
            is_resident_id,
        ),
        labelled(
            Kind::NationalId,
            "身份证|公民身份",
            r"[0-9]{14,17}[0-9Xx]",
            any,
        ),
        labelled(
            Kind::NationalId,
            r"(?-u:\b)(?:DNI|NIE|NIF|passport)(?-u:\b)|护照|军官证",
            CODE,
            three_digits,
        ),
        shape(
            Kind::SocialSecurity,
            r"(?-u:\b)([0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3} [0-9]{2} [0-9]{4})(?-u:\b)",
            any,
        ),
        labelled(
            Kind::SocialSecurity,
            r"(?-u:\b)(?:ssn|social security)(?-u:\b)",
            r"[0-9*xX]{3}[- ]?[0-9*xX]{2}[- ]?[0-9]{4}",
            any,
        ),
        code(
            Kind::MedicalRecord,
            r"(?-u:\b)(?:mrn|m\.r\.n\.?|mr ?#|mr no|med(?:ical)?\.? ?rec(?:ord)?s?|health record|record (?:number|no|id|#)|chart (?:number|no|id|#)|(?:patient|hospital|visit|encounter|admission|pt) ?(?:id|identifier|number|no|#)|nhs (?:number|no)|nhc|cipa|historia(?: cl[ií]nica)?|episodio|n[ºo°]\.? ?(?:de )?(?:historia|episodio))|住院号?|门诊号?|急诊号?|病案号?|病历号?|就诊(?:卡|号|流水)|登记号|床号|诊疗卡|患者编号|检查号|影像号|放射号|超声号|病理号|标本号|条码号|流水号",
        ),
        code(
            Kind::HealthPlan,
            r"(?-u:\b)(?:(?:health|medical|dental|vision)? ?(?:insurance|ins)\.?|health ?plan|hicn|mbi|medicare|medicaid|beneficiary|subscriber|policy ?(?:holder)? ?(?:number|no|id|#|num)|policy|member(?:ship)? ?(?:number|no|id|#)|group (?:number|no|id|#)|plan (?:number|no|id|#))(?: ?(?:plan|policy|member|group|beneficiary))?|医保|社保|参保|保险|保单",
        ),
        // "Insurance: Blue Cross Gold H5619-049"
        shape(
            Kind::HealthPlan,
            &format!(
                r"(?-u:\b)(?:[Ii]nsurance|[Ii]nsurer|[Pp]lan|[Pp]ayer|[Pp]ayor)(?: [a-z]{{1,12}})? ?:? ?(?:[A-Z][A-Za-z]{{1,15}} ){{1,4}}#?({CODE})"
            ),
            three_digits,
        ),
        labelled(
            Kind::HealthPlan,
            r"(?-u:\b)(?:nass|nuhsa|tarjeta sanitaria|afiliaci[óo]n)(?-u:\b)",
            r"[0-9](?:[-/ ]?[0-9]){6,17}",
            any,
        ),
        code(
            Kind::Account,
            r"(?-u:\b)(?:acc(?:oun)?t|a/c|billing|invoice|iban|credit card|debit card|card (?:number|no|#))(?-u:\b)|银行卡|账号|帐号|账户|信用卡|发票号",
        ),
        code(
            Kind::Licence,
            r"(?-u:\b)(?:licen[cs]e|lic|certificate|cert|dea|npi|driver'?s? licen[cs]e|registration (?:number|no|id|#))(?-u:\b)|证书|执业证|驾驶证|资格证|准考证|工号|学号",
        ),
        labelled(
            Kind::Licence,
            r"(?-u:\b)(?:n[ºo°]? ?\.? ?col(?:egiad[oa])?|colegiad[oa])(?-u:\b)",
            r"[0-9](?:[-/ ]?[0-9]){3,12}",
            any,
        ),
        shape(
            Kind::Vehicle,
            r"(?-u:\b)([A-HJ-NPR-Z0-9]{17})(?-u:\b)",
            is_vin,
        ),
        labelled(
            Kind::Vehicle,
            r"(?-u:\b)(?:vin|vehicle (?:id|identification|registration))(?-u:\b)",
            CODE,
            three_digits,
        ),
        labelled(
            Kind::Vehicle,
            r"(?-u:\b)(?:licen[cs]e plates?|(?:plate|tag) (?:number|no|#)|matr[íi]cula)(?-u:\b)|车牌",
            r"[A-Z0-9]{1,4}[- ]?[A-Z0-9]{2,6}",
            |plate| plate.bytes().any(|byte| byte.is_ascii_digit()),
        ),
        shape(
            Kind::Vehicle,
            r"([京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·. ]?[A-Z0-9]{5,6})(?-u:\b)",
            any,
        ),
        code(
            Kind::Device,
            r"(?-u:\b)(?:serial|s/n|sn|udi|device (?:id|identifier|number|no|#)|(?:model|lot|implant|pacemaker|ref) (?:number|no|#))(?-u:\b)|序列号|设备号|设备编号|批号",
        ),
        code(
            Kind::Biometric,
            r"(?-u:\b)(?:finger ?prints?|voice ?prints?|retinal? scans?|iris scans?|face ?prints?|biometric)(?-u:\b)|指纹|声纹|虹膜",
        ),
        labelled(
            Kind::Fax,
            r"(?-u:\b)(?:fax(?:ed)?)(?-u:\b)(?: [a-z]{1,10}){0,3}|传真",
            DIGITS,
            seven_digits,
        ),
        labelled(
            Kind::Phone,
            r"(?-u:\b)(?:tel(?:ephone|fs?|s)?|tfno|tel[ée]fono|tlf|m[óo]vil|phone|ph|cell(?:phone)?|mobile|pager|beeper|whatsapp|call(?:ed|ing)?|contact|reached)(?-u:\b)(?: [a-z]{1,10}){0,3}|电话|手机|联系方式|联系人|热线|致电",
            DIGITS,
            seven_digits,
        ),
        shape(
            Kind::Phone,
            r"(?i)((?:\+?1[-. ]?)?(?:\([0-9]{3}\) ?|(?-u:\b)[0-9]{3}[-. ])[0-9]{3}[-. ][0-9]{4}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?)(?-u:\b)",
            any,
        ),
        shape(
            Kind::Phone,
            r"(\+[0-9]{1,3}(?:[-. ]?\(?[0-9]{1,4}\)?){2,5})(?-u:\b)",
            |phone| digits(phone) >= 9,
        ),
        shape(
            Kind::Phone,
            r"(?-u:\b)((?:86[- ]?)?1[3-9][0-9](?:[0-9]{8}|[- ][0-9]{4}[- ][0-9]{4})|0[1-9][0-9]{1,2}[- ][0-9]{7,8}|[48]00-[0-9]{3}-[0-9]{4}|555-[0-9]{4}|[6-9][0-9]{2}(?: [0-9]{3}){2}|[6-9][0-9]{2}(?: [0-9]{2}){3}|0[1-9](?:[ .][0-9]{2}){4})(?-u:\b)",
            any,
        ),
        code(
            Kind::Number,
            r"(?-u:\b)(?:id|identifier|identification|ref(?:erence)?\.? ?(?:code|no|number|id|#)?|case ?(?:no|number|id|#|file)|(?:study|subject|participant|trial|claim|order|tracking|confirmation|accession|specimen|sample|employee|badge|barcode) ?(?:id|no|number|code|#))|微信号?|QQ号?|编号",
        ),
        // Long numbers, unless an amount; a registered trial (NCT) or article (PMID) is no person.
        shape(
            Kind::Number,
            r"(?-u:\b)([A-Za-z]{0,4}-?[0-9]{7,}|[A-Z]{1,5}-[0-9]{5,}|[0-9]{3,6}-[0-9]{2,6}-[0-9]{3,6}|[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4})(?-u:\b)",
            |number| {
                !["NCT", "PMC", "PMID"]
                    .iter()
                    .any(|head| number.starts_with(head))
            },
        ),
    ]
});

static AMOUNT: LazyLock<Regex> = LazyLock::new(|| {
    // A constant again.
    Regex::new(
        r"(?i)^ ?(?:/ ?[a-zµμ]|%|x ?10|cells|copies|units?|iu|mg|ml|mcg|per|次|万|单位|拷贝|个)",
    )
    .expect("a valid pattern")
});

/// Adds what the rules find.
pub(super) fn find(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for rule in RULES.iter() {
        for captures in rule.pattern.captures_iter(text) {
            let Some(value) = captures.get(1).filter(|value| (rule.holds)(value.as_str())) else {
                continue;
            };
            // The unit decides within a few characters.
            let after = text.get(value.end()..).unwrap_or_default();
            if rule.kind == Kind::Number
                && captures.get_match().start() == value.start()
                && AMOUNT.is_match(after)
            {
                continue;
            }
            let trimmed = value
                .as_str()
                .trim_end_matches(['.', ',', ';', ':', ')', '(', ' ', '-', '/']);
            found.push(Found {
                kind: rule.kind,
                range: value.start()..value.start() + trimmed.len(),
            });
        }
    }
    found
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

fn three_digits(text: &str) -> bool {
    digits(text) >= 3
}

fn seven_digits(text: &str) -> bool {
    digits(text) >= 7
}

/// GB 11643-1999: 17 digits, the 7th to the 14th a day of birth, and a check character after ISO
/// 7064, MOD 11-2.
fn is_resident_id(id: &str) -> bool {
    let number = |range| {
        id.get(range)
            .and_then(|digits: &str| digits.parse::<u16>().ok())
    };
    let (Some(year), Some(month), Some(day)) = (number(6..10), number(10..12), number(12..14))
    else {
        return false;
    };
    let exists = super::calendar::Day::new(i32::from(year), month as u8, day as u8).is_some();
    exists
        && id.len() == 18
        && resident_check(id.as_bytes()) == id.bytes().last().map(|c| c.to_ascii_uppercase())
}

fn resident_check(id: &[u8]) -> Option<u8> {
    let sum = id.iter().take(17).try_fold(0, |sum, &c| {
        let digit = char::from(c).to_digit(10)?;
        Some((sum + digit) * 2 % 11)
    })?;
    Some(match (12 - sum) % 11 {
        10 => b'X',
        check => b'0' + check as u8,
    })
}

/// The check digit of North American vehicle numbers (49 CFR 565.15): the 9th of 17 characters.
fn is_vin(vin: &str) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let value = |c: char| match c {
        '0'..='9' => c.to_digit(10),
        'A'..='H' => Some(c as u32 - 'A' as u32 + 1),
        'J'..='N' => Some(c as u32 - 'J' as u32 + 1),
        'P' => Some(7),
        'R' => Some(9),
        'S'..='Z' => Some(c as u32 - 'S' as u32 + 2),
        _ => None,
    };
    let sum: Option<u32> = vin
        .chars()
        .zip(WEIGHTS)
        .map(|(c, weight)| Some(value(c)? * weight))
        .sum();
    let check = vin.chars().nth(8);
    let letters = vin.bytes().any(|byte| byte.is_ascii_alphabetic());
    letters && sum.is_some_and(|sum| char::from_digit(sum % 11, 10).or(Some('X')) == check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_kind(kind: Kind, text: &str) -> Vec<&str> {
        let found = super::super::disjoint(find(text)).into_iter();
        found
            .filter(|found| found.kind == kind)
            .map(|found| &text[found.range])
            .collect()
    }

    #[test]
    fn the_check_character_of_a_resident_number_is_that_of_the_standard() {
        // The two worked examples of GB 11643-1999.
        assert!(is_resident_id("11010519491231002X") && is_resident_id("11010519491231002x"));
        assert!(is_resident_id("440524188001010014"));
        assert!(!is_resident_id("110105194912310021") && !is_resident_id("11010519491331002X"));
        // Any single wrong digit shows.
        for at in 0..17 {
            for digit in b'0'..=b'9' {
                let mut id = *b"11010519491231002X";
                if id[at] != digit {
                    id[at] = digit;
                    assert_ne!(resident_check(&id), Some(b'X'));
                }
            }
        }
        // What fails is still a long number, and taken out.
        assert_eq!(
            of_kind(Kind::NationalId, "号11010519491231002X，"),
            ["11010519491231002X"]
        );
        assert_eq!(
            of_kind(Kind::Number, "110105194912310021"),
            ["110105194912310021"]
        );
    }

    #[test]
    fn the_check_digit_of_a_vehicle_number_is_that_of_the_rule() {
        assert!(is_vin("1M8GDM9AXKP042788"));
        assert!(!is_vin("1M8GDM9A1KP042788") && !is_vin("11111111111111111"));
        assert_eq!(
            of_kind(Kind::Vehicle, "car 1M8GDM9AXKP042788"),
            ["1M8GDM9AXKP042788"]
        );
    }

    #[test]
    fn each_kind_is_found_by_shape_or_label() {
        for (kind, text, value) in [
            (
                Kind::Email,
                "mail ana.b+x@mail.example.org.",
                "ana.b+x@mail.example.org",
            ),
            (
                Kind::Url,
                "see https://example.org/p?id=1 now",
                "https://example.org/p?id=1",
            ),
            (
                Kind::Url,
                "portal myclinic.example.com",
                "myclinic.example.com",
            ),
            (Kind::IpAddress, "from 192.168.10.254", "192.168.10.254"),
            (Kind::IpAddress, "from 2001:db8::1:2 today", "2001:db8::1:2"),
            (Kind::SocialSecurity, "has 123-45-6789", "123-45-6789"),
            (Kind::SocialSecurity, "SSN 123456789", "123456789"),
            (Kind::MedicalRecord, "(MRN: #SF-998877)", "SF-998877"),
            (
                Kind::MedicalRecord,
                "medical record number is 12345-JS",
                "12345-JS",
            ),
            (Kind::MedicalRecord, "NHC: 368503.", "368503"),
            (Kind::MedicalRecord, "住院号:ZY00123456", "ZY00123456"),
            (Kind::HealthPlan, "ins plan #R-987654", "R-987654"),
            (
                Kind::HealthPlan,
                "Insurance: Blue Cross Gold H5619-049.",
                "H5619-049",
            ),
            (Kind::HealthPlan, "NASS: 26 63514095.", "26 63514095"),
            (Kind::HealthPlan, "医保卡号 310000123", "310000123"),
            (Kind::Account, "Acct#: SH-4567", "SH-4567"),
            (Kind::Licence, "DEA AB1234563", "AB1234563"),
            (Kind::Licence, "NºCol: 28 28 70973.", "28 28 70973"),
            (Kind::Vehicle, "license plate 7ABC123", "7ABC123"),
            (Kind::Vehicle, "驾车京A12345来院", "京A12345"),
            (Kind::Device, "serial number PX-20931-B", "PX-20931-B"),
            (Kind::Biometric, "fingerprint ID FP-33871", "FP-33871"),
            (Kind::Fax, "fax records to 987-654-3210", "987-654-3210"),
            (
                Kind::Phone,
                "call (310) 555-1234 x12.",
                "(310) 555-1234 x12",
            ),
            (Kind::Phone, "+34 963 862 600", "+34 963 862 600"),
            (Kind::Phone, "citas 942 56 21 60", "942 56 21 60"),
            (Kind::Phone, "电话13812345678转", "13812345678"),
            (Kind::Phone, "打010-62345678问", "010-62345678"),
            (Kind::Number, "(ID: 98765)", "98765"),
            (Kind::Number, "ref. code: EM-2554", "EM-2554"),
            (Kind::Number, "卡6222 0202 0011 2233", "6222 0202 0011 2233"),
        ] {
            assert_eq!(of_kind(kind, text), [value], "{text}");
        }
    }

    #[test]
    fn amounts_scores_and_clinical_codes_stay() {
        for text in [
            "platelets 1500000/uL",
            "1000000 IU",
            "NCT01234567",
            "COVID-19, HLA-B27",
            "T10-L2",
            "ICD-10 E11.9",
            "SpO2 98%",
            "150-200 mg",
            "CHA2DS2-VASc 4",
            "time 10:30:15",
            "A1c 7.2",
            "insurance denied 2 visits",
            "ratio 1:2",
        ] {
            assert_eq!(find(text), [], "{text}");
        }
    }
}
