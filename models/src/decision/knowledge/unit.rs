//! Whether two ways to write a unit mean the same unit.

/// Whether both are the same unit, whatever the spelling of micro, degree, powers, spaces and capitals.
///
/// Capitals count only where they tell milli from mega and small units from large ones apart (`mU` and
/// `MU`).
pub(crate) fn same(one: &str, other: &str) -> bool {
    let (one, other) = (normal(one), normal(other));
    let mega = |unit: &str| unit.starts_with('M');
    one.eq_ignore_ascii_case(&other) && mega(&one) == mega(&other)
}

/// A mass in another unit of mass; anything in its own unit. None where the two do not convert.
pub(crate) fn convert_mass(number: f64, from: &str, to: &str) -> Option<f64> {
    if same(from, to) {
        return Some(number);
    }
    Some(number * grams(from)? / grams(to)?)
}

fn grams(unit: &str) -> Option<f64> {
    match normal(unit).to_ascii_lowercase().as_str() {
        "kg" => Some(1e3),
        "g" => Some(1.0),
        "mg" => Some(1e-3),
        "ug" | "mcg" | "microgram" | "micrograms" => Some(1e-6),
        "ng" => Some(1e-9),
        _ => None,
    }
}

fn normal(unit: &str) -> String {
    let unit: String = unit
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|letter| match letter {
            '\u{b5}' | '\u{3bc}' => 'u',
            '×' | '*' | 'X' => 'x',
            '／' => '/',
            '％' => '%',
            '²' => '2',
            '⁹' => '9',
            '⁶' => '6',
            '³' => '3',
            other => other,
        })
        .filter(|letter| *letter != '^')
        .collect();
    let unit = unit.replace('℃', "°C").replace("mcg", "ug");
    // "×10⁹/L" is how counts are often printed.
    unit.strip_prefix("x10")
        .map_or(unit.clone(), |rest| format!("10{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_same_however_it_is_spelt() {
        for (one, other) in [
            ("mg/L", "mg/l"),
            ("µmol/L", "umol/l"),
            ("µmol/L", "μmol/L"),
            ("°C", "℃"),
            ("10^9/L", "×10⁹/L"),
            ("mL/min/1.73m2", "ml / min / 1.73 m²"),
            ("mcg", "µg"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn units_that_differ_are_told_apart() {
        for (one, other) in [
            ("mg/L", "mg/dL"),
            ("mU/L", "MU/L"),
            ("g", "mg"),
            ("", "%"),
            ("°C", "°F"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn masses_convert_and_others_do_not() {
        let close =
            |found: Option<f64>, wanted: f64| found.is_some_and(|it| (it - wanted).abs() < 1e-9);
        assert!(close(convert_mass(1.5, "g", "mg"), 1500.0));
        assert!(close(convert_mass(62.5, "micrograms", "mg"), 0.0625));
        assert!(close(convert_mass(10.0, "units", "units"), 10.0));
        assert_eq!(convert_mass(1.0, "mL", "mg"), None);
    }
}
