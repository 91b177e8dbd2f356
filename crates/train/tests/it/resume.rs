//! However often a run is interrupted, and on however many threads it goes on, its losses and weights are the same bits.

use std::fs;
use std::path::Path;

use ledger::progress::Silent;
use model::recompute::{Again, Recompute};
use train::{Finished, Outcome, Settings};

use crate::support::{STEPS, Told, Watched, batches, bits, initial, losses, settings, train};

/// Runs until all steps are done, stopped after each step of `stops`; the threads change with each part.
fn run(folder: &Path, stops: &[u64], threads: &[usize]) -> Finished {
    for (part, &step) in stops.iter().enumerate() {
        let mut batches = Watched::new(batches());
        batches.stop_at = Some(step);
        match train(folder, &batches, &settings(), threads[part % threads.len()], &Silent).unwrap() {
            Outcome::Stopped(stopped) => {
                assert_eq!(stopped.step, step + 1);
                assert!(stopped.checkpoint.join("COMPLETE").exists());
            }
            Outcome::Finished(_) => panic!("the stop at step {step} was not seen"),
        }
    }
    finish(folder, &settings(), threads[stops.len() % threads.len()])
}

fn finish(folder: &Path, settings: &Settings, threads: usize) -> Finished {
    match train(folder, &Watched::new(batches()), settings, threads, &Silent).unwrap() {
        Outcome::Finished(finished) => finished,
        Outcome::Stopped(stopped) => panic!("nobody asked for a stop: {stopped:?}"),
    }
}

#[test]
fn interrupted_runs_end_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = run(folder.path(), &[], &[2]);
    let expected = losses(folder.path());
    assert_eq!(expected.iter().map(|&(step, _)| step).collect::<Vec<_>>(), (1..=STEPS).collect::<Vec<_>>());
    let (first, last) = (f64::from_bits(expected[0].1), f64::from_bits(expected[19].1));
    assert!(last < first - 0.5, "nothing was learnt: {first} to {last}");
    assert_ne!(bits(&undisturbed.weights.data), bits(&initial().data));

    let cases: [(&[u64], &[usize]); 5] =
        [(&[], &[1]), (&[], &[3]), (&[0], &[2]), (&[4, 5, 12], &[1, 2, 3]), (&[18], &[3, 1])];
    for (stops, threads) in cases {
        let folder = tempfile::tempdir().unwrap();
        let finished = run(folder.path(), stops, threads);
        assert_eq!(losses(folder.path()), expected, "stops {stops:?}, threads {threads:?}");
        assert_eq!(bits(&finished.weights.data), bits(&undisturbed.weights.data), "{stops:?} {threads:?}");
        assert_eq!(finished.final_loss.to_bits(), undisturbed.final_loss.to_bits());
        assert_eq!((finished.steps, finished.tokens), (undisturbed.steps, undisturbed.tokens));
    }
}

#[test]
fn a_finished_run_is_not_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = finish(folder.path(), &settings(), 2);
    // A batch would be spoilt if one were asked for.
    let mut never = Watched::new(batches());
    never.spoil = Some((0, f32::NAN));
    let Outcome::Finished(second) = train(folder.path(), &never, &settings(), 2, &Silent).unwrap() else {
        panic!("stopped")
    };
    assert_eq!(bits(&second.weights.data), bits(&first.weights.data));
    assert_eq!(second.final_loss.to_bits(), first.final_loss.to_bits());
    assert_eq!(losses(folder.path()).len(), STEPS as usize);
}

#[test]
fn a_run_killed_while_it_wrote_goes_on_from_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = run(folder.path(), &[], &[2]);
    let expected = losses(folder.path());

    let folder = tempfile::tempdir().unwrap();
    let mut stopped = Watched::new(batches());
    stopped.stop_at = Some(10);
    train(folder.path(), &stopped, &settings(), 2, &Silent).unwrap();
    // The newest checkpoint lost its end; metrics run ahead of the one before, and their last line is torn.
    let checkpoints = folder.path().join("checkpoints");
    fs::write(checkpoints.join("step-00000011/optimizer.safetensors"), "half").unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, &text[..text.len() - 20]).unwrap();

    let told = Told::default();
    let Outcome::Finished(finished) =
        train(folder.path(), &Watched::new(batches()), &settings(), 2, &told).unwrap()
    else {
        panic!("stopped")
    };
    let told = told.0.into_inner().unwrap().join("\n");
    assert!(told.contains("step-00000011/optimizer.safetensors") && told.contains("from"), "{told}");
    assert_eq!(losses(folder.path()), expected);
    assert_eq!(bits(&finished.weights.data), bits(&undisturbed.weights.data));
    let left: Vec<_> = fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), settings().keep_checkpoints, "{left:?}");
}

#[test]
fn checkpoints_of_other_settings_are_left_alone_and_a_matter_of_saving_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut batches = Watched::new(batches());
    batches.stop_at = Some(7);
    train(folder.path(), &batches, &settings(), 2, &Silent).unwrap();

    // Saving more often is the same run, and so is keeping fewer activations.
    let recompute = Recompute::same(Again::All);
    let often = Settings { checkpoint_steps: Some(1), keep_checkpoints: 5, recompute, ..settings() };
    let resumed = Told::default();
    batches.stop_at = Some(9);
    batches.stop.store(false, std::sync::atomic::Ordering::Relaxed);
    train(folder.path(), &batches, &often, 2, &resumed).unwrap();
    assert!(resumed.0.into_inner().unwrap()[0].contains("goes on from"));

    // Another weight decay is another run.
    let other = Settings { weight_decay: 0.0, ..settings() };
    let told = Told::default();
    let Outcome::Finished(finished) =
        train(folder.path(), &Watched::new(crate::support::batches()), &other, 2, &told).unwrap()
    else {
        panic!("stopped")
    };
    assert!(told.0.into_inner().unwrap()[0].contains("other settings"));
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(bits(&finished.weights.data), bits(&finish(fresh.path(), &other, 2).weights.data));
    assert_eq!(losses(folder.path()), losses(fresh.path()));
}
