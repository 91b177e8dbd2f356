use super::*;

/// The frozen algorithm. Were these to change, no run could be repeated: never adjust them to the code.
#[test]
fn golden_streams() {
    let check = |seed, name, index, expected: [u64; 3]| {
        let mut rng = Seed(seed).stream(name, index);
        assert_eq!([rng.next_u64(), rng.next_u64(), rng.next_u64()], expected, "({seed}, {name:?}, {index})");
    };
    check(0, "", 0, [0; 3]);
    check(0, "weights", 0, [0; 3]);
    check(0, "weights", 1, [0; 3]);
    check(1, "weights", 0, [0; 3]);
    check(u64::MAX, "batches", 1 << 40, [0; 3]);
}
