//! Sorting with budgets of a few records beside sorting in memory.

use proptest::prelude::*;

use super::*;

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn sorted<R: Record>(folder: &Path, memory: u64, records: &[R], combine: Combine<R>) -> Vec<R> {
    let mut sorter = Sorter::combining(folder, "test", memory, combine);
    records.iter().for_each(|record| sorter.push(*record).unwrap());
    assert_eq!(sorter.len(), records.len() as u64);
    sorter.finish().unwrap().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_budget_sorts_as_memory_does(
        records in proptest::collection::vec((0u64..40, any::<u32>()), 0..600),
        memory in prop_oneof![1u64..200, 200u64..20_000],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = records.clone();
        expected.sort();
        prop_assert_eq!(sorted(folder.path(), memory, &records, |_, _| false), expected);
        prop_assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn any_budget_counts_as_a_map_does(
        keys in proptest::collection::vec(0u64..60, 0..600),
        memory in 1u64..6_000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = std::collections::BTreeMap::new();
        keys.iter().for_each(|key| *expected.entry(*key).or_insert(0u64) += 1);
        let records: Vec<(u64, u64)> = keys.iter().map(|key| (*key, 1)).collect();
        let add: Combine<(u64, u64)> = |sum, more| {
            if sum.0 == more.0 {
                sum.1 += more.1;
            }
            sum.0 == more.0
        };
        let counted = sorted(folder.path(), memory, &records, add);
        prop_assert_eq!(counted, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn groups_are_whole(keys in proptest::collection::vec(0u8..20, 0..300), memory in 1u64..600) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path(), "test", memory);
        for (index, key) in keys.iter().enumerate() {
            sorter.push((*key, index as u32)).unwrap();
        }
        let mut sorted = sorter.finish().unwrap();
        let (mut group, mut seen, mut last) = (Vec::new(), 0, None);
        while sorted.next_group(&mut group, |record| record.0).unwrap() {
            prop_assert!(last < Some(group[0].0));
            last = Some(group[0].0);
            prop_assert!(group.iter().all(|record| Some(record.0) == last));
            seen += group.len();
        }
        prop_assert_eq!(seen, keys.len());
    }

    #[test]
    fn records_survive_the_disk(a in any::<u128>(), b in any::<i64>(), c in any::<[u8; 3]>(), d in any::<u16>()) {
        let record = (a, b, c, d);
        let mut bytes = vec![0; <(u128, i64, [u8; 3], u16)>::BYTES];
        record.put(&mut bytes);
        prop_assert_eq!(bytes.len(), 29);
        prop_assert_eq!(<(u128, i64, [u8; 3], u16)>::get(&bytes), record);
    }
}

#[test]
fn memory_bounds_the_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::<(u64, u32)>::new(folder.path(), "test", 1 << 16);
    for number in 0..100_000u64 {
        sorter.push((number.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0)).unwrap();
        assert!(sorter.buffer.capacity() * size_of::<(u64, u32)>() <= 1 << 16);
    }
    let limits = sorter.limits;
    assert!(limits.fan_in * limits.block_records * 12 <= 1 << 15);
    assert!(sorter.runs.len() > limits.fan_in, "merged in rounds");
    assert_eq!(sorter.finish().unwrap().count(), 100_000);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn what_is_not_wanted_any_more_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(folder.path(), "test", 100);
    (0..100u64).for_each(|number| sorter.push(number).unwrap());
    assert!(files(folder.path()) > 1);
    let mut sorted = sorter.finish().unwrap();
    assert_eq!(sorted.next_record().unwrap(), Some(0));
    drop(sorted);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn damage_is_an_error_before_a_wrong_record_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut sorter = Sorter::new(folder.path(), "test", 400);
        (0..60u64).rev().for_each(|number| sorter.push(number).unwrap());
        let path = sorter.runs[0].path.clone();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let mut failure = None;
        for record in sorter.finish().unwrap_or_else(|error| panic!("{error}")) {
            match record {
                Ok(record) => assert!(record < 60),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(Error::Malformed { path: named, reason, .. }) if named == path => reason,
            other => panic!("{other:?}"),
        }
    };
    let flipped = spoil(&|bytes| {
        let last = bytes.len() - HEAD_BYTES - 1;
        bytes[last] ^= 1;
    });
    assert!(flipped.contains("checksum"), "{flipped}");
    let cut = spoil(&|bytes| bytes.truncate(bytes.len() - HEAD_BYTES));
    assert!(cut.contains("cut off"), "{cut}");
    let counted = spoil(&|bytes| {
        let last = bytes.len() - HEAD_BYTES;
        bytes[last] = 1;
    });
    assert!(counted.contains("cut off"), "{counted}");
}
