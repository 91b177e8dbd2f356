//! What a metadata key can hold: numbers, texts, and lists of one type.

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    String(String),
    /// Type 9.
    Array(Array),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

/// A list of values of one type, in no more memory than the type needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Of type 0.
    U8(Vec<u8>),
    /// Of type 1.
    I8(Vec<i8>),
    /// Of type 2.
    U16(Vec<u16>),
    /// Of type 3.
    I16(Vec<i16>),
    /// Of type 4.
    U32(Vec<u32>),
    /// Of type 5.
    I32(Vec<i32>),
    /// Of type 6.
    F32(Vec<f32>),
    /// Of type 7.
    Bool(Vec<bool>),
    /// Of type 8.
    String(Vec<String>),
    /// Of type 9: lists, each of a type of its own.
    Array(Vec<Array>),
    /// Of type 10.
    U64(Vec<u64>),
    /// Of type 11.
    I64(Vec<i64>),
    /// Of type 12.
    F64(Vec<f64>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The whole number that it is, whatever its type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => u64::try_from(value).ok(),
            Self::I16(value) => u64::try_from(value).ok(),
            Self::I32(value) => u64::try_from(value).ok(),
            Self::I64(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The broken number that it is.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(value) => Some(value),
            Self::F64(value) => Some(value as f32),
            _ => None,
        }
    }

    /// The text that it is.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The texts that it lists.
    pub fn as_texts(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }

    /// Its type's number and its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u32, bytes: &[u8]| {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::U8(value) => put(0, &value.to_le_bytes()),
            Self::I8(value) => put(1, &value.to_le_bytes()),
            Self::U16(value) => put(2, &value.to_le_bytes()),
            Self::I16(value) => put(3, &value.to_le_bytes()),
            Self::U32(value) => put(4, &value.to_le_bytes()),
            Self::I32(value) => put(5, &value.to_le_bytes()),
            Self::F32(value) => put(6, &value.to_le_bytes()),
            Self::Bool(value) => put(7, &[u8::from(*value)]),
            Self::String(text) => {
                put(8, &[]);
                write_text(text, out);
            }
            Self::Array(array) => {
                put(9, &[]);
                array.write(out);
            }
            Self::U64(value) => put(10, &value.to_le_bytes()),
            Self::I64(value) => put(11, &value.to_le_bytes()),
            Self::F64(value) => put(12, &value.to_le_bytes()),
        }
    }
}

impl Array {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether it lists nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of its values, how many there are, and the values.
    fn write(&self, out: &mut Vec<u8>) {
        fn all<T: Copy, const N: usize>(
            out: &mut Vec<u8>,
            kind: u32,
            values: &[T],
            bytes: impl Fn(T) -> [u8; N],
        ) {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&(values.len() as u64).to_le_bytes());
            out.extend(values.iter().flat_map(|value| bytes(*value)));
        }
        match self {
            Self::U8(values) => all(out, 0, values, u8::to_le_bytes),
            Self::I8(values) => all(out, 1, values, i8::to_le_bytes),
            Self::U16(values) => all(out, 2, values, u16::to_le_bytes),
            Self::I16(values) => all(out, 3, values, i16::to_le_bytes),
            Self::U32(values) => all(out, 4, values, u32::to_le_bytes),
            Self::I32(values) => all(out, 5, values, i32::to_le_bytes),
            Self::F32(values) => all(out, 6, values, f32::to_le_bytes),
            Self::Bool(values) => all(out, 7, values, |value| [u8::from(value)]),
            Self::String(texts) => {
                all(out, 8, texts.as_slice().iter().collect::<Vec<_>>().as_slice(), |_| []);
                texts.iter().for_each(|text| write_text(text, out));
            }
            Self::Array(arrays) => {
                all(out, 9, arrays.iter().collect::<Vec<_>>().as_slice(), |_| []);
                arrays.iter().for_each(|array| array.write(out));
            }
            Self::U64(values) => all(out, 10, values, u64::to_le_bytes),
            Self::I64(values) => all(out, 11, values, i64::to_le_bytes),
            Self::F64(values) => all(out, 12, values, f64::to_le_bytes),
        }
    }
}

/// Length and bytes.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
