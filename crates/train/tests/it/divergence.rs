//! A run that goes wrong says where, and keeps what it had.

use ledger::progress::Silent;
use train::{Batches, Error, Outcome};

use crate::support::{Watched, batches, losses, settings, train};

fn spoilt(step: u64, weight: f32) -> (tempfile::TempDir, Error) {
    let folder = tempfile::tempdir().unwrap();
    let mut batches = Watched::new(batches());
    batches.spoil = Some((step, weight));
    let error = train(folder.path(), &batches, &settings(), 2, &Silent).unwrap_err();
    (folder, error)
}

#[test]
fn a_loss_that_is_no_number_names_the_step_and_the_documents() {
    let (folder, error) = spoilt(10, f32::NAN);
    let message = error.to_string();
    assert!(
        message.contains("pretrain diverged at step 11") && message.contains("the loss is NaN"),
        "{message}"
    );
    assert!(message.contains(&batches().describe(10, 0)), "{message}");
    let Error::Diverged { checkpoint: Some(checkpoint), .. } = &error else { panic!("{error:?}") };
    assert!(checkpoint.ends_with("step-00000009"), "{}", checkpoint.display());
    assert!(error.hint().unwrap().contains("step-00000009"));
    assert_eq!(losses(folder.path()).len(), 10);
    let events = ledger::events::read(folder.path()).unwrap();
    assert_eq!((events[0].kind.as_str(), events.last().unwrap().kind.as_str()), ("start", "fault"));

    // What was wrong with the batch is mended: the run goes on from the checkpoint that was kept.
    let mended = train(folder.path(), &Watched::new(batches()), &settings(), 2, &Silent).unwrap();
    assert!(matches!(mended, Outcome::Finished(_)));
    assert_eq!(losses(folder.path()).len(), 20);
}

#[test]
fn a_batch_without_anything_to_predict_is_refused() {
    let (_folder, error) = spoilt(0, 0.0);
    assert!(matches!(error, Error::NothingToPredict { step: 1, .. }), "{error:?}");
}
