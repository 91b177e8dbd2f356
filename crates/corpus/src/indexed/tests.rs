//! Round trips, the golden file, and hostile indices.

use proptest::prelude::*;

use super::*;

fn write(prefix: &Path, vocab_size: usize, documents: &[Vec<u32>]) {
    let mut writer = Writer::create(prefix, vocab_size).unwrap();
    documents.iter().for_each(|document| writer.push_document(document).unwrap());
    writer.finish().unwrap();
}

/// What `tests/golden/corpus_indexed.py` writes as well.
fn golden_documents() -> Vec<Vec<u32>> {
    vec![vec![0, 1, 2, 65_499], vec![], vec![7], (0..300).map(|i| i * 217 % 65_500).collect()]
}

#[test]
fn files_are_those_of_the_reference_script() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/corpus_indexed");
    let folder = tempfile::tempdir().unwrap();
    for (name, vocab_size) in [("two_bytes", 65_499), ("four_bytes", 65_500)] {
        let prefix = folder.path().join(name);
        write(&prefix, vocab_size, &golden_documents());
        for suffix in [".bin", ".idx"] {
            let ours = std::fs::read(with_suffix(&prefix, suffix)).unwrap();
            let reference = std::fs::read(with_suffix(&golden.join(name), suffix)).unwrap();
            assert!(ours == reference, "{name}{suffix}");
        }
        let dataset = Dataset::open(&golden.join(name)).unwrap();
        let read: Vec<Vec<u32>> = (0..dataset.len()).map(|i| dataset.document(i).to_vec()).collect();
        assert_eq!(read, golden_documents());
        assert_eq!(dataset.sizes(), [4, 0, 1, 300]);
        assert_eq!(dataset.total_tokens(), 305);
        assert_eq!(dataset.greatest_token(), Some(65_499));
    }
}

#[test]
fn documents_of_several_sequences_and_modes_are_read() {
    // As multimodal Megatron writes them: two documents of two and one sequences, and a mode a sequence.
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("data");
    std::fs::write(with_suffix(&prefix, ".bin"), [1u8, 0, 2, 0, 3, 0, 4, 0]).unwrap();
    let mut index = MAGIC.to_vec();
    index.extend(1u64.to_le_bytes());
    index.push(8);
    index.extend(3u64.to_le_bytes());
    index.extend(3u64.to_le_bytes());
    [1i32, 2, 1].iter().for_each(|length| index.extend(length.to_le_bytes()));
    [0i64, 2, 6, 0, 2, 3].iter().for_each(|number| index.extend(number.to_le_bytes()));
    index.extend([0, 1, 0]);
    std::fs::write(with_suffix(&prefix, ".idx"), index).unwrap();
    let dataset = Dataset::open(&prefix).unwrap();
    assert_eq!(dataset.document(0).to_vec(), [1, 2, 3]);
    assert_eq!(dataset.document(1).to_vec(), [4]);
}

#[test]
fn tokens_are_read_singly_and_in_runs() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a.b");
    write(&prefix, 128_256, &[vec![5, 6, 128_255], vec![]]);
    let dataset = Dataset::open(&prefix).unwrap();
    let tokens = dataset.document(0);
    assert_eq!((tokens.len(), tokens.get(2), tokens.is_empty()), (3, 128_255, false));
    let mut run = [9; 4];
    assert_eq!(tokens.copy_to(1, &mut run), 2);
    assert_eq!(run, [6, 128_255, 9, 9]);
    assert_eq!(tokens.copy_to(3, &mut run), 0);
    assert_eq!(tokens.copy_to(30, &mut run), 0);
    assert!(dataset.document(1).is_empty());
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (vocab_size, token) in [(100, 65_536), (70_000, 1 << 31)] {
        let mut writer = Writer::create(&folder.path().join("x"), vocab_size).unwrap();
        writer.push_document(&[1]).unwrap();
        match writer.push_document(&[1, token]) {
            Err(Error::DoesNotFit { document: 1, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // Writers that were not finished leave nothing.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn no_documents_make_valid_files() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("none");
    write(&prefix, 100, &[]);
    let dataset = Dataset::open(&prefix).unwrap();
    assert!(dataset.is_empty());
    assert_eq!((dataset.total_tokens(), dataset.greatest_token()), (0, None));
}

/// A valid index of three documents over 12 bytes of tokens.
fn valid_index() -> Vec<u8> {
    let mut index = Vec::new();
    write_index(&mut index, Width::Two, &[3, 0, 3]).unwrap();
    index
}

#[test]
fn faults_are_named_with_their_byte() {
    let check = |at: usize, bytes: &[u8], fault_at: usize, part: &str| {
        let mut index = valid_index();
        index[at..at + bytes.len()].copy_from_slice(bytes);
        let (byte, reason) = Index::parse(&index, 12).err().unwrap_or_else(|| panic!("{part}: no fault"));
        assert!(byte == fault_at && reason.contains(part), "{byte}: {reason}");
    };
    assert!(Index::parse(&valid_index(), 12).is_ok());
    check(0, b"X", 0, "MMIDIDX");
    check(9, &[2], 9, "version");
    check(17, &[5], 17, "type code 5");
    check(18, &[4], 18, "do not hold");
    check(18, &[255; 8], 18, "do not hold");
    check(26, &[255; 8], 18, "do not hold");
    check(34, &(-1i32).to_le_bytes(), 34, "negative length");
    check(34, &1000i32.to_le_bytes(), 46, "outside");
    check(46, &(-2i64).to_le_bytes(), 46, "negative offset");
    check(46, &i64::MAX.to_le_bytes(), 46, "outside");
    check(70, &1i64.to_le_bytes(), 70, "first document");
    check(78, &9i64.to_le_bytes(), 78, "between");
    check(94, &2i64.to_le_bytes(), 94, "last document");
    let index = valid_index();
    assert!(Index::parse(&index, 11).is_err(), "a token file cut off");
    for length in 0..index.len() {
        assert!(Index::parse(&index[..length], 12).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        documents in prop::collection::vec(prop::collection::vec(0u32..60_000, 0..40), 0..20),
        wide in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("data");
        write(&prefix, if wide { 128_256 } else { 60_000 }, &documents);
        let dataset = Dataset::open(&prefix).unwrap();
        let read: Vec<Vec<u32>> = (0..dataset.len()).map(|i| dataset.document(i).to_vec()).collect();
        prop_assert_eq!(read, documents);
    }

    /// Whatever the index says, opening ends in a dataset whose every document can be read, or in an error.
    #[test]
    fn hostile_indices_are_harmless(
        changes in prop::collection::vec((0usize..102, any::<u8>()), 0..12),
        cut in 0usize..110,
        noise in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("data");
        std::fs::write(with_suffix(&prefix, ".bin"), [7u8; 12]).unwrap();
        let mut index = valid_index();
        for (at, value) in changes {
            if let Some(byte) = index.get_mut(at) {
                *byte = value;
            }
        }
        index.truncate(cut.max(1));
        index.extend(noise);
        std::fs::write(with_suffix(&prefix, ".idx"), index).unwrap();
        match Dataset::open(&prefix) {
            Ok(dataset) => {
                let total: usize = (0..dataset.len()).map(|i| dataset.document(i).iter().count()).sum();
                prop_assert_eq!(total as u64, dataset.total_tokens());
            }
            Err(error) => prop_assert!(matches!(error, Error::Malformed { .. }), "{}", error),
        }
    }
}
