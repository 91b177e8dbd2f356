//! Results are written in the harness's shape and read back.

use super::*;
use crate::generations::Form;
use align::tasks::Tasks;
use ledger::seed::Seed;

/// Without packages there are no registry questions.
const KINDS: usize = Kind::ALL.len() - 1;

fn measured() -> (Vec<Item>, Vec<Answer>, Evaluation) {
    let items = Tasks::new(&[], 0).held_out(Seed(1), 5);
    let answers: Vec<Answer> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            // Every fifth answer is wrong: the first of each kind.
            let reply = if index % 5 == 0 { "wrong".to_owned() } else { item.reply.clone() };
            Answer { item: index, prompt: item.question().to_owned(), right: item.passes(&reply), reply }
        })
        .collect();
    let evaluation = Evaluation {
        model: "base".to_owned(),
        date: "2024-04-18T16:00:00.000Z".to_owned(),
        bits: Some(BitsPerByte {
            bits_per_byte: 1.5,
            nats_per_token: 3.25,
            documents: 7,
            tokens: 900,
            bytes: 2800,
        }),
        scores: crate::accuracy::scores(&items, &answers),
        generations: vec![Generation { form: Form::Answer, prompt: "a\nb".to_owned(), text: "c".to_owned() }],
    };
    (items, answers, evaluation)
}

#[test]
fn scores_count_right_answers_by_kind() {
    let (_, _, evaluation) = measured();
    assert_eq!(evaluation.scores.len(), KINDS);
    for score in &evaluation.scores {
        assert_eq!((score.right, score.items, score.accuracy), (4, 5, 0.8), "{}", score.kind);
        assert!(score.interval.low > 0.37 && score.interval.high < 0.97, "{score:?}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let (items, answers, evaluation) = measured();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("base");
    evaluation.write(&dir, &items, &answers, &Settings::default()).unwrap();
    assert_eq!(Evaluation::read(&dir).unwrap(), evaluation);
    // A second measurement replaces the first.
    let later = Evaluation { date: "2024-04-19T16:00:00.000Z".to_owned(), bits: None, ..evaluation };
    later.write(&dir, &items, &answers, &Settings::default()).unwrap();
    assert_eq!(Evaluation::read(&dir).unwrap(), later);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2 + KINDS);
}

#[test]
fn results_have_the_harness_shape() {
    let (items, answers, evaluation) = measured();
    let results = evaluation.results(&Settings::default());
    for part in
        ["results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples"]
    {
        let part = results[part].as_object().unwrap();
        assert!(part.contains_key("spelling") && part.contains_key("held_out_documents"), "{part:?}");
    }
    assert_eq!(results["results"]["spelling"]["acc,none"], 0.8);
    assert_eq!(results["higher_is_better"]["held_out_documents"]["bits_per_byte"], false);
    let line = sample(3, &items[1], &answers[1], &Settings::default());
    assert_eq!(line["acc"], 1.0);
    assert_eq!(line["filtered_resps"][0], items[1].reply);
    assert_eq!(line["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"], 64);
}

#[test]
fn missing_and_broken_results_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Evaluation::read(folder.path()).unwrap_err();
    assert!(error.to_string().contains("results_<date>.json") && error.hint().is_some(), "{error}");
    std::fs::write(folder.path().join("results_x.json"), "{").unwrap();
    assert!(Evaluation::read(folder.path()).unwrap_err().to_string().contains("results_x.json"));
}
