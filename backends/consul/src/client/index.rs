//! The index of a blocking query.

/// The index of the last answer. The next query waits for a higher one. A query with index 0 does not wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index(pub(crate) u64);

impl Index {
    /// Notes the index of an answer. Returns whether the answer may be new.
    ///
    /// An index that goes backwards (a server has lost its data) or is missing starts over with a query that does not
    /// wait.
    pub(crate) fn note(&mut self, answered: Option<u64>) -> bool {
        let answered = answered.unwrap_or(0);
        let new = answered != self.0 || answered == 0;
        self.0 = if answered < self.0 { 0 } else { answered };
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_or_is_missing_starts_over() {
        let mut index = Index::default();
        for (answered, new, next) in [
            (Some(14), true, 14),
            (Some(14), false, 14),
            (Some(16), true, 16),
            (Some(5), true, 0),
            (Some(5), true, 5),
            (None, true, 0),
            (Some(0), true, 0),
            (Some(1), true, 1),
        ] {
            assert_eq!((index.note(answered), index.0), (new, next), "{answered:?}");
        }
    }
}
