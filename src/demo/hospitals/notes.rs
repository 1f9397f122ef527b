//! Radiology notes that fit a generated image, in English and Chinese.

use consilium_models::random::Random;

use super::chest::{Finding, Level, Opacity, Side};

/// Notes on one finding: language and text.
pub(super) fn of(finding: &Finding, random: &mut Random) -> Vec<(&'static str, String)> {
    let choice = (random.bits() % 3) as usize;
    match finding {
        Finding::Normal => vec![
            ("en", NORMAL_EN[choice].into()),
            ("zh", NORMAL_ZH[choice].into()),
        ],
        Finding::Pneumonia(opacity) => {
            vec![
                ("en", english(opacity, choice)),
                ("zh", chinese(opacity, choice)),
            ]
        }
    }
}

const NORMAL_EN: [&str; 3] = [
    "Chest, frontal view. Both lungs are clear. Heart size is normal. No pleural effusion. \
     Impression: no acute disease.",
    "Frontal chest radiograph. No focal consolidation, effusion or pneumothorax. \
     Impression: normal chest.",
    "Lungs are well aerated without opacity. Cardiomediastinal contours are normal. \
     Impression: no evidence of pneumonia.",
];

const NORMAL_ZH: [&str; 3] = [
    "胸部正位片:双肺野清晰,心影大小正常,肋膈角锐利。印象:心肺未见异常。",
    "胸部X线正位:未见实变影、胸腔积液或气胸。印象:胸部平片未见异常。",
    "双肺透亮度良好,未见斑片影,纵隔心影形态正常。印象:未见肺炎征象。",
];

fn english(opacity: &Opacity, choice: usize) -> String {
    let side = match opacity.side {
        Side::Left => "left",
        Side::Right => "right",
    };
    let level = match opacity.level {
        Level::Upper => "upper",
        Level::Middle => "middle",
        Level::Lower => "lower",
    };
    let degree = if opacity.is_faint() { "Faint" } else { "Dense" };
    match choice {
        0 => format!(
            "Chest, frontal view. {degree} opacity in the {side} {level} zone. No pleural effusion. \
             Impression: findings consistent with pneumonia."
        ),
        1 => format!(
            "Frontal chest radiograph. {degree} air-space opacity projects over the {level} zone of \
             the {side} lung. Heart size is normal. Impression: {side} {level} zone pneumonia."
        ),
        _ => format!(
            "{degree} consolidation, {side} {level} zone. The other lung is clear. \
             Impression: pneumonia; follow-up after treatment is suggested."
        ),
    }
}

fn chinese(opacity: &Opacity, choice: usize) -> String {
    let side = match opacity.side {
        Side::Left => "左",
        Side::Right => "右",
    };
    let level = match opacity.level {
        Level::Upper => "上",
        Level::Middle => "中",
        Level::Lower => "下",
    };
    let degree = if opacity.is_faint() {
        "淡薄"
    } else {
        "致密"
    };
    match choice {
        0 => format!("胸部正位片:{side}肺{level}野见{degree}斑片影,未见胸腔积液。印象:考虑肺炎。"),
        1 => format!(
            "胸部X线正位:{side}肺{level}野{degree}渗出影,心影不大。印象:{side}肺{level}野肺炎。"
        ),
        _ => format!("{side}肺{level}野{degree}实变影,对侧肺野清晰。印象:肺炎,建议治疗后复查。"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_the_place_of_the_opacity_in_both_languages() {
        let mut random = Random::new(&[1]);
        for _ in 0..20 {
            let opacity = Opacity::draw(Side::Left, Level::Lower, &mut random);
            let notes = of(&Finding::Pneumonia(opacity), &mut random);
            assert!(
                notes[0].1.contains("left") && notes[0].1.contains("lower"),
                "{}",
                notes[0].1
            );
            assert!(notes[1].1.contains("左肺下野"), "{}", notes[1].1);
        }
    }

    #[test]
    fn normal_notes_name_no_opacity() {
        let mut random = Random::new(&[2]);
        for _ in 0..20 {
            let notes = of(&Finding::Normal, &mut random);
            assert!(!notes[0].1.contains("left") && !notes[1].1.contains('左'));
        }
    }
}
