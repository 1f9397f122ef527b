//! Networks of counts take the road of every gradient: clipped, noised, paid for.

use super::*;

/// A tree of two levels over two columns of four bins.
fn tree(privacy: &str) -> Setting {
    let text = format!(
        "name = \"test\"\ntask = \"tabular-classification\"\ndata_set = \"d\"\nrounds = 2\n\
         classes = [\"no\", \"yes\"]\nstrategy = {{ name = \"sum\" }}\n[cohort]\nsize = 3\n\
         [[table.columns]]\nname = \"a\"\nedges = [-0.5, 0.0, 0.5]\n\
         [[table.columns]]\nname = \"b\"\nedges = [-0.5, 0.0, 0.5]\n\
         [network]\nname = \"tree\"\ndepth = 2\n\
         [training]\nsteps = 1\nbatch_size = 400\nlearning_rate = 1.0\n[privacy]\n{privacy}\n"
    );
    Setting::new(Plan::from_toml(&text).expect("a sound plan"))
}

/// Numbers of the first level: a node of two columns, four bins and two classes.
const FIRST: usize = 2 * 4 * 2;

fn after(setting: Setting, update: &PrivateUpdate) -> Setting {
    let weights = setting.weights.as_slice().iter().zip(update.values());
    let weights = weights.map(|(weight, update)| weight + update).collect();
    Setting {
        weights: ParameterVector::new(weights).expect("finite"),
        ..setting
    }
}

#[test]
fn a_tree_grows_one_level_a_round_with_noise_and_without() {
    let examples = Memory::table(400);
    let private = "clipping_norm = 1.5\nnoise_multiplier = 0.5\ndelta = 1e-5";
    for (privacy, protection) in [
        (NONE, (|| none(1.0)) as fn() -> Protection),
        (private, || paid(1.0, 0.5, 1)),
    ] {
        let setting = tree(privacy);
        let first = setting
            .train(protection(), &examples)
            .expect("an update")
            .update;
        let (level, next) = first.values().split_at(FIRST);
        assert!(level.iter().any(|&count| count != 0.0));
        assert!(
            next.iter().all(|&count| count == 0.0),
            "noise on an empty level"
        );
        let setting = after(setting, &first);
        let second = setting
            .train(protection(), &examples)
            .expect("an update")
            .update;
        let (level, next) = second.values().split_at(FIRST);
        assert!(
            level.iter().all(|&count| count == 0.0),
            "a level that is done has moved"
        );
        assert!(next.iter().any(|&count| count != 0.0));
        let accuracy = setting.accuracy(&second, &examples);
        assert!(accuracy > 0.75, "{privacy}: {accuracy}");
        // All levels are done: nothing moves any more.
        let setting = after(setting, &second);
        let third = setting
            .train(protection(), &examples)
            .expect("an update")
            .update;
        assert!(third.values().iter().all(|&count| count == 0.0));
    }
}

#[test]
fn what_a_row_adds_is_as_long_as_the_root_of_its_columns() {
    let setting = tree(NONE);
    let examples = Memory::table(20);
    let patients: Vec<usize> = (0..20).collect();
    for gradient in setting.gradients(&examples, &patients, 1) {
        let square: f32 = gradient
            .iter()
            .map(|&bits| f32::from_bits(bits).powi(2))
            .sum();
        assert_eq!(square, 2.0);
    }
}
