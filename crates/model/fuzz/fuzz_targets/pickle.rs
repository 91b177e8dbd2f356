//! The pickle of a state dictionary: any bytes are tensors or a fault.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = model::formats::meta::pickle::parse(bytes);
});
