use proptest::prelude::*;

use super::{super::Target, *};
use crate::decision::diagnosis::layout::Answers;

const CLASSES: usize = 3;
/// Edges of each column: four yes-no questions, and two choices.
const EDGES: [&str; 6] = ["0.5", "0.5", "0.5", "0.5", "0.5, 1.5", "0.5, 1.5, 2.5"];
const COLUMNS: usize = EDGES.len();

fn plan(network: &str, seed: u64, privacy: &str) -> Plan {
    let columns: String = (0..COLUMNS)
        .map(|at| format!("{{ name = \"c{at}\", edges = [{}] }},", EDGES[at]))
        .collect();
    let text = format!(
        "name = \"test\"\ntask = \"diagnosis\"\ndata_set = \"d\"\nrounds = 1\nseed = {seed}\n\
         classes = [\"a\", \"b\", \"c\"]\nstrategy = {{ name = \"sum\" }}\n\
         table.columns = [{columns}]\nnetwork = {{ {network} }}\ncohort = {{ size = 4 }}\n\
         training = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\nprivacy = {{ {privacy} }}\n"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

fn network(network: &str) -> Network {
    Network::from_plan(&plan(network, 0, "mode = \"none\"")).expect("a network")
}

fn findings(most: usize) -> Network {
    network(&format!("name = \"naive-bayes\", most = {most}"))
}

/// A row of bins, and its class.
type Patient = ([u8; COLUMNS], usize);

/// What each row of a batch would add, with the sign of a count.
fn contributions(network: &Network, patients: &[Patient]) -> Vec<Vec<f32>> {
    let mut batch = network.batch();
    for (bins, class) in patients {
        let input = bins.map(f32::from);
        batch.push(&input, Target::Class(*class)).expect("fits");
    }
    let weights = network.initial(0);
    let weights = network.weights(weights.as_slice()).expect("its own");
    let gradients = network.per_example(&weights, &batch).expect("no device");
    let contribution = |example| {
        let mut gradient = vec![0.0; gradients.parameters()];
        gradients.write(example, &mut gradient);
        gradient.iter().map(|number| -number).collect()
    };
    (0..patients.len()).map(contribution).collect()
}

/// The weights of a round over all of them.
fn trained(network: &Network, patients: &[Patient]) -> Weights {
    let mut sum = vec![0.0; network.layout().parameters()];
    for row in contributions(network, patients) {
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, count)| *sum += count / 8.0);
    }
    network.weights(&sum).expect("its own")
}

fn norm(row: &[f32]) -> f64 {
    row.iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// What every private sum of findings rests on.
fn is_bounded(network: &Network, most: usize, patients: &[Patient]) -> bool {
    let rows = contributions(network, patients);
    rows.iter()
        .all(|row| norm(row) <= (1.0 + most as f64).sqrt() + 1e-6)
}

fn patients() -> impl Strategy<Value = Vec<Patient>> {
    let bins = (0_u8..2, 0_u8..2, 0_u8..2, 0_u8..2, 0_u8..3, 0_u8..4);
    let bins = bins.prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f]);
    proptest::collection::vec((bins, 0..CLASSES), 1..20)
}

proptest! {
    #[test]
    fn no_row_moves_the_counts_by_more_than_the_root_of_one_and_most(
        patients in patients(), most in 1..=COLUMNS,
    ) {
        prop_assert!(is_bounded(&findings(most), most, &patients));
        let plan = plan(&format!("name = \"naive-bayes\", most = {most}"), 0, "mode = \"none\"");
        prop_assert!((plan.count_norm() - (1.0 + most as f64).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_a_row_adds_depends_on_no_other_row_nor_on_its_place(
        patients in patients(), most in 1..=COLUMNS,
    ) {
        let network = findings(most);
        let together = contributions(&network, &patients);
        for (row, patient) in together.iter().zip(&patients) {
            prop_assert_eq!(row, &contributions(&network, &[*patient])[0]);
        }
        let turned: Vec<Patient> = patients.iter().rev().copied().collect();
        let turned = contributions(&network, &turned);
        prop_assert!(together.iter().eq(turned.iter().rev()));
    }

    #[test]
    fn as_many_findings_count_as_there_are_and_no_more_than_most(
        patients in patients(), most in 1..=COLUMNS,
    ) {
        let rows = contributions(&findings(most), &patients);
        for (row, (bins, class)) in rows.iter().zip(&patients) {
            let found = bins.iter().filter(|&&bin| bin > 0).count();
            prop_assert!(row.iter().all(|&count| count == 0.0 || count == 1.0));
            let cells = row.len() / CLASSES;
            let own = &row[class * cells..(class + 1) * cells];
            prop_assert_eq!(own[0], 1.0);
            prop_assert_eq!(own.iter().sum::<f32>(), 1.0 + found.min(most) as f32);
            prop_assert_eq!(row.iter().sum::<f32>(), own.iter().sum::<f32>());
        }
    }
}

/// The property above must see a network that counts every column, whatever the plan says.
#[test]
fn a_network_that_counts_all_columns_is_caught() {
    let all_found = [([1, 1, 1, 1, 2, 3], 0)];
    assert!(!is_bounded(&findings(COLUMNS), 2, &all_found));
    let without_most = network("name = \"naive-bayes\"");
    assert!(!is_bounded(&without_most, 2, &all_found));
    assert!(is_bounded(&findings(2), 2, &all_found));
}

#[test]
fn which_findings_count_differs_from_seed_to_seed_and_takes_turns() {
    let all_found = [([1, 1, 1, 1, 2, 3], 0)];
    let chosen = |seed| {
        let plan = plan("name = \"naive-bayes\", most = 1", seed, "mode = \"none\"");
        let network = Network::from_plan(&plan).expect("a network");
        let row = &contributions(&network, &all_found)[0];
        row.iter().skip(1).position(|&count| count == 1.0)
    };
    let columns: std::collections::BTreeSet<_> = (0..100).map(chosen).collect();
    assert_eq!(columns.len(), COLUMNS);
}

/// Four of class 0, three with the first finding; two of class 1 in the last bin of the last column.
fn six() -> [Patient; 6] {
    let (none, first, last) = ([0; 6], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3]);
    [
        (none, 0),
        (first, 0),
        (first, 0),
        (first, 0),
        (last, 1),
        (last, 1),
    ]
}

#[test]
fn counts_become_the_answers_of_a_table() {
    for kind in ["name = \"naive-bayes\"", "name = \"naive-bayes\", most = 1"] {
        let network = network(kind);
        let weights = trained(&network, &six());
        let table = network
            .evidence_table(&weights, &[])
            .expect("known classes");
        let table = table.expect("naive-bayes");
        let close = |found: &[f64], expected: &[f64]| {
            let pairs = found.iter().zip(expected);
            assert!(
                pairs.clone().all(|(a, b)| (a - b).abs() < 1e-6),
                "{kind}: {found:?}"
            );
        };
        close(table.prior(), &[4.0 / 6.0, 2.0 / 6.0, 0.0]);
        // Of all six, 3 have the first finding, and one patient like all is added to each class.
        let all = 3.5 / 7.0;
        let first = Belief::new(&table).after(0, true).posterior();
        let (a, b) = (4.0 * (3.0 + all) / 5.0, 2.0 * all / 3.0);
        close(&first, &[a / (a + b), b / (a + b), 0.0]);
        let not = Belief::new(&table).after(0, false).posterior();
        let (a, b) = (4.0 * (2.0 - all) / 5.0, 2.0 * (3.0 - all) / 3.0);
        close(&not, &[a / (a + b), b / (a + b), 0.0]);
        // The usual bin is what the others leave over: 4 of 4, and 0 of 2.
        let mut usual = Belief::new(&table);
        usual.learn(5, &Reply::One(0)).expect("a choice");
        let all = (4.0 + 0.5) / 7.0;
        let others = 4.0 * 0.5 / 7.0 - 3.0 * 0.5 / 7.0 + 2.0 / 7.0;
        let scale = all + 2.0 * 0.5 / 7.0 + (2.0 + 0.5) / 7.0;
        assert!(others > 0.0);
        let (a, b) = (4.0 * (4.0 + all) / (4.0 + scale), 2.0 * all / (2.0 + scale));
        close(&usual.posterior(), &[a / (a + b), b / (a + b), 0.0]);
        let Answers::OneOf { values, .. } = &table.layout().questions()[5].answers else {
            panic!("three edges are a choice");
        };
        assert_eq!(values[3], "2.5 or above");
    }
}

#[test]
fn a_row_gets_the_classes_that_its_answers_make_probable() {
    let network = findings(1);
    let weights = trained(&network, &six());
    let rows: Vec<f32> = [six()[1].0, six()[4].0]
        .concat()
        .into_iter()
        .map(f32::from)
        .collect();
    let shares = network.predict(&weights, &rows).expect("whole rows");
    assert!(shares[0] > 0.9 && shares[4] > 0.9, "{shares:?}");
    let sum: f32 = shares[..CLASSES].iter().sum();
    assert!((sum - 1.0).abs() < 1e-6);
    let untrained = network.initial(0);
    let untrained = network.weights(untrained.as_slice()).expect("its own");
    let shares = network.predict(&untrained, &rows).expect("whole rows");
    assert_eq!(shares, [1.0 / 3.0; 2 * CLASSES]);
}

#[test]
fn questions_may_follow_others_by_place() {
    let network = findings(2);
    let weights = trained(&network, &six());
    let table = network
        .evidence_table(&weights, &[(5, 0)])
        .expect("an order");
    let table = table.expect("naive-bayes");
    assert_eq!(table.layout().questions()[5].after, Some(0));
    assert!(
        network.evidence_table(&weights, &[(0, 5)]).is_err(),
        "a choice opens nothing"
    );
    assert!(network.evidence_table(&weights, &[(9, 0)]).is_err());
}

#[test]
fn counts_that_noise_may_have_made_are_nothing() {
    let privacy = "clipping_norm = 2.0, noise_multiplier = 0.5, delta = 1e-5";
    let plan = plan("name = \"naive-bayes\", most = 3", 0, privacy);
    // Four sites, each with a deviation of 0.5 × 2.
    assert!((plan.count_noise() - 2.0).abs() < 1e-12);
    let network = Network::from_plan(&plan).expect("a network");
    let patient = |at| ([u8::from(at < 3), u8::from(at < 20), 0, 0, 0, 0], 0);
    let patients: Vec<Patient> = (0..40).map(patient).collect();
    let weights = trained(&network, &patients);
    let table = network
        .evidence_table(&weights, &[])
        .expect("a known class");
    let mut table = table.expect("naive-bayes");
    // Three of 40 are below two deviations, 20 are not.
    let layout = table.layout().clone();
    let counts = [40.0, 0.0, 20.0].into_iter().chain([0.0; 9]);
    let counts: Vec<f64> = counts.chain([0.0; 24]).collect();
    let clean = Smoothing {
        patients: SMOOTHING,
        noise: 0.0,
    };
    let expected = EvidenceTable::from_counts(layout.clone(), &counts, clean).expect("good counts");
    assert_eq!(table, expected);
    // Two patients of another class are below three deviations: the class is not known.
    let patients = [&patients[..], &[([1; COLUMNS], 1); 2]].concat();
    let weights = trained(&network, &patients);
    table = network
        .evidence_table(&weights, &[])
        .expect("a known class")
        .expect("naive-bayes");
    assert_eq!(table.prior(), [1.0, 0.0, 0.0]);
}

#[test]
fn noise_where_a_column_has_no_bins_splits_no_tree() {
    let network = network("name = \"tree\", depth = 1");
    let mut counts = vec![0.0_f32; network.layout().parameters()];
    // Bins of the first column are two; noise in its fourth one looks like the perfect question.
    counts[0] = 40.0;
    counts[3 * CLASSES + 1] = 40.0;
    let weights = network.weights(&counts).expect("its own");
    let tree = network.tree(&weights).expect("a tree");
    assert_eq!(tree.path(&[0; COLUMNS]).0, []);
    assert!(
        network
            .evidence_table(&weights, &[])
            .expect("no table")
            .is_none()
    );
    counts[CLASSES + 2] = 40.0;
    let weights = network.weights(&counts).expect("its own");
    let tree = network.tree(&weights).expect("a tree");
    let bins = network
        .bins(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        .expect("counts");
    assert_eq!(tree.path(&bins).0.len(), 1);
}
