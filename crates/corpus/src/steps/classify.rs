//! Scores of classifiers (see [`crate::classifier`]): each fills a column `score_NAME` of its own with the probability of its
//! label, and removes documents where its settings say so, for a reason of its own name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::Float64Builder;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Removed, Step};
use crate::Error;
use crate::batch::{self, Row, Rows};
use crate::classifier::{Opened, Scratch};
use crate::kind::Class;
use crate::settings::{self, Scored};

const NAME: &str = "classifiers";

/// The step.
pub struct Classify(Vec<Rule>);

struct Rule {
    name: String,
    opened: Opened,
    label: usize,
    settings: settings::Classifier,
    /// Tells the draws of one classifier from those of another.
    salt: u64,
}

impl Classify {
    /// Opens the classifiers.
    ///
    /// # Errors
    /// What [`Opened::open`] refuses; [`Error::Classifier`] where it is not clear which label is scored.
    pub fn open(classifiers: &BTreeMap<String, settings::Classifier>) -> Result<Classify, Error> {
        let open = |(name, settings): (&String, &settings::Classifier)| {
            let path = Path::new(&settings.path);
            let opened = Opened::open(path)?;
            let label = opened.scored_label(settings.label.as_deref()).map_err(|reason| {
                let reason =
                    format!("{reason}; curate.classifiers.{name}.label names the one that is scored");
                Error::Classifier { path: path.to_path_buf(), reason }
            })?;
            let salt = xxh3_64_with_seed(name.as_bytes(), 0);
            Ok(Rule { name: name.clone(), opened, label, settings: settings.clone(), salt })
        };
        classifiers.iter().map(open).collect::<Result<_, Error>>().map(Classify)
    }
}

impl Rule {
    fn score(&self, row: &Row, scratch: &mut Scratch) -> Option<f64> {
        let code = matches!(row.kind.class, Class::Code | Class::Data);
        let wanted = match self.settings.scores {
            Scored::Prose => !code,
            Scored::Code => code,
            Scored::All => true,
        };
        let shares = if wanted { self.opened.classifier.predict(row.text, scratch)? } else { return None };
        Some(f64::from(shares[self.label]))
    }

    fn keeps(&self, text: &str, score: f64) -> bool {
        let settings = &self.settings;
        settings.min_score.is_none_or(|least| score >= least)
            && settings.max_score.is_none_or(|most| score <= most)
            && settings.pareto_alpha.is_none_or(|alpha| self.draw(text, alpha) > 1.0 - score)
    }

    /// A number from the Lomax distribution, by inverting its distribution function. An exponent of 0 keeps everything.
    fn draw(&self, text: &str, alpha: f64) -> f64 {
        // In (0, 1], a multiple of 2^-53.
        let bits = xxh3_64_with_seed(text.as_bytes(), self.salt) >> 11;
        let above = (bits + 1) as f64 / (1u64 << 53) as f64;
        if alpha == 0.0 { f64::INFINITY } else { above.powf(-1.0 / alpha) - 1.0 }
    }
}

impl Step for Classify {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, mut batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let mut keep = vec![true; batch.num_rows()];
        let mut scratch = Scratch::default();
        for rule in &self.0 {
            let mut scores = Float64Builder::with_capacity(batch.num_rows());
            for (index, row) in Rows::of(&batch, NAME)?.iter().enumerate() {
                let score = rule.score(&row, &mut scratch);
                scores.append_option(score);
                if keep[index] && score.is_some_and(|score| !rule.keeps(row.text, score)) {
                    keep[index] = false;
                    removed.count(&rule.name, row);
                }
            }
            let column = batch::score_column(&rule.name);
            batch = batch::with_column(&batch, NAME, &column, Arc::new(scores.finish()))?;
        }
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, Float64Array};

    use super::*;
    use crate::batch::{Builder, Record, column};
    use crate::kind;

    /// A model that fastText trained to tell English, German and code apart.
    fn classifier(label: Option<&str>) -> settings::Classifier {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/classifier/softmax.bin").to_owned();
        settings::Classifier {
            path,
            label: label.map(str::to_owned),
            scores: Scored::Prose,
            min_score: None,
            max_score: None,
            pareto_alpha: None,
        }
    }

    const TEXTS: [&str; 3] =
        ["the llama stands on the high plain", "das Lama steht auf der Hochebene", "return c ; }"];

    fn batch(texts: &[String]) -> RecordBatch {
        let mut builder = Builder::new(0);
        for (index, text) in texts.iter().enumerate() {
            let kind = if text.contains('}') { kind::Kind::of_label("rust").unwrap() } else { kind::TEXT };
            let source = format!("t{index}");
            builder.push(&Record { text: text.clone(), kind, url: None, source, date: None, language: None });
        }
        builder.finish()
    }

    fn run(rules: &[(&str, settings::Classifier)], texts: &[String]) -> (RecordBatch, Removed) {
        let rules = rules.iter().map(|(name, rule)| (name.to_string(), rule.clone())).collect();
        Classify::open(&rules).unwrap().apply(batch(texts)).unwrap()
    }

    #[test]
    fn scores_are_written_and_rules_remove() {
        let texts = TEXTS.map(str::to_owned);
        let english = settings::Classifier { min_score: Some(0.5), ..classifier(Some("en")) };
        let code = settings::Classifier { scores: Scored::All, ..classifier(Some("__label__code")) };
        let unwanted = settings::Classifier { max_score: Some(0.5), scores: Scored::Code, ..code.clone() };
        let (left, removed) = run(&[("code", code.clone()), ("english", english.clone())], &texts);
        // Code has no score in prose and stays.
        assert_eq!((left.num_rows(), removed.reasons["english"]), (2, 1));
        let scores: &Float64Array = column(&left, NAME, "score_english").unwrap();
        assert!(scores.value(0) > 0.9 && scores.is_null(1));
        let scores: &Float64Array = column(&left, NAME, "score_code").unwrap();
        assert!(scores.value(0) < 0.1 && scores.value(1) > 0.8);
        let (left, removed) = run(&[("unwanted", unwanted)], &texts);
        assert_eq!((left.num_rows(), removed.reasons["unwanted"]), (2, 1));
        // The schema is the same whatever a batch holds.
        let rules = [("english", classifier(Some("en")))];
        assert_eq!(run(&rules, &texts[..1]).0.schema(), run(&rules, &texts[2..]).0.schema());
    }

    #[test]
    fn a_draw_keeps_nearly_all_of_the_best_and_a_few_of_the_rest() {
        let rule = settings::Classifier { pareto_alpha: Some(9.0), ..classifier(Some("en")) };
        let opened = Opened::open(Path::new(&rule.path)).unwrap();
        let label = opened.scored_label(Some("en")).unwrap();
        let mut scratch = Scratch::default();
        for (text, least, most) in [(TEXTS[0], 0.7, 1.0), (TEXTS[1], 0.0, 0.1)] {
            let texts: Vec<String> = (0..2000).map(|n| format!("{text} {n}")).collect();
            let kept = run(&[("quality", rule.clone())], &texts).0.num_rows() as f64 / 2000.0;
            // What the distribution function says of each score.
            let score =
                |text: &String| f64::from(opened.classifier.predict(text, &mut scratch).unwrap()[label]);
            let wanted = texts.iter().map(score).map(|score| (2.0 - score).powi(-9)).sum::<f64>() / 2000.0;
            // Four standard errors at most.
            assert!((kept - wanted).abs() < 0.04, "{text}: {kept} of {wanted}");
            assert!((least..most).contains(&kept), "{text}: {kept}");
        }
    }

    #[test]
    fn a_label_that_is_not_there_is_refused() {
        let open =
            |rule| Classify::open(&BTreeMap::from([("quality".to_owned(), rule)])).err().unwrap().to_string();
        assert!(
            open(classifier(None)).contains("no label is named; it has en, de, code, none"),
            "{}",
            open(classifier(None))
        );
        assert!(open(classifier(Some("fr"))).contains("curate.classifiers.quality.label"));
        let absent = settings::Classifier { path: "absent".into(), ..classifier(None) };
        assert!(open(absent).contains("absent"));
    }
}
