//! The header of a GGUF file: any bytes are a header or a fault, and what is a header lies in the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = model::formats::gguf::parse(bytes) {
        for tensor in &header.tensors {
            assert!(tensor.stored.bytes.end <= bytes.len());
            assert_eq!(tensor.stored.encoding.bytes(tensor.stored.values()), Some(tensor.stored.bytes.len()));
        }
    }
});
