//! The stage `report`: what the run recorded, as one page. It is always written anew, for it takes no time.

use std::collections::BTreeMap;

use ledger::digest::Digest;
use serde_json::json;

use super::{Context, Made, Need, Stage};
use crate::errors::Error;
use crate::report::{self, scale::bytes};

pub struct Report;

impl Stage for Report {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let stages = &context.run.manifest().stages;
        let inputs: BTreeMap<String, Digest> = stages
            .iter()
            .filter(|(name, _)| *name != "report")
            .flat_map(|(_, stage)| stage.record.outputs.clone())
            .collect();
        Ok(Need { inputs, settings: Digest::of_value(&"the report has no settings")? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let path = context.run.report();
        let size = report::write(&context.run, &path)?;
        Ok(Made {
            outputs: vec!["report.html"],
            line: format!("report.html, {}", bytes(size)),
            summary: json!({"bytes": size}),
        })
    }
}
