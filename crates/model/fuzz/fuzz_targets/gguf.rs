//! The header of a GGUF file: any bytes are a header or a fault, and what is a header lies in the file, where its values
//! can be read in every encoding.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = model::formats::gguf::parse(bytes) {
        for tensor in &header.tensors {
            assert!(tensor.stored.bytes.end <= bytes.len());
            let stored = &tensor.stored;
            assert_eq!(stored.encoding.bytes(stored.values()), Some(stored.bytes.len()));
            let mut values = vec![0.0; stored.values().min(1 << 12)];
            stored.encoding.decode(&bytes[stored.bytes.clone()], 0, &mut values);
        }
    }
});
