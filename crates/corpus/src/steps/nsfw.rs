//! The threshold on a score for content that is not safe for work. A classifier writes the score to the column
//! [`COLUMN`]; where a document has none, [`super::dirty_words`] writes one. Documents without a score pass.

use arrow_array::{Array, Float64Array, RecordBatch};

use super::measure::{Bound, Measure};
use super::{Removed, Step, Verdict};
use crate::batch::column;
use crate::{Error, settings};

/// The column of the score, 0 to 1, Float64; null where a document was not scored.
pub const COLUMN: &str = "nsfw_score";

const NAME: &str = "nsfw";

/// The step.
pub struct Nsfw(pub settings::Nsfw);

/// The scores of a batch, if it has the column.
///
/// # Errors
/// [`Error::Batch`] when the column is of another type.
pub(super) fn scores(batch: &RecordBatch, step: &'static str) -> Result<Option<Float64Array>, Error> {
    batch.column_by_name(COLUMN).map(|_| column::<Float64Array>(batch, step, COLUMN).cloned()).transpose()
}

impl Step for Nsfw {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "Llama 3: Llama Team 2024, section 3.1.1"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let Some(scores) = scores(&batch, NAME)? else { return Ok((batch, Removed::default())) };
        let mut at = 0..;
        super::judge(batch, NAME, |_| {
            let Some(at) = at.next().filter(|&at| scores.is_valid(at)) else { return Verdict::Keep };
            let bound = Bound::AtMost(self.0.max_score);
            let measure = Measure { rule: "score_too_high", value: scores.value(at), bound };
            if measure.passes() { Verdict::Keep } else { Verdict::RemoveMeasured(measure) }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::dirty_words::DirtyWords;
    use super::*;
    use crate::batch::{Builder, Record, with_column};

    fn batch(texts: &[String]) -> RecordBatch {
        let mut builder = Builder::new(0);
        for text in texts {
            let (text, kind) = (text.clone(), crate::kind::TEXT);
            builder.push(&Record { text, kind, url: None, source: "x".into(), date: None, language: None });
        }
        builder.finish()
    }

    #[test]
    fn a_classifiers_score_goes_before_the_words() {
        let words = settings::DirtyWords { fraction_from: 1 << 40, ..Default::default() };
        let steps: [Box<dyn Step>; 2] =
            [Box::new(DirtyWords::new(&words).unwrap()), Box::new(Nsfw(Default::default()))];
        let word = &super::super::lists::builtin("all")[0];
        let texts = ["clean ".repeat(200), format!("{word} ").repeat(200), format!("{word} here")];
        let removed = |mut batch| {
            let mut rows = Vec::new();
            for step in &steps {
                let (kept, removed) = step.apply(batch).unwrap();
                batch = kept;
                rows.extend(removed.rows.into_iter().map(|row| (row.ordinal, row.reason, row.value)));
            }
            assert_eq!(batch.num_rows() + rows.len(), 3);
            rows
        };
        let share = 200.0 / 300.0;
        let reason = || "score_too_high".to_string();
        assert_eq!(removed(batch(&texts)), [(1, reason(), Some((share / (share + 0.01), 0.5)))]);
        let scores = Arc::new(Float64Array::from(vec![Some(0.9), Some(0.1), None]));
        let scored = with_column(&batch(&texts), "test", COLUMN, scores).unwrap();
        assert_eq!(removed(scored), [(0, reason(), Some((0.9, 0.5)))]);
        assert!(Nsfw(Default::default()).apply(batch(&texts)).unwrap().0.num_rows() == 3);
    }
}
