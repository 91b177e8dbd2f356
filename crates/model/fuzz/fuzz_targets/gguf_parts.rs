//! Two headers as parts of one model: any two are parts or a fault, and parts have no tensor twice.
#![no_main]

use model::formats::gguf::{parse, parts};

libfuzzer_sys::fuzz_target!(|files: (&[u8], &[u8])| {
    let (Ok(first), Ok(second)) = (parse(files.0), parse(files.1)) else { return };
    let headers = [first, second];
    match parts::check(&headers) {
        Ok(()) => {
            let names = || headers.iter().flat_map(|header| header.tensors.iter().map(|one| &one.stored.name));
            assert_eq!(names().collect::<std::collections::BTreeSet<_>>().len(), names().count());
        }
        Err((part, fault)) => assert!(part < 2 && !fault.reason.is_empty()),
    }
});
