//! Pickles that are read, and pickles that ask for more.

use super::*;

/// Joins pieces of a pickle.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn text(text: &str) -> Vec<u8> {
    join(&[b"X", &(text.len() as u32).to_le_bytes(), text.as_bytes()])
}

/// `{name: tensor}` with the parts of the tensor given.
fn one(name: &str, storage: &[u8], shape: &[u8], stride: &[u8]) -> Vec<u8> {
    join(&[
        b"\x80\x02}",
        &text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        storage,
        &text("7"),
        &text("cpu"),
        b"K\x06tQK\x00",
        shape,
        stride,
        b"\x89ccollections\nOrderedDict\n)RtRs.",
    ])
}

#[test]
fn a_dictionary_of_tensors_is_read() {
    let pickle = one("w", b"ctorch\nBFloat16Storage\n", b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    let tensor = Tensor {
        name: "w".into(),
        storage: "7".into(),
        encoding: Encoding::Bf16,
        offset: 0,
        shape: vec![2, 3],
    };
    assert_eq!(parse(&pickle), Ok(vec![tensor]));
    assert_eq!(parse(b"\x80\x02}."), Ok(vec![]));
    assert_eq!(parse(b"\x80\x04\x95\x01\x00\x00\x00\x00\x00\x00\x00}."), Ok(vec![]));
}

#[test]
fn what_is_not_a_tensor_is_named_with_its_place() {
    let float = b"ctorch\nFloatStorage\n".as_slice();
    let deep = join(&[b"\x80\x02)", &[0x85].repeat(1 << 20), b"."]);
    for (pickle, byte, part) in [
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.".to_vec(), 2, "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.".to_vec(), 17, "posix.system"),
        (b"\x80\x02cbuiltins\neval\n.".to_vec(), 2, "builtins.eval"),
        (b"\x80\x02(S'id'\nios\nsystem\n.".to_vec(), 3, "0x53 is no instruction"),
        (b"\x80\x02(ios\nsystem\n.".to_vec(), 3, "INST builds or calls"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.".to_vec(), 28, "NEWOBJ builds or calls"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.".to_vec(), 29, "calls what is no function"),
        (b"\x80\x02ccollections\nOrderedDict\nN}b.".to_vec(), 29, "sets the state of an object"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.".to_vec(), 8, "no storage"),
        (one("w", b"ctorch\nLongStorage\n", b"K\x06\x85", b"K\x01\x85"), 56, "torch.LongStorage"),
        (
            one("w", float, b"K\x02K\x03\x86", b"K\x01K\x02\x86"),
            135,
            "tensor w: its shape is [2, 3] and its strides [1, 2]: it is transposed",
        ),
        (one("w", float, b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), 134, "no whole numbers"),
        (b"\x80\x02K\x01.".to_vec(), 4, "no dictionary"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.".to_vec(), 12, "key \"a\""),
        (b"\x80\x02}K\x01K\x02s.".to_vec(), 8, "a key that is no text"),
        (b"\x80\x02h\x05.".to_vec(), 2, "slot 5"),
        (b"\x80\x02.".to_vec(), 2, "empty stack"),
        (b"\x80\x02}(0.".to_vec(), 4, "empty stack"),
        (b"\x80\x02X\xff\xff\xff\xff.".to_vec(), 7, "4294967295 bytes are meant"),
        (b"\x80\x01.".to_vec(), 0, "protocol 1"),
        (b"\x80\x02\x8a\x09".to_vec(), 2, "a number of 9 bytes"),
        (deep.clone(), deep.len() - 1, "no dictionary"),
        (b"".to_vec(), 0, "ends after 0"),
    ] {
        let fault = parse(&pickle).unwrap_err();
        let said = format!("{}: {}", fault.what, fault.reason);
        assert!(said.contains(part) && fault.byte == byte as u64, "{byte} {part:?}: {fault:?}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_named() {
    let float = b"ctorch\nFloatStorage\n".as_slice();
    let once = one("w", float, b"K\x06\x85", b"K\x01\x85");
    let entry = &once[3..once.len() - 1];
    let twice = join(&[b"\x80\x02}", entry, entry, b"."]);
    assert!(parse(&twice).unwrap_err().reason.contains("twice"));
}

#[test]
fn a_pickle_cut_anywhere_ends_in_an_error() {
    let whole = one("w", b"ctorch\nFloatStorage\n", b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "{end}");
    }
}

/// What is written here is what is read here.
#[test]
fn the_writers_pickle_is_read() {
    let shapes: [&[usize]; 2] = [&[3, 5], &[1 << 40]];
    let entries = [("a.weight".to_owned(), 0, shapes[0]), ("b".to_owned(), 1, shapes[1])];
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Bf16] {
        let read = parse(&super::super::write::pickle(encoding, &entries)).unwrap();
        let found: Vec<_> =
            read.iter().map(|tensor| (&*tensor.name, &*tensor.storage, &*tensor.shape)).collect();
        assert_eq!(found, [("a.weight", "0", shapes[0]), ("b", "1", shapes[1])]);
        assert!(read.iter().all(|tensor| tensor.encoding == encoding));
    }
}
