//! Columns of a plan's table as questions, and their bins as answers.
//!
//! A column with one edge is a yes-no question: does its value lie above? One with more is a choice between
//! its bins, of which the first is the usual one.

use consilium_proto::plan::Column;

use super::layout::{Answers, Layout, LayoutError, Question, Reply, ReplyError};

impl Layout {
    /// Classes as conditions and columns as questions, in their order.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn of_columns(classes: &[String], columns: &[Column]) -> Result<Self, LayoutError> {
        let question = |column: &Column| Question {
            id: column.name.clone(),
            text: column.name.clone(),
            answers: answers(&column.edges),
            after: None,
            cost: 1.0,
        };
        Self::new(classes.to_vec(), columns.iter().map(question).collect())
    }

    /// The same questions in an order: each pair is a question, and the yes-no question that must be answered
    /// with yes before it, both by place.
    ///
    /// # Errors
    /// A place without a question, and an order as [`Layout::new`] refuses it.
    pub fn ordered(&self, after: &[(usize, usize)]) -> Result<Self, LayoutError> {
        let mut questions = self.questions().to_vec();
        for &(place, opener) in after {
            let question = questions.get_mut(place);
            let question = question.ok_or(ReplyError::NoSuchQuestion(place))?;
            question.after = Some(opener);
        }
        Self::new(self.conditions().to_vec(), questions)
    }
}

impl Reply {
    /// What a column's bin answers.
    pub fn of_bin(answers: &Answers, bin: usize) -> Self {
        match answers {
            Answers::YesNo if bin == 0 => Self::No,
            Answers::YesNo => Self::Yes,
            Answers::OneOf { .. } | Answers::AnyOf { .. } => Self::One(bin),
        }
    }
}

fn answers(edges: &[f32]) -> Answers {
    let (first, last) = match edges {
        [] | [_] => return Answers::YesNo,
        [first, .., last] => (first, last),
    };
    let between = edges
        .array_windows()
        .map(|[from, to]| format!("{from} to {to}"));
    let values = std::iter::once(format!("below {first}"))
        .chain(between)
        .chain([format!("{last} or above")]);
    Answers::OneOf {
        values: values.collect(),
        usual: Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let column = |name: &str, edges: &[f32]| Column {
            name: name.into(),
            mean: 0.0,
            deviation: 1.0,
            missing: 0.0,
            edges: edges.to_vec(),
        };
        let columns = [column("fever", &[0.5]), column("age", &[18.0, 65.5])];
        let classes = ["flu", "cold"].map(str::to_owned);
        Layout::of_columns(&classes, &columns).expect("a good layout")
    }

    #[test]
    fn one_edge_is_a_yes_or_no_and_more_are_a_choice_between_bins() {
        let layout = layout().ordered(&[(1, 0)]).expect("a good layout");
        let [fever, age] = layout.questions() else {
            panic!("two columns");
        };
        assert_eq!(
            (fever.id.as_str(), &fever.answers),
            ("fever", &Answers::YesNo)
        );
        assert_eq!((fever.after, age.after), (None, Some(0)));
        let values = ["below 18", "18 to 65.5", "65.5 or above"].map(str::to_owned);
        let expected = Answers::OneOf {
            values: values.to_vec(),
            usual: Some(0),
        };
        assert_eq!(age.answers, expected);
        assert!(Reply::of_bin(&fever.answers, 1) == Reply::Yes);
        assert!(Reply::of_bin(&fever.answers, 0) == Reply::No);
        assert!(Reply::of_bin(&age.answers, 2) == Reply::One(2));
    }

    #[test]
    fn a_question_that_is_not_there_follows_nothing() {
        let refused = |after| layout().ordered(&[after]);
        let missing = LayoutError::Reply(ReplyError::NoSuchQuestion(2));
        assert_eq!(refused((2, 0)), Err(missing));
        assert_eq!(refused((0, 2)), Err(LayoutError::Order("fever".into())));
    }
}
