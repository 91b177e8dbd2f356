//! The header of a safetensors file: any bytes are a header or a fault, and what is a header lies in the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(tensors) = model::formats::hf::safetensors_file::parse(bytes) {
        for tensor in &tensors {
            assert!(tensor.bytes.end <= bytes.len());
            assert_eq!(tensor.encoding.bytes(tensor.values()), Some(tensor.bytes.len()));
        }
    }
});
