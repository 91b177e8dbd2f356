//! The main text of HTML pages as Markdown (see [`crate::extract`]); other kinds pass unchanged. A page without
//! main text is removed, not guessed at.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;

use super::{Removed, Step};
use crate::batch::{self, Rows};
use crate::{Error, extract, kind};

pub(crate) const NAME: &str = "extract";

/// The step.
pub struct Extract;

impl Step for Extract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let rows = Rows::of(&batch, NAME)?;
        if rows.iter().all(|row| row.kind != kind::HTML) {
            return Ok((batch, removed));
        }
        let mut keep = Vec::with_capacity(batch.num_rows());
        let mut texts = StringBuilder::new();
        for row in rows.iter() {
            if row.kind != kind::HTML {
                texts.append_value(row.text);
                keep.push(true);
                continue;
            }
            match main_text(row.text) {
                Ok(text) => {
                    texts.append_value(text);
                    keep.push(true);
                }
                Err(reason) => {
                    removed.count(reason, row);
                    texts.append_value("");
                    keep.push(false);
                }
            }
        }
        let batch = batch::with_column(&batch, NAME, "text", Arc::new(texts.finish()))?;
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

/// The main text of a page as Markdown, or the reason why there is none.
///
/// # Errors
/// The name of an [`extract::Refusal`], or `parser_failed`.
pub fn main_text(html: &str) -> Result<String, &'static str> {
    // A page is hostile input to the parser's crate: its panic costs this page, not the corpus.
    match catch_unwind(AssertUnwindSafe(|| extract::extract(html))) {
        Ok(Ok(page)) => Ok(page.markdown()),
        Ok(Err(refusal)) => Err(refusal.name()),
        Err(_) => Err("parser_failed"),
    }
}
